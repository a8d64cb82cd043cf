"""Detect objects in images or videos; see docs/detect.md."""

from ..inference.command import main
from ..launching.command_line import run

if __name__ == '__main__':
    run(main)
