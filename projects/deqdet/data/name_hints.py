"""Hints for missing images: other forms of a name that exist."""

import os
import os.path as osp
import unicodedata
from functools import lru_cache
from typing import Iterator, Optional, Sequence, Tuple
from urllib.parse import unquote, urlsplit

# Changes that give another form of a name, and what is wrong with a name that they change.
_CHANGES = (
    (lambda name: '/'.join(part.strip() for part in name.split('/')), 'has spaces before or after a name'),
    (lambda name: urlsplit(name).path.lstrip('/') if '://' in name else name, 'is a URL'),
    (lambda name: name.replace('\\', '/'), 'has backslashes, as in Windows paths'),
    (unquote, 'is encoded as in a URL (%20 is a space)'))

# Number of names to try. If more are missing, the reason is the same for all.
_TRIED = 200


def name_hint(folder: str, names: Sequence[str], *, inside: bool = False) -> str:
    """Why images are missing and how to write their names, if another form of a name exists.

    Args:
        folder (str): The image folder.
        names (Sequence[str]): ``file_name`` of missing images, at least one.
        inside (bool): Look only for forms below the folder.

    Returns:
        str: Words for a message; empty if no form exists.
    """
    tried = names[:_TRIED]
    listed = lru_cache(maxsize=1000)(_listed)
    forms = ((name, _form_that_is_there(folder, name, listed, inside)) for name in tried)
    found = [(name, *form) for name, form in forms if form is not None]
    if not found:
        return '' if inside else _suspect(tried)
    name, form, why = found[0]
    some = '' if len(found) == len(tried) else f' ({len(found)} of the first {len(tried)} names)'
    return f'{name!r} {why}: the image file is {form!r}, so write this as file_name{some}'


def _form_that_is_there(folder, name, listed, inside) -> Optional[Tuple[str, str]]:
    for form, why in _forms(name):
        if inside and (osp.isabs(form) or '..' in form.split('/')):
            continue
        real = _real_name(folder, form, listed)
        if real is not None:
            return real, ' and '.join(part for part in (why, _difference(form, real)) if part)
    return None


def _forms(name) -> Iterator[Tuple[str, str]]:
    """Other forms of a name, and what is wrong with the name in each case."""
    yield name, ''
    plain, why = name, []
    for change, reason in _CHANGES:
        if change(plain) != plain:
            plain, why = change(plain), [*why, reason]
            yield plain, ' and '.join(why)
    parts = [part for part in plain.split('/') if part not in ('', '.')]
    for first in range(1, len(parts)):
        begin = '/'.join(parts[:first])
        yield '/'.join(parts[first:]), ' and '.join(
            why or [f'starts with folders ({begin}) that are not in the image folder'])


def _real_name(folder, name, listed) -> Optional[str]:
    """The name as in the file system, if only case or the form of Unicode differs."""
    real = []
    for part in name.split('/'):
        names = listed(osp.join(folder, *real))
        if part in ('', '.', '..') or part in names.values():
            real.append(part)
        elif _plain(part) in names:
            real.append(names[_plain(part)])
        else:
            return None
    return '/'.join(real) if osp.isfile(osp.join(folder, *real)) else None


def _listed(folder) -> dict:
    try:
        return {_plain(name): name for name in os.listdir(folder or '.')}
    except OSError:
        return {}


def _plain(name) -> str:
    return unicodedata.normalize('NFC', unicodedata.normalize('NFC', name).casefold())


def _difference(name, real) -> str:
    if name == real:
        return ''
    if unicodedata.normalize('NFC', name) == unicodedata.normalize('NFC', real):
        return 'has letters with accents in another form of Unicode (NFC, NFD) than the file'
    return 'differs from the file in upper and lower case'


def _suspect(names) -> str:
    """What looks wrong with names if no other form exists."""
    if '\\' in names[0]:
        return f'{names[0]!r} has backslashes, as in Windows paths: write / in file_name'
    if unquote(names[0]) != names[0]:
        return f'{names[0]!r} may be encoded as in a URL (%20 is a space): write the name of the file'
    return ''
