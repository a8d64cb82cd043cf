"""Class names with letters that matplotlib's own font lacks."""

import warnings

import numpy as np
import pytest
from deqdet.compat.visualising import use_text_fonts
from deqdet.images import fonts
from deqdet.images.drawing import label_box
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmdet.visualization import DetLocalVisualizer

CAT, DOG = '\u732b\u72ac'


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a font after matplotlib listed its fonts; in it, the given letters are full blocks."""
    builder = pytest.importorskip('fontTools.fontBuilder')
    TTGlyphPen = pytest.importorskip('fontTools.pens.ttGlyphPen').TTGlyphPen

    def clear():
        for cache in (fonts.families_for, fonts._cover, fonts._letters_of, fonts._warn):
            cache.cache_clear()

    def install(letters):
        pen = TTGlyphPen(None)
        for corner in (0, 0), (0, 800), (800, 800), (800, 0):
            (pen.lineTo if pen.points else pen.moveTo)(corner)
        pen.closePath()
        made = builder.FontBuilder(1000, isTTF=True)
        made.setupGlyphOrder(['.notdef', 'block'])
        made.setupCharacterMap(dict.fromkeys(map(ord, letters), 'block'))
        made.setupGlyf({'.notdef': TTGlyphPen(None).glyph(), 'block': pen.glyph()})
        made.setupHorizontalMetrics({'.notdef': (900, 0), 'block': (900, 0)})
        made.setupHorizontalHeader(ascent=900, descent=-100)
        made.setupNameTable(dict(familyName='Blocks', styleName='Regular'))
        made.setupOS2()
        made.setupPost()
        made.save(tmp_path / 'blocks.ttf')
        monkeypatch.setattr(font_manager, 'findSystemFonts', lambda: [str(tmp_path / 'blocks.ttf')])
        clear()

    monkeypatch.setattr(font_manager.fontManager, 'ttflist', list(font_manager.fontManager.ttflist))
    monkeypatch.setattr(font_manager, 'findSystemFonts', list)
    clear()
    yield install
    clear()


def by_visualiser(text):
    """Pixels of a label as mmdet draws it."""
    visualiser = use_text_fonts(DetLocalVisualizer())
    visualiser.set_image(np.zeros((60, 120, 3), np.uint8))
    visualiser.draw_texts(text, np.array([10, 40]), font_sizes=20, colors='w')
    return visualiser.get_image()


def by_analysis(text):
    """Pixels of a label as the analysis tools, the doctor and the page draw it."""
    figure = Figure(figsize=(1.2, 0.6), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 120), ylim=(60, 0))
    label_box(axes, (10, 30, 100, 50), text, (0.0, 0.0, 0.0), shape=(60, 120), taken=[], font=20)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.mark.parametrize('draw', [by_visualiser, by_analysis])
def test_an_installed_font_that_has_the_letters_is_used(installed, draw):
    installed(CAT)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        cat = draw(f'a {CAT}')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        squares = draw(f'a {DOG}')  # no font has this letter
    assert (cat != squares).any()
    assert fonts.families_for(f'a {CAT}')[-1] == 'Blocks'


@pytest.mark.parametrize('text, letter, package', [
    (CAT + DOG, f'{DOG} U+72AC', 'Noto Sans CJK'), ('\u0e41\u0e21\u0e27', 'U+0E21', 'Noto Sans (Debian'),
    ('\U0001f9ad', 'U+1F9AD', 'Symbola')])
def test_letters_that_no_font_has_are_named_once(installed, text, letter, package):
    with pytest.warns(UserWarning, match='no installed font has .*: install') as caught:
        fonts.families_for(text)
    line, = (str(warning.message) for warning in caught)
    assert letter in line and package in line
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fonts.families_for(text)
        fonts.families_for(text[::-1])


def test_accents_need_no_other_font():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert fonts.families_for('caf\xe9 \u017c\xf3\u0142w') == fonts.families_for('cafe')
