#!/usr/bin/env bash
# The demo on generated data: draw a data set, train a small DEQDet, add masks to it, evaluate it.
set -euo pipefail
cd "$(dirname "$0")/.."

CONFIG=configs/deqdet/deqdet_digits.py
WITH_MASKS=configs/deqdet/deqdet_digits_add-masks.py
OUT=work_dirs/demo
# With such small tensors a second thread gains nothing, and it is slower on a shared machine.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

say() { printf '\n== %s\n' "$*"; }

start=$SECONDS
say "1/4 data: handwritten digits on photographs (data/digits)"
python tools/dataset/make_digits.py data/digits

say "2/4 training: 8 epochs, about 5 minutes on 2 cores ($OUT)"
bash tools/dist_train.sh "$CONFIG" 1 --work-dir "$OUT"

say "3/4 masks for the trained detector: one epoch of the mask heads alone, about a minute ($OUT/masks)"
bash tools/dist_train.sh "$WITH_MASKS" 1 --work-dir "$OUT/masks"

say "4/4 evaluation of boxes and masks, with pictures"
rm -rf "$OUT/pictures"
bash tools/dist_test.sh "$WITH_MASKS" "$OUT/masks/epoch_1.pth" 1 --work-dir "$OUT" \
  --show-dir pictures --cfg-options test_evaluator.outfile_prefix="$OUT/results"
# mmdet puts the pictures into a folder named after the run's time stamp.
mv "$(ls -d "$OUT"/*/pictures | tail -n 1)" "$OUT/pictures"
python tools/montage.py "$OUT/pictures" "$OUT/overview.png"
cp "$(ls -t "$OUT"/*/*.log | head -n 1)" "$OUT/evaluation.log"

say "done in $(( (SECONDS - start) / 60 )) min $(( (SECONDS - start) % 60 )) s; everything is in $(pwd)/$OUT"
echo "   pictures/             ground truth (left) and detections with masks (right)"
echo "   overview.png          the first of them"
echo "   results.bbox.json     detections in COCO format; results.segm.json has their masks"
echo "   evaluation.log        log of the evaluation, with the COCO tables"
echo "   epoch_8.pth           the trained model; masks/epoch_1.pth has the same boxes, and masks"
