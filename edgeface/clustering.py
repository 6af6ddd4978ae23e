"""Many candidates of a face -> one detection: suppression and the two DBSCANs of NVIDIA's tools, as named modes.

Each mode is a pure function of xyxy [n, 4] in pixels of the network's input, score [n] and keypoints [n, k, 2], and
gives Detections in the same pixels, best first. The candidates come in the decoder's order, row by row. Each says
which score it reports; all are 0..1, for the tracker.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgeface import boxes
from edgeface.values import F32, F64, I64, Bool, Detections

_BLOCK = 64  # rows of the matrix of pairs worked on at once: they stay in the cache
_ATHR_PX = 60.0  # DeepStream's fixed threshold of the area-to-hits ratio
_TAO_UNION_PX2 = 0.01  # what TAO adds to a union


def nms(xyxy: F32, score: F32, keypoints: F32, *, iou_threshold: float, top_k: int) -> Detections:
    """The best of overlapping candidates stand for the rest (boxes.nms). Score: the network's probability."""
    keep = boxes.nms(xyxy, score, iou_threshold, top_k)
    return Detections(xyxy[keep], score[keep], keypoints[keep])


def deepstream_dbscan(
    xyxy: F32, score: F32, keypoints: F32, *, eps: float, min_boxes: int, min_score: float, athr: bool, top_k: int
) -> Detections:
    """DeepStream's clustering (nvdsinfer_dbscan.cpp): score-weighted means. Score: the best of the members.

    Neighbours have 1 - IoU < `eps`; a candidate with at least `min_boxes` of them, itself included, is a core. In input
    order each core that is still free makes a cluster of itself and its free core neighbours; theirs are not followed
    (one hop), so the order matters. All others are dropped, and so are clusters whose scores sum up to less than
    `min_score`. `athr` also drops those with sqrt(width * height) / (members + 1) above 60 input pixels: large boxes
    that few cells saw. Only the `top_k` best candidates are looked at.
    """
    xyxy, score, keypoints = _strongest(xyxy, score, keypoints, top_k)
    near = _near(xyxy, 1 - eps, 0.0)
    np.fill_diagonal(near, True)
    core = np.count_nonzero(near, axis=1) >= min_boxes
    found = _merge(_label(near, core, chained=False), xyxy, score, keypoints)
    keep = (found.total >= min_score) & (found.total > 0)
    if athr:
        width, height = (found.xyxy[:, 2:] - found.xyxy[:, :2]).T
        keep &= np.sqrt(width * height) / (found.members + 1) <= _ATHR_PX
    return _best_first(found, keep, found.peak, found.peak)


def tao_dbscan(
    xyxy: F32,
    score: F32,
    keypoints: F32,
    *,
    eps: float,
    min_samples: float,
    confidence_threshold: float,
    min_height: float,
    top_k: int,
) -> Detections:
    """TAO's clustering (detectnet_v2 utilities.py): coverage-weighted DBSCAN. Score: 1 - exp(-sum of the members').

    TAO's confidence is the sum s of the members' coverage, without an upper end; 1 - exp(-s) keeps its order and maps
    0.7 to 0.503, 0.9 to 0.593, 2 to 0.865. Clusters whose s is not above `confidence_threshold` are dropped.

    Neighbours have 1 - I / (U + 0.01) <= `eps`, areas in input pixels. A candidate is a core when the scores of its
    neighbours, itself included, sum up to at least `min_samples`. Cores that are neighbours share a cluster, however
    long the chain; other candidates join the first cluster with a core beside them; the rest is noise. Clusters of at
    most `min_height` input pixels are dropped. Only the `top_k` best candidates are looked at.
    """
    xyxy, score, keypoints = _strongest(xyxy, score, keypoints, top_k)
    near = _near(xyxy, 1 - eps, _TAO_UNION_PX2)
    weight: F64 = np.einsum("ij,j->i", near, score.astype(np.float64))  # by parts; a product would copy the matrix
    core = weight >= min_samples
    label = _label(near, core, chained=True)
    _join_borders(near, core, label)
    found = _merge(label, xyxy, score, keypoints)
    keep = found.total > confidence_threshold
    keep &= found.xyxy[:, 3] - found.xyxy[:, 1] > min_height
    return _best_first(found, keep, found.total, -np.expm1(-found.total))


