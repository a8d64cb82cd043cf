"""Data sets: what an annotation file says, what is wrong with it, and which images are evaluated.

Importing it registers the hook that checks data before training, and the metric of a submission.
"""

from .checks import DataCheckHook
from .evaluated_images import EvaluatedImagesHook
from .submission import CocoSubmissionMetric

__all__ = ['CocoSubmissionMetric', 'DataCheckHook', 'EvaluatedImagesHook']
