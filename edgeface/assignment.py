"""Optimal assignment: which of n things is which of m, when most have only one candidate."""

from __future__ import annotations

import lap
import numpy as np

from edgeface.values import F64, I64, Bool


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
