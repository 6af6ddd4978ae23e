"""How far landmarks are from the truth: pixels by region as NVIDIA's FPENet card counts, and shares of the face's size.

Errors are Euclidean distances. Sources: the regions and their means, NVIDIA TAO's FPENet evaluation; the error over the
distance of the outer eye corners and the area under its cumulative curve, Sagonas et al. 2016, 300 Faces In-The-Wild
Challenge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeface.boxes import area, around, centre_and_size, iou
from edgeface.point_sets import NAMED, OUTER_EYE_CORNERS, groups
from edgeface.values import F64, I64, Bool

AUC_LIMIT = 0.08  # of the distance of the outer eye corners, as the 300-W challenge does
MATCH_IOU = 0.3  # from which on a detector's box is on a face

# region -> what it is made of, as on the card; the extra eye points of 104 count in "all" alone
_REGIONS = {
    "eyes": ("eyes",),
    "nose": ("nose",),
    "mouth": ("mouth", "inner_lips"),
    "brows": ("brows",),
    "chin": ("chin",),
    "pupil": ("pupils",),
    "ears": ("ears",),
}
# the box of the 68 points beside a face detector's: share of its longer side, and how much lower it lies in longer
# sides of the detector's; measured on 43 photographed faces with SCRFD-500M: docs/evaluation.md
_POINTS_SHARE, _POINTS_LOWER = 0.78, 0.13


@dataclass(frozen=True, slots=True)
class Summary:
    """The normalised errors of many faces."""

    mean: float
    median: float
    p90: float  # nine in ten faces are better
    above_8: float  # share of faces with an error above 8 %
    above_10: float
    auc_8: float  # area under the cumulative curve up to 8 %, of the whole area


def regions(count: int) -> Mapping[str, I64]:
    """The points of each region of the FPENet card among `count`; "all" alone unless there are 68, 80 or 104."""
    parts = groups(count)
    found: dict[str, I64] = {"all": np.arange(count)}
    for name, of in _REGIONS.items():
        if all(part in parts for part in of):
            found[name] = np.concatenate([parts[part] for part in of])
    return found


def point_errors(placed: F64, truth: F64) -> F64:
    """Distances [n, N] of points [n, N, 2]."""
    errors: F64 = np.hypot(*np.moveaxis(placed - truth, 2, 0))
    return errors


def region_means(errors: F64, counts: Bool) -> dict[str, float]:
    """The mean error of each region: over its points, of the mean over the faces [n, N] where the point `counts`.

    A point that counts on no face is left out (TAO takes it for an error of 0). NaN where no point is left.
    """
    times = counts.sum(axis=0)
    seen = times > 0
    means = np.where(counts, errors, 0).sum(axis=0)[seen] / times[seen]
    which = np.flatnonzero(seen)
    found = {name: means[np.isin(which, points)] for name, points in regions(errors.shape[1]).items()}
    return {name: float(values.mean()) if len(values) else np.nan for name, values in found.items()}


def eye_distance(xy: F64) -> F64:
    """Distance [n] of the outer eye corners of faces [n, N, 2]; NaN unless there are 68, 80 or 104 points."""
    if xy.shape[1] not in NAMED:
        return np.full(len(xy), np.nan)
    right, left = OUTER_EYE_CORNERS
    distance: F64 = np.hypot(*(xy[:, right] - xy[:, left]).T)
    return distance


def points_box(xy: F64) -> F64:
    """The boxes [n, 4] round the points of faces [n, N, 2]."""
    box: F64 = np.concatenate([np.min(xy, axis=1), np.max(xy, axis=1)], axis=1)
    return box


def box_size(xyxy: F64) -> F64:
    """The size [n] of boxes [n, 4]: the square root of width times height."""
    size: F64 = np.sqrt(area(xyxy))
    return size


def summary(values: F64) -> Summary | None:
    """The figures of normalised errors [n]; None without any."""
    if not len(values):
        return None
    return Summary(
        mean=float(values.mean()),
        median=float(np.median(values)),
        p90=float(np.percentile(values, 90)),
        above_8=float((values > 0.08).mean()),
        above_10=float((values > 0.10).mean()),
        auc_8=float(np.clip(1 - values / AUC_LIMIT, 0, 1).mean()),  # each face's step, integrated
    )


def mean_shapes(xy: F64, boxes: F64) -> F64:
    """For each face the mean of all others' points [n, N, 2], each in units of its box [n, 4]; n of at least 2."""
    centre, size = centre_and_size(boxes)
    side = np.max(size, axis=1)[:, None, None]
    shape = (xy - centre[:, None]) / side
    others: F64 = (shape.sum(axis=0) - shape) / (len(xy) - 1)
    placed: F64 = others * side + centre[:, None]
    return placed


def detector_like(xy: F64) -> F64:
    """Square boxes [n, 4] as a face detector would put them on faces with these points [n, N, 2]."""
    centre, size = centre_and_size(points_box(xy[:, :68] if xy.shape[1] in NAMED else xy))
    side = np.max(size, axis=1, keepdims=True) / _POINTS_SHARE
    lifted: F64 = centre - side * [0, _POINTS_LOWER]
    return around(lifted, np.tile(side, 2))


def matches(truth: F64, found: F64) -> I64:
    """Which of the boxes `found` [m, 4] is on which of `truth` [n, 4]: an index for each, -1 for none.

    A pair is each other's best, with an IoU of at least MATCH_IOU.
    """
    if not len(truth) or not len(found):
        return np.full(len(truth), -1)
    share = iou(truth, found)
    best = np.argmax(share, axis=1)
    row = np.arange(len(truth))
    mutual = (np.argmax(share, axis=0)[best] == row) & (share[row, best] >= MATCH_IOU)
    return np.where(mutual, best, -1)


def shifted(boxes: F64, share: float) -> F64:
    """Boxes [8, n, 4] moved by `share` of their longer sides, to the right and on round the clock."""
    angle = np.arange(8) * np.pi / 4
    step = share * np.max(centre_and_size(boxes)[1], axis=1)[None, :, None]
    move = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None] * step
    moved: F64 = boxes + np.tile(move, 2)
    return moved


def scaled(boxes: F64, factor: float) -> F64:
    """Boxes [n, 4] `factor` as large, about their middles."""
    centre, size = centre_and_size(boxes)
    return around(centre, size * factor)
