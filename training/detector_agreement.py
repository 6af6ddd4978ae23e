"""How far a detector agrees with a reference one: faces found by size, false boxes, how boxes and points differ.

The reference is a network, not the truth. Its boxes of a high score are the faces to find; those of a lower score down
to another are neither faces to find nor false where the detector has them too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeface.boxes import area, iou
from edgeface.values import F32, F64, Bool, Detections
from training.face_kinds import Kinds

FOUND_IOU, FALSE_IOU = 0.5, 0.3  # from which on a face is found; below which a box is false
SIZES_PX = (8.0, 16.0, 32.0, 64.0, 128.0, np.inf)  # borders of the rows, pixels of a letterboxed input
INPUT_PX = 640.0  # the longer side of that input
LARGE_PX = 32.0  # from which on faces are told by what they are like
WITHIN = 0.05  # of the reference box's size
FALSE_RATES = (0.05, 0.1, 0.3, 1.0)  # false boxes a picture


@dataclass(frozen=True, slots=True)
class Look:
    """What both found on one picture, in its pixels, clipped to it."""

    kind: str  # "faces", or what a picture without faces shows
    truth: F32  # [n, 4] the reference's faces
    truth_points: F32  # [n, k, 2]; k = 0: it has none
    doubtful: F32  # [m, 4] all boxes of the reference, the faces among them
    found: Detections  # the detector's, down to its lowest score
    size_px: F64  # [n] of the faces, in pixels of the letterboxed input
    kinds: Kinds = field(default_factory=dict)  # what each of the faces is like


def look(
    kind: str, frame_size: tuple[int, int], reference: Detections, found: Detections, sure_score: float,
    kinds: Kinds | None = None,
) -> Look:  # fmt: skip
    """Both detectors' boxes on a picture of `frame_size` (width, height); `sure_score`: from which on a face counts.

    `kinds`: of the faces that count.
    """
    found, reference = clipped(found, frame_size), clipped(reference, frame_size)
    sure = reference.score >= sure_score
    truth = reference.xyxy[sure]
    size = np.sqrt(area(truth)).astype(float) * (INPUT_PX / max(frame_size))
    return Look(kind, truth, reference.keypoints[sure], reference.xyxy, found, size, kinds or {})


def clipped(found: Detections, frame_size: tuple[int, int]) -> Detections:
    """The boxes cut off at the picture's borders; the points as they are."""
    limit = np.array([*frame_size, *frame_size], np.float32)
    return Detections(np.clip(found.xyxy, 0, limit), found.score, found.keypoints)


def faces_found(one: Look, threshold: float) -> Bool:
    """Which faces [n] have a box of at least `threshold` on them."""
    found = one.found.xyxy[one.found.score >= threshold]
    return np.asarray(np.max(iou(one.truth, found), axis=1, initial=0) >= FOUND_IOU)


def false_boxes(one: Look, threshold: float) -> int:
    """How many boxes of at least `threshold` lie on nothing that the reference sees."""
    found = one.found.xyxy[one.found.score >= threshold]
    return int(np.count_nonzero(np.max(iou(found, one.doubtful), axis=1, initial=0) < FALSE_IOU))


def by_size(looks: Sequence[Look], threshold: float) -> list[tuple[int, int]]:
    """Faces found and faces there are, for each row of sizes."""
    sizes = np.concatenate([one.size_px for one in looks])
    hit = np.concatenate([faces_found(one, threshold) for one in looks])
    row = np.digitize(sizes, SIZES_PX) - 1
    return [(int(hit[row == number].sum()), int((row == number).sum())) for number in range(len(SIZES_PX) - 1)]


