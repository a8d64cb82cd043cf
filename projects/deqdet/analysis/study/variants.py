"""Study files: variants of a config, each trained with several seeds."""

import json
import re
from argparse import Namespace
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import List, Mapping, Optional, Sequence

from mmengine.config import Config

from ...errors import UsageError, first_line
from ...launching.command_line import Parser, add_common_arguments
from ...launching.configs import read_config
from ...settings import is_finite, is_whole

# What a value must be, in words, and whether the key is needed.
_KEYS = {
    'seeds': (lambda value: _is_list(value) and all(is_whole(seed) and seed >= 0 for seed in value)
              and len({*value}) == len(value), 'a list of different whole numbers, 0 or more', True),
    'variants': (lambda value: _is_list(value), 'a list of dict(name=..., config=...)', True),
    'report': (lambda value: value in ('val', 'test'), "'val' or 'test'", False),
    'minutes': (lambda value: is_finite(value) and value > 0, 'a number above 0', False),
    'shares': (lambda value: isinstance(value, (list, tuple)) and all(
        is_finite(share) and 0 < share <= 1 for share in value), 'a list of numbers above 0 and at most 1',
        False),
}
_OF_VARIANT = {
    'name': (lambda value: isinstance(value, str) and _folder_of(value) != '',
             'a text with a letter from a to z or a digit', True),
    'config': (lambda value: isinstance(value, str), 'the path of a config', True),
    'options': (lambda value: isinstance(value, dict) and all(isinstance(key, str) for key in value),
                "settings by dotted key, such as {'model.roi_head.rag': 1}", False),
    'epochs': (lambda value: is_whole(value) and value >= 1, 'a whole number, 1 or more', False),
}


def _is_list(value) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0


def _folder_of(name) -> str:
    return re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')


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
        return _folder_of(self.name)

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
    try:
        study = Config.fromfile(path).get('study')
    except Exception as error:  # the file is code, so any error can occur
        raise UsageError(f'study file {path} cannot be read ({type(error).__name__}: {first_line(error)})',
                         'bad-config') from error
    _check_keys(path, study)
    variants = [Variant(name=variant.name, config=Path(path).parent / variant.config,
                        options=variant.get('options') or {}, epochs=variant.get('epochs'))
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
    return Study(path, variants, list(study.seeds), study.get('report') or 'val', study.get('minutes'),
                 sorted({*(study.get('shares') or ()), 1}))


def _check_keys(path, study):
    """Refuse unknown keys and wrong values."""
    if not isinstance(study, dict):
        raise UsageError(f'{path} has no study=dict(seeds=[...], variants=[dict(name=..., config=...), ...])',
                         'bad-config')
    _check_part(path, 'study', study, _KEYS)
    for number, variant in enumerate(study['variants']):
        if not isinstance(variant, dict):
            raise UsageError(f'{path}: variants[{number}] must be dict(name=..., config=...)', 'bad-config')
        name = variant.get('name')
        where = f'variants[{number}]' if name is None else f'variant {name!r}'
        _check_part(path, where, variant, _OF_VARIANT)
    if study.get('minutes') is not None and any(variant.get('epochs') for variant in study['variants']):
        raise UsageError(f'{path}: minutes sets the epochs of all variants: remove epochs, or minutes',
                         'bad-config')


def _check_part(path, where, part, rules):
    for key in part:
        if key not in rules:
            near = get_close_matches(str(key), rules, 1)
            raise UsageError(f'{path}: {where} has an unknown key {key!r}: '
                             + (f'did you mean {near[0]!r}? ' if near else '')
                             + f'The keys are {", ".join(rules)}', 'unknown-setting')
    for key, (fits, words, needed) in rules.items():
        if key not in part and needed:
            raise UsageError(f'{path}: {where} has no {key!r}: it must be {words}', 'bad-config')
        value = part.get(key)
        if (value is not None or needed) and not fits(value):
            raise UsageError(f'{path}: {where}: {key}={value!r} must be {words}', 'bad-config')
