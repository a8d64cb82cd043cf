"""Data sets: the content of annotation files, faults in the data, and the images that are evaluated.

Importing it registers the hook that checks data before training, a step of pipelines, and the metric for
submissions.
"""

from .checks import DataCheckHook
from .cut_objects import RemoveCutObjects
from .evaluated_images import EvaluatedImagesHook
from .submission import CocoSubmissionMetric

__all__ = ['CocoSubmissionMetric', 'DataCheckHook', 'EvaluatedImagesHook', 'RemoveCutObjects']
