"""Following faces: ByteTrack (Zhang et al. 2022) on a motion model in seconds, made for seldom looks.

What differs from ByteTrack, and why, is in docs/tracking.md: detections are matched by likelihood, not by overlap, so
that a small or fast face is found again after five frames without a look; and a face that a look misses is still
published for a while, as predicted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeface import kalman
from edgeface.association import Motion, assign, costs, sound
from edgeface.boxes import around, centre_and_size
from edgeface.lifecycle import ROW, doubles, known
from edgeface.values import (
    CONFIRMED,
    DETECTOR,
    F32,
    F64,
    I64,
    LANDMARKS,
    LOST,
    PREDICTED,
    TENTATIVE,
    Bool,
    Detections,
    Tracks,
)

_HELD_VARIANCE = np.array([0.03, 0.03, 0.05, 0.05]) ** 2  # of a box that landmarks imply, for a size of 1
_HELD_BIAS = 0.1**2  # what all of them since a look have in common
_REMEMBERED = 2  # times max_faces: more faces are not kept in mind, whatever a mad detector reports
_LONGEST_STEP_S = 10.0  # after a longer pause nothing is where it was
_SHORTEST_TURN_S = 1 / 60  # a speed cannot be told from less


class ByteTracker:
    """Follows faces.

    A face is CONFIRMED (and gets its track_id) at its `min_hits`-th detection, or at once when it is there on the
    first look; LOST when a look misses it; forgotten `lost_timeout_s` seconds after it was last seen, or when it has
    left the frame. A LOST face is published for `coast_s` seconds.

    Detections of at least `high_score` may begin a face, those of at least `low_score` keep one alive. Of more than
    `max_faces` detections the best are taken; of more than twice as many faces those seen last are remembered.
    Detections that are not finite or have no area are passed over.
    """

    def __init__(
        self,
        *,
        high_score: float,
        low_score: float,
        min_hits: int = 2,
        lost_timeout_s: float = 2.0,
        coast_s: float = 0.5,
        max_faces: int = 500,
        motion: Motion | None = None,
    ) -> None:
        self._high_score, self._low_score = high_score, low_score
        self._min_hits, self._max_faces = min_hits, max_faces
        self._lost_timeout_ns, self._coast_ns = round(lost_timeout_s * 1e9), round(coast_s * 1e9)
        self._motion = motion or Motion()
        self._middle: F64 | None = None  # of the frame
        self._rows: NDArray[np.void] = np.zeros(0, ROW)
        self._kalman: F64 = np.zeros((5, 0, 4))
        self._now_ns: int | None = None  # None: neither looked nor predicted
        self._next_id = 1

    def clear(self, frame_size: tuple[int, int]) -> Tracks:
        """Forget all faces: frames are of this size (width, height) from now on, and the next look is the first."""
        self._middle = np.array(frame_size) / 2
        lost = self._forget(np.zeros(len(self._rows), bool))
        self._now_ns = None
        nobody = np.zeros(0, bool)
        return self._snapshot(nobody, DETECTOR, nobody, np.zeros((0, 0, 2), np.float32), [], lost)

    def move(self, right: float, down: float) -> None:
        """The camera has moved: all faces lie so many pixels further, their own speeds are what they were."""
        self._kalman[kalman.X, :, :2] += right, down

    def predict(self, capture_ns: int) -> Tracks:
        """Where the known faces should be at `capture_ns`; nobody looked, so nobody is missed."""
        self._advance(capture_ns)
        return self._between_looks(np.zeros(len(self._rows), bool))

    def hold(self, track_id: I64, xyxy: F32) -> Tracks:
        """After `predict`: these faces were seen by their landmarks alone, in boxes [n, 4], frame pixels.

        It corrects where they are, not how long they live: only a detection keeps a face alive.
        """
        order = np.argsort(self._rows["track_id"])
        row = order[np.searchsorted(self._rows["track_id"][order], track_id)]
        self._correct(row, _centred(xyxy), _HELD_VARIANCE)
        seen = np.zeros(len(self._rows), bool)
        seen[row] = True
        return self._between_looks(seen)

    def _between_looks(self, held: Bool) -> Tracks:
        shown = self._known(np.zeros(len(held), bool))[1]
        return self._snapshot(held, LANDMARKS, shown, np.zeros((len(held), 0, 2), np.float32), [], [])

    def update(self, detections: Detections, capture_ns: int) -> Tracks:
        """Match what was seen at `capture_ns` with the known faces, begin new ones, miss and forget others."""
        first_look = self._now_ns is None
        self._advance(capture_ns)
        detections = sound(detections, self._low_score, self._max_faces)
        score, measured = detections.score, _centred(detections.xyxy)
        track, found = self._associate(measured, score)
        if len(track):
            self._correct(track, measured[found], self._motion.measured_variance)
            self._sighted(track, score[found])
        free = score >= self._high_score
        free[found] = False
        (new,) = free.nonzero()
        if len(new):
            track = np.concatenate([track, np.arange(len(self._rows), len(self._rows) + len(new))])
            found = np.concatenate([found, new])
            self._begin(measured[new], score[new])
        seen: Bool = np.zeros(len(self._rows), bool)
        seen[track] = True
        keypoints: F32 = np.full((len(seen), *detections.keypoints.shape[1:]), np.nan, np.float32)
        keypoints[track] = detections.keypoints[found]
        started = self._confirm(first_look)
        if seen.all():
            return self._snapshot(seen, DETECTOR, self._rows["state"] != TENTATIVE, keypoints, started, [])
        state = self._rows["state"]
        state[~seen & (state == CONFIRMED)] = LOST
        keep, shown = self._known(seen)
        if started:
            keep &= ~doubles(self._rows, self._xyxy(), seen)
        excess = len(keep) - _REMEMBERED * self._max_faces
        if excess > 0:
            keep[np.argsort(self._rows["seen_ns"], kind="stable")[:excess]] = False
        lost: list[int] = []
        if not keep.all():
            lost = self._forget(keep)
            seen, shown, keypoints = seen[keep], shown[keep], keypoints[keep]
        return self._snapshot(seen, DETECTOR, shown, keypoints, started, lost)

    def _advance(self, capture_ns: int) -> None:
        """Move all tracks to `capture_ns`. A clock that steps back moves nothing; ages go on from there."""
        before_ns, self._now_ns = self._now_ns, capture_ns
        if before_ns is None or capture_ns == before_ns or not len(self._rows):
            return
        if capture_ns < before_ns:
            for stamp in ("first_ns", "seen_ns", "measured_ns"):
                self._rows[stamp] += capture_ns - before_ns
            return
        dt = min((capture_ns - before_ns) / 1e9, _LONGEST_STEP_S)
        agility_variance = self._rows["area"][:, None] * self._motion.agility_variance
        self._kalman = kalman.predict(self._kalman, dt, agility_variance)
        sides = self._kalman[kalman.X, :, 2:]
        np.maximum(sides, 1, out=sides)

    def _xyxy(self) -> F32:
        place: F64 = self._kalman[kalman.X]
        xyxy: F32 = around(place[:, :2], place[:, 2:]).astype(np.float32)
        return xyxy

    def _associate(self, measured: F64, score: F32) -> tuple[I64, I64]:
        """Which track is which detection: rows and columns of the pairs."""
        rows = self._rows
        if not len(rows) or not len(score):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        named, sure = rows["state"] != TENTATIVE, score >= self._high_score
        unseen_s = ((self._now_ns or 0) - rows["measured_ns"]) / 1e9
        state, held = self._kalman, rows["measured_ns"] > rows["seen_ns"]
        if held.any():
            state = state.copy()
            state[kalman.PP] += (held * rows["area"] * _HELD_BIAS)[:, None]
        return assign(costs(state, rows["area"], unseen_s, named, measured, sure, self._motion))

    def _correct(self, track: I64, measured: F64, variance: F64) -> None:
        """Correct rows `track` with what was measured of them, with variances [4] for a size of 1."""
        rows, state = self._rows, self._kalman[:, track]
        measured_variance = rows["area"][track, None] * variance
        surprise = (measured - state[kalman.X]) ** 2
        turned = surprise > self._motion.turn * (state[kalman.PP] + measured_variance)
        turned[:, 2:] = False  # a box that changes its size once, behind something, does not go on growing
        if turned.any():
            elapsed_s = np.maximum((self._now_ns - rows["measured_ns"][track]) / 1e9, _SHORTEST_TURN_S)[:, None]
            extra = np.where(turned, surprise, 0)
            state[kalman.PP] += extra
            state[kalman.PV] += extra / elapsed_s
            state[kalman.VV] += extra / elapsed_s**2
        state = kalman.update(state, measured, measured_variance)
        self._kalman[:, track] = state
        rows["area"][track] = state[kalman.X, :, 2] * state[kalman.X, :, 3]
        rows["measured_ns"][track] = self._now_ns

    def _sighted(self, track: I64, score: F32) -> None:
        """The detector has seen rows `track`."""
        rows = self._rows
        rows["hits"][track] += 1
        rows["score"][track] = score
        rows["seen_ns"][track] = self._now_ns
        rows["state"][track] = np.minimum(rows["state"][track], CONFIRMED)  # LOST no more

    def _begin(self, measured: F64, score: F32) -> None:
        """Append a tentative track for each measurement."""
        rows = np.zeros(len(score), ROW)
        area = measured[:, 2] * measured[:, 3]
        rows["hits"], rows["score"], rows["area"] = 1, score, area
        rows["first_ns"] = rows["seen_ns"] = rows["measured_ns"] = self._now_ns
        motion, unit = self._motion, area[:, None]
        state = kalman.initiate(measured, unit * motion.measured_variance, unit * motion.start_variance)
        self._rows = np.concatenate([self._rows, rows])
        self._kalman = np.concatenate([self._kalman, state], axis=1)

    def _confirm(self, first_look: bool) -> list[int]:
        """Give ids to tentative tracks that were seen often enough; the new ids."""
        rows = self._rows
        (tentative,) = (rows["state"] == TENTATIVE).nonzero()
        if not len(tentative):
            return []
        ready = tentative[(rows["hits"][tentative] >= self._min_hits) | first_look]
        started = list(range(self._next_id, self._next_id + len(ready)))
        rows["track_id"][ready], rows["state"][ready] = started, CONFIRMED
        self._next_id += len(ready)
        return started

    def _known(self, seen: Bool) -> tuple[Bool, Bool]:
        """Which tracks are remembered, and which are published, when only `seen` ones are there now."""
        return known(
            self._rows,
            self._kalman,
            self._now_ns or 0,
            seen,
            motion=self._motion,
            middle=self._middle,
            coast_ns=self._coast_ns,
            lost_timeout_ns=self._lost_timeout_ns,
        )

    def _forget(self, keep: Bool) -> list[int]:
        """Drop the other rows; their ids."""
        lost: list[int] = self._rows["track_id"][~keep & (self._rows["track_id"] > 0)].tolist()
        self._rows, self._kalman = self._rows[keep], self._kalman[:, keep]
        return lost

    def _snapshot(
        self, seen: Bool, seen_by: int, shown: Bool, keypoints: F32, started: list[int], lost: list[int]
    ) -> Tracks:
        rows, state, xyxy, tentative = self._rows, self._kalman, self._xyxy(), 0
        if not shown.all():
            tentative = int(np.count_nonzero(rows["state"] == TENTATIVE))
            rows, state, xyxy, seen, keypoints = (
                rows[shown],
                state[:, shown],
                xyxy[shown],
                seen[shown],
                keypoints[shown],
            )
        now_ns = self._now_ns or 0
        return Tracks(
            track_id=rows["track_id"].copy(),
            state=rows["state"].copy(),
            score=rows["score"].copy(),
            xyxy=xyxy,
            velocity=state[kalman.V, :, :2].astype(np.float32),
            centre_std=np.sqrt(state[kalman.PP, :, 0]).astype(np.float32),
            source=np.where(seen, seen_by, PREDICTED).astype(np.uint8),
            age_ns=now_ns - rows["measured_ns"],
            track_age_ns=now_ns - rows["first_ns"],
            keypoints=keypoints,
            started=np.array(started, np.int64),
            lost=np.array(lost, np.int64),
            tentative=tentative,
        )


def _centred(xyxy: F32) -> F64:
    """xyxy [n, 4] -> centre x, centre y, width, height."""
    box = np.empty(xyxy.shape)
    box[:, :2], box[:, 2:] = centre_and_size(xyxy)
    return box
