"""Between looks: which faces' landmarks can be trusted, and the boxes that they imply.

On a face the points keep the shape that they had at the last look, wherever the crop lies; on a wall they take a mean
face's shape, and another one in every crop. docs/landmarks.md has the measurements.
"""

from __future__ import annotations

import numpy as np

from edgeface.boxes import around, centre_and_size
from edgeface.values import DETECTOR, F32, F64, I64, Bool, Landmarks, Tracks

MAX_CHANGE = 0.2  # how far points may have moved (root mean square), in their spread, after the best similarity
MAX_GROWTH = 1.33  # of that similarity
MAX_TURN = np.radians(20)  # of that similarity
MIN_SCORE = 0.8  # the least mean score, as a part of that of the last look
_BOX_WEIGHT = 0.4  # of the latest look in how a face's box lies about its points
_FAR_OFF = 0.15  # a face this far from where it was expected, in its sizes, is placed by the mean of its points alone
_TINY = 1e-6


class LandmarkHold:
    """Remembers of each face the detector saw how its landmarks lay, and its box about them.

    Trusted are points that are as at the last look but for a similarity of little growth and turn, whose mean score has
    not dropped much, of a face whose box touches no other's: they might be the other's. So no face is held longer than
    to the next look that misses it.
    """

    def __init__(self) -> None:
        self._track_id: I64 = np.zeros(0, np.int64)
        self._xy: F64 = np.zeros((0, 0, 2))
        self._score: F64 = np.zeros(0)
        self._box: F64 = np.zeros((0, 2, 2, 2))  # [n, place, centre or size, x or y]: in spreads, see `_places`
        self._trusted: Bool = np.zeros(0, bool)

    def learn(self, tracks: Tracks, landmarks: Landmarks) -> None:
        """After a look: the faces and their landmarks, row by row."""
        seen = (tracks.source == DETECTOR) & np.isfinite(landmarks.score[:, 0])
        track_id = tracks.track_id[seen]
        xy = landmarks.xy[seen].astype(np.float64)
        centre, spread = _places(xy)
        box = np.empty((len(xy), 2, 2, 2))
        middle, size = centre_and_size(tracks.xyxy[seen].astype(np.float64))
        box[:, :, 0] = (middle[:, None] - centre) / spread[:, :, 0]
        box[:, :, 1] = size[:, None] / spread[:, :, 0]
        now, then = (track_id[:, None] == self._track_id).nonzero()
        box[now] = self._box[then] + (box[now] - self._box[then]) * _BOX_WEIGHT
        self._track_id, self._xy, self._box = track_id, xy, box
        self._score = landmarks.score[seen].mean(axis=1, dtype=np.float64)
        self._trusted = np.ones(len(track_id), bool)

    def judge(self, tracks: Tracks, landmarks: Landmarks) -> tuple[Bool, F32, int]:
        """Which faces [n] can be trusted, the boxes [n, 4] their points imply, how many could be until this frame.

        Boxes of faces not trusted mean nothing. Faces that touch another are not counted as trusted until now.
        """
        trusted, xyxy = np.zeros(len(tracks.track_id), bool), tracks.xyxy.copy()
        now, then = (tracks.track_id[:, None] == self._track_id).nonzero()
        if not len(now):
            return trusted, xyxy, 0
        xy, score = landmarks.xy[now].astype(np.float64), landmarks.score[now].mean(axis=1)
        xyxy[now] = _implied(xy, tracks.xyxy[now], self._box[then])
        growth, turn, change = _similarity(self._xy[then], xy)
        alike = (change < MAX_CHANGE) & (np.abs(turn) < MAX_TURN) & (score > MIN_SCORE * self._score[then])
        alike &= (growth < MAX_GROWTH) & (growth > 1 / MAX_GROWTH)
        touched = _touched(xyxy, tracks.xyxy)[now]
        trusted[now] = alike & ~touched
        lost = self._trusted[then] & ~alike & ~touched
        self._trusted[then] = trusted[now]
        return trusted, xyxy, int(np.count_nonzero(lost))


