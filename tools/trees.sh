#!/usr/bin/env bash
# Real photographs: train a DEQDet on tree crowns, evaluate it at another place, detect in whole photographs.
# Arguments are for the training: bash tools/trees.sh --cfg-options train_cfg.max_epochs=1
set -euo pipefail
cd "$(dirname "$0")/.."

CONFIG=configs/deqdet/deqdet_trees_lite0.py
DATA=data/trees
WEIGHTS=data/weights/efficientnet_lite0.pth
OUT=work_dirs/trees
# With such small tensors a second thread gains nothing, but a second process does.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
workers=$(python -c 'import os, torch; print(min(2, torch.cuda.device_count() or os.cpu_count()))')

say() { printf '\n== %s\n' "$*"; }

start=$SECONDS
say "1/4 data and weights from the Python package index ($DATA, $WEIGHTS)"
# Sets of earlier versions have no larger tiles for training; the command says so.
{ test -e "$DATA/annotations/whole_test.json" && grep -q '"train_tile"' "$DATA/annotations/train.json"; } ||
  python tools/dataset/make_trees.py --out "$DATA"
test -e "$WEIGHTS" || python tools/get_weights.py --out "$WEIGHTS"

say "2/4 training ($OUT)"
bash tools/dist_train.sh "$CONFIG" "$workers" --work-dir "$OUT" --cfg-options \
  "train_dataloader.batch_size=$((6 / workers))" "$@"
checkpoint=$(ls -t "$OUT"/epoch_*.pth | head -n 1)

say "3/4 evaluation on tiles of another place, and of another forest"
bash tools/dist_test.sh "$CONFIG" "$checkpoint" 1 --work-dir "$OUT/test" \
  --cfg-options test_evaluator.outfile_prefix="$OUT/test"
python tools/analysis/intervals.py "$DATA/annotations/test.json" "$OUT/test.bbox.json" --out "$OUT/test"
bash tools/dist_test.sh "$CONFIG" "$checkpoint" 1 --work-dir "$OUT/shift" \
  --cfg-options test_dataloader.dataset.ann_file=annotations/shift.json \
  test_dataloader.dataset.data_prefix.img=shift/ test_evaluator.ann_file="$DATA/annotations/shift.json" \
  test_evaluator.outfile_prefix="$OUT/shift"
python tools/analysis/intervals.py "$DATA/annotations/shift.json" "$OUT/shift.bbox.json" --out "$OUT/shift"

say "4/4 the whole photograph of the other place, in windows"
rm -rf "$OUT/whole"
python tools/detect.py "$CONFIG" "$checkpoint" "$DATA/whole/test.png" --out "$OUT/whole" --tile 160 \
  --overlap 0.5 --batch-size 8 --annotations "$DATA/annotations/whole_test.json"
python tools/analysis/intervals.py "$DATA/annotations/whole_test.json" "$OUT/whole/detections.json" \
  --limit 10000 --out "$OUT/whole"

say "done in $(( (SECONDS - start) / 60 )) min $(( (SECONDS - start) % 60 )) s; everything is in $(pwd)/$OUT"
echo "   test.md, shift.md     AP with 95 % intervals, on tiles of the other place and of the other forest"
echo "   whole/vis             the photograph of the other place with all detections; whole.md has their AP"
echo "   $(basename "$checkpoint")          the trained model"
