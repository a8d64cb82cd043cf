"""Pretrained weights: finds them without torchvision, and explains why they are not available."""

import importlib
import json
import shlex
from pathlib import Path

import mmengine

from ..errors import UsageError

_PREFIXES = ('torchvision://', 'modelzoo://')


def resolve_pretrained(url: str) -> str:
    """The address for a name such as ``torchvision://resnet50``.

    mmengine imports torchvision to look up the name, although mmengine has its own list of addresses.

    Args:
        url (str): Value of ``init_cfg.checkpoint``: a file, a URL or a name.

    Returns:
        str: The URL of a known ``torchvision://`` name if torchvision cannot be imported, else ``url``.
    """
    prefix = next((prefix for prefix in _PREFIXES if url.startswith(prefix)), None)
    if prefix is None or _torchvision_works():
        return url
    names = Path(mmengine.__file__).parent / 'hub' / 'torchvision_0.12.json'
    return json.loads(names.read_text()).get(url[len(prefix):], url)


def explain_missing_weights(error: BaseException, checkpoint: str, switch: str,
                            command: str = '') -> UsageError:
    """The error to raise if pretrained weights are not available.

    Args:
        error (BaseException): What went wrong.
        checkpoint (str): File or URL of the weights.
        switch (str): Config key of the initialisation, for example ``model.backbone.init_cfg``.
        command (str): A command that makes the file, with ``{}`` in place of its name.

    Returns:
        UsageError: One line that names the weights, the reason and the switch.
    """
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), '')
    missing = isinstance(error, FileNotFoundError) and '://' not in checkpoint
    make = f'make it with {command.format(shlex.quote(checkpoint))}, ' if command and missing else ''
    return UsageError(
        f'pretrained weights {checkpoint} cannot be loaded ({type(error).__name__}: {reason}): {make}use '
        f'another file with --cfg-options {switch}.checkpoint=FILE, or none with --cfg-options {switch}=None',
        'download-failed' if '://' in checkpoint else 'missing-file' if missing else 'bad-checkpoint')


def _torchvision_works():
    try:
        importlib.import_module('torchvision')
    except Exception:  # a torchvision for another torch fails with more than ImportError
        return False
    return True
