"""Looking at a trained equilibrium: its path, its cost, and the tables and figures of both.

Nothing here is needed to train or to predict. The commands are in ``tools/analysis``.
"""

from .complexity import Cost, cost_of
from .evaluation import Contest
from .loading import OpenDetector, add_arguments, open_detector
from .memory import PeakMemory
from .report import write_figure, write_table
from .trajectory import Trajectory, follow
from .words import parse_solver, parse_tolerance

__all__ = [
    'Contest', 'Cost', 'OpenDetector', 'PeakMemory', 'Trajectory', 'add_arguments', 'cost_of', 'follow',
    'open_detector', 'parse_solver', 'parse_tolerance', 'write_figure', 'write_table'
]
