"""How far a form of a network is from its FP32: figures of what both said on the same pictures, pure functions.

Average precision is the area under the curve of precision over recall, with precision made monotone, as PASCAL VOC has
it from 2010 on, at an IoU of 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeface import landmark_metrics
from edgeface.boxes import iou
from edgeface.point_sets import NAMED
from edgeface.values import F32, F64, Detections, Landmarks

SAME_IOU = 0.9  # from which on a box is FP32's
_AP_IOU = 0.5
_KEYPOINTS = 5  # the first two are the eyes


@dataclass(frozen=True, slots=True)
class DetectionFigures:
    """Of a detector. A pair: each other's best boxes, with an IoU of 0.3 at least. Shares are of FP32's faces."""

    faces: int  # that FP32 finds, from the score threshold on
    matched: float  # share that the form finds, too, with an IoU of SAME_IOU at least
    weak: float  # share that it finds so, but with a score below the threshold: not in `matched`
    extra: float  # the form's faces that FP32 has not even with the lowest score that counts
    mean_iou: float | None  # of the pairs
    score_shift: float | None  # of the pairs, the form's score less FP32's, mean
    score_shift_p95: float | None  # 95 in 100 scores change by less, up or down
    keypoint_shift: float | None  # of the pairs, over the distance of the eyes: mean of points and faces
    keypoint_shift_p95: float | None  # 95 in 100 faces have less
    ap_fp32: float | None  # average precision; None: no labels
    ap_form: float | None


@dataclass(frozen=True, slots=True)
class LandmarkFigures:
    """Of a landmark network. Distances are over that of the outer eye corners, else over the size of the points' box.

    A face's shift is the mean of its points'.
    """

    faces: int  # on which FP32 places points
    placed: float  # share on which the form does, too
    shift: float | None  # mean
    shift_p95: float | None  # 95 in 100 faces have less
    score_shift: float | None  # of the points' scores, the form's less FP32's, mean
    score_shift_p95: float | None  # 95 in 100 scores change by less, up or down
    labelled: int  # faces with true points on which both place theirs
    nme_fp32: float | None  # mean error on these; None: there are none
    nme_form: float | None


def detection_figures(
    full: Sequence[Detections],
    form: Sequence[Detections],
    *,
    score_threshold: float,
    truth: Sequence[F64] | None = None,
) -> DetectionFigures:
    """What both found on the same pictures, from the lowest score on that counts; a face from `score_threshold` on.

    `truth`: the labelled boxes [n, 4] of each picture.
    """
    rows: list[F64] = [np.zeros((0, 4))]
    faces = extra = 0
    for wanted, found in zip(full, form, strict=True):
        boxes, others = wanted.xyxy.astype(float), found.xyxy.astype(float)
        which = landmark_metrics.matches(boxes, others)
        (row,) = np.nonzero((which >= 0) & (wanted.score >= score_threshold))
        column = which[row]
        share = iou(boxes[row], others[column]).diagonal()
        shift = _keypoint_shift(wanted.keypoints[row], found.keypoints[column])
        rows.append(np.stack([share, wanted.score[row], found.score[column], shift], axis=1).astype(float))
        alone = found.score >= score_threshold
        alone[which[which >= 0]] = False
        extra += int(np.count_nonzero(alone))
        faces += int(np.count_nonzero(wanted.score >= score_threshold))
    overlap, before, after, shift = np.concatenate(rows).T
    same, sure = overlap >= SAME_IOU, after >= score_threshold
    shift = shift[np.isfinite(shift)]
    return DetectionFigures(
        faces=faces,
        matched=int(np.count_nonzero(same & sure)) / max(faces, 1),
        weak=int(np.count_nonzero(same & ~sure)) / max(faces, 1),
        extra=extra / max(faces, 1),
        mean_iou=_mean(overlap),
        score_shift=_mean(after - before),
        score_shift_p95=_p95(np.abs(after - before)),
        keypoint_shift=_mean(shift),
        keypoint_shift_p95=_p95(shift),
        ap_fp32=None if truth is None else average_precision(full, truth),
        ap_form=None if truth is None else average_precision(form, truth),
    )


def landmark_figures(
    full: Sequence[Landmarks], form: Sequence[Landmarks], *, truth: Sequence[F64] | None = None
) -> LandmarkFigures:
    """What both placed on the same faces of the same pictures; `truth`: the true points [n, N, 2], NaN: not known."""
    wanted, found = (np.concatenate([one.xy for one in all_]).astype(float) for all_ in (full, form))
    score, other = (np.concatenate([one.score for one in all_]).astype(float) for all_ in (full, form))
    known = np.isfinite(wanted).all(axis=(1, 2))
    both = known & np.isfinite(found).all(axis=(1, 2))
    faces = int(np.count_nonzero(known))
    shift = normalised_errors(found[both], wanted[both])
    change = (other - score)[both].ravel()
    before: F64 = np.zeros(0)
    after: F64 = np.zeros(0)
    if truth is not None:
        true = np.concatenate(list(truth))
        rows = both & np.isfinite(true).all(axis=(1, 2))
        before, after = (normalised_errors(placed[rows, : true.shape[1]], true[rows]) for placed in (wanted, found))
    return LandmarkFigures(
        faces=faces,
        placed=int(np.count_nonzero(both)) / max(faces, 1),
        shift=_mean(shift),
        shift_p95=_p95(shift),
        score_shift=_mean(change),
        score_shift_p95=_p95(np.abs(change)),
        labelled=len(before),
        nme_fp32=_mean(before),
        nme_form=_mean(after),
    )


def normalised_errors(placed: F64, truth: F64) -> F64:
    """Mean distances [n] of points [n, N, 2] over that of the true outer eye corners, else over the true box."""
    if truth.shape[1] in NAMED:
        size = landmark_metrics.eye_distance(truth)
    else:
        size = landmark_metrics.box_size(landmark_metrics.points_box(truth))
    errors: F64 = landmark_metrics.point_errors(placed, truth).mean(axis=1) / np.maximum(size, 1e-6)
    return errors


def average_precision(found: Sequence[Detections], truth: Sequence[F64]) -> float:
    """Of the boxes found on pictures with these true ones [n, 4]; each of these is found once. 0 without any."""
    ranked: list[tuple[float, bool]] = []
    for one, boxes in zip(found, truth, strict=True):
        xyxy: F64 = one.xyxy.astype(float)
        share = iou(xyxy, boxes)
        for row, score in enumerate(one.score.tolist()):  # best first, as detectors give them
            best = int(np.argmax(share[row])) if len(boxes) else 0
            right = len(boxes) > 0 and bool(share[row, best] >= _AP_IOU)
            ranked.append((score, right))
            if right:
                share[:, best] = 0
    ranked.sort(key=lambda one: -one[0])
    hits: F64 = np.array([right for _, right in ranked], float)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    return float((monotone * hits).sum()) / max(sum(map(len, truth)), 1)


def _keypoint_shift(wanted: F32, found: F32) -> F64:
    """Mean distances [n] of keypoints [n, k, 2] over that of the eyes; NaN unless there are five."""
    if wanted.shape[1:] != (_KEYPOINTS, 2) or found.shape != wanted.shape:
        return np.full(len(wanted), np.nan)
    eyes = np.hypot(*(wanted[:, 0] - wanted[:, 1]).astype(float).T)
    errors = landmark_metrics.point_errors(found.astype(float), wanted.astype(float)).mean(axis=1)
    shift: F64 = errors / np.maximum(eyes, 1e-6)
    return shift


def _mean(values: F64) -> float | None:
    return float(values.mean()) if len(values) else None


def _p95(values: F64) -> float | None:
    return float(np.percentile(values, 95)) if len(values) else None
