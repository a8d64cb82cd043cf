"""A page to explore a trained equilibrium: ``tools/app.py``.

``solving`` computes; ``showing`` and ``visit`` display. Only ``page`` needs Gradio; nothing here imports it.
"""

from .showing import status_of, stop_of, write_results
from .solving import Playground, Solution, load_model

__all__ = ['Playground', 'Solution', 'load_model', 'status_of', 'stop_of', 'write_results']
