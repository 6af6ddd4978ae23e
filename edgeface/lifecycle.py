"""Which followed faces are remembered, which are published, and which are one face twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeface import kalman
from edgeface.association import Motion
from edgeface.boxes import iou
from edgeface.values import CONFIRMED, F32, F64, LOST, TENTATIVE, Bool

ROW = np.dtype(
    [
        ("track_id", "i8"),
        ("state", "u1"),
        ("hits", "i4"),
        ("score", "f4"),
        ("area", "f8"),  # width * height as last measured: what all uncertainties are counted in
        ("first_ns", "i8"),
        ("seen_ns", "i8"),  # by the detector
        ("measured_ns", "i8"),  # by the detector or by its landmarks
    ]
)
_DUPLICATE_IOU = 0.85
_MAX_SCALE = 2.0  # a prediction that has grown or shrunk by more since it was last measured is no face any more


def known(
    rows: NDArray[np.void],
    state: F64,
    now_ns: int,
    seen: Bool,
    *,
    motion: Motion,
    middle: F64 | None,
    coast_ns: int,
    lost_timeout_ns: int,
) -> tuple[Bool, Bool]:
    """Which faces [n] are remembered, and which are published, when only `seen` ones are there now.

    A missed face is remembered for `lost_timeout_ns`, unless it has surely left the frame (its centre lies outside by
    more than its standard deviation) or has grown or shrunk too much to be the same. It is published until it is
    missed, and for `coast_ns` after it was seen; not after its centre has left the frame. `middle` [2] of the frame,
    None: unknown; `state` [5, n, 4] as in kalman.
    """
    unseen_ns = now_ns - rows["seen_ns"]
    unmeasured_s = (now_ns - rows["measured_ns"]) / 1e9
    scale = state[kalman.X, :, 2] * state[kalman.X, :, 3] / rows["area"]
    plausible: Bool = (scale < _MAX_SCALE**2) & (scale > _MAX_SCALE**-2)
    shown: Bool = (unseen_ns <= coast_ns) | (rows["state"] == CONFIRMED)
    remembered: Bool = plausible & (unseen_ns <= lost_timeout_ns)
    if middle is not None:
        place = state[kalman.X, :, :2]
        outside = np.abs(place - middle) - middle
        slack = (rows["area"] * motion.slack_variance(unmeasured_s))[:, None]
        gone = outside > np.sqrt(state[kalman.PP, :, :2] + slack)
        remembered &= ~(gone[:, 0] | gone[:, 1])
        where_measured = place - state[kalman.V, :, :2] * unmeasured_s[:, None]
        was_inside = np.abs(where_measured - middle) <= middle
        left = (outside > 0) & (was_inside | (rows["state"] == LOST)[:, None])
        shown &= ~(left[:, 0] | left[:, 1])
    named = rows["state"] != TENTATIVE
    return seen | (remembered & named), (seen | (shown & plausible)) & named


def doubles(rows: NDArray[np.void], xyxy: F32, seen: Bool) -> Bool:
    """Which [n] are the younger of two faces in one place: a new one where a lost one waits."""
    lost, confirmed = np.flatnonzero(~seen), np.flatnonzero(seen & (rows["state"] == CONFIRMED))
    row, column = np.nonzero(iou(xyxy[confirmed], xyxy[lost]) > _DUPLICATE_IOU)
    one, other = confirmed[row], lost[column]
    double = np.zeros(len(rows), bool)
    double[np.where(rows["first_ns"][one] <= rows["first_ns"][other], other, one)] = True
    return double
