"""Looking at a trained equilibrium: its path, its cost, and the tables and figures of both.

Nothing here is needed to train or to predict. The commands are in ``tools/analysis``.
"""

from .complexity import Cost, cost_of
from .loading import add_arguments, open_detector
from .memory import PeakMemory
from .report import write_figure, write_table
from .trajectory import Trajectory, follow

__all__ = [
    'Cost', 'PeakMemory', 'Trajectory', 'add_arguments', 'cost_of', 'follow', 'open_detector', 'write_figure',
    'write_table'
]
