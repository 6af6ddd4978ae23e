"""Assignment: the most pairs, and among those the cheapest, whatever the gates leave open."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeface.assignment import assign


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
