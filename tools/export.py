"""The command ``deqdet export``, see projects/deqdet/commands/export.py."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'projects'))
import deqdet_path

deqdet_path.run_tool(__file__)
