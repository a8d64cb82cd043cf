#!/usr/bin/env bash
# The demo on generated data: draw a data set, train a small DEQDet, evaluate it.
set -euo pipefail
cd "$(dirname "$0")/.."

CONFIG=configs/deqdet/deqdet_digits.py
OUT=work_dirs/demo

say() { printf '\n== %s\n' "$*"; }

start=$SECONDS
say "1/3 data: handwritten digits on photographs (data/digits)"
python tools/dataset/make_digits.py data/digits

# With such small tensors a second thread gains nothing, and it is slower on a shared machine.
say "2/3 training: 8 epochs, about 7 minutes on 2 cores ($OUT)"
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} bash tools/dist_train.sh "$CONFIG" 1 --work-dir "$OUT"

say "3/3 evaluation, with pictures"
rm -rf "$OUT/pictures"
bash tools/dist_test.sh "$CONFIG" "$OUT/epoch_8.pth" 1 --work-dir "$OUT" \
  --show-dir pictures --cfg-options test_evaluator.outfile_prefix="$OUT/results"
# mmdet puts the pictures into a folder named after the run's time stamp.
mv "$(ls -d "$OUT"/*/pictures | tail -n 1)" "$OUT/pictures"
python tools/montage.py "$OUT/pictures" "$OUT/overview.png"
cp "$(ls -t "$OUT"/*/*.log | head -n 1)" "$OUT/evaluation.log"

say "done in $(( (SECONDS - start) / 60 )) min $(( (SECONDS - start) % 60 )) s; everything is in $(pwd)/$OUT"
echo "   pictures/           ground truth (left) and detections (right)"
echo "   overview.png        the first of them"
echo "   results.bbox.json   detections in COCO format"
echo "   evaluation.log      log of the evaluation, with the COCO table"
echo "   epoch_8.pth         the trained model"
