"""The data doctor finds faults in the data of a config before they cost hours of training.

The command is ``tools/dataset/check.py``. Checks that open no image are in ``deqdet.data``, for training too.
"""

from ..findings import GRADES, Finding
from .examination import Examination, examine
from .figures import histograms
from .report import lines, write_report
from .samples import Sample, draw_samples, sample_sheet
from .scan import ImageFile, scan
from .sources import Source, read_sources

__all__ = [
    'GRADES', 'Examination', 'Finding', 'ImageFile', 'Sample', 'Source', 'draw_samples', 'examine',
    'histograms', 'lines', 'read_sources', 'sample_sheet', 'scan', 'write_report'
]
