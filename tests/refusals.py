"""Errors that users get, checked by code and by the names in them, so that their wording can change."""

import re
from contextlib import contextmanager

import pytest
from deqdet import UsageError


@contextmanager
def refused(code, *words):
    """The block raises a ``UsageError`` with this code, whose message contains all words.

    Take as words what the user wrote, or what the user has to write: names, values, files and options.
    """
    with pytest.raises(UsageError) as caught:
        yield caught
    message = caught.value.message
    assert caught.value.code == code, caught.value
    assert not [word for word in words if str(word) not in message], message
    assert '\n' not in message


def says(line, words):
    """Whether the output of a command contains these words in this order; `` ... `` stands for other text."""
    return re.search('.*'.join(map(re.escape, words.split(' ... '))), line) is not None
