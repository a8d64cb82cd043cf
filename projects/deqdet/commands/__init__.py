"""What the programs of ``tools`` run."""

from ..compat.mmdet_imports import import_mmdet

# Before a command imports more, so that it does not print what mmdet's optional packages are.
import_mmdet()
