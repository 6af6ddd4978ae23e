"""Which detection is which known face: distance in standard deviations, gates, and the best assignment of all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import lap
import numpy as np

from edgeface import kalman
from edgeface.values import F64, I64, Bool

FRAME_S = 1 / 30


@dataclass(frozen=True)
class Motion:
    """How faces move and how well they are measured. A box's size is sqrt(width * height)."""

    measured_std: float = 0.045  # of a detection's centre, sizes
    measured_size_std: float = 0.05  # of its width and height, sizes
    start_speed_std: float = 2.5  # of a new face, sizes a second
    start_growth_std: float = 0.3  # of its width and height, sizes a second
    agility: float = 0.3  # change of speed in a second, sizes a second
    size_agility: float = 0.15  # the same of width and height
    slack: float = 0.15  # what a face may be off its path, sizes times the root of the frames (1/30 s) since seen
    slack_frames: float = 8.0  # slack grows no further after so many frames
    gate: float = 20.0  # squared distance in standard deviations up to which a detection may be a known face
    low_gate: float = 9.0  # the same for low scores and for tentative faces
    turn: float = 6.0  # squared deviation of one coordinate from which the face has turned: its speed is open again

    # the same for centre x, centre y, width and height, in sizes

    @cached_property
    def measured_stds(self) -> F64:
        return np.array([self.measured_std] * 2 + [self.measured_size_std] * 2)

    @cached_property
    def start_stds(self) -> F64:
        return np.array([self.start_speed_std] * 2 + [self.start_growth_std] * 2)

    @cached_property
    def agilities(self) -> F64:
        return np.array([self.agility] * 2 + [self.size_agility] * 2)


def likelihood(state: F64, unseen_s: F64, measured: F64, wide: Bool, motion: Motion) -> tuple[F64, Bool]:
    """Cost and gate, each [n, m], of measurements [m, 4] being the n boxes of a Kalman `state` [5, n, 4].

    `unseen_s` [n]: seconds since each box was measured. The cost is twice the negative log likelihood, in box sizes,
    without its constant. The gate is `motion.gate` where `wide` [n, m] is True, else `motion.low_gate`.
    """
    size = kalman.size(state)[:, None]
    spread = state[kalman.PP] + (size * motion.measured_stds) ** 2
    frames = np.minimum(unseen_s / FRAME_S, motion.slack_frames)
    spread[:, :2] += (size * motion.slack) ** 2 * frames[:, None]
    far = kalman.distance(state, measured, spread)
    cost: F64 = far + np.log(spread / size**2).sum(axis=1)[:, None]
    return cost, far <= np.where(wide, motion.gate, motion.low_gate)


def assign(cost: F64, near: Bool) -> tuple[I64, I64]:
    """The pairs of the cheapest complete assignment among those that are `near` [n, m]: rows and columns.

    Most rows and columns have only each other; the solver sees the others alone.
    """
    row, column = np.nonzero(near)
    if not len(row):
        return row, column
    alone = (near.sum(axis=1)[row] == 1) & (near.sum(axis=0)[column] == 1)
    if alone.all():
        return row, column
    rows, columns = np.unique(row[~alone]), np.unique(column[~alone])
    part = np.ix_(rows, columns)
    gain = np.max(cost[part]) + 1 - cost[part]  # at least 1: a pair more always beats a better pair elsewhere
    forbidden = 1e6
    _, match, _ = lap.lapjv(
        np.where(near[part], forbidden / 10 - gain, forbidden), extend_cost=True, cost_limit=forbidden
    )
    hit = np.flatnonzero(match >= 0)
    hit = hit[near[rows[hit], columns[match[hit]]]]
    return np.concatenate([row[alone], rows[hit]]), np.concatenate([column[alone], columns[match[hit]]])
