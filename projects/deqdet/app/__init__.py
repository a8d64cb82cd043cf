"""A page to play with a trained equilibrium: ``tools/app.py``.

What is computed (``solving``, ``reading``) is apart from what is shown (``showing``, ``files``, ``visit``).
Only ``page`` needs Gradio; nothing here imports it.
"""

from .files import write_results
from .loading import load_model
from .reading import status_of, stop_of
from .solving import Playground, Solution

__all__ = ['Playground', 'Solution', 'load_model', 'status_of', 'stop_of', 'write_results']
