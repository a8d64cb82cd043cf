"""The code contains the messages of docs/troubleshooting.md."""

import ast
import re

import pytest
from small_model import ROOT

#: Messages of other packages.
FOREIGN = ('No module named', 'MMCV==', 'numpy', 'Weights only load failed', 'Expected to have finished',
           'matrix contains', 'not implemented for', "'BFloat16'")
TEXT = (ROOT / 'docs/troubleshooting.md').read_text(encoding='utf-8')
#: The start of each entry, up to the colon: the messages as a user sees them.
HEADS = re.findall(r'^- ((?:(?!\n- ).)+?):\n', TEXT, re.MULTILINE | re.DOTALL)
QUOTED = [span for head in HEADS for span in re.findall(r'`([^`]+)`', head)]
MESSAGES = [span for span in QUOTED if not any(word in span for word in FOREIGN) and ' ' in span]


def texts(tree):
    """Strings of a module; placeholders of f-strings and % become gaps."""
    def words(node):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return re.sub(r'%[sd](?:\.%d)?|%\.\d+f', '\0', node.value)
        if isinstance(node, ast.JoinedStr):
            return ''.join(words(part) for part in node.values)
        return '\0'

    for node in ast.walk(tree):
        # Adjacent strings over several lines are one node.
        if isinstance(node, (ast.JoinedStr, ast.Constant)):
            yield words(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            yield words(node.left) + words(node.right)


@pytest.fixture(scope='module')
def said():
    """All strings of plugin and tools."""
    files = [*(ROOT / 'projects').rglob('*.py'), *(ROOT / 'tools').rglob('*.py')]
    return [text for path in files for text in texts(ast.parse(path.read_text(encoding='utf-8')))]


def test_most_messages_are_the_plugins_own():
    assert len(MESSAGES) > 50


@pytest.mark.parametrize('message', MESSAGES)
def test_a_message_is_in_the_code(said, message):
    pieces = [piece.strip(' ()') for piece in message.split('...') if len(piece.strip(' ().:=,')) > 3]
    assert pieces
    pattern = re.compile('.*'.join(re.escape(piece) for piece in pieces), re.DOTALL)
    assert any(pattern.search(text) for text in said)
