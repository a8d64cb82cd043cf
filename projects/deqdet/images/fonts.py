"""Fonts for letters of class names and file names that matplotlib's own font lacks."""

import warnings
from functools import cache, lru_cache
from typing import FrozenSet, Iterator, List, Tuple

from matplotlib import font_manager, ft2font, rcParams

# This font draws a frame for every letter.
_NO_LETTERS = 'Last Resort'
_PACKAGES = ('Noto Sans CJK (Debian: fonts-noto-cjk) for East Asia, a symbol font without colours such as '
             'Symbola (Debian: fonts-symbola), or Noto Sans (Debian: fonts-noto-core)')
# Number of letters in a message.
_SHOWN = 8


@lru_cache(maxsize=4096)
def families_for(text: str) -> Tuple[str, ...]:
    """Font families that have the letters of a text, the usual one first: ``family=`` of matplotlib's texts.

    If no installed font has a letter, a warning names it once, and the package to install.

    Args:
        text (str): The text to draw.

    Returns:
        tuple[str]: matplotlib takes each letter from the first family that has it.
    """
    usual = tuple(rcParams['font.family'])
    if text.isascii():
        return usual
    families, missing = _cover(frozenset(letter for letter in text if letter.isprintable()))
    if missing:
        _warn(missing)
    return usual + families


@lru_cache(maxsize=4096)
def _cover(letters: FrozenSet[str]) -> Tuple[Tuple[str, ...], str]:
    """Additional families for these letters, and the letters that no family has, sorted."""
    left = set(letters) - _letters_of(font_manager.findfont(font_manager.FontProperties()))
    chosen: List[str] = []
    for entry in _fonts():
        if not left:
            break
        found = left & _letters_of(entry.fname)
        if found:
            chosen.append(entry.name)
            left -= found
    return tuple(chosen), ''.join(sorted(left))


def _fonts() -> Iterator[font_manager.FontEntry]:
    """Upright fonts of usual weight, which matplotlib finds by family: first those that it has listed.

    Those that were installed after matplotlib made its list are added to it, which takes longer.
    """
    listed = list(font_manager.fontManager.ttflist)
    yield from filter(_is_usual, listed)
    for path in sorted({*font_manager.findSystemFonts()} - {entry.fname for entry in listed}):
        try:
            font_manager.fontManager.addfont(path)
        except Exception:  # FreeType fails, or the font is coloured: matplotlib cannot use it
            continue
    yield from filter(_is_usual, font_manager.fontManager.ttflist[len(listed):])


def _is_usual(entry) -> bool:
    return (entry.style == 'normal' and entry.weight in (400, 'normal', 'regular')
            and not entry.name.startswith(_NO_LETTERS))


@cache
def _letters_of(path: str) -> FrozenSet[str]:
    try:
        return frozenset(map(chr, ft2font.FT2Font(path).get_charmap()))
    except Exception:  # the file is gone, or FreeType cannot read it
        return frozenset()


@cache
def _warn(missing: str) -> None:
    letters = ', '.join(f'{letter} U+{ord(letter):04X}' for letter in missing[:_SHOWN])
    more = f' and {len(missing) - _SHOWN} more' if len(missing) > _SHOWN else ''
    warnings.warn(f'no installed font has {letters}{more}, so pictures show squares instead: install '
                  f'{_PACKAGES}', stacklevel=4)
