"""Frame -> faces: one crop of the frame through the network, decoded, merged, in frame pixels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgeface.boxes import CropRule, crop_mapping, letterbox, stretch
from edgeface.errors import OutputError
from edgeface.model_card import Card
from edgeface.seams import Decoder, Engine
from edgeface.values import F32, Detections, Frame

Merge = Callable[[F32, F32, F32], Detections]  # xyxy, score and keypoints in input pixels: a mode of clustering


def whole_frame(card: Card) -> CropRule:
    """How a detector's network is shown a whole frame."""
    return letterbox if card.input.resize == "letterbox" else stretch


class FaceDetector:
    """Looks at whole frames with one engine. Candidates of at least `score_threshold` are merged, best first."""

    def __init__(
        self, engine: Engine, decode: Decoder, crop_rule: CropRule, merge: Merge, *, score_threshold: float
    ) -> None:
        self.engine, self.decode, self.merge = engine, decode, merge  # attributes, so that a bench can time them
        self._crop_rule = crop_rule
        self._score_threshold = score_threshold
        self._frame_size: tuple[int, int] | None = None
        self._crops: F32 = np.zeros((0, 4), np.float32)
        self._scale, self._offset = crop_mapping(self._crops, engine.input_size)  # [1, 4], of this frame size

    def with_crop(self, crop_rule: CropRule) -> FaceDetector:
        """The same network, decoding and merging for another part of the frame."""
        return FaceDetector(self.engine, self.decode, crop_rule, self.merge, score_threshold=self._score_threshold)

    def crop(self, frame: Frame) -> F32:
        """Where it looks [1, 4] in frames of this size; not yours to change."""
        if (frame.width, frame.height) != self._frame_size:
            self._frame_size = (frame.width, frame.height)
            self._crops = self._crop_rule(self._frame_size, self.engine.input_size)
            self._scale, self._offset = crop_mapping(self._crops, self.engine.input_size)
        return self._crops

    def input_scale(self, frame: Frame) -> float:
        """Input pixels for a pixel of frames of this size, the mean of both axes."""
        self.crop(frame)
        return 1 / math.sqrt(self._scale[0, 0] * self._scale[0, 1])

    def detect(self, frame: Frame) -> Detections:
        """Faces in frame pixels. Raises OutputError when the outputs mean nothing."""
        found = self.decode(self.engine.infer(frame, self.crop(frame)), self._score_threshold)
        if found.invalid:
            raise OutputError(f"{found.invalid} of the detector's numbers mean nothing (NaN, infinite or absurd)")
        faces = self.merge(found.xyxy, found.score, found.keypoints)  # in input pixels, as its sizes are meant
        scale, offset = self._scale, self._offset
        keypoints = faces.keypoints * scale[:, None, :2] + offset[:, None, :2]
        return Detections(faces.xyxy * scale + offset, faces.score, keypoints)
