"""The page: controls and their callbacks. This is the only module that needs Gradio."""

import os
from abc import ABCMeta
from pathlib import Path
from typing import Sequence

# Gradio reads this when it is imported. It turns usage reports off.
os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'

import gradio

from ..equilibrium import SOLVERS
from .solving import LEAST_SCORE, Playground
from .visit import MOST_SCORE, Settings, show

# Default limits of the tolerance, if the config has none.
_LIMITS = dict(content=0.05, position=0.5)
# Seconds after which uploads and results are deleted, and seconds between two searches for old files.
_KEPT, _LOOK = 3600, 600
# Number of visitors whose images are kept.
_VISITORS = 32

_NOTE = ('A deep equilibrium detector applies one layer until its output no longer moves. Drop an image, '
         'then move the slider.')
_CSS = '''
.gradio-container { max-width: 1500px !important; }
main { padding: 12px 16px !important; gap: 8px !important; }
footer { display: none !important; }
#solver label { padding: 4px 8px; }
#status { font-size: 0.9em; }
'''


# A slider that passes its number on as typed. Gradio's own raises an error if the field is empty or out of
# range, and the page would keep showing another image. It is a class because Gradio rebuilds components after
# an update. It bypasses Gradio's metaclass, which would write a .pyi beside this file. `is_template` makes
# the browser use the parent's code.
_Slider = ABCMeta.__new__(type(gradio.Slider), '_Slider', (gradio.Slider, ), dict(
    __module__=__name__, is_template=True, preprocess=lambda self, payload: payload))


def build_page(playground: Playground, folder: Path, *, title: str,
               examples: Sequence[str] = ()) -> gradio.Blocks:
    """Build the page of a model.

    Args:
        playground (Playground): The model.
        folder (Path): Folder for the visitors' files; Gradio also keeps its own files there.
        title (str): Name of the model.
        examples (Sequence[str]): Image files to choose from.
    """
    kinds = 'Boxes, masks' if playground.masks else 'Boxes'
    with gradio.Blocks(title=f'DEQDet: {title}', analytics_enabled=False, fill_width=True,
                       delete_cache=(_LOOK, _KEPT)) as page:
        visit = gradio.State(None, time_to_live=_KEPT)
        gradio.Markdown(f'**DEQDet, {title}.** {_NOTE}')
        with gradio.Row():
            with gradio.Column(scale=3, min_width=240):
                image, solver, score, stops, content, position = _controls(playground, examples)
            with gradio.Column(scale=5, min_width=380):
                steps = _Slider(
                    0, playground.refinements, value=playground.predicted, step=1, buttons=[],
                    elem_id='steps', label='Refinements (0: the initialisation layer alone)')
                picture = gradio.Image(
                    show_label=False, type='filepath', format='png', height=440, interactive=False,
                    buttons=['fullscreen'], elem_id='picture', alt_text='the image with its boxes')
                status = gradio.Markdown('No image yet: drop one on the left.', elem_id='status')
            with gradio.Column(scale=4, min_width=300):
                curve = gradio.Image(show_label=False, type='filepath', format='png', height=520,
                                     interactive=False, buttons=[], elem_id='curve',
                                     alt_text='residuals by refinement')
                with gradio.Row():
                    results, png = (
                        gradio.DownloadButton(label, interactive=False, min_width=120, elem_id=name)
                        for label, name in ((f'{kinds} (JSON)', 'results'), ('Picture (PNG)', 'png')))

        def answer(visit, path, *controls, jump=False):
            settings = Settings(*controls)
            shown = show(playground, folder, visit, path, settings, jump=jump)
            # Not updated if it is right: the visitor may have moved it in the meantime.
            slider = gradio.skip() if shown.refinements == settings.refinements else shown.refinements
            files = shown.files
            if files is None:
                off = gradio.update(value=None, interactive=False)
                return shown.visit, slider, None, None, shown.status, off, off
            return (shown.visit, slider, files.picture, files.curve, shown.status,
                    gradio.update(value=files.results, interactive=True),
                    gradio.update(value=files.picture, interactive=True))

        def answer_and_jump(*values):
            return answer(*values, jump=True)

        inputs = [visit, image, solver, steps, score, stops, content, position]
        outputs = [visit, steps, picture, curve, status, results, png]
        # A new image or solver takes a while. The other events only select and draw; the last one counts.
        slow = dict(concurrency_id='solve', concurrency_limit=1, show_progress_on=[picture])
        quick = dict(concurrency_id='draw', concurrency_limit=1, show_progress='hidden',
                     trigger_mode='always_last')
        for listen, options in ((image.change, slow), (solver.input, slow), (stops.input, quick),
                                (content.change, quick), (position.change, quick)):
            listen(answer_and_jump, inputs, outputs, api_visibility='private', **options)
        for listen in (steps.input, score.input):
            listen(answer, inputs, outputs, api_visibility='private', **quick)
    return page


def _controls(playground, examples):
    """The image and all controls except the number of refinements."""
    limits = playground.tolerance or _LIMITS
    image = gradio.Image(label='Image', type='filepath', sources=['upload', 'clipboard'], buttons=[],
                         height=170, elem_id='image')
    # The path of the uploaded file. Gradio would open it with Pillow, which cannot read every image.
    image.preprocess = lambda payload: None if payload is None else payload.path
    solver = gradio.Radio([('plain (iterate)' if name == 'iterate' else name, name) for name in SOLVERS],
                          value=playground.solver, label='Solver', elem_id='solver')
    score = _Slider(LEAST_SCORE, MOST_SCORE, value=0.3, step=0.01, label='Scores above', elem_id='score',
                    buttons=[])
    stops = gradio.Checkbox(bool(playground.tolerance), label='Stop at a tolerance', elem_id='stops')
    with gradio.Row():
        content, position = (
            gradio.Number(limits.get(part), label=part, info=unit, step=step, min_width=90, elem_id=part)
            for part, unit, step in (('content', 'share of length', 0.01),
                                     ('position', 'px of the input', 0.1)))
    if examples:
        gradio.Examples([[str(path)] for path in examples], [image], cache_examples=False,
                        examples_per_page=8, label='Examples', api_visibility='private')
    return image, solver, score, stops, content, position


def serve(page: gradio.Blocks, *, host: str, port: int) -> str:
    """Start to serve a page; returns its address.

    Args:
        page (gradio.Blocks): The page.
        host (str): Address to listen on.
        port (int): Port to listen on.

    Raises:
        OSError: If the port is taken.
    """
    theme = gradio.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace'])
    _, address, _ = page.queue(max_size=64).launch(
        server_name=host, server_port=port, share=False, inbrowser=False, quiet=True,
        prevent_thread_lock=True, ssr_mode=False, pwa=False, enable_monitoring=False, mcp_server=False,
        max_file_size='64mb', state_session_capacity=_VISITORS, footer_links=[], theme=theme, css=_CSS)
    return address
