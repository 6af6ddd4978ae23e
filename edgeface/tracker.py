"""Following faces: ByteTrack's two stages (Zhang et al. 2022) on a motion model in seconds, made for seldom looks.

What differs from ByteTrack, and why, is in docs/tracking.md: detections are matched by how far they lie from the
prediction in units of its uncertainty, not by overlap, so that a small or fast face is found again after five frames
without a look; and a face that a look misses is still published, as predicted, while its place is known well enough.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeface import kalman
from edgeface.association import FRAME_S, Motion, assign, likelihood
from edgeface.boxes import iou
from edgeface.values import CONFIRMED, F32, F64, I64, LOST, TENTATIVE, Bool, Detections, Tracks

_ROW = np.dtype(
    [
        ("track_id", "i8"),
        ("state", "u1"),
        ("hits", "i4"),
        ("score", "f4"),
        ("size", "f4"),  # of the last measurement
        ("first_ns", "i8"),
        ("seen_ns", "i8"),
    ]
)
_DUPLICATE_IOU = 0.85
_MAX_SCALE = 2.0  # a prediction that has grown or shrunk by more since it was last seen is no face any more


class ByteTracker:
    """Follows faces.

    A face is CONFIRMED (and gets its track_id) at its `min_hits`-th detection, or at once when it is there on the
    first look; LOST when a look misses it; forgotten `lost_timeout_s` seconds after it was last seen, or when it has
    left the frame. A LOST face is published for `coast_s` seconds while its place is known to `coast_std` of its size.

    Detections of at least `high_score` are matched first, those of at least `low_score` only keep a face alive, and
    those of at least `new_score` may begin one. Of more than `max_faces` detections the best are taken; detections that
    are not finite or have no area are passed over.
    """

    def __init__(
        self,
        *,
        high_score: float,
        low_score: float,
        new_score: float,
        min_hits: int = 2,
        lost_timeout_s: float = 2.0,
        coast_s: float = 0.5,
        coast_std: float = 0.45,
        max_faces: int = 500,
        motion: Motion | None = None,
    ) -> None:
        self._high_score, self._low_score, self._new_score = high_score, low_score, new_score
        self._min_hits, self._max_faces = min_hits, max_faces
        self._lost_timeout_ns, self._coast_ns = round(lost_timeout_s * 1e9), round(coast_s * 1e9)
        self._coast_std = coast_std
        self._motion = motion or Motion()
        self._frame: F32 | None = None  # width, height
        self._rows: NDArray[np.void] = np.zeros(0, _ROW)
        self._kalman: F64 = np.zeros((5, 0, 4))
        self._now_ns: int | None = None  # None: never looked
        self._next_id = 1

    def clear(self, frame_size: tuple[int, int]) -> Tracks:
        """Forget all faces: frames are of this size (width, height) from now on, and the next look is the first."""
        self._frame = np.array(frame_size, np.float32)
        lost = self._forget(np.zeros(len(self._rows), bool))
        self._now_ns = None
        nobody = np.zeros(0, bool)
        return self._snapshot(nobody, nobody, np.zeros((0, 0, 2), np.float32), [], lost)

    def predict(self, capture_ns: int) -> Tracks:
        """Where the known faces should be at `capture_ns`; nobody looked, so nobody is missed."""
        self._advance(capture_ns)
        count = len(self._rows)
        return self._snapshot(np.zeros(count, bool), self._plausible(), np.zeros((count, 0, 2), np.float32), [], [])

    def update(self, detections: Detections, capture_ns: int) -> Tracks:
        """Match what was seen at `capture_ns` with the known faces, begin new ones, miss and forget others."""
        first_look = self._now_ns is None
        self._advance(capture_ns)
        detections = self._sound(detections)
        score, measured = detections.score, _centred(detections.xyxy)
        track, found = self._associate(measured, score)
        self._correct(track, found, measured, score)

        seen = np.zeros(len(self._rows), bool)
        seen[track] = True
        free = score >= self._new_score
        free[found] = False
        new = np.flatnonzero(free)
        self._begin(new, measured, score)
        keypoints = np.full((len(self._rows), *detections.keypoints.shape[1:]), np.nan, np.float32)
        keypoints[track] = detections.keypoints[found]
        keypoints[len(seen) :] = detections.keypoints[new]
        seen = np.concatenate([seen, np.ones(len(new), bool)])

        started = self._confirm(first_look)
        if seen.all():
            return self._snapshot(seen, seen, keypoints, started, [])
        state, plausible = self._rows["state"], self._plausible()
        state[~seen & (state == CONFIRMED)] = LOST  # a tentative one that is missed is dropped
        keep = seen | ((state == LOST) & plausible & (self._unseen_ns() <= self._lost_timeout_ns))
        if started:
            keep &= ~self._doubles(seen)
        lost = [] if keep.all() else self._forget(keep)
        return self._snapshot(seen[keep], plausible[keep], keypoints[keep], started, lost)

    def _sound(self, detections: Detections) -> Detections:
        """The detections that can be faces, at most `max_faces`."""
        xyxy, score = detections.xyxy, detections.score
        sides = xyxy[:, 2:] - xyxy[:, :2]
        keep = np.isfinite(xyxy).all(axis=1) & (sides > 0).all(axis=1) & (score >= self._low_score)
        if len(keep) <= self._max_faces and keep.all():
            return detections
        kept = np.flatnonzero(keep)
        if len(kept) > self._max_faces:
            kept = kept[np.argsort(-score[kept], kind="stable")[: self._max_faces]]
        return Detections(xyxy[kept], score[kept], detections.keypoints[kept])

    def _advance(self, capture_ns: int) -> None:
        """Move all tracks to `capture_ns`. A clock that steps back moves nothing; ages go on from there."""
        before_ns, self._now_ns = self._now_ns, capture_ns
        if before_ns is None or capture_ns == before_ns or not len(self._rows):
            return
        if capture_ns < before_ns:
            for stamp in ("first_ns", "seen_ns"):
                self._rows[stamp] += capture_ns - before_ns
            return
        dt = min((capture_ns - before_ns) / 1e9, 10.0)  # after a longer pause nothing is where it was
        self._kalman = kalman.predict(self._kalman, dt, kalman.size(self._kalman)[:, None] * self._motion.agilities)
        sides = self._kalman[kalman.X, :, 2:]
        np.maximum(sides, 1, out=sides)

    def _unseen_ns(self) -> I64:
        """Since each track was measured."""
        unseen: I64 = (self._now_ns or 0) - self._rows["seen_ns"]
        return unseen

    def _xyxy(self) -> F32:
        centre, half = self._kalman[kalman.X, :, :2], self._kalman[kalman.X, :, 2:] / 2
        return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)

    def _associate(self, measured: F64, score: F32) -> tuple[I64, I64]:
        """Which track is which detection: rows and columns of the pairs."""
        known, high = self._rows["state"] != TENTATIVE, score >= self._high_score
        wide = known[:, None] & (score >= self._new_score)
        cost, near = likelihood(self._kalman, self._unseen_ns() / 1e9, measured, wide, self._motion)
        track, found = assign(cost, near & known[:, None] & high)
        for rows, columns in ((known, ~high), (~known, high)):  # low scores for the known, then the tentative
            if rows.any() and columns.any():
                near[track], near[:, found] = False, False
                more = assign(cost, near & rows[:, None] & columns)
                track, found = np.concatenate([track, more[0]]), np.concatenate([found, more[1]])
        return track, found

    def _correct(self, track: I64, found: I64, measured: F64, score: F32) -> None:
        """Correct `track` rows with detections `found`."""
        if not len(track):
            return
        state, z = self._kalman[:, track], measured[found]
        measured_std = kalman.size(state)[:, None] * self._motion.measured_stds
        surprise = (z - state[kalman.X]) ** 2
        turned = surprise > self._motion.turn * (state[kalman.PP] + measured_std**2)
        turned[:, 2:] = False
        if turned.any():
            elapsed_s = np.maximum(self._unseen_ns()[track] / 1e9, FRAME_S / 2)[:, None]
            extra = np.where(turned, surprise, 0)
            state[kalman.PP] += extra
            state[kalman.PV] += extra / elapsed_s
            state[kalman.VV] += extra / elapsed_s**2
        state = kalman.update(state, z, measured_std)
        self._kalman[:, track] = state
        rows = self._rows
        rows["hits"][track] += 1
        rows["score"][track] = score[found]
        rows["size"][track] = kalman.size(state)
        rows["seen_ns"][track] = self._now_ns
        rows["state"][track[rows["state"][track] == LOST]] = CONFIRMED

    def _begin(self, new: I64, measured: F64, score: F32) -> None:
        """Append a tentative track for each detection in `new`."""
        if not len(new):
            return
        z = measured[new]
        size = np.sqrt(z[:, 2] * z[:, 3])
        rows = np.zeros(len(new), _ROW)
        rows["hits"], rows["score"], rows["size"] = 1, score[new], size
        rows["first_ns"] = rows["seen_ns"] = self._now_ns
        motion = self._motion
        state = kalman.initiate(z, size[:, None] * motion.measured_stds, size[:, None] * motion.start_stds)
        self._rows = np.concatenate([self._rows, rows])
        self._kalman = np.concatenate([self._kalman, state], axis=1)

    def _confirm(self, first_look: bool) -> list[int]:
        """Give ids to tentative tracks that were seen often enough; the new ids."""
        rows = self._rows
        ready = np.flatnonzero((rows["state"] == TENTATIVE) & ((rows["hits"] >= self._min_hits) | first_look))
        started = list(range(self._next_id, self._next_id + len(ready)))
        rows["track_id"][ready], rows["state"][ready] = started, CONFIRMED
        self._next_id += len(ready)
        return started

    def _doubles(self, seen: Bool) -> Bool:
        """The younger of two tracks on one face: a new one where a lost one waits."""
        rows, xyxy = self._rows, self._xyxy()
        lost, confirmed = np.flatnonzero(~seen), np.flatnonzero(seen & (rows["state"] == CONFIRMED))
        row, column = np.nonzero(iou(xyxy[confirmed], xyxy[lost]) > _DUPLICATE_IOU)
        one, other = confirmed[row], lost[column]
        double = np.zeros(len(rows), bool)
        double[np.where(rows["first_ns"][one] <= rows["first_ns"][other], other, one)] = True
        return double

    def _plausible(self) -> Bool:
        """Whose prediction is still a face in the frame."""
        scale = kalman.size(self._kalman) / self._rows["size"]
        good: Bool = (scale < _MAX_SCALE) & (scale > 1 / _MAX_SCALE)
        if self._frame is not None:
            centre = self._kalman[kalman.X, :, :2]
            good &= ((centre >= 0) & (centre <= self._frame)).all(axis=1)
        return good

    def _forget(self, keep: Bool) -> list[int]:
        """Drop the other rows; their ids."""
        lost: list[int] = self._rows["track_id"][~keep & (self._rows["track_id"] > 0)].tolist()
        self._rows, self._kalman = self._rows[keep], self._kalman[:, keep]
        return lost

    def _snapshot(self, seen: Bool, plausible: Bool, keypoints: F32, started: list[int], lost: list[int]) -> Tracks:
        now_ns = self._now_ns or 0
        rows, state, xyxy = self._rows, self._kalman, self._xyxy()
        if not (seen.all() and rows["state"].all()):
            certain = np.sqrt(state[kalman.PP, :, 0]) <= self._coast_std * kalman.size(state)
            known = (rows["state"] == CONFIRMED) | (certain & (self._unseen_ns() <= self._coast_ns))
            shown = (rows["state"] != TENTATIVE) & (seen | (known & plausible))
            rows, state, xyxy, seen, keypoints = (
                rows[shown],
                state[:, shown],
                xyxy[shown],
                seen[shown],
                keypoints[shown],
            )
        return Tracks(
            track_id=rows["track_id"].copy(),
            state=rows["state"].copy(),
            score=rows["score"].copy(),
            xyxy=xyxy,
            velocity=state[kalman.V, :, :2].astype(np.float32),
            measured=seen,
            age_ns=now_ns - rows["seen_ns"],
            track_age_ns=now_ns - rows["first_ns"],
            keypoints=keypoints,
            started=np.array(started, np.int64),
            lost=np.array(lost, np.int64),
        )


def _centred(xyxy: F32) -> F64:
    """xyxy [n, 4] -> centre x, centre y, width, height."""
    box = xyxy.astype(np.float64)
    return np.concatenate([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], axis=1)
