"""Golden cases: small detectors, and the results of the official model code for them on a CPU.

A case is a folder with ``case.json`` (model config, seed), ``state_dict.pt`` (without the keys in ``tied`` of
``case.json``), ``inputs.pt``, ``expected.pt`` (float32) and ``expected64.pt`` (float64).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..equilibrium import Perturbation

#: Heads that this package can build.
HEADS = ('DEQDetRoIHead', 'FFNDetRoIHead', 'DEQ_SparseRoIHead')


@dataclass(frozen=True, eq=False)
class GoldenCase:
    """A golden case.

    Attributes:
        config (dict): ``case.json``.
        state_dict (dict[str, Tensor]): Weights.
        inputs (dict): Images and ground truth.
        expected (dict[str, Tensor]): Results of the official code in float32.
        expected64 (dict[str, Tensor], optional): Its results in float64, for the same weights, images and
            boxes. None if the file is missing.
    """

    config: Dict[str, Any]
    state_dict: Dict[str, Tensor]
    inputs: Dict[str, Any]
    expected: Dict[str, Tensor]
    expected64: Optional[Dict[str, Tensor]] = None

    @classmethod
    def load(cls, folder: Path) -> 'GoldenCase':
        """Read the case of a folder."""
        def read(part):
            return torch.load(folder / f'{part}.pt', weights_only=True)

        config = json.loads((folder / 'case.json').read_text(encoding='utf-8'))
        return cls(config, read('state_dict'), read('inputs'), read('expected'),
                   read('expected64') if (folder / 'expected64.pt').is_file() else None)

    def model_config(self) -> ConfigDict:
        """A new copy of the detector's config, because building a detector changes it."""
        return ConfigDict(json.loads(json.dumps(self.config['model'])))

    def build(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The detector with the reference weights and noise, in training mode."""
        from mmdet.registry import MODELS
        model = MODELS.build(self.model_config())
        tied = {key: self.state_dict[other] for key, other in self.config.get('tied', {}).items()}
        model.load_state_dict({**self.state_dict, **tied}, strict=True)
        if self.config.get('perturbation') == 'off':
            model.roi_head.perturbation = Perturbation([])
        return model.to(dtype)

    def batch(self, model: nn.Module) -> Dict[str, Any]:
        """Images and samples after the detector's preprocessor, in the precision of its weights."""
        from mmdet.structures import DetDataSample
        from mmdet.structures.mask import BitmapMasks
        dtype = next(model.parameters()).dtype
        samples = []
        for i, _ in enumerate(self.inputs['images']):
            sample = DetDataSample(metainfo=dict(
                img_shape=tuple(self.inputs['img_shapes'][i]),
                ori_shape=tuple(self.inputs['ori_shapes'][i]),
                scale_factor=tuple(self.inputs['scale_factors'][i]), img_path=f'image_{i}.png'))
            sample.gt_instances = InstanceData(
                bboxes=self.inputs['gt_bboxes'][i].to(dtype), labels=self.inputs['gt_labels'][i])
            if 'gt_masks' in self.inputs:
                masks = self.inputs['gt_masks'][i].numpy()
                sample.gt_instances.masks = BitmapMasks(masks, *masks.shape[1:])
            samples.append(sample)
        preprocessor: Any = model.data_preprocessor
        batch = preprocessor(dict(inputs=list(self.inputs['images']), data_samples=samples), training=True)
        batch['inputs'] = batch['inputs'].to(dtype)
        return batch

    def draws_noise(self) -> bool:
        """Whether the training path is perturbed; then its losses depend on the device's generator."""
        head = self.config['model']['roi_head']
        return self.config.get('perturbation') != 'off' and any(
            head.get(f'perturb_{part}_prob', 0.2) > 0 for part in ('content', 'position')
        ) and head['type'] != 'FFNDetRoIHead'


def golden_cases(folder: Path, heads: Sequence[str] = HEADS) -> List[Path]:
    """Folders of the cases that have one of these decoder heads, sorted."""
    def head(path):
        return json.loads(path.read_text(encoding='utf-8')).get('model', {}).get('roi_head', {})

    return sorted(path.parent for path in folder.glob('*/case.json')
                  if head(path).get('type') in heads)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """L2 norm of the difference, relative to the norm of the expected values."""
    actual, expected = actual.detach().double().cpu(), expected.detach().double().reshape(actual.shape)
    return float((actual - expected).norm() / expected.norm().clamp(min=1e-6))


def predictions(model: nn.Module, batch: Mapping[str, Any]) -> Dict[str, Tensor]:
    """Detections of a batch, with the names of a golden case; the model is in eval mode."""
    detector: Any = model
    with torch.no_grad():
        results = detector.predict(batch['inputs'], batch['data_samples'], rescale=True)
    return {f'predict.{i}.{part}': result.pred_instances[part]
            for i, result in enumerate(results) for part in ('scores', 'bboxes', 'labels')}


@torch.no_grad()
def final_maps(case: GoldenCase, model: nn.Module) -> Optional[Tensor]:
    """Logits of the masks of all queries, from features and final state of the reference.

    Args:
        case (GoldenCase): The case.
        model (nn.Module): Its detector in eval mode, in any precision and on any device.

    Returns:
        Tensor or None: ``final.mask_logits``, has shape (B, N, K, S, S); None if the case has no local masks.
    """
    if 'final.mask_logits' not in case.expected:
        return None
    detector: Any = model
    like = next(model.parameters())
    features = [case.expected[f'feats.{level}'].to(like) for level in range(4)]
    content, box = (case.expected[f'final.{part}'].to(like) for part in ('content', 'bbox'))
    images, queries = content.shape[:2]
    image = torch.arange(images, device=like.device).repeat_interleave(queries)
    head = detector.roi_head.mask_head[-1]
    maps = head.maps(head.roi_features(features, image, box.flatten(0, 1)), content.flatten(0, 1))
    return maps.unflatten(0, (images, queries))


def losses_of_case(case: GoldenCase, model: nn.Module, batch: Mapping[str, Any]) -> Dict[str, Tensor]:
    """Losses of a batch with their graph, for the seed of the case; the model is in training mode."""
    detector: Any = model
    torch.manual_seed(case.config.get('train_seed', 0))  # a case without random draws has no seed
    return detector.loss(batch['inputs'], batch['data_samples'])
