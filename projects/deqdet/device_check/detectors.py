"""Detectors and batches for the checks: shipped configs with random weights, and random images."""

from copy import deepcopy
from typing import Any, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from ..analysis.trial import random_batch
from ..shipped import find_config


def config_of(name: str = 'deqdet_digits', *, queries: Optional[int] = None, steps: int = 4) -> Config:
    """A shipped config without pretrained weights, by default that of the demo with few steps.

    Args:
        name (str): Name of the config. That of the demo has width 64 and images of 96 pixels.
        queries (int, optional): Number of queries; by default that of the config.
        steps (int): Number of steps. Only supervised positions up to it are kept.
    """
    config = Config.fromfile(str(find_config(name)))
    config.model.backbone.init_cfg = None
    if queries is not None:
        config.model.rpn_head.num_proposals = queries
    supervised = [t for t in config.model.roi_head.supervision_position if t <= steps]
    config.model.roi_head.update(refinement_steps=steps, supervision_position=supervised)
    config.model.test_cfg.rcnn.pop('refinement_steps', None)
    return config


def build(config: Config, device: torch.device) -> nn.Module:
    """The detector with initial weights of seed 0."""
    from mmdet.registry import MODELS
    torch.manual_seed(0)
    model = MODELS.build(deepcopy(config.model))
    model.init_weights()
    return model.to(device)


def wrapper_of(model: nn.Module, config: Config, steps: int) -> OptimWrapper:
    """The optimiser of a config, for a given number of steps."""
    wrapper: Any = build_optim_wrapper(model, config.optim_wrapper)
    wrapper.initialize_count_status(model, 0, steps)
    return wrapper


def contracting(model: nn.Module) -> nn.Module:
    """Make the path contract, so that two ways to compute it can be compared at its end.

    The initial weights amplify differences from step to step.
    """
    refinement: Any = model.roi_head.bbox_head[-1]  # type: ignore[index,union-attr]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in (refinement.attention_norm, refinement.sampling_n_mixing.norm, refinement.ffn_norm):
            norm.weight.mul_(0.3)
            norm.bias.copy_(0.5 * torch.randn(norm.bias.shape, generator=generator))
    return model.eval()


def problem(model: nn.Module, shape: Tuple[int, int], **kwargs: Any) -> Tuple[Any, Any]:
    """Feature pyramid and first state of the decoder for random images, without gradient."""
    detector: Any = model
    batch = detector.data_preprocessor(random_batch(model, shape, **kwargs), False)
    with torch.no_grad():
        features = detector.extract_feat(batch['inputs'])
        proposals = detector.rpn_head.predict(features, batch['data_samples'])
        return detector.roi_head.pyramid(features), detector.roi_head.initial_state(proposals)
