"""Parts of a job: the share of one process among several."""

import re
from dataclasses import dataclass
from typing import List, Sequence, TypeVar

from ..errors import UsageError

Item = TypeVar('Item')


@dataclass(frozen=True)
class Part:
    """The share of one process.

    Attributes:
        number (int): From 1.
        count (int): Number of parts.
    """

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f'{self.number}/{self.count}'

    def of(self, items: Sequence[Item]) -> List[Item]:
        """Its share of a list, dealt out like cards: neighbours, which often take equally long, are apart."""
        return list(items[self.number - 1::self.count])


#: All of a job.
WHOLE = Part()


def parse_part(word: str) -> Part:
    """``I/N``, with I from 1 to N.

    Args:
        word (str): What was given with ``--shard``.

    Raises:
        UsageError: If it is something else.
    """
    found = re.fullmatch(r'(\d+)/(\d+)', word, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f'--shard {word}: must be I/N, I from 1 to N, for example 1/4, 2/4, 3/4 and 4/4 (an '
                         'array that counts from 0 needs $((SLURM_ARRAY_TASK_ID + 1)))')
    return Part(int(found[1]), int(found[2]))
