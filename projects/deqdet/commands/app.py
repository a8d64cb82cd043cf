"""A page to play with a trained model: drop an image, move the slider, watch boxes settle."""

import contextlib
import os
import signal
import tempfile
import threading
from pathlib import Path

from .. import app
from ..analysis import left_out
from ..errors import UsageError
from ..launching.command_line import Parser, add_config_options, add_trust_option, keep_old_name, run, within

# Formats that OpenCV reads, as the test pipelines do.
IMAGES = ('.avif', '.bmp', '.jfif', '.jp2', '.jpe', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
LOCAL = ('127.0.0.1', 'localhost', '::1')


def _parse_args():
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('checkpoint', metavar='weights', help='local .pth or .safetensors file')
    parser.add_argument('--port', type=within(1, 65535), default=7860,
                        help='port to listen on (default: 7860)')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on (default: 127.0.0.1, only for this machine)')
    parser.add_argument('--device', help='cpu or cuda:0, for example (default: a GPU if there is one)')
    parser.add_argument('--examples', type=Path, metavar='FOLDER', help='images to choose from')
    keep_old_name(parser, parser.add_argument(
        '--refinements', type=within(1), default=50, metavar='N',
        help='refinements at the right end of the slider (default: 50)'), '--max-steps')
    add_trust_option(parser)
    add_config_options(parser)
    return parser.parse_args()


def main() -> None:
    args = _parse_args()
    examples = _examples_of(args.examples)
    # Gradio serves every file in its folder, so it gets a folder that no other program writes to.
    with tempfile.TemporaryDirectory(prefix='deqdet_app_') as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder
        page = _page_module()
        loaded = app.load_model(args)
        for line in left_out(loaded.model.roi_head.prediction):
            print(line, flush=True)
        playground = app.Playground(loaded.model, loaded.cfg, loaded.classes, refinements=args.refinements)
        built = page.build_page(playground, Path(folder), title=Path(args.config).stem, examples=examples)
        try:
            address = page.serve(built, host=args.host, port=args.port)
        except OSError as error:
            raise UsageError(f'--host {args.host} --port {args.port} cannot be used ({error}): use another '
                             'port', 'bad-argument') from error
        if args.host not in LOCAL:
            print(f'everybody who reaches {args.host} can use this page: it has no password', flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the folder is removed
        print(f'the page is at {address} (Ctrl-C ends it)', flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        built.close()


def _page_module():
    """The module that needs Gradio."""
    try:
        from deqdet.app import page
    except ModuleNotFoundError as error:
        if error.name != 'gradio':
            raise
        raise UsageError("the page needs gradio: pip install gradio, or pip install 'deqdet[app]'",
                         'missing-package') from error
    return page


def _examples_of(folder):
    """The images of a folder."""
    if folder is None:
        return []
    if not folder.is_dir():
        raise UsageError(f'--examples {folder}: the folder does not exist', 'missing-file')
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    if not found:
        raise UsageError(f'--examples {folder}: the folder has no images ({", ".join(IMAGES)})',
                         'bad-argument')
    return found


if __name__ == '__main__':
    run(main)
