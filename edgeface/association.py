"""Which detection is which known face: what each pair costs, and the pairs that are cheapest together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import lap
import numpy as np

from edgeface import kalman
from edgeface.values import F64, I64, Bool, Detections

FRAME_S = 1 / 30
_LARGEST_PX = 1e6


@dataclass(frozen=True)
class Motion:
    """How faces move, how well they are measured, and what a surprise costs. A box's size is sqrt(width * height).

    Costs are twice negative log likelihoods, in box sizes; docs/tracking.md says what each setting is good for.
    """

    measured_std: float = 0.045  # of a detection's centre, sizes
    measured_size_std: float = 0.05  # of its width and height, sizes
    start_speed_std: float = 2.0  # of a new face, sizes a second
    start_growth_std: float = 0.3  # of its width and height, sizes a second
    agility: float = 0.5  # change of speed in a second, sizes a second
    size_agility: float = 0.2  # the same of width and height
    slack: float = 0.15  # how far off its path a face may be, sizes times the root of the frames (1/30 s) since seen
    off_path_cost: float = 4.0  # for a face that has left its path
    stranger_cost: float = 9.0  # a pair that costs more is none: rather a face missed, and a stranger
    low_score_cost: float = 11.0  # what a pair costs more with a low score, or with a tentative face
    turn: float = 9.0  # squared deviation of one coordinate from which the face has turned: its speed is open again

    # the same for centre x, centre y, width and height; variances for a size of 1

    @cached_property
    def measured_variance(self) -> F64:
        return np.array([self.measured_std] * 2 + [self.measured_size_std] * 2) ** 2

    @cached_property
    def start_variance(self) -> F64:
        return np.array([self.start_speed_std] * 2 + [self.start_growth_std] * 2) ** 2

    @cached_property
    def agility_variance(self) -> F64:
        return np.array([self.agility] * 2 + [self.size_agility] * 2) ** 2

    def slack_variance(self, unseen_s: F64) -> F64:
        """Of a face's centre about its path, for a size of 1, after `unseen_s` seconds; same shape."""
        return unseen_s * (self.slack**2 / FRAME_S)


def sound(detections: Detections, low_score: float, max_faces: int) -> Detections:
    """The detections that can be faces, at most `max_faces`."""
    xyxy, score = detections.xyxy, detections.score
    if not len(score):
        return detections
    sides = xyxy[:, 2:] - xyxy[:, :2]
    usual = np.min(sides) > 0 and np.max(sides) < _LARGEST_PX and np.min(score) >= low_score  # NaN is never
    if usual and len(score) <= max_faces:
        return detections
    keep = ((sides > 0) & (sides < _LARGEST_PX)).all(axis=1) & (score >= low_score)
    (kept,) = keep.nonzero()
    if len(kept) > max_faces:
        kept = kept[np.argsort(-score[kept], kind="stable")[:max_faces]]
    return Detections(xyxy[kept], score[kept], detections.keypoints[kept])


def costs(state: F64, area: F64, unseen_s: F64, known: Bool, measured: F64, sure: Bool, motion: Motion) -> F64:
    """What it costs [n, m] to take measurement [m, 4] j for face i of a Kalman `state` [5, n, 4]; below 0: it pays.

    `area` [n]: the squared sizes of the faces as last measured, `unseen_s` [n] the time since; `known` [n] tells
    confirmed faces from tentative ones, `sure` [m] high scores from low ones. Either a face has kept its path, then
    its own uncertainty says how likely the measurement is, or it has left it, then slack is added: the cheaper counts.
    The cost is twice the negative log likelihood against that of a stranger, distances in box sizes:
    sum of (z - x)^2 / variance + log variance, multiplied out so that it is one matrix product.
    """
    unit, both = area[:, None], (2, len(area), 1)
    variance = np.empty((2, len(area), 4))  # of a measurement on the path, off the path; for a size of 1
    variance[:] = state[kalman.PP] / unit + motion.measured_variance
    variance[1, :, :2] += motion.slack_variance(unseen_s)[:, None]
    x, weight = state[kalman.X], 1 / (variance * unit)
    pull = x * weight
    rest = (x * pull + np.log(variance)).sum(axis=2)
    rest[1] += motion.off_path_cost
    rest += motion.low_score_cost * ~known - motion.stranger_cost
    left = np.concatenate([weight, -2 * pull, rest[:, :, None], np.ones(both)], axis=2)
    right = np.empty((len(measured), 10))
    right[:, :4], right[:, 4:8], right[:, 8], right[:, 9] = measured**2, measured, 1, motion.low_score_cost * ~sure
    cost: F64 = (left @ right.T).min(axis=0)
    return cost


def assign(cost: F64) -> tuple[I64, I64]:
    """The pairs, rows and columns of `cost` [n, m], whose sum is least; pairs that do not cost less than 0 are left."""
    row, column = np.nonzero(cost < 0)
    if len(set(row.tolist())) == len(row) == len(set(column.tolist())):
        return row, column  # nobody has a choice
    _, row, column = lap.lapjvx(np.minimum(cost, 0), extend_cost=True)
    pairs = cost[row, column] < 0
    return row[pairs], column[pairs]
