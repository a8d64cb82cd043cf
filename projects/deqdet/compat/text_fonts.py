"""mmengine's visualiser writes class names in fonts that have their letters."""

from typing import Any, List, Union

from mmengine.visualization import Visualizer


def use_text_fonts(visualiser: Visualizer) -> Visualizer:
    """Give ``draw_texts`` of a visualiser fonts, where its caller names none and the text is not ASCII.

    mmdet's visualisers call it for each label, in ``tools/test.py --show-dir`` as in inferencers.

    Args:
        visualiser (Visualizer): Changed in place; other visualisers of the process stay as they are.

    Returns:
        Visualizer: The same.
    """
    if 'draw_texts' in vars(visualiser):  # mmengine gives one visualiser for each name
        return visualiser
    original = visualiser.draw_texts

    def draw_texts(texts: Union[str, List[str]], *args: Any, **kwargs: Any) -> Visualizer:
        each = [texts] if isinstance(texts, str) else [str(text) for text in texts]
        if not {'font_families', 'font_properties'} & set(kwargs) and not ''.join(each).isascii():
            from ..images.fonts import families_for  # matplotlib, which is not needed before
            kwargs['font_families'] = [list(families_for(text)) for text in each]
        return original(texts, *args, **kwargs)

    visualiser.draw_texts = draw_texts
    return visualiser
