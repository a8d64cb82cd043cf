"""Parts of a job: the share of one process among several."""

import argparse
import re
from dataclasses import dataclass
from typing import List, Sequence, TypeVar

Item = TypeVar('Item')


@dataclass(frozen=True)
class Part:
    """The share of one process: ``number``, from 1 to ``count``."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f'{self.number}/{self.count}'

    def of(self, items: Sequence[Item]) -> List[Item]:
        """Every ``count``-th item. Neighbours often take equally long, so they go to different parts."""
        return list(items[self.number - 1::self.count])


#: The whole job.
WHOLE = Part()


def parse_part(word: str) -> Part:
    """Parse ``I/N``, with I from 1 to N, for argparse."""
    found = re.fullmatch(r'(\d+)/(\d+)', word, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(
            f'{word}: must be I/N, I from 1 to N, for example 1/4, 2/4, 3/4 and 4/4 (if an array counts from '
            '0, use $((SLURM_ARRAY_TASK_ID + 1)))')
    return Part(int(found[1]), int(found[2]))
