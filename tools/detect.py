"""Detect objects in images or videos; see docs/detect.md."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'projects')]

# The plugin comes before anything of mmdet, which it makes importable where mmcv has no operators.
from deqdet import engine  # noqa: E402  isort: skip
from deqdet.inference.command import main  # noqa: E402

if __name__ == '__main__':
    engine.run(main)
