"""ByteTrack over arrays: two-stage association of faces with tracks (Zhang et al. 2022), in real time steps."""

from __future__ import annotations

import lap
import numpy as np
from numpy.typing import NDArray

from edgeface import kalman
from edgeface.boxes import iou
from edgeface.values import CONFIRMED, F32, F64, I64, LOST, TENTATIVE, Bool, Detections, Tracks

_ROW = np.dtype(
    [("track_id", "i8"), ("state", "u1"), ("hits", "i4"), ("score", "f4"), ("first_ns", "i8"), ("seen_ns", "i8")]
)

# ByteTrack's noise, as shares of the box's width (x, width) and height (y, height), at its 30 frames a second
_RATE_HZ = 30.0
_POSITION_STD = 1 / 20
_VELOCITY_STD = 1 / 160 * _RATE_HZ  # per second

# Association limits: the cost is 1 - IoU, in the first stage and for tentative tracks 1 - IoU * score
_FIRST_COST, _SECOND_COST, _TENTATIVE_COST = 0.8, 0.5, 0.7
_DUPLICATE_IOU = 0.85


class ByteTracker:
    """Follows faces. A face is CONFIRMED (and gets its track_id) at its `min_hits`-th detection, or at once when it is
    there on the first look; LOST when a look misses it; forgotten `lost_timeout_s` seconds after it was last seen.

    Detections of at least `high_score` associate first, those of at least `low_score` only keep a track alive, and
    those of at least `new_score` may begin one.
    """

    def __init__(
        self, *, high_score: float, low_score: float, new_score: float, min_hits: int, lost_timeout_s: float
    ) -> None:
        self._high_score, self._low_score, self._new_score = high_score, low_score, new_score
        self._min_hits, self._lost_timeout_ns = min_hits, round(lost_timeout_s * 1e9)
        self._rows = np.zeros(0, _ROW)
        self._kalman: F64 = np.zeros((5, 0, 4))
        self._now_ns: int | None = None  # None: never looked
        self._next_id = 1

    def predict(self, capture_ns: int) -> Tracks:
        """Where the known faces should be at `capture_ns`; nobody looked, so nobody is missed."""
        self._advance(capture_ns)
        unseen = np.zeros(len(self._rows), bool)
        return self._snapshot(unseen, np.zeros((len(self._rows), 0, 2), np.float32), [], [])

    def update(self, detections: Detections, capture_ns: int) -> Tracks:
        """Associate what was seen at `capture_ns` with the tracks, begin new ones, miss and forget others."""
        first_look = self._now_ns is None
        self._advance(capture_ns)
        score = detections.score
        high = np.flatnonzero(score >= self._high_score)
        low = np.flatnonzero((score >= self._low_score) & (score < self._high_score))
        state = self._rows["state"]
        overlap = iou(self._xyxy(), detections.xyxy)
        fused = overlap * score

        followed = np.flatnonzero(state != TENTATIVE)
        track, found, followed, high = _associate(fused, followed, high, _FIRST_COST)
        pairs = [(track, found)]
        visible = followed[state[followed] == CONFIRMED]
        track, found, missed, _ = _associate(overlap, visible, low, _SECOND_COST)
        pairs.append((track, found))
        tentative = np.flatnonzero(state == TENTATIVE)
        track, found, dropped, high = _associate(fused, tentative, high, _TENTATIVE_COST)
        pairs.append((track, found))

        matched = np.concatenate([pair[0] for pair in pairs])
        source = np.concatenate([pair[1] for pair in pairs])
        self._measure(matched, detections, source)
        state[missed] = LOST
        new = high[score[high] >= self._new_score]
        self._begin(detections, new)
        matched = np.concatenate([matched, np.arange(len(self._rows) - len(new), len(self._rows))])
        source = np.concatenate([source, new])

        measured = np.zeros(len(self._rows), bool)
        measured[matched] = True
        keypoints = np.full((len(self._rows), *detections.keypoints.shape[1:]), np.nan, np.float32)
        keypoints[matched] = detections.keypoints[source]
        started = self._confirm(measured, first_look)
        keep = self._remembered(dropped)
        lost = self._forget(keep)
        return self._snapshot(measured[keep], keypoints[keep], started, lost)

    def clear(self) -> Tracks:
        """Forget all faces; the next look counts as the first."""
        lost = self._forget(np.zeros(len(self._rows), bool))
        self._now_ns = None
        return self._snapshot(np.zeros(0, bool), np.zeros((0, 0, 2), np.float32), [], lost)

    def _advance(self, capture_ns: int) -> None:
        """Move all tracks to `capture_ns`; a clock that steps back moves nothing."""
        dt = 0.0 if self._now_ns is None else max(capture_ns - self._now_ns, 0) / 1e9
        self._now_ns = capture_ns if self._now_ns is None else max(capture_ns, self._now_ns)
        if not len(self._rows) or dt == 0:
            return
        self._kalman[kalman.V, self._rows["state"] == LOST, 2:] = 0  # ByteTrack: a face out of sight keeps its size
        drift = self._size() * (dt * _RATE_HZ) ** 0.5
        self._kalman = kalman.predict(self._kalman, dt, drift * _POSITION_STD, drift * _VELOCITY_STD)
        np.maximum(self._kalman[kalman.X, :, 2:], 1, out=self._kalman[kalman.X, :, 2:])

    def _size(self) -> F64:
        """[n, 4]: width, height, width, height."""
        return np.tile(self._kalman[kalman.X, :, 2:], 2)

    def _xyxy(self) -> F32:
        centre, half = self._kalman[kalman.X, :, :2], self._kalman[kalman.X, :, 2:] / 2
        return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)

    def _measure(self, track: I64, detections: Detections, found: I64) -> None:
        """Correct `track` rows with detections `found`."""
        if not len(track):
            return
        measured_std = self._size()[track] * _POSITION_STD
        self._kalman[:, track] = kalman.update(self._kalman[:, track], _centred(detections.xyxy[found]), measured_std)
        rows = self._rows
        rows["hits"][track] += 1
        rows["score"][track] = detections.score[found]
        rows["seen_ns"][track] = self._now_ns
        rows["state"][track] = np.where(rows["state"][track] == LOST, CONFIRMED, rows["state"][track])

    def _begin(self, detections: Detections, new: I64) -> None:
        """Append a tentative track for each detection in `new`."""
        if not len(new):
            return
        rows = np.zeros(len(new), _ROW)
        rows["hits"], rows["score"] = 1, detections.score[new]
        rows["first_ns"] = rows["seen_ns"] = self._now_ns
        measured = _centred(detections.xyxy[new])
        size = np.tile(measured[:, 2:], 2)
        state = kalman.initiate(measured, size * (2 * _POSITION_STD), size * (10 * _VELOCITY_STD))
        self._rows = np.concatenate([self._rows, rows])
        self._kalman = np.concatenate([self._kalman, state], axis=1)

    def _confirm(self, measured: Bool, first_look: bool) -> list[int]:
        """Give ids to tentative tracks that were seen often enough; the new ids."""
        rows = self._rows
        enough = (rows["hits"] >= self._min_hits) | first_look
        ready = np.flatnonzero((rows["state"] == TENTATIVE) & measured & enough)
        started = list(range(self._next_id, self._next_id + len(ready)))
        rows["track_id"][ready], rows["state"][ready] = started, CONFIRMED
        self._next_id += len(ready)
        return started

    def _remembered(self, dropped: I64) -> Bool:
        """Which rows live on: not the tentative that were missed, the long lost, nor the younger of two on one face."""
        rows = self._rows
        keep: Bool = (rows["state"] != LOST) | (self._now_ns - rows["seen_ns"] <= self._lost_timeout_ns)
        keep[dropped] = False
        confirmed, lost = np.flatnonzero(rows["state"] == CONFIRMED), np.flatnonzero(rows["state"] == LOST)
        if len(confirmed) and len(lost):
            xyxy = self._xyxy()
            row, column = np.nonzero(iou(xyxy[confirmed], xyxy[lost]) > _DUPLICATE_IOU)
            one, other = confirmed[row], lost[column]
            older = rows["first_ns"][one] <= rows["first_ns"][other]
            keep[np.where(older, other, one)] = False
        return keep

    def _forget(self, keep: Bool) -> list[int]:
        """Drop the other rows; their ids."""
        lost: list[int] = self._rows["track_id"][~keep & (self._rows["track_id"] > 0)].tolist()
        self._rows, self._kalman = self._rows[keep], self._kalman[:, keep]
        return lost

    def _snapshot(self, measured: Bool, keypoints: F32, started: list[int], lost: list[int]) -> Tracks:
        shown = np.flatnonzero(self._rows["state"] == CONFIRMED)
        rows, now_ns = self._rows[shown], self._now_ns or 0
        return Tracks(
            track_id=rows["track_id"],
            state=rows["state"],
            score=rows["score"],
            xyxy=self._xyxy()[shown],
            velocity=self._kalman[kalman.V, shown, :2].astype(np.float32),
            measured=measured[shown],
            age_ns=now_ns - rows["seen_ns"],
            track_age_ns=now_ns - rows["first_ns"],
            keypoints=keypoints[shown],
            started=np.array(started, np.int64),
            lost=np.array(lost, np.int64),
        )


def _associate(
    similarity: NDArray[np.float32], tracks: I64, found: I64, cost_limit: float
) -> tuple[I64, I64, I64, I64]:
    """Optimal assignment of `tracks` rows to `found` columns whose cost 1 - similarity is at most `cost_limit`.

    Returns matched tracks, their detections, unmatched tracks, unmatched detections.
    """
    if not len(tracks) or not len(found):
        none = np.zeros(0, np.int64)
        return none, none, tracks, found
    cost = np.subtract(1.0, similarity[tracks[:, None], found], dtype=np.float64)
    _, column, row = lap.lapjv(cost, extend_cost=True, cost_limit=cost_limit)
    hit = column >= 0
    return tracks[hit], found[column[hit]], tracks[~hit], found[row < 0]


def _centred(xyxy: F32) -> F64:
    """xyxy [n, 4] -> centre x, centre y, width, height."""
    box = xyxy.astype(np.float64)
    return np.concatenate([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], axis=1)
