"""Detect objects in images or videos; see docs/detect.md."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'projects'))
import deqdet_path

deqdet_path.installed_first(__file__)  # before all other imports

# The plugin comes before anything of mmdet, which it makes importable where mmcv has no operators.
from deqdet.launching.command_line import run  # noqa: E402  isort: skip
from deqdet.inference.command import main  # noqa: E402

if __name__ == '__main__':
    run(main)
