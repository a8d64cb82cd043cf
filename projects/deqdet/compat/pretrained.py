"""Pretrained weights: finds them without torchvision, and explains why they are not available."""

import importlib
import json
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


def explain_missing_weights(error: BaseException, checkpoint: str, switch: str) -> UsageError:
    """The error to raise if pretrained weights are not available.

    Args:
        error (BaseException): What went wrong.
        checkpoint (str): File or URL of the weights.
        switch (str): Config key of the initialisation, for example ``model.backbone.init_cfg``.

    Returns:
        UsageError: One line that names the weights, the reason and the switch.
    """
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), '')
    return UsageError(
        f'pretrained weights {checkpoint} cannot be loaded ({type(error).__name__}: {reason}): use another '
        f'file with --cfg-options {switch}.checkpoint=FILE, or none with --cfg-options {switch}=None',
        'download-failed' if '://' in checkpoint else
        'missing-file' if isinstance(error, FileNotFoundError) else 'bad-checkpoint')


def _torchvision_works():
    try:
        importlib.import_module('torchvision')
    except Exception:  # a torchvision for another torch fails with more than ImportError
        return False
    return True
