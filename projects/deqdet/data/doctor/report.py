"""The findings as files for people and programs."""

import json
from pathlib import Path
from typing import List, Tuple

from ...files.tables import write_figure
from .examination import Examination
from .figures import histograms
from .samples import sample_sheet

_TITLES = dict(error='Errors', warning='Warnings', note='Notes')


def write_report(out: Path, examination: Examination, *, config: str, status: int) -> List[Path]:
    """Write ``check.json``, ``check.md`` and the figures.

    Args:
        out (Path): Folder. It is created if missing; figures of an earlier report are replaced.
        examination (Examination): What was found.
        config (str): Path of the config.
        status (int): Exit status of the tool.

    Returns:
        list[Path]: The files.
    """
    out.mkdir(parents=True, exist_ok=True)
    figures = histograms(examination.splits, examination.queries) if examination.splits else {}
    if examination.samples:
        source = examination.splits['train'][0]
        figures['samples'] = sample_sheet(examination.samples, source.classes)
    for name, figure in figures.items():
        write_figure(out / name, figure)
    content = dict(
        config=config, status=status, queries=examination.queries, images_read=examination.images_read,
        errors=len(examination.of_grade('error')), warnings=len(examination.of_grade('warning')),
        findings=[dict(check=each.check, grade=each.grade, where=each.where, count=each.count,
                       examples=list(each.examples), message=each.line) for each in examination.findings],
        splits=examination.counts(), figures=[f'{name}.png' for name in figures])
    (out / 'check.json').write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    (out / 'check.md').write_text(_markdown(examination, config, list(figures)), encoding='utf-8')
    return [out / name for name in ('check.json', 'check.md', *(f'{name}.png' for name in figures))]


def lines(examination: Examination) -> List[str]:
    """The findings, one line each, and a summary in the last line."""
    last = '{} and {}'.format(*(_many(examination, grade) for grade in ('error', 'warning')))
    return [f'{each.grade} [{each.check}] {each.line}' for each in examination.findings] + [last]


def _many(examination, grade) -> str:
    count = len(examination.of_grade(grade))
    return f'{count or "no"} {grade}{"" if count == 1 else "s"}'


def _markdown(examination, config, figures) -> str:
    parts = [f'# Data of {config}\n',
             f'{lines(examination)[-1]}; {examination.images_read} images were opened.\n']
    for grade, title in _TITLES.items():
        found = examination.of_grade(grade)
        if found:
            parts.append(f'## {title}\n')
            parts += [''.join(f'- **{each.check}**: {each.line}\n' for each in found)]
    rows: List[Tuple] = [
        (split, counts['images'], counts['images_without_objects'], counts['objects'], counts['crowds'],
         counts['most_objects_in_an_image']) for split, counts in examination.counts().items()]
    if rows:
        head = ('split', 'images', 'without objects', 'objects', 'crowds', 'most objects in an image')
        parts.append('## Numbers\n')
        parts.append(''.join('| ' + ' | '.join(map(str, row)) + ' |\n' for row in (head, ['---'] * 6, *rows)))
    parts += [f'![{name.replace("_", " ")}]({name}.png)\n' for name in figures]
    return '\n'.join(parts)
