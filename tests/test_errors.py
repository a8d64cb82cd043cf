"""Each error that users get has a code of the catalogue."""

import ast
import pickle
import re
from pathlib import Path

import deqdet
from deqdet.errors import CODES, UsageError
from small_model import ROOT

PACKAGE = Path(deqdet.__file__).parent
# These take a message and a code as UsageError does.
RAISED = ('UsageError', )


def codes():
    """(place, code) of each error that is raised, without codes of other errors; None if it is no literal."""
    for path in sorted(PACKAGE.rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            name = getattr(node, 'func', None)
            if isinstance(node, ast.Call) and getattr(name, 'id', getattr(name, 'attr', None)) in RAISED:
                words = [*node.args[1:], *(word.value for word in node.keywords if word.arg == 'code')]
                if words and isinstance(words[0], ast.Attribute) and words[0].attr == 'code':
                    continue
                for code in literals(words[0]) if words else [None]:
                    yield f'{path.relative_to(PACKAGE)}:{node.lineno}', code


def literals(node):
    """The codes in an expression."""
    if isinstance(node, ast.IfExp):
        return literals(node.body) + literals(node.orelse)
    return [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)] or [None]


def test_each_error_has_a_code_of_the_catalogue():
    # The data set's script also runs without the package, and has an error of its own.
    found = [each for each in codes() if not each[0].startswith('commands/dataset/make_digits.py')]
    assert len(found) > 100
    assert not [(place, code) for place, code in found if code not in CODES]
    assert {code for _, code in found} >= CODES.keys() - {'untrusted-checkpoint'}


def test_the_page_lists_the_codes():
    page = (ROOT / 'docs/troubleshooting.md').read_text(encoding='utf-8')
    assert dict(re.findall(r'^\| `([a-z-]+)` \| (.+) \|$', page, re.MULTILINE)) == CODES
    assert set(re.findall(r'^- `\[([a-z-]+)\]`', page, re.MULTILINE)) <= CODES.keys()


def test_text_and_code_survive_a_process():
    error = pickle.loads(pickle.dumps(UsageError('--batch-size 0: must be 1 or more', 'bad-argument')))
    assert str(error) == '--batch-size 0: must be 1 or more [bad-argument]'
    assert error.code == 'bad-argument' and isinstance(error, ValueError)