def _implied(xy: F64, expected: F32, box: F64) -> F32:
    """Boxes [n, 4] about points [n, N, 2], of which `expected` [n, 4] were expected; `box` as LandmarkHold has it."""
    centre, spread = _places(xy)
    centre = centre + box[:, :, 0] * spread[:, :, 0]
    size = box[:, :, 1] * spread[:, :, 0]
    off = centre[:, 1] - centre_and_size(expected)[0]
    share = np.hypot(off[:, 0], off[:, 1]) / np.sqrt(size[:, 1, 0] * size[:, 1, 1]) / _FAR_OFF
    weight = np.minimum(share, 1)[:, None]
    centre = centre[:, 0] + (centre[:, 1] - centre[:, 0]) * weight
    xyxy: F32 = around(centre, size[:, 0] + (size[:, 1] - size[:, 0]) * weight).astype(np.float32)
    return xyxy


def _places(xy: F64) -> tuple[F64, F64]:
    """Where points [n, N, 2] lie: centres [n, 2, 2] and spreads [n, 2, 1, 1], by their extent and by their mean.

    The extent stays in the middle of the face when a head turns, but gives way when the crop cuts the face; the mean
    does the contrary.
    """
    axes = _axes(xy)
    low, high, mean = np.min(axes, axis=2), np.max(axes, axis=2), axes.sum(axis=2) / xy.shape[1]
    about, extent = axes - mean[:, :, None], high - low
    centre, spread = np.empty((len(xy), 2, 2)), np.empty((len(xy), 2))
    centre[:, 0], centre[:, 1] = (low + high) / 2, mean
    spread[:, 0], spread[:, 1] = np.hypot(extent[:, 0], extent[:, 1]), np.sqrt(_dot(about, about) / xy.shape[1])
    return centre, np.maximum(spread, _TINY)[:, :, None, None]


def _touched(xyxy: F32, others: F32) -> Bool:
    """Which of the boxes [n, 4] overlap another row of `others` [n, 4]; NaN, of a face without landmarks, none."""
    near = np.maximum(xyxy[:, None, :2], others[:, :2]) < np.minimum(xyxy[:, None, 2:], others[:, 2:])
    overlap: Bool = np.asarray(near[:, :, 0] & near[:, :, 1])
    np.fill_diagonal(overlap, False)
    return np.asarray(overlap.any(axis=1))


def _similarity(before: F64, after: F64) -> tuple[F64, F64, F64]:
    """Growth and turn (radians) of the similarity that takes points [n, N, 2] best to others, and what it leaves [n].

    What it leaves is the root mean square distance in the spread of `after`. Least squares (Umeyama 1991); in complex
    numbers a similarity of the plane is one factor, and what it leaves is what does not correlate.
    """
    a, b = (axes - axes.sum(axis=2, keepdims=True) / axes.shape[2] for axes in (_axes(before), _axes(after)))
    along, across = _dot(a, b), _dot(a[:, :1], b[:, 1:]) - _dot(a[:, 1:], b[:, :1])
    of_a, of_b = np.maximum(_dot(a, a), _TINY), _dot(b, b)
    growth = np.hypot(along, across) / of_a
    left = np.maximum(of_b - growth**2 * of_a, 0)
    return growth, np.arctan2(across, along), np.sqrt(left / np.maximum(of_b, _TINY))


def _axes(xy: F64) -> F64:
    """Points [n, N, 2] as [n, 2, N]: sums along the last axis are several times faster."""
    return np.ascontiguousarray(xy.transpose(0, 2, 1))


def _dot(a: F64, b: F64) -> F64:
    """Sums [n] of products of arrays [n, k, N]."""
    return np.asarray(np.einsum("nkp,nkp->n", a, b))
