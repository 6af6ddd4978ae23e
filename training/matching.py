"""Which cell answers for which face: ATSS for SCRFD's anchors, covered cells for GridBox's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgeface.values import F32, I64, Bool
from training.networks.scrfd import STRIDES

SIDES = (24, 88, 320)  # pixels: the side of the one square anchor of a cell, by stride
CANDIDATES = 9  # cells a level (ATSS's k)


@dataclass(frozen=True)
class Grid:
    """The anchors of one picture size, level by level, row by row."""

    centre: F32  # [m, 2] pixels
    side: F32  # [m] of the square around it
    first: tuple[int, ...]  # where each level begins, and the end
    width: tuple[int, ...]  # cells in a level's row


@lru_cache(maxsize=8)
def grid(height: int, width: int, sides: tuple[int, ...] = SIDES) -> Grid:
    """The anchors of pictures of this size."""
    centres, side, first = [], [], [0]
    for stride, length in zip(STRIDES, sides, strict=True):
        y, x = np.mgrid[: height // stride, : width // stride]
        centres.append(np.stack([x, y], -1).reshape(-1, 2) * stride)
        side.append(np.full(len(centres[-1]), length))
        first.append(first[-1] + len(centres[-1]))
    return Grid(
        np.concatenate(centres).astype(np.float32),
        np.concatenate(side).astype(np.float32),
        tuple(first),
        tuple(width // stride for stride in STRIDES),
    )


def atss(xyxy: F32, anchors: Grid, candidates: int = CANDIDATES) -> I64:
    """For each anchor the face [m] it answers for, or -1 (Zhang et al. 2020, algorithm 1).

    A face's candidates are the `candidates` anchors of each level nearest to its middle; those whose IoU with it
    reaches mean + standard deviation of all candidates, and whose centre is inside the face, are its own. An anchor of
    several faces goes to the one with the highest IoU. A face that gets none (the smallest lie between the centres)
    takes the nearest anchor of the finest level that no other face has.
    """
    owner = np.full(len(anchors.side), -1, np.int64)
    if not len(xyxy):
        return owner
    middle = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    chosen = np.concatenate([_nearest(middle, anchors, level, candidates) for level in range(len(STRIDES))], 1)
    overlap = _iou(xyxy, anchors, chosen)
    centre = anchors.centre[chosen]  # [n, c, 2]
    inside = np.minimum(centre - xyxy[:, None, :2], xyxy[:, None, 2:] - centre).min(-1) > 0
    enough = overlap >= (overlap.mean(1) + overlap.std(1))[:, None]
    face, place = np.nonzero(inside & enough)
    rank = np.argsort(overlap[face, place], kind="stable")  # written last wins: the highest IoU
    owner[chosen[face[rank], place[rank]]] = face[rank]
    for lost in np.setdiff1d(np.arange(len(xyxy)), owner):
        near = _nearest(middle[lost : lost + 1], anchors, 0, candidates)[0]
        free = near[owner[near] < 0]
        if len(free):
            owner[free[0]] = lost
    return owner


def ignored(xyxy: F32, anchors: Grid) -> Bool:
    """Anchors [m] whose centre lies in one of the boxes [n, 4]: neither face nor background."""
    x, y = anchors.centre[:, None, 0], anchors.centre[:, None, 1]
    return ((x >= xyxy[:, 0]) & (x <= xyxy[:, 2]) & (y >= xyxy[:, 1]) & (y <= xyxy[:, 3])).any(1)


def _nearest(middle: F32, anchors: Grid, level: int, count: int) -> I64:
    """The `count` anchors of a level nearest to each place [n, 2], nearest first: [n, at most count].

    Only a window of cells around the place is looked at: wide enough, because it holds more than `count` cells.
    """
    stride, columns = STRIDES[level], anchors.width[level]
    rows = (anchors.first[level + 1] - anchors.first[level]) // columns
    reach = int(np.ceil(np.sqrt(count)))
    if columns <= 2 * reach + 1 or rows <= 2 * reach + 1:  # a small level: all of it
        every = np.arange(anchors.first[level], anchors.first[level + 1])
        window = np.broadcast_to(every, (len(middle), len(every)))
    else:
        cell = np.round(middle / stride).astype(np.int64)
        span = np.arange(-reach, reach + 1)
        # beyond the border the window moves inwards, so that no cell is named twice
        column = np.clip(cell[:, :1], reach, columns - 1 - reach) + span
        row = np.clip(cell[:, 1:], reach, rows - 1 - reach) + span
        window = anchors.first[level] + (row[:, :, None] * columns + column[:, None]).reshape(len(middle), -1)
    apart = ((anchors.centre[window] - middle[:, None]) ** 2).sum(-1)
    best = np.argsort(apart, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(window, best, 1)


def _iou(xyxy: F32, anchors: Grid, chosen: I64) -> F32:
    """IoU [n, c] of each face with its candidates."""
    half = anchors.side[chosen][..., None] / 2
    low = np.maximum(anchors.centre[chosen] - half, xyxy[:, None, :2])
    high = np.minimum(anchors.centre[chosen] + half, xyxy[:, None, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    area = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0).prod(-1)[:, None]
    overlap: F32 = shared / np.maximum(area + anchors.side[chosen] ** 2 - shared, 1e-6)
    return overlap


def coverage(
    xyxy: F32,
    ignore: NDArray,
    height: int,
    width: int,
    radius: float = 0.4,
    deadzone: float = 0.67,
    least: float = 1.0,
    stride: int = 16,
    offset: float = 0.5,
) -> tuple[I64, F32]:
    """GridBox's target: for each cell the face [rows, columns] that covers it or -1, and how much the cell counts.

    A face covers an ellipse around its middle with radii `radius` times its width and height, at least `least` cells
    (TAO's bbox_rasterizer). Between this and the same with `deadzone` a cell counts nothing; so does one under a box
    that is to be ignored. Where faces meet, the smaller is before the larger. A face that covers no cell's point takes
    the nearest.
    """
    rows, columns = height // stride, width // stride
    owner = np.full((rows, columns), -1, np.int64)
    weight = np.ones((rows, columns), np.float32)
    x = (np.arange(columns) * stride + offset)[None, :, None]
    y = (np.arange(rows) * stride + offset)[:, None, None]
    size = xyxy[:, 2:] - xyxy[:, :2]
    middle = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    keep = ~ignore.astype(bool)
    reach = np.maximum(size * radius, least * stride)
    away = ((x - middle[:, 0]) / reach[:, 0]) ** 2 + ((y - middle[:, 1]) / reach[:, 1]) ** 2  # [rows, columns, n]
    weight[(away[..., keep] <= (deadzone / radius) ** 2).any(-1)] = 0
    hidden = (np.abs(x - middle[:, 0]) <= size[:, 0] / 2) & (np.abs(y - middle[:, 1]) <= size[:, 1] / 2)
    weight[hidden[..., ~keep].any(-1)] = 0
    for face in sorted(np.nonzero(keep)[0], key=lambda face: -float(size[face].prod())):
        if not (0 <= middle[face, 0] < width and 0 <= middle[face, 1] < height):
            continue
        covered = away[..., face] <= 1
        if not covered.any():
            covered = np.zeros_like(covered)
            covered[np.unravel_index(np.argmin(away[..., face]), covered.shape)] = True
        owner[covered], weight[covered] = face, 1
    return owner, weight
