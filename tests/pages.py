"""Find the blocks of commands and Python in README and docs/, and how each is tested.

Every ```bash and ```python block has an invisible comment before it:

    <!-- run | 8 -> 1 | + --images 2 | needs PACKAGE -->    slow tests run it, with words replaced and added
    <!-- config | configs/mine.py -->                       a config: it is written to this path and loaded
    <!-- run by tests/... -->                               another test runs it
    <!-- not run: REASON -->                                only its files and options are checked
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from small_model import ROOT

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]
#: Languages of blocks that a reader would run.
RUNNABLE = ('bash', 'python')
#: Languages of blocks that are only shown.
SHOWN = ('text', 'bibtex', 'json', 'yaml')
TOOL = re.compile(r'tools/[\w/]+\.(?:py|sh)')
_BLOCK = re.compile(r'(?:^<!-- (?P<mark>.*?) -->\n)?^```(?P<language>\S*)\n(?P<text>.*?)^```$',
                    re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page (from the root), line of the fence, language, text, and mark before it."""

    page: str
    line: int
    language: str
    text: str
    mark: Optional[str]

    @property
    def where(self) -> str:
        """Page and line."""
        return f'{self.page}:{self.line}'

    @property
    def kind(self) -> str:
        """First word of the mark: run, config, "run by", "not run", or empty."""
        found = re.match(r'run by |not run: |run\b|config\b', self.mark or '')
        return found[0].strip(' :') if found else ''

    @property
    def settings(self) -> List[str]:
        """The parts of the mark after the first word, which bars separate."""
        return [word.strip() for word in (self.mark or '').split('|')[1:]]


def blocks(page: Path) -> List[Block]:
    """Fenced blocks of a page, in order."""
    text = page.read_text(encoding='utf-8')
    return [Block(page=str(page.relative_to(ROOT)), line=text.count('\n', 0, found.start('language')) + 1,
                  language=found['language'], text=found['text'], mark=found['mark'])
            for found in _BLOCK.finditer(text)]


def all_blocks() -> List[Block]:
    """Blocks of all pages."""
    return [block for page in PAGES for block in blocks(page)]


def commands(text: str) -> List[List[str]]:
    """Words of each command in a block; continued lines are joined, comments removed."""
    lines = text.replace('\\\n', ' ').splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def inline_commands(page: Path) -> List[Tuple[str, List[str]]]:
    """Commands with a tool of this repository in the text of a page, with the page's path."""
    text = _BLOCK.sub('', page.read_text(encoding='utf-8'))
    spans = re.findall(r'(?<!`)`([^`\n]+)`(?!`)', text)
    return [(str(page.relative_to(ROOT)), shlex.split(span)) for span in spans
            if (TOOL.search(span) or span.startswith('deqdet ')) and ' ' in span]


def adapted(block: Block) -> List[List[str]]:
    """The commands of a block, with words replaced and added as its mark requires."""
    text, added = block.text, []
    for setting in block.settings:
        if ' -> ' in setting:
            before, after = setting.split(' -> ')
            # Match whole words: 8 must not match in 800.
            text, count = re.subn(rf'(?<![\w.=-]){re.escape(before)}(?![\w.-])', after, text)
            assert count, f'{block.where}: nothing to replace for "{setting}"'
        elif setting.startswith('+ '):
            added += shlex.split(setting[2:])
        else:
            assert setting.startswith('needs '), f'{block.where}: what is "{setting}"?'
    return [[*words, *added] for words in commands(text)]


def needed_packages(block: Block) -> List[str]:
    """Packages that a block needs."""
    return [setting.split()[1] for setting in block.settings if setting.startswith('needs ')]


def without_environment(words: Sequence[str]) -> List[str]:
    """A command without leading environment variables."""
    words = list(words)
    while words and re.match(r'[A-Z_]+=', words[0]):
        words.pop(0)
    return words
