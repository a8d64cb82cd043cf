import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'projects'))
__import__('deqdet_path').run_tool(__file__)
