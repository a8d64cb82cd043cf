"""What a check of the data has found, for people and for programs."""

from dataclasses import dataclass
from typing import Any, Callable, Iterable, Optional, Sequence, Tuple, Union

import numpy as np

from ..errors import UsageError, one_line

#: Training or evaluation cannot work or is meaningless; suspicious; worth knowing.
GRADES = ('error', 'warning', 'note')

#: A fault in a smaller share of the images does not spoil training or AP: a warning, not an error.
SPOILING_SHARE = 0.01


@dataclass(frozen=True)
class Finding:
    """One fault, however often it occurs.

    Attributes:
        check (str): Short name of the fault, the same in every version.
        grade (str): One of ``GRADES``.
        where (str): The dataset: key of the config and annotation file.
        what (str): What is wrong.
        fix (str): How to fix it; empty if no fix is needed.
        count (int): Number of images, boxes, names, ... that have it.
        examples (tuple[str]): The first few of them.
        so (str): The consequence, shown after the examples.
    """

    check: str
    grade: str
    where: str
    what: str
    fix: str = ''
    count: int = 0
    examples: Tuple[str, ...] = ()
    so: str = ''

    @property
    def line(self) -> str:
        """All of it except name and grade, in one line."""
        shown = ('; ' if any(',' in example for example in self.examples) else ', ').join(self.examples)
        if self.examples and self.count > len(self.examples):
            shown += f' and {self.count - len(self.examples)} more'
        # The name of an image file may hold line breaks.
        return one_line(f'{self.where}: {self.what}{f" ({shown})" if shown else ""}{self.so}'
                        f'{": " + self.fix if self.fix else ""}')


def finding_of(cases: Union[Sequence[Any], np.ndarray], check: str, grade: str, where: str, what: str,
               fix: str = '', *, so: str = '', shown: int = 3, words: Callable[[Any], str] = str) -> Finding:
    """The finding of one or more cases of a fault. For the other arguments see :class:`Finding`.

    Args:
        cases (Sequence or np.ndarray): Images, boxes, names, ... with the fault; ``what`` follows their
            count.
        shown (int): Number of cases in the message.
        words (Callable): Gives the name of a case in the message.
    """
    return Finding(check, grade, where, f'{len(cases)} {what}', fix, len(cases),
                   tuple(map(words, cases[:shown])), so)


def first_error(findings: Iterable[Finding]) -> Optional[Finding]:
    """The first finding of grade ``error``, or None."""
    return next((finding for finding in findings if finding.grade == 'error'), None)


# Codes of the errors that stop a training; all others are 'bad-annotations'.
_CODES = {'missing-files': 'missing-file', 'missing-images': 'missing-file', 'pickle': 'untrusted-checkpoint',
          'class-names': 'classes-mismatch', 'label-order': 'classes-mismatch',
          'evaluator-images': 'images-mismatch', 'mask-settings': 'settings-mismatch'}


def raise_first_error(findings: Iterable[Finding]) -> None:
    """Stop at the first finding of grade ``error``.

    Raises:
        UsageError: Its line.
    """
    error = first_error(findings)
    if error:
        raise UsageError(error.line, _CODES.get(error.check, 'bad-annotations'))


def some_of(names: Sequence[Any], at_most: int = 8) -> str:
    """The first few of a list, in words."""
    shown = ', '.join(str(name) for name in names[:at_most])
    return shown + (f' and {len(names) - at_most} more' if len(names) > at_most else '')
