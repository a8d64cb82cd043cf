"""Analysis of a trained equilibrium: its path and its cost, as tables and figures.

Training and prediction do not need this package. The commands are in ``tools/analysis``.
"""

from ..files.tables import show_results, write_animation, write_figure, write_table
from ..inference.settings import parse_solver, parse_tolerance
from .complexity import PeakMemory, cost_of, total_of
from .evaluation import MAIN, Contest
from .image import follow_image, left_out, read_image
from .loading import (
    add_arguments,
    build_untrained,
    check_equilibrium,
    fixed_point_problem,
    open_detector,
)
from .pictures import box_frame, box_strip, draw_boxes, point_strip, steps_of_a_strip
from .reference import use_reference_form
from .study import outcome_of, read_study, summary
from .trajectory import follow

__all__ = [
    'MAIN', 'Contest', 'PeakMemory', 'add_arguments', 'box_frame', 'box_strip', 'build_untrained',
    'check_equilibrium', 'cost_of', 'draw_boxes', 'fixed_point_problem', 'follow', 'follow_image', 'left_out',
    'open_detector', 'outcome_of', 'parse_solver', 'parse_tolerance', 'point_strip',
    'read_image', 'read_study', 'show_results', 'steps_of_a_strip', 'summary', 'total_of',
    'use_reference_form', 'write_animation', 'write_figure', 'write_table'
]