class _Clusters(NamedTuple):
    """Merged candidates, one row a cluster."""

    xyxy: F64  # [m, 4] score-weighted means
    keypoints: F64  # [m, k, 2] likewise
    total: F64  # [m] sum of the members' scores
    peak: F64  # [m] the best of them
    members: I64  # [m] how many


def _strongest(xyxy: F32, score: F32, keypoints: F32, top_k: int) -> tuple[F32, F32, F32]:
    """The `top_k` best candidates, in the order they came in."""
    if len(score) <= top_k:
        return xyxy, score, keypoints
    pick = np.sort(np.argsort(-score, kind="stable")[:top_k])
    return xyxy[pick], score[pick], keypoints[pick]


def _near(xyxy: F32, overlap: float, margin_px2: float) -> Bool:
    """Which pairs [n, n] have I / (U + margin) above `overlap` (0..1).

    U = A + B - I, so I > overlap * (U + margin) is I > share(A) + share(B): no division, no matrix of unions. A pair
    exactly at the limit falls to either side by rounding, as it does wherever IoU is a float.
    """
    share: F32 = ((boxes.area(xyxy) + margin_px2 / 2) * (overlap / (1 + overlap))).astype(np.float32)
    x1, y1, x2, y2 = np.ascontiguousarray(xyxy.T)
    near = np.zeros((len(xyxy), len(xyxy)), np.bool_)
    for start in range(0, len(xyxy), _BLOCK):
        rows = slice(start, start + _BLOCK)
        (those,) = np.nonzero((y1 < y2[rows].max()) & (y2 > y1[rows].min()))  # few, as rows come in rows of the grid
        width = np.minimum(x2[rows, None], x2[those])
        width -= np.maximum(x1[rows, None], x1[those])
        height = np.minimum(y2[rows, None], y2[those])
        height -= np.maximum(y1[rows, None], y1[those])
        np.maximum(width, 0, out=width)
        width *= height  # the intersection, or not above 0
        near[rows, those] = width > np.add(share[rows, None], share[those], out=height)
    return near


def _label(near: Bool, core: Bool, *, chained: bool) -> I64:
    """The cluster 0, 1, ... of each core [n]; -1 for all others. A cluster begins at the first core still free."""
    label = np.full(len(core), -1, np.int64)
    free, clusters = core.copy(), 0
    for seed in np.flatnonzero(core).tolist():
        if not free[seed]:
            continue
        members = near[seed] & free
        free ^= members
        label[members] = clusters
        while chained and members.any():
            members = near[members].any(axis=0) & free
            free ^= members
            label[members] = clusters
        clusters += 1
    return label


def _join_borders(near: Bool, core: Bool, label: I64) -> None:
    """Give those beside a core, in `label`, the first cluster that reaches them."""
    (others,), (cores,) = np.nonzero(~core), np.nonzero(core)
    if not len(cores):
        return
    cores = cores[np.argsort(label[cores], kind="stable")]
    beside = near[np.ix_(others, cores)]
    first = beside.argmax(axis=1)
    joins = beside[np.arange(len(others)), first]
    label[others[joins]] = label[cores[first[joins]]]


def _merge(label: I64, xyxy: F32, score: F32, keypoints: F32) -> _Clusters:
    """Score-weighted means of the candidates of each cluster."""
    order = np.argsort(label, kind="stable")[np.count_nonzero(label < 0) :]  # members, cluster by cluster
    first = np.flatnonzero(np.diff(label[order], prepend=-1))
    weight = score[order].astype(np.float64)
    total = np.add.reduceat(weight, first)
    values = np.concatenate([xyxy[order], keypoints[order].reshape(len(order), 2 * keypoints.shape[1])], axis=1)
    mean = np.add.reduceat(values * weight[:, None], first) / np.maximum(total, np.finfo(np.float64).tiny)[:, None]
    members = np.diff(first, append=len(order))
    points = mean[:, 4:].reshape(len(mean), *keypoints.shape[1:])
    return _Clusters(mean[:, :4], points, total, np.maximum.reduceat(weight, first), members)


def _best_first(found: _Clusters, keep: Bool, rank: F64, score: F64) -> Detections:
    (kept,) = np.nonzero(keep)
    kept = kept[np.argsort(-rank[kept], kind="stable")]
    parts = found.xyxy[kept], score[kept], found.keypoints[kept]
    return Detections(*(part.astype(np.float32) for part in parts))
