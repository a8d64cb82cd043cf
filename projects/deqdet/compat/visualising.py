"""mmengine's visualiser for callers that know what they draw."""

from typing import Any


def quiet_at_edges(visualizer: Any) -> Any:
    """Do not warn about drawings that reach past the picture, such as the label of a box at its edge.

    A filter of warnings would affect the whole process with its threads. The argument is changed and
    returned.
    """
    visualizer._is_posion_valid = lambda position: True
    return visualizer
