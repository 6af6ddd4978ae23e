"""Frame -> faces: one crop of the frame through the network, decoded, suppressed, in frame pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeface.boxes import crop_mapping, nms
from edgeface.errors import OutputError
from edgeface.seams import Decoder, Engine
from edgeface.values import F32, Detections, Frame

CropRule = Callable[[tuple[int, int], tuple[int, int]], F32]  # boxes.letterbox or boxes.stretch


class FaceDetector:
    """Looks at whole frames with one engine. Boxes of at least `score_threshold` come back, best first."""

    def __init__(
        self,
        engine: Engine,
        decode: Decoder,
        crop_rule: CropRule,
        *,
        score_threshold: float,
        nms_iou_threshold: float,
        max_candidates: int,
    ) -> None:
        self.engine, self.decode, self.nms = engine, decode, nms  # attributes, so that a bench can time them
        self._crop_rule = crop_rule
        self._score_threshold = score_threshold
        self._nms_iou_threshold, self._max_candidates = nms_iou_threshold, max_candidates
        self._frame_size: tuple[int, int] | None = None
        self._crops: F32 = np.zeros((0, 4), np.float32)
        self._scale, self._offset = crop_mapping(self._crops, engine.input_size)  # [crops, 4], of this frame size

    def detect(self, frame: Frame) -> Detections:
        """Faces in frame pixels. Raises OutputError when the outputs mean nothing."""
        if (frame.width, frame.height) != self._frame_size:
            self._frame_size = (frame.width, frame.height)
            self._crops = self._crop_rule(self._frame_size, self.engine.input_size)
            self._scale, self._offset = crop_mapping(self._crops, self.engine.input_size)
        found = self.decode(self.engine.infer(frame, self._crops), self._score_threshold)
        if found.invalid:
            raise OutputError(f"{found.invalid} of the detector's numbers mean nothing (NaN, infinite or absurd)")
        scale, offset = self._scale[found.crop], self._offset[found.crop]
        xyxy = found.xyxy * scale + offset
        keep = self.nms(xyxy, found.score, self._nms_iou_threshold, self._max_candidates)
        keypoints = found.keypoints[keep] * scale[keep, None, :2] + offset[keep, None, :2]
        return Detections(xyxy[keep], found.score[keep], keypoints)
