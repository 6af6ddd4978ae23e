"""Association: gates in standard deviations, and the most pairs, among those the cheapest."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeface import kalman
from edgeface.association import Motion, assign, likelihood


@given(hnp.arrays(bool, st.tuples(st.integers(0, 8), st.integers(0, 8))), st.randoms())
def test_assignment_pairs_the_most_and_among_those_the_cheapest(near: np.ndarray, random: object) -> None:
    cost = np.array([[random.uniform(-5, 30) for _ in range(near.shape[1])] for _ in range(near.shape[0])]).reshape(
        near.shape
    )
    rows, columns = assign(cost, near)
    assert near[rows, columns].all()
    assert len(set(rows.tolist())) == len(rows)
    assert len(set(columns.tolist())) == len(columns)
    best = brute_force(cost, near)
    assert (len(rows), pytest.approx(cost[rows, columns].sum(), abs=1e-6)) == best


def brute_force(cost: np.ndarray, near: np.ndarray) -> tuple[int, float]:
    """Most pairs, then least cost, row by row with memory of the columns taken."""

    @functools.cache
    def best(row: int, taken: int) -> tuple[int, float]:
        if row == near.shape[0]:
            return 0, 0.0
        found = best(row + 1, taken)
        for column in np.flatnonzero(near[row]).tolist():
            if not taken >> column & 1:
                pairs, total = best(row + 1, taken | 1 << column)
                found = min(found, (pairs - 1, total + cost[row, column]))
        return found

    pairs, total = best(0, 0)
    return -pairs, total


def one_box(variance: float) -> np.ndarray:
    """A box of size 10 at (100, 100), sure of everything but its place."""
    std = np.array([[variance**0.5, variance**0.5, 1e-3, 1e-3]])
    return kalman.initiate(np.array([[100.0, 100, 10, 10]]), std, np.zeros((1, 4)))


def at(dx: float) -> np.ndarray:
    return np.array([[100.0 + dx, 100, 10, 10]])


def test_the_gate_is_in_standard_deviations() -> None:
    motion = Motion(measured_std=0.0, slack=0.0, gate=16, low_gate=4)
    for variance in (1.0, 25.0):
        std = variance**0.5
        for wide, inside, outside in ((True, 3.9, 4.1), (False, 1.9, 2.1)):
            mask = np.array([[wide]])
            assert likelihood(one_box(variance), np.zeros(1), at(inside * std), mask, motion)[1].all()
            assert not likelihood(one_box(variance), np.zeros(1), at(outside * std), mask, motion)[1].any()


def test_slack_grows_with_the_root_of_time_up_to_its_limit() -> None:
    motion = Motion(measured_std=0.0, slack=0.1, slack_frames=9, gate=1)  # sizes are 10: slack 1 px a root frame
    mask = np.array([[True]])

    def reach(frames: float) -> float:
        state = one_box(1e-6)
        return max(
            dx
            for dx in np.arange(0, 5, 0.05)
            if likelihood(state, np.array([frames / 30]), at(dx), mask, motion)[1].any()
        )

    np.testing.assert_allclose([reach(1), reach(4), reach(9), reach(100)], [1, 2, 3, 3], atol=0.06)


def test_of_two_faces_the_surer_one_is_likelier() -> None:
    sure, vague = one_box(1.0), one_box(100.0)
    cost, near = likelihood(
        np.concatenate([sure, vague], axis=1), np.zeros(2), at(0.5), np.ones((2, 1), bool), Motion(slack=0.0)
    )
    assert near.all()
    assert cost[0, 0] < cost[1, 0]
