"""Motion-adaptive smoothing of what is published; nothing is fed back into the tracker.

The tracker's filter leaves two kinds of jitter: measurement noise that comes through its gain, and the jump from a
prediction to the next look. An exponential average removes both but lags behind whatever moves. So the difference from
the tracker's own motion is averaged: what moves evenly does not lag. scripts/compare_smoothers.py measures it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeface.association import FRAME_S
from edgeface.boxes import around, centre_and_size
from edgeface.values import F32, F64, I64, Tracks

_JUMP = 0.5  # part of a jump that counts as motion: a jump of 2 % of the size is noise


class FaceSmoother:
    """Calms published boxes, scores and landmarks.

    The box that was published last moves on with the tracker's velocity and is then drawn towards the tracker's box:
    by `still_weight` per 1/30 s for a face at rest, by up to `moving_weight` for one that moves or whose box jumps; in
    a step of t/30 s by 1 - (1 - weight)^t. `still_motion` and `full_motion` are motions in box sizes (the longer side)
    per 1/30 s: up to the first a face is at rest, and its velocity, which is mostly noise, is trusted in proportion;
    from the second on it has the full `moving_weight`. Centre, size and each landmark have their own weights. A score
    moves by `still_weight`.

    A new face is published as it is. A face that is missing once is forgotten. When the clock stands still, the boxes
    published last stand too; when it steps back, all faces are new; after a pause, little of the past is left.
    """

    def __init__(
        self,
        *,
        still_weight: float = 0.3,
        moving_weight: float = 0.9,
        still_motion: float = 0.01,
        full_motion: float = 0.05,
    ) -> None:
        self._still_weight, self._moving_weight = still_weight, moving_weight
        self._still_motion, self._full_motion = still_motion, full_motion
        self._now_ns = 0
        self._track_id: I64 = np.zeros(0, np.int64)  # of the faces published last
        self._shape: F64 = np.zeros((0, 2, 2))  # [n, 2 + N, 2] centre, size (x, y), landmarks
        self._score: F32 = np.zeros(0, np.float32)

    def smooth(self, tracks: Tracks, landmarks: F32, capture_ns: int) -> tuple[Tracks, F32]:
        """`tracks` with calmer boxes and scores, and calmer landmarks [n, N, 2]. Call it once for every frame.

        N may be 0; then there need be no row for each face.
        """
        shape, score = np.empty((len(tracks.track_id), 2 + landmarks.shape[1], 2)), tracks.score.copy()
        shape[:, 0], shape[:, 1] = centre_and_size(tracks.xyxy.astype(np.float64))
        if landmarks.shape[1]:
            shape[:, 2:] = landmarks
        before_ns, self._now_ns = self._now_ns, capture_ns
        now: I64 = np.arange(len(shape))
        last = now
        if not np.array_equal(tracks.track_id, self._track_id):
            _, now, last = np.intersect1d(tracks.track_id, self._track_id, assume_unique=True, return_indices=True)
        if capture_ns >= before_ns and len(now):
            step = (capture_ns - before_ns) / 1e9 / FRAME_S
            size = np.max(shape[now, 1], axis=1)[:, None]
            motion = tracks.velocity[now] * FRAME_S
            speed = np.hypot(motion[:, 0], motion[:, 1])[:, None] / size
            even = motion * np.minimum(speed / self._still_motion, 1) * step
            moves = np.ones((shape.shape[1], 1))
            moves[1] = 0  # a size stays
            moved = self._shape[last] + even[:, None] * moves
            drawn = self._drawn(moved, shape[now], size, speed * moves[:, 0], step)
            shape[now] = np.where(np.isnan(drawn), shape[now], drawn)  # no landmarks before
            score[now] = self._score[last] + (score[now] - self._score[last]) * (1 - (1 - self._still_weight) ** step)
        self._track_id, self._shape, self._score = tracks.track_id.copy(), shape, score
        xyxy = around(shape[:, 0], shape[:, 1]).astype(np.float32)
        return replace(tracks, xyxy=xyxy, score=score.copy()), shape[:, 2:].astype(np.float32)

    def _drawn(self, moved: F64, now: F64, size: F64, speed: F64, step: float) -> F64:
        """Points [n, k, 2] drawn from where they have moved to where they are now, of faces of `size` [n, 1]."""
        gap = now - moved
        jump = np.hypot(gap[:, :, 0], gap[:, :, 1]) / size * _JUMP
        weight = np.interp(
            np.maximum(jump, speed),
            [self._still_motion, self._full_motion],
            [self._still_weight, self._moving_weight],
        )
        drawn: F64 = moved + gap * (1 - (1 - weight) ** step)[:, :, None]
        return drawn
