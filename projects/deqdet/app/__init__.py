"""A page to explore a trained equilibrium: ``tools/app.py``.

``solving`` and ``reading`` compute; ``showing``, ``files`` and ``visit`` display. Only ``page`` needs Gradio;
nothing here imports it.
"""

from .files import write_results
from .loading import load_model
from .reading import status_of, stop_of
from .solving import Playground, Solution

__all__ = ['Playground', 'Solution', 'load_model', 'status_of', 'stop_of', 'write_results']
