"""mmengine's visualiser for callers that know what they draw."""

from typing import Any


def quiet_at_edges(visualizer: Any) -> Any:
    """Do not warn about drawings that reach past the picture, such as the label of a box at its edge.

    A filter of Python's warnings around a call is no solution: it affects the whole process, including
    threads.

    Args:
        visualizer (Visualizer): It is changed.

    Returns:
        Visualizer: The same.
    """
    visualizer._is_posion_valid = lambda position: True
    return visualizer
