"""mmengine's visualiser: fonts that have the letters of class names, and no needless warnings."""

from typing import Any, List, Union

from mmengine.visualization import Visualizer


def use_text_fonts(visualiser: Visualizer) -> Visualizer:
    """Let ``draw_texts`` of a visualiser choose fonts if its caller names none and the text is not ASCII.

    mmdet's visualisers call it for each label, in ``tools/test.py --show-dir`` and in inferencers. The
    visualiser is changed and returned; others of the process do not change.
    """
    if 'draw_texts' in vars(visualiser):  # mmengine gives the same visualiser for the same name
        return visualiser
    original = visualiser.draw_texts

    def draw_texts(texts: Union[str, List[str]], *args: Any, **kwargs: Any) -> Visualizer:
        each = [texts] if isinstance(texts, str) else [str(text) for text in texts]
        if not {'font_families', 'font_properties'} & set(kwargs) and not ''.join(each).isascii():
            from ..images.fonts import families_for  # imports matplotlib, not needed before
            kwargs['font_families'] = [list(families_for(text)) for text in each]
        return original(texts, *args, **kwargs)

    visualiser.draw_texts = draw_texts
    return visualiser


def quiet_at_edges(visualizer: Any) -> Any:
    """Do not warn about drawings that reach past the picture, such as the label of a box at its edge.

    A filter of warnings would affect the whole process with its threads. The argument is changed and
    returned.
    """
    visualizer._is_posion_valid = lambda position: True
    return visualizer
