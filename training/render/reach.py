"""How far a head reaches from a centre in each direction: what worn things are fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeface.values import F64

FILLED = 3  # cells around what is seen that get a distance, too


@dataclass(frozen=True, slots=True)
class Reach:
    """A map of distances over `rows` (of `low`..`high`) and `columns` around the y axis."""

    distance: F64  # [rows, columns] head units
    low: float
    high: float

    def at(self, row: F64, around: F64) -> F64:
        """The distance, bilinear, at any `row` coordinate and angle `around` (radians, 0 = +z, to +x)."""
        rows, columns = self.distance.shape
        r = np.clip((row - self.low) / (self.high - self.low) * rows - 0.5, 0, rows - 1.001)
        c = around / (2 * np.pi) * columns - 0.5
        i, j = r.astype(np.int64), np.floor(c).astype(np.int64)
        r, c = r - i, c - j
        left, right = j % columns, (j + 1) % columns
        above = self.distance[i, left] * (1 - c) + self.distance[i, right] * c
        below = self.distance[i + 1, left] * (1 - c) + self.distance[i + 1, right] * c
        return np.asarray(above * (1 - r) + below * r)


def around_point(points: F64, rows: int = 24, columns: int = 36) -> Reach:
    """The reach of `points` [n, 3] from the origin by elevation (radians, -pi/2..pi/2) and angle around y."""
    level = np.hypot(points[:, 0], points[:, 2])
    elevation = np.arctan2(points[:, 1], level)
    distance = np.hypot(points[:, 1], level)
    return _farthest(points, distance, elevation, -np.pi / 2, np.pi / 2, rows, columns)


def around_axis(points: F64, low: float, high: float, rows: int = 24, columns: int = 40) -> Reach:
    """The reach of `points` [n, 3] from the y axis by height `low`..`high` and angle around it."""
    return _farthest(points, np.hypot(points[:, 0], points[:, 2]), points[:, 1], low, high, rows, columns)


def _farthest(points: F64, distance: F64, row: F64, low: float, high: float, rows: int, columns: int) -> Reach:
    around = np.arctan2(points[:, 0], points[:, 2])
    i = ((row - low) / (high - low) * rows).astype(np.int64)
    j = (around / (2 * np.pi) * columns).astype(np.int64) - (around < 0)
    inside = (row >= low) & (row < high)
    cell = (i * columns + j % columns)[inside]
    distance = distance[inside]
    order = np.argsort(distance)
    flat = np.zeros(rows * columns)
    flat[cell[order]] = distance[order]  # the last of a cell stays: the farthest
    grid = flat.reshape(rows, columns)
    for _ in range(FILLED):  # cells without a vertex take their neighbours' mean
        empty = grid == 0
        grid = np.where(empty, _neighbours(grid) / np.maximum(_neighbours((~empty).astype(np.float64)), 1), grid)
    return Reach(grid, low, high)


def _neighbours(grid: F64) -> F64:
    """The sum of each cell's four neighbours; columns are a ring, rows end."""
    ring = np.concatenate([grid[:, -1:], grid, grid[:, :1]], axis=1)
    total = ring[:, :-2] + ring[:, 2:]
    total[1:] += grid[:-1]
    total[:-1] += grid[1:]
    return np.asarray(total)


def stretched(grid: F64, steps: int) -> F64:
    """Cloth [rows, columns] stretched over `grid`: nowhere under it, else its neighbours' mean; edges stay."""
    cloth = grid.copy()
    for _ in range(steps):
        mean = (cloth[:-2, 1:-1] + cloth[2:, 1:-1] + cloth[1:-1, :-2] + cloth[1:-1, 2:]) / 4
        cloth[1:-1, 1:-1] = np.maximum(grid[1:-1, 1:-1], mean)
    return cloth
