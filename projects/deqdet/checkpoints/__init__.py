"""Checkpoints: their content, whether they fit a model, and how they are published.

Importing it registers the hook that checks a checkpoint before it is loaded.
"""

from .check import CheckpointCheckHook

__all__ = ['CheckpointCheckHook']
