"""Reference cases: tensors computed once, in float32 on a CPU, with the official model code.

A case is a folder with ``case.json`` (model config, seed), ``state_dict.pt`` (without the keys that
``tied`` in ``case.json`` names), ``inputs.pt`` and ``expected.pt``. Other cases of the same form are run by
pointing DEQDET_GOLDEN to their folder.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

FOLDER = Path(os.environ.get('DEQDET_GOLDEN', Path(__file__).parent / 'data' / 'golden'))


@dataclass
class Case:
    """A reference case.

    Attributes:
        config (dict): ``case.json``.
        state_dict (dict[str, Tensor]): Weights.
        inputs (dict): Images and ground truth.
        expected (dict[str, Tensor]): What the official code gave.
    """

    config: dict
    state_dict: dict
    inputs: dict
    expected: dict

    @classmethod
    def load(cls, name):
        """Read the case of this name."""
        tensors = [torch.load(FOLDER / name / f'{part}.pt', weights_only=True)
                   for part in ('state_dict', 'inputs', 'expected')]
        return cls(json.loads((FOLDER / name / 'case.json').read_text()), *tensors)

    def model_config(self):
        """A fresh copy of the detector's config: building a detector changes its config."""
        return ConfigDict(json.loads(json.dumps(self.config['model'])))

    def build(self):
        """The detector with the reference weights, in training mode."""
        from mmdet.registry import MODELS
        model = MODELS.build(self.model_config())
        tied = {key: self.state_dict[other] for key, other in self.config.get('tied', {}).items()}
        model.load_state_dict({**self.state_dict, **tied}, strict=True)
        return model

    def batch(self, model):
        """Images and samples, through the detector's own preprocessor."""
        from mmdet.structures import DetDataSample
        samples = []
        for i, _ in enumerate(self.inputs['images']):
            sample = DetDataSample(metainfo=dict(
                img_shape=tuple(self.inputs['img_shapes'][i]),
                ori_shape=tuple(self.inputs['ori_shapes'][i]),
                scale_factor=tuple(self.inputs['scale_factors'][i]), img_path=f'image_{i}.png'))
            sample.gt_instances = InstanceData(
                bboxes=self.inputs['gt_bboxes'][i], labels=self.inputs['gt_labels'][i])
            samples.append(sample)
        return model.data_preprocessor(
            dict(inputs=list(self.inputs['images']), data_samples=samples), training=True)


def case_names(roi_head_types=('DEQDetRoIHead', 'FFNDetRoIHead', 'DEQ_SparseRoIHead')):
    """Names of the cases whose decoder head is one of these."""
    return sorted(
        path.parent.name for path in FOLDER.glob('*/case.json')
        if json.loads(path.read_text())['model']['roi_head']['type'] in roi_head_types)


def relative_error(actual, expected):
    """L2 norm of the difference relative to the norm of what is expected."""
    actual, expected = actual.detach().double(), expected.double().reshape(actual.shape)
    return float((actual - expected).norm() / expected.norm().clamp(min=1e-6))
