"""Limits of arguments, and the error line for values outside them."""

from typing import Annotated, Any, Literal, Optional

import pytest
from deqdet import UsageError
from deqdet.settings import Count, Flag, Positive, Share, Size, Steps, check, checked
from pydantic import Field


@pytest.mark.parametrize('value, kind, limits', [
    (True, Count, '0 or more, a whole number'),
    (2.0, Count, '0 or more, a whole number'),
    (0, Positive, 'at least 1, a whole number'),
    (0, Optional[Positive], 'None or at least 1, a whole number'),
    (2, Share, 'from 0 to 1, a number'), (float('nan'), Size, '0 or more, a number'),
    (True, Size, '0 or more, a number'), (0, Annotated[float, Field(gt=0)], 'above 0, a number'),
    (5, Annotated[int, Field(ge=1, le=4)], 'from 1 to 4, a whole number'),
    (1, Annotated[float, Field(ge=0, lt=1)], 'from 0 to below 1, a number'), (1, Flag, 'True or False'),
    ('c', Literal['a', 'b'], 'one of a, b'), ([1.5], Steps, 'a list of steps, whole numbers')], ids=str)
def test_what_is_outside_is_one_line(value, kind, limits):
    with pytest.raises(UsageError) as error:
        check(value, kind, name='x')
    assert str(error.value) == f'x={value!r} must be {limits}'


@pytest.mark.parametrize('value, kind', [
    (0, Count), (1, Size), (None, Optional[Positive]), ([1], Steps), ((1, 2), Steps), ({3}, Steps)], ids=str)
def test_what_is_inside(value, kind):
    check(value, kind, name='x')


def test_a_constructor_names_its_argument():

    class Thing:
        @checked
        def __init__(self, steps: Positive, other: Any = None, *, share: Share = 0.5) -> None:
            self.steps, self.share = steps, share

    assert (Thing(2).steps, Thing(2, share=1).share) == (2, 1)
    with pytest.raises(UsageError, match='^Thing: steps=0 must be at least 1'):
        Thing(0)
    with pytest.raises(UsageError, match='^Thing: share=2 must be from 0 to 1'):
        Thing(1, share=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'step'"):
        Thing(1, step=1)
