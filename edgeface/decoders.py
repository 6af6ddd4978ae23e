"""SCRFD and GridBox heads: raw outputs -> candidates in pixels of the network's input.

Filter first: scores are compared as they come, and only what passes is decoded. A decoder is made for the shapes of
one engine's outputs, where anything that does not fit is refused; called, it never raises, whatever the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeface.errors import EngineError
from edgeface.model_card import Card, Fpenet, GridBox, Scrfd
from edgeface.seams import Decoder
from edgeface.values import F32, I64, Candidates

_ABSURD_PX = 1e6  # no box reaches so far from its input
_CREDIBLE = 0.1  # a weaker score says nothing about the detector's health

Shapes = Mapping[str, tuple[int, ...]]
Outputs = Mapping[str, NDArray[Any]]


def make_decoder(card: Card, shapes: Shapes, input_size: tuple[int, int]) -> Decoder:
    """The decoder that the card names, for outputs of these shapes (one crop). Raises EngineError when they differ."""
    match card.decoder:
        case Scrfd() as head:
            return ScrfdDecoder(head, shapes, input_size)
        case GridBox() as head:
            return GridBoxDecoder(head, shapes, input_size)
        case Fpenet():
            raise EngineError(f"card {card.name}: a landmarks network cannot detect; expected task 'detect'")


class ScrfdDecoder:
    """SCRFD: anchor centre plus or minus distances (Guo et al. 2021; insightface's scrfd.py gives the layout).

    x1 = cx - l * unit, y1 = cy - t * unit, x2 = cx + r * unit, y2 = cy + b * unit; point = centre + p * unit.
    Outputs are matched by shape (last axis 1: scores, 4: distances, 10: points; or maps with these many channels an
    anchor) and given to strides by their row counts, so neither their order nor their names matter.
    """

    def __init__(self, head: Scrfd, shapes: Shapes, input_size: tuple[int, int]) -> None:
        self._logits = {"auto": None, "probability": False, "logit": True}[head.scores]
        self._bins = head.distance_bins
        self._levels = _match_scrfd(head, shapes, input_size)  # (score, distances, points or "") names a stride
        centres, units = [], []
        for level, stride in enumerate(head.strides):
            rows, columns = input_size[1] // stride, input_size[0] // stride
            grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 1, 2)
            centres.append(np.repeat((grid + head.centre_offset) * stride, head.anchors, axis=1).reshape(-1, 2))
            sizes = head.anchor_sizes[level * head.anchors : (level + 1) * head.anchors]
            cell = {"stride": [stride] * head.anchors, "pixel": [1] * head.anchors, "anchor": sizes}[head.unit]
            units.append(np.tile(np.array(cell, np.float64), rows * columns))
        self._counts = [len(unit) for unit in units]  # rows of each level
        centre, unit = np.concatenate(centres), np.concatenate(units)[:, None]
        # for each row of all levels, input pixels: xyxy = anchor + distance * reach, point = anchor + offset * unit
        self._anchor: F32 = np.tile(centre, 2).astype(np.float32)
        self._reach: F32 = (unit * np.array([-1, -1, 1, 1])).astype(np.float32)
        self._unit: F32 = unit.astype(np.float32)
        empty = np.zeros((0, 4), np.float32)
        points = np.zeros((0, 5 if head.keypoints else 0, 2), np.float32)
        self._nothing = np.zeros(0, np.int64), empty, empty[:, 0], points

    def __call__(self, outputs: Outputs, score_threshold: float) -> Candidates:
        logits = self._logits
        if logits is None:  # a graph without its sigmoid has backgrounds far below 0
            first = outputs[self._levels[0][0]]
            logits = bool(first.min() < -0.01 or first.max() > 1.01)
        limit = _logit(score_threshold) if logits else score_threshold
        crops, rows, scores, distances, points = [], [], [], [], []
        first_row = invalid = 0
        with np.errstate(all="ignore"):  # infinities and NaN are counted, not warned about
            for count, (score_name, distance_name, point_name) in zip(self._counts, self._levels, strict=True):
                score = _as_rows(outputs[score_name], 1)[:, 0]
                invalid += _count_invalid(score)
                (hit,) = np.nonzero(score >= limit)
                if len(hit):
                    crop, row = np.divmod(hit, count)
                    crops.append(crop)
                    rows.append(row + first_row)
                    scores.append(score[hit])
                    distances.append(_as_rows(outputs[distance_name], 4 * max(self._bins, 1))[hit])
                    if point_name:
                        points.append(_as_rows(outputs[point_name], 10)[hit])
                first_row += count
            if not rows:
                return Candidates(*self._nothing, invalid)
            row = np.concatenate(rows)
            anchor = self._anchor[row]
            distance: F32 = np.concatenate(distances)
            if self._bins:
                distance = _expected_bin(distance.reshape(-1, self._bins)).reshape(-1, 4)
            xyxy: F32 = anchor + distance * self._reach[row]
            keypoints = np.zeros((len(row), 0, 2), np.float32)
            if points:
                offset = np.concatenate(points) * self._unit[row]
                keypoints = offset.reshape(-1, 5, 2) + anchor[:, None, :2]
            certain: F32 = np.concatenate(scores).astype(np.float32, copy=False)
            if logits:
                certain = np.reciprocal(1 + np.exp(-certain))
        return _candidates(np.concatenate(crops), xyxy, certain, keypoints, invalid)


class GridBoxDecoder:
    """DetectNet_v2: a cell's point plus or minus four distances, where the coverage is high.

    cx = stride * column + offset, cy = stride * row + offset; left, top, right, bottom = distances * bbox_scale
    (TAO, detectnet_v2 bbox_objective). Class i has coverage channel i and distance channels 4i..4i+3; outputs are
    matched by their channel counts.
    """

    def __init__(self, head: GridBox, shapes: Shapes, input_size: tuple[int, int]) -> None:
        width, height = input_size
        classes, stride = len(head.classes), head.stride
        grid = height // stride, width // stride
        if width % stride or height % stride:
            raise EngineError(f"gridbox: the input {width}x{height} is not a multiple of the stride {stride}")
        coverage = [name for name, shape in shapes.items() if shape[-3:] == (classes, *grid)]
        distance = [name for name, shape in shapes.items() if shape[-3:] == (4 * classes, *grid)]
        if len(coverage) != 1 or len(distance) != 1:
            raise EngineError(
                f"gridbox: expected outputs {[classes, *grid]} and {[4 * classes, *grid]}, "
                f"found {_listed(shapes)}: wrong decoder or input size in the card?"
            )
        self._coverage, self._distance = coverage[0], distance[0]
        self._class = head.classes.index(head.face_class)
        self._head = head

    def __call__(self, outputs: Outputs, score_threshold: float) -> Candidates:
        head, index = self._head, self._class
        coverage = outputs[self._coverage]
        coverage = coverage.reshape(-1, *coverage.shape[-3:])[:, index]  # [n, rows, columns]
        distance = outputs[self._distance]
        distance = distance.reshape(-1, *distance.shape[-3:])[:, 4 * index : 4 * index + 4]
        with np.errstate(all="ignore"):
            invalid = _count_invalid(coverage)
            crop, row, column = np.nonzero(coverage >= score_threshold)
            ltrb = distance[crop, :, row, column].astype(np.float32) * np.float32(head.bbox_scale)
            centre = np.stack([column, row], axis=1).astype(np.float32) * head.stride + np.float32(head.offset)
            xyxy = np.concatenate([centre - ltrb[:, :2], centre + ltrb[:, 2:]], axis=1)
        score = coverage[crop, row, column].astype(np.float32)
        return _candidates(crop, xyxy, score, np.zeros((len(crop), 0, 2), np.float32), invalid)


def _match_scrfd(head: Scrfd, shapes: Shapes, input_size: tuple[int, int]) -> list[tuple[str, str, str]]:
    """Names of score, distance and point output for each stride."""
    width, height = input_size
    strides, kinds = head.strides, 3 if head.keypoints else 2
    if width % strides[-1] or height % strides[-1]:
        raise EngineError(f"scrfd: the input {width}x{height} is not a multiple of the largest stride {strides[-1]}")
    widths = [1, 4 * max(head.distance_bins, 1), 10][:kinds]
    levels: list[tuple[str, str, str]] = []
    for stride in strides:
        rows, columns = height // stride, width // stride
        names = []
        for values in widths:
            flat = (rows * columns * head.anchors, values)
            maps = (head.anchors * values, rows, columns)
            fits = {2: flat, 3: flat, 4: maps}  # by rank: [rows, v], [n, rows, v], [n, anchors * v, h, w]
            names.append([name for name, shape in shapes.items() if _ends_with(shape, fits.get(len(shape)))])
        if any(len(found) != 1 for found in names):
            break
        levels.append((names[0][0], names[1][0], names[2][0] if head.keypoints else ""))
    if len(levels) != len(strides) or len(shapes) != kinds * len(strides):
        counts = [height // stride * (width // stride) * head.anchors for stride in strides]
        raise EngineError(
            f"scrfd: expected {kinds * len(strides)} outputs, {counts} rows of {widths} values "
            f"(strides {list(strides)}, {head.anchors} anchors a cell), found {_listed(shapes)}: "
            "wrong decoder, strides, anchors, keypoints or input size in the card?"
        )
    return levels


def _ends_with(shape: tuple[int, ...], end: tuple[int, ...] | None) -> bool:
    return end is not None and shape[-len(end) :] == end


def _as_rows(output: NDArray[Any], values: int) -> NDArray[Any]:
    """[n, rows, values], [rows, values] or maps [n, anchors * values, h, w] -> [all rows, values]."""
    if output.ndim == 4:
        output = output.transpose(0, 2, 3, 1)
    return output.reshape(-1, values)


def _expected_bin(logits: F32) -> F32:
    """The mean of each distance's distribution [n, bins] over bins 0, 1, 2, ... (GFL, Li et al. 2020, eq. 6)."""
    weight = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weight /= weight.sum(axis=-1, keepdims=True)
    mean: F32 = weight @ np.arange(logits.shape[-1], dtype=np.float32)
    return mean


def _logit(probability: float) -> float:
    if probability <= 0:
        return -math.inf
    return math.inf if probability >= 1 else math.log(probability / (1 - probability))


def _count_invalid(values: NDArray[Any]) -> int:
    """How many numbers are NaN or infinite; the sum is a quick first look."""
    if math.isfinite(values.sum()):
        return 0
    return int(values.size - np.count_nonzero(np.isfinite(values)))


def _candidates(crop: I64, xyxy: F32, score: F32, keypoints: F32, invalid: int) -> Candidates:
    """Candidates without the rows that are no boxes: absurd numbers are counted, inside-out ones just go.

    When nothing but inside-out boxes is left, they are counted too: a detector that gives no others is broken. But not
    the weak ones: TAO's clustering also looks at cells of an empty room, whose distances were never trained.
    """
    upright = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)
    with np.errstate(all="ignore"):
        parts = np.abs(xyxy), np.abs(keypoints), score
        reach = sum(float(np.max(part, initial=0)) for part in parts)  # NaN and infinity show up here
    if not upright.all() or not reach < _ABSURD_PX:
        sane = (np.abs(xyxy) < _ABSURD_PX).all(axis=1) & (np.abs(keypoints) < _ABSURD_PX).all(axis=(1, 2))
        sane &= np.isfinite(score)
        keep = upright & sane
        credible = score >= _CREDIBLE
        broken = credible & ~(keep & credible).any()
        invalid += int(np.count_nonzero(~sane | broken))
        crop, xyxy, score, keypoints = crop[keep], xyxy[keep], score[keep], keypoints[keep]
    return Candidates(crop, xyxy, score, keypoints, invalid)


def _listed(shapes: Shapes) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
