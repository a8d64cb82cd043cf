"""Detection frame by frame, each frame from the equilibrium of the last."""

from pathlib import Path
from typing import Optional

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel

from ..errors import UsageError
from ..model.heads import PredictionSettings
from ..model.heads.warm_start import Equilibrium


class FrameDetector:
    """Detects on frames in order. It remembers the last frame: each video, and each thread, has its own.

    Args:
        model (BaseModel): A detector with a ``DEQDetRoIHead``, in eval mode.
        cfg (Config): Its config, for the test pipeline.
        warm (bool): Start each frame at the equilibrium of the last one. It gains where the head has a
            tolerance.
        settings (PredictionSettings, optional): How each frame is solved. By default as the config says.

    Attributes:
        last (Equilibrium, optional): Where the next frame starts.
    """

    def __init__(self, model: BaseModel, cfg: Config, *, warm: bool = True,
                 settings: Optional[PredictionSettings] = None) -> None:
        if not hasattr(model.roi_head, 'equilibrium'):
            raise UsageError(f'a {type(model.roi_head).__name__} solves no equilibrium that frames could '
                             'share')
        self.model = model
        self.warm = warm
        self.settings = model.roi_head.settings_or_own(settings)
        self.last: Optional[Equilibrium] = None
        steps = [step for step in get_test_pipeline_cfg(cfg)
                 if step['type'] not in ('LoadAnnotations', 'mmdet.LoadAnnotations')]
        if not steps or steps[0]['type'] not in ('LoadImageFromFile', 'mmdet.LoadImageFromFile'):
            raise UsageError('the test pipeline must begin with LoadImageFromFile, in whose place frames are '
                             'put')
        self._pipeline = Compose([dict(type='mmdet.LoadImageFromNDArray'), *steps[1:]])

    def reset(self) -> None:
        """Forget the last frame: the next one is of another scene."""
        self.last = None

    @torch.no_grad()
    def __call__(self, frame: np.ndarray) -> DetDataSample:
        """Detect on one frame.

        Args:
            frame (np.ndarray): BGR, uint8, has shape (H, W, 3).

        Returns:
            :obj:`DetDataSample`: ``pred_instances``, boxes in pixels of the frame, and ``equilibrium``.
        """
        data = pseudo_collate([self._pipeline(dict(img=frame, img_id=0))])
        sample, = self.model.test_step(
            data, start=[self.last if self.warm else None], settings=self.settings)
        self.last = sample.equilibrium
        return sample


class VideoWriter:
    """Writes frames of one size to an MP4 file.

    Args:
        path (Path): The file; its folder is made where it is missing.
        rate (float): Frames a second.

    Raises:
        UsageError: If OpenCV cannot write there.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = Path(path), rate
        self._writer: Optional[cv2.VideoWriter] = None
        if self._path.suffix.lower() != '.mp4':
            raise UsageError(f'{self._path}: the video is an .mp4 file')

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, BGR, uint8, has shape (H, W, 3)."""
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            height, width = frame.shape[:2]
            self._writer = cv2.VideoWriter(
                str(self._path), cv2.VideoWriter.fourcc(*'mp4v'), self._rate, (width, height))
            if not self._writer.isOpened():
                raise UsageError(f'{self._path} cannot be written as a video')
            self._shape = frame.shape
        if frame.shape != self._shape:  # OpenCV would leave it out without a word
            raise UsageError(f'{self._path}: a frame of shape {frame.shape} after frames of shape '
                             f'{self._shape}: all must have one size')
        self._writer.write(frame)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