def by_kind(looks: Sequence[Look], threshold: float) -> dict[str, dict[str, tuple[int, int]]]:
    """Faces found and faces there of `LARGE_PX` and more: property -> row -> both, in the order of the names."""
    hit: Counter[tuple[str, str]] = Counter()
    there: Counter[tuple[str, str]] = Counter()
    for one in looks:
        found, large = faces_found(one, threshold), one.size_px >= LARGE_PX
        for name, rows in one.kinds.items():
            there.update((name, row) for row, counts in zip(rows, large, strict=True) if counts)
            hit.update((name, row) for row, counts in zip(rows, large & found, strict=True) if counts)
    table: dict[str, dict[str, tuple[int, int]]] = {}
    for name, row in sorted(there):
        table.setdefault(name, {})[row] = hit[name, row], there[name, row]
    return table


def recall(looks: Sequence[Look], threshold: float) -> float:
    """The share of the faces of 8 px and more that is found; NaN without any."""
    rows = np.array(by_size(looks, threshold))
    hit, there = rows.sum(axis=0).tolist()
    return hit / there if there else np.nan


def recall_at(looks: Sequence[Look], rate: float) -> tuple[float, float]:
    """The recall at the lowest threshold with at most `rate` false boxes a picture, and that threshold."""
    scores = [
        one.found.score[np.max(iou(one.found.xyxy, one.doubtful), axis=1, initial=0) < FALSE_IOU] for one in looks
    ]
    falls = np.sort(np.concatenate(scores))[::-1].astype(float)
    allowed = int(rate * len(looks))
    threshold = float(np.nextafter(np.float32(falls[allowed]), np.float32(2))) if allowed < len(falls) else 0.0
    return recall(looks, threshold), threshold


@dataclass(frozen=True, slots=True)
class Geometry:
    """How boxes and points on the same face differ; lengths in sizes of the reference's box."""

    faces: int
    size_ratio: float  # median; the size is the square root of the area
    size_within: float  # share of faces within WITHIN
    edges: F64  # [4] left, top, right, bottom: median offset, over the box's width or height; outward is not a sign
    edges_within: F64  # [4] share of faces within WITHIN
    iou: float  # median
    points: F64  # [k] median distance over the box's size; empty without points


def geometry(looks: Sequence[Look], threshold: float) -> Geometry | None:
    """Of the faces of 16 px and more that are found; None without any."""
    truths, boxes, points, theirs, shares = [], [], [], [], []
    for one in looks:
        sure = one.found.score >= threshold
        share = iou(one.truth, one.found.xyxy[sure])
        if not share.size:
            continue
        best = np.argmax(share, axis=1)
        fine = (np.max(share, axis=1, initial=0) >= FOUND_IOU) & (one.size_px >= SIZES_PX[1])
        truths.append(one.truth[fine])
        boxes.append(one.found.xyxy[sure][best[fine]])
        shares.append(np.max(share[fine], axis=1, initial=0))
        theirs.append(one.truth_points[fine])
        points.append(one.found.keypoints[sure][best[fine]])
    if not sum(map(len, truths)):
        return None
    truth, box = np.concatenate(truths).astype(float), np.concatenate(boxes).astype(float)
    sides = np.tile(truth[:, 2:] - truth[:, :2], 2)
    size = np.sqrt(area(truth))
    edges = (box - truth) / sides
    ratio = np.sqrt(area(box)) / size
    xy, reference = np.concatenate(points), np.concatenate(theirs)
    same = xy.shape == reference.shape and xy.shape[1] > 0
    apart = np.hypot(*np.moveaxis(xy - reference, 2, 0)) / size[:, None] if same else np.zeros((len(truth), 0))
    return Geometry(
        faces=len(truth),
        size_ratio=float(np.median(ratio)),
        size_within=float(np.mean(np.abs(ratio - 1) <= WITHIN)),
        edges=np.median(edges, axis=0),
        edges_within=np.mean(np.abs(edges) <= WITHIN, axis=0),
        iou=float(np.median(np.concatenate(shares))),
        points=np.median(apart, axis=0) if apart.shape[1] else np.zeros(0),
    )
