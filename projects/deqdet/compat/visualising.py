"""mmengine's visualiser for calls that know what they draw."""

from typing import Any


def quiet_at_edges(visualizer: Any) -> Any:
    """Do not warn of what reaches past the picture, as the label of a box at its edge does.

    To filter Python's warnings around a call is no way: they belong to the whole process, threads included.

    Args:
        visualizer (Visualizer): It is changed.

    Returns:
        Visualizer: The same.
    """
    visualizer._is_posion_valid = lambda position: True
    return visualizer
