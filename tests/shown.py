"""Figures as arrays."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg


def pixels(figure):
    """A figure as an array: RGB, uint8, has shape (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
