"""Facial landmarks: a crop of the frame for each face, one batched inference, points back in frame pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeface.boxes import crop_mapping
from edgeface.errors import EngineError
from edgeface.face_crops import FaceCropRule, usable
from edgeface.model_card import Card, Fpenet
from edgeface.seams import Engine
from edgeface.values import F32, Frame, Landmarks

# raw outputs -> points [n, N, 2] in input pixels, score [n, N]
LandmarkDecoder = Callable[[Mapping[str, NDArray[Any]]], tuple[F32, F32]]


class FaceLandmarker:
    """Locates the landmarks of known faces with one engine.

    `points`: how many a face has. `pictures`: whether the crops are kept in the result.
    """

    def __init__(
        self,
        engine: Engine,
        decode: LandmarkDecoder,
        crop_rule: FaceCropRule,
        *,
        crop_scale: float,
        points: int,
        pictures: bool = False,
    ) -> None:
        self.engine, self.decode = engine, decode  # attributes, so that a bench can time them
        self.points = points
        self._crop_rule, self._crop_scale, self._pictures = crop_rule, crop_scale, pictures

    def locate(self, frame: Frame, xyxy: F32) -> Landmarks:
        """The landmarks of the faces in boxes [n, 4], frame pixels, row by row.

        A face that cannot be cropped (a box without a size, not finite, its middle outside the frame) has NaN. So has
        one whose points mean nothing: not finite, or further from the crop than the crop is large; these are counted
        in `invalid`. Raises EngineError.
        """
        crops = self._crop_rule(xyxy, self._crop_scale, (frame.width, frame.height))
        (rows,) = usable(crops, (frame.width, frame.height)).nonzero()
        xy: F32 = np.full((len(xyxy), self.points, 2), np.nan, np.float32)
        score: F32 = np.full((len(xyxy), self.points), np.nan, np.float32)
        grey: F32 | None = None
        if self._pictures:
            grey = np.zeros((len(xyxy), self.engine.input_size[1], self.engine.input_size[0]), np.float32)
        if not len(rows):
            return Landmarks(xy, score, 0, grey)
        crops = crops[rows]
        points, found_score = self.decode(self.engine.infer(frame, crops))
        size = np.array(self.engine.input_size, np.float32)
        sound = (np.abs(points - size / 2) < 1.5 * size).all(axis=(1, 2)) & np.isfinite(found_score).all(axis=1)
        scale, offset = crop_mapping(crops[sound], self.engine.input_size)
        xy[rows[sound]] = points[sound] * scale[:, None, :2] + offset[:, None, :2]
        score[rows[sound]] = found_score[sound]
        if grey is not None:
            grey[rows] = self.engine.pictures()
        return Landmarks(xy, score, len(rows) - int(np.count_nonzero(sound)), grey)


def make_landmark_decoder(card: Card, outputs: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> LandmarkDecoder:
    """How the outputs of an FPENet-compatible network become points, matched by their shapes for one crop.

    [1, N, 2] are points in pixels of the input of `size` (width, height), [1, N] their confidences; [1, N, h, w] raw
    heat maps, used for what is missing of the two (`softargmax`). Raises EngineError when the card says otherwise.
    """
    spec = card.decoder
    if not isinstance(spec, Fpenet):
        raise EngineError(f"{card.name}: expected a card with task landmarks, found {card.task}")
    count = spec.points
    wanted = {"points": (1, count, 2), "score": (1, count)}
    found = {kind: [name for name, shape in outputs.items() if shape == wanted[kind]] for kind in wanted}
    maps = [name for name, shape in outputs.items() if len(shape) == 4 and shape[:2] == (1, count)]
    if any(len(names) > 1 for names in (*found.values(), maps)) or not (maps or all(found.values())):
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in outputs.items())
        raise EngineError(
            f"{card.name}: for {count} points (decoder.points) expected outputs [1, {count}, 2] and [1, {count}], "
            f"or heat maps [1, {count}, h, w]; found {shapes}"
        )
    point_names, score_names, beta = found["points"], found["score"], spec.softargmax_beta

    def decode(raw: Mapping[str, NDArray[Any]]) -> tuple[F32, F32]:
        if point_names and score_names:
            return np.asarray(raw[point_names[0]], np.float32), np.asarray(raw[score_names[0]], np.float32)
        heat: F32 = np.asarray(raw[maps[0]], np.float32)
        points, peak = softargmax(heat, beta)
        points *= np.array([size[0] / heat.shape[3], size[1] / heat.shape[2]], np.float32)
        return (
            np.asarray(raw[point_names[0]], np.float32) if point_names else points,
            np.asarray(raw[score_names[0]], np.float32) if score_names else peak,
        )

    return decode


def softargmax(heat: F32, beta: float) -> tuple[F32, F32]:
    """Expected place [n, N, 2] (column, row) and peak probability [n, N] of softmax(beta * heat) over each map.

    `heat` [n, N, rows, columns]; as in the last layer of TAO's FPENet.
    """
    n, count, rows, columns = heat.shape
    flat = heat.reshape(n, count, rows * columns)
    weight = np.exp(beta * (flat - np.max(flat, axis=2, keepdims=True)))
    weight /= weight.sum(axis=2, keepdims=True)
    maps = weight.reshape(heat.shape)
    x = maps.sum(axis=2) @ np.arange(columns, dtype=np.float32)
    y = maps.sum(axis=3) @ np.arange(rows, dtype=np.float32)
    points: F32 = np.stack([x, y], axis=2)
    peak: F32 = np.max(weight, axis=2)
    return points, peak
