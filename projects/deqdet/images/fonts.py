"""Fonts for letters of class names and file names that matplotlib's own font lacks."""

import unicodedata
import warnings
from functools import cache, lru_cache
from typing import FrozenSet, List, Tuple

from matplotlib import font_manager, ft2font, rcParams

# This font draws a frame for every letter.
_NO_LETTERS = 'Last Resort'
# Packages to install, by the start of a letter's Unicode name.
_EAST_ASIA = ('CJK', 'HIRAGANA', 'KATAKANA', 'HANGUL', 'BOPOMOFO', 'FULLWIDTH', 'IDEOGRAPHIC')
_EAST_ASIAN_PACKAGE = 'Noto Sans CJK (Debian: fonts-noto-cjk)'
_OTHER_PACKAGES = 'Noto Sans (Debian: fonts-noto-core)'
_SYMBOLS = 'a symbol font without colours, such as Symbola (Debian: fonts-symbola)'
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
    for entries in (_known_fonts, _new_fonts):  # the second is slower
        if not left:
            break
        for name, path in entries():
            found = left & _letters_of(path)
            if found:
                chosen.append(name)
                left -= found
    return tuple(chosen), ''.join(sorted(left))


def _known_fonts() -> List[Tuple[str, str]]:
    """Family and file of matplotlib's upright fonts of usual weight, which it finds by family."""
    return [(entry.name, entry.fname) for entry in font_manager.fontManager.ttflist
            if entry.style == 'normal' and entry.weight in (400, 'normal', 'regular')
            and not entry.name.startswith(_NO_LETTERS)]


def _new_fonts() -> List[Tuple[str, str]]:
    """Fonts that were installed after matplotlib made its list. This adds them to the list."""
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            try:
                font_manager.fontManager.addfont(path)
            except Exception:  # FreeType fails, or the font is coloured: matplotlib cannot use it
                continue
    return [(name, path) for name, path in _known_fonts() if path not in known]


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
    wanted = ', '.join(dict.fromkeys(map(_package, missing)))
    warnings.warn(f'no installed font has {letters}{more}, so pictures show squares instead: install '
                  f'{wanted}', stacklevel=4)


def _package(letter) -> str:
    if unicodedata.category(letter).startswith('S') or unicodedata.category(letter) == 'Cn':
        return _SYMBOLS
    east_asian = unicodedata.name(letter, '').startswith(_EAST_ASIA)
    return _EAST_ASIAN_PACKAGE if east_asian else _OTHER_PACKAGES
