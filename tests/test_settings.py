"""Limits of arguments, and the error line for values outside them."""

from typing import Annotated, Any, Literal, Optional

import pytest
from deqdet.settings import Count, Flag, Positive, Share, Size, Steps, check, checked
from pydantic import Field
from refusals import refused


@pytest.mark.parametrize('value, kind, limits', [
    (True, Count, 'a whole number, 0 or more'), (2.0, Count, 'a whole number, 0 or more'),
    (0, Positive, 'a whole number, 1 or more'), (0, Optional[Positive], 'None or a whole number, 1 or more'),
    (2, Share, 'a number from 0 to 1'), (float('nan'), Size, 'a number, 0 or more'),
    (True, Size, 'a number, 0 or more'), (0, Annotated[float, Field(gt=0)], 'a number above 0'),
    (5, Annotated[int, Field(ge=1, le=4)], 'a whole number from 1 to 4'),
    (1, Annotated[float, Field(ge=0, lt=1)], 'a number from 0 to below 1'), (1, Flag, 'True or False'),
    ('c', Literal['a', 'b'], 'one of a, b'), ([1.5], Steps, 'a list of steps, whole numbers')], ids=str)
def test_what_is_outside_is_one_line_with_the_limits(value, kind, limits):
    with refused('bad-setting', f'x={value!r}') as error:
        check(value, kind, name='x')
    assert error.value.message.endswith(f' {limits}')


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
    with refused('bad-setting', 'Thing: steps=0', '1'):
        Thing(0)
    with refused('bad-setting', 'Thing: share=2', '0 to 1'):
        Thing(1, share=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'step'"):
        Thing(1, step=1)
