"""Prose of README, CONTRIBUTING and docs/: short lines, usual words, and a first sentence on every page."""

import re

import pytest
from pages import PAGES
from small_model import ROOT

TEXTS = [*PAGES, ROOT / 'CONTRIBUTING.md']
LONGEST = 120
#: Unclear phrases and rare words. Write instead: reports, ignored, fix, typo, unknown, from the start.
STRANGE = re.compile(
    r'\b(?:(?:is|are|was) said|sa(?:y|id) so|says so|passed over|mend(?:ed|ing|s)?|slips?'
    r'|that there (?:is|are) not|what stands|stands here|(?<!there )(?:is|are) none|anew|likewise|lest'
    r'|whoever|cannot be had)\b', re.IGNORECASE)
_BLOCK = re.compile(r'^```.*?^```$|^\$\$.*?^\$\$$|^<!--.*?-->$', re.MULTILINE | re.DOTALL)


def prose(path):
    """Lines without blocks, inline code and addresses, which cannot be wrapped."""
    text = _BLOCK.sub(lambda found: '\n' * found[0].count('\n'), path.read_text(encoding='utf-8'))
    text = re.sub(r'`[^`]+`', lambda found: '`' + '\n' * found[0].count('\n'), text)
    return re.sub(r'\]\([^)\n]*\)', ']', text).splitlines()


@pytest.mark.parametrize('path', TEXTS, ids=lambda path: path.name)
def test_lines_are_short(path):
    long = [number for number, line in enumerate(prose(path), 1)
            if len(line) > LONGEST and not line.startswith('|')]
    assert not long, f'{path.name}: wrap these lines at {LONGEST} characters'


@pytest.mark.parametrize('path', TEXTS, ids=lambda path: path.name)
def test_words_are_usual(path):
    # A phrase may continue on the next line.
    found = STRANGE.findall(' '.join(line.strip() for line in prose(path)))
    assert not found, f'{path.name}: use plain words'


@pytest.mark.parametrize('path', TEXTS, ids=lambda path: path.name)
def test_a_page_begins_with_what_the_reader_gets(path):
    heading, empty, first = path.read_text(encoding='utf-8').splitlines()[:3]
    assert heading.startswith('# ') and not empty
    assert re.match(r'[A-Z][\w ]+', first), f'{path.name}: a sentence comes first, not a block or a table'
