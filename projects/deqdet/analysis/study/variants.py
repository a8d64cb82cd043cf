"""Study files: variants of a config, each trained with several seeds."""

import json
import re
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Mapping, Optional, Sequence

from mmengine.config import Config

from ...errors import UsageError
from ...launching.command_line import Parser, add_common_arguments
from ...launching.configs import read_config

_KEYS = ('seeds', 'variants', 'report', 'minutes', 'shares')
_OF_VARIANT = ('name', 'config', 'options', 'epochs')


@dataclass(frozen=True, eq=False)
class Variant:
    """One row of a study.

    Attributes:
        name (str): Name of the variant.
        config (Path): Config file.
        options (dict): Settings that override the config, by dotted key.
        epochs (int, optional): Number of epochs, if not that of the config.
    """

    name: str
    config: Path
    options: Mapping[str, object] = field(default_factory=dict)
    epochs: Optional[int] = None

    @property
    def folder(self) -> str:
        """Name of its work dirs."""
        return re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-')

    @property
    def words(self) -> List[str]:
        """The options in the form of ``--cfg-options``."""
        return words_of(self.options)

    def arguments(self, options: Sequence[str] = (), *, work_dir: Optional[Path] = None) -> Namespace:
        """Arguments of a run, as ``tools/train.py`` would read them.

        Args:
            options (Sequence[str]): More words of ``--cfg-options``; they override those of the variant.
            work_dir (Path, optional): Work dir.
        """
        parser = Parser()
        parser.add_argument('config')
        add_common_arguments(parser)
        words = [*self.words, *options]
        args = parser.parse_args([str(self.config), *(['--cfg-options', *words] if words else [])])
        args.work_dir = None if work_dir is None else str(work_dir)
        return args

    def read(self, options: Sequence[str] = ()) -> Config:
        """The config with the options of the variant, then these."""
        return read_config(self.arguments(options))


@dataclass(frozen=True, eq=False)
class Study:
    """A study file.

    Attributes:
        path (str): The file.
        variants (list[Variant]): The variants; differences are to the first.
        seeds (list[int]): Seeds of each variant.
        report (str): The data of the tables: ``val``, the last validation, or ``test``.
        minutes (float, optional): Time of each training; None: the epochs of the configs.
        shares (list[float]): Shares of the training images, in ascending order; the last is 1.
    """

    path: str
    variants: Sequence[Variant]
    seeds: Sequence[int]
    report: str = 'val'
    minutes: Optional[float] = None
    shares: Sequence[float] = (1, )


def words_of(options: Mapping[str, object]) -> List[str]:
    """Settings by dotted key in the form of ``--cfg-options``."""
    return [f'{key}={json.dumps(value) if isinstance(value, (dict, bool)) else value}'.replace(' ', '')
            for key, value in options.items()]


def read_study(path: str) -> Study:
    """Read a study file.

    Args:
        path (str): A config with ``study``: ``seeds`` and ``variants``, and optionally ``report``,
            ``minutes`` and ``shares``; each variant has ``name``, ``config`` (relative to the file) and
            optionally ``options`` and ``epochs``.

    Raises:
        UsageError: If the file or a config in it is missing, if the file has no study or a wrong key, or if
            two variants have the same folder.
    """
    if not Path(path).is_file():
        raise UsageError(f'study file {path} does not exist (searched from {Path.cwd()})', 'missing-file')
    study = Config.fromfile(path).get('study')
    if not study or not study.get('variants') or not study.get('seeds'):
        raise UsageError(f'{path} has no study=dict(seeds=[...], variants=[dict(name=..., config=...), ...])',
                         'bad-config')
    _check_keys(path, study)
    variants = [Variant(name=variant.name, config=Path(path).parent / variant.config,
                        options=variant.get('options', {}), epochs=variant.get('epochs'))
                for variant in study.variants]
    for variant in variants:
        if not variant.config.is_file():
            raise UsageError(f'{path}: config {variant.config} of variant {variant.name!r} does not exist',
                             'missing-file')
    folders = [variant.folder for variant in variants]
    for variant in variants:
        if folders.count(variant.folder) > 1:
            raise UsageError(f'{path}: another variant has the same folder as {variant.name!r}, '
                             f'{variant.folder}: rename one', 'bad-config')
    return Study(path, variants, list(study.seeds), study.get('report', 'val'), study.get('minutes'),
                 sorted({*study.get('shares', ()), 1}))


def _check_keys(path, study):
    """Refuse unknown keys and wrong values."""
    parts = [('study', study, _KEYS)] + [(f'variant {variant.get("name")!r}', variant, _OF_VARIANT)
                                         for variant in study.variants]
    for where, part, known in parts:
        unknown = set(part) - set(known)
        if unknown:
            raise UsageError(f'{path}: {where} has an unknown key {unknown.pop()!r}: the keys are '
                             f'{", ".join(known)}', 'unknown-setting')
    rules = (
        (study.get('report', 'val') in ('val', 'test'), "report must be 'val' or 'test'"),
        (study.get('minutes') is None or study.minutes > 0, 'minutes must be above 0'),
        (all(0 < share <= 1 for share in study.get('shares', ())), 'shares must be above 0 and at most 1'),
        (all(variant.get('epochs') is None or variant.epochs >= 1 for variant in study.variants),
         'epochs must be 1 or more'),
        (study.get('minutes') is None or not any(variant.get('epochs') for variant in study.variants),
         'minutes sets the epochs of all variants: remove epochs, or minutes'),
    )
    for fits, words in rules:
        if not fits:
            raise UsageError(f'{path}: {words}', 'bad-config')
