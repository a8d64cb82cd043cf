"""Tables and figures as files for people and programs."""

import csv
from pathlib import Path
from typing import Any, Dict, Iterable, Mapping, Optional, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


def write_table(path: Path, rows: Sequence[Mapping[str, object]], *, title: str = '') -> str:
    """Write a table as ``PATH.csv`` and ``PATH.md``.

    Args:
        path (Path): Files without extension. The folder is created if missing.
        rows (Sequence[Mapping]): One mapping per row, all with the keys of the first, which are the columns.
            Floats are rounded to four digits in the Markdown, not in the CSV.
        title (str): A line above the table in the Markdown.

    Returns:
        str: The Markdown.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(rows[0])
    with open(path.with_suffix('.csv'), 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    lines = [columns, ['---'] * len(columns), *([_cell(row[column]) for column in columns] for row in rows)]
    heading = f'{title}\n\n' if title else ''
    markdown = heading + ''.join('| ' + ' | '.join(map(str, line)) + ' |\n' for line in lines)
    path.with_suffix('.md').write_text(markdown, encoding='utf-8')
    return markdown


def show_results(path: Path, rows: Sequence[Mapping[str, object]], figure: Optional[Figure] = None, *,
                 title: str = '') -> None:
    """Print a table, and write it with its figure: ``PATH.csv``, ``PATH.md`` and ``PATH.png``.

    Args:
        path (Path): See :func:`write_table`, as for ``rows``.
        figure (Figure, optional): A figure of the same data.
        title (str): See :func:`write_table`.
    """
    print('\n' + write_table(path, rows, title=title))
    if figure is not None:
        write_figure(path, figure)
    print(f'written: {path}.csv' + (' and .md' if figure is None else ', .md and .png'))


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as ``PATH.png``.

    Args:
        path (Path): File without extension. The folder is created if missing.
        figure (Figure): The figure; if made without pyplot, it needs no window and no closing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix('.png'), dpi=150, bbox_inches='tight')


def write_animation(path: Path, figures: Iterable[Figure], *, seconds: float = 0.5, last: float = 2.5,
                    loop: bool = True) -> None:
    """Write figures of one size as ``PATH.gif``.

    Args:
        path (Path): File without extension. The folder is created if missing.
        figures (Iterable[Figure]): The frames, in order. Equal frames in a row become one, shown for longer.
        seconds (float): Duration of a frame.
        last (float): Duration of the last frame.
        loop (bool): Begin again at the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = []
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    # One palette without dithering: what does not move does not flicker and is not stored again. An octree
    # keeps the colour of a thin line in one frame, although the background of all frames is much larger.
    palette = Image.fromarray(np.concatenate(frames)).quantize(256, method=Image.Quantize.FASTOCTREE)
    first, *rest = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [1000 * seconds] * len(rest) + [1000 * last]
    forever: Dict[str, Any] = dict(loop=0) if loop else {}
    first.save(path.with_suffix('.gif'), save_all=True, append_images=rest, duration=times, **forever)


def _cell(value):
    return f'{value:.4g}' if isinstance(value, float) else value
