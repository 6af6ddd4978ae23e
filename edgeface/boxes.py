"""Geometry of boxes and crops: pure functions on arrays.

Boxes are xyxy = left, top, right, bottom in pixels; (0, 0) is the top-left corner of the top-left pixel, so a box
from 10 to 20 is 10 pixels wide (never +1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from edgeface.values import F32, F64, I64, Bool

Floats = TypeVar("Floats", F32, F64)
CropRule = Callable[[tuple[int, int], tuple[int, int]], F32]  # letterbox, stretch: frame and input size -> crop [1, 4]

TILE_OVERLAP = 0.2  # of a tile, with the next one
_BLOCK = 32  # how many of the best boxes suppress in one go
_BIT = 1 << np.arange(_BLOCK, dtype=np.int64)


def area(xyxy: Floats) -> Floats:
    """Areas [n] of boxes [n, 4]; an inside-out box has area 0."""
    size = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0)
    product: Floats = size[:, 0] * size[:, 1]
    return product


def around(centre: Floats, size: Floats) -> Floats:
    """Boxes xyxy [n, 4] with their middles at `centre` [n, 2] and width and height `size` [n, 2]."""
    half = size / 2
    xyxy: Floats = np.concatenate([centre - half, centre + half], axis=1)
    return xyxy


def centre_and_size(xyxy: Floats) -> tuple[Floats, Floats]:
    """Middles, and widths and heights, each [n, 2], of boxes [n, 4]: what `around` puts together."""
    centre: Floats = np.divide(xyxy[:, :2] + xyxy[:, 2:], 2)
    size: Floats = xyxy[:, 2:] - xyxy[:, :2]
    return centre, size


def iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union [n, m] of boxes a [n, 4] and b [m, 4]; 0 where both areas are 0."""
    ax1, ay1, ax2, ay2 = a.T[:, :, None]
    bx1, by1, bx2, by2 = np.ascontiguousarray(b.T)
    width = np.minimum(ax2, bx2) - np.maximum(ax1, bx1)
    height = np.minimum(ay2, by2) - np.maximum(ay1, by1)
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    union = area(a)[:, None] + area(b) - intersection
    ratio: Floats = intersection / np.maximum(union, np.finfo(np.float32).tiny)
    return ratio


def nms(xyxy: F32, score: F32, iou_threshold: float, top_k: int = 400) -> I64:
    """Greedy non-maximum suppression: indices of the boxes to keep, best score first.

    Only the `top_k` best candidates are looked at. A box goes when its IoU with a better one that stays is above
    `iou_threshold`. Equal scores keep their input order. The best boxes left suppress together, block by block.
    """
    left: I64 = np.argsort(-score, kind="stable")[:top_k]
    # rows: x1, y1, -x2, -y2 (an intersection has the larger of each), area, and how far x1, y1, -x2, -y2 of another box
    # may be when it shares the threshold's part of this box's width and height
    table: F32 = np.empty((9, len(left)), np.float32)
    table[:4] = xyxy.take(left, axis=0).T
    np.negative(table[2:4], out=table[2:4])
    negative_size = np.minimum(table[:2] + table[2:4], 0)
    areas = np.multiply(negative_size[0], negative_size[1], out=table[4])
    negative_size *= 0.999 * iou_threshold  # a little less: rounding must not lose a pair
    np.subtract(negative_size, table[2:4], out=table[5:7])
    np.subtract(negative_size, table[:2], out=table[7:])
    table[5:, areas == 0] = -np.inf  # hits nobody, so that no union is 0
    kept = [left[:0]]
    while len(left):
        hits = _hits(table, iou_threshold)
        gone, stay = 0, []  # gone: a bit for each box of the block
        for index, bits in enumerate((hits[:, :_BLOCK] @ _BIT[: len(hits)]).tolist()):
            if not gone >> index & 1:
                stay.append(index)
                gone |= bits
        kept.append(left.take(stay))
        hit: Bool = np.any(hits.take(stay, axis=0)[:, _BLOCK:], axis=0)
        rest = _BLOCK + np.flatnonzero(~hit)
        left, table = left.take(rest), table.take(rest, axis=1)
    return np.concatenate(kept)


def _hits(table: F32, iou_threshold: float) -> Bool:
    """Which of the first boxes in nms's table [9, n] have an IoU above the threshold with which boxes: [_BLOCK, n].

    An IoU above t needs more than t of the width and of the height of either box; few pairs have it, and they alone are
    computed.
    """
    limit = table[5:, :_BLOCK, None]
    two = (table[:2, None] <= limit[:2]) & (table[2:4, None] <= limit[2:])
    hits: Bool = two[0] & two[1]
    flat = hits.ravel()
    near = flat.nonzero()[0]
    row = near // hits.shape[1]
    a, b = table[:5].take(row, axis=1), table[:5].take(near - row * hits.shape[1], axis=1)
    edges = np.maximum(a[:4], b[:4])
    negative_size = np.minimum(edges[:2] + edges[2:], 0)
    intersection = negative_size[0] * negative_size[1]
    flat[near] = intersection / (a[4] + b[4] - intersection) > iou_threshold
    return hits


def letterbox(frame_size: tuple[int, int], input_size: tuple[int, int]) -> F32:
    """The crop [1, 4] of a frame (width, height) that fits it into an input with its proportions kept.

    The picture lies top-left, the rest of the input looks beyond the frame (padding). The fitted size is truncated
    to whole pixels as SCRFD's reference code does, so each axis has its own exact scale.
    """
    (width, height), (input_width, input_height) = frame_size, input_size
    if height * input_width > width * input_height:
        fitted = int(input_height / (height / width)), input_height
    else:
        fitted = input_width, int(input_width * (height / width))
    fit_width, fit_height = max(fitted[0], 1), max(fitted[1], 1)
    return np.array([[0, 0, width * input_width / fit_width, height * input_height / fit_height]], np.float32)


def stretch(frame_size: tuple[int, int], input_size: tuple[int, int]) -> F32:
    """The crop [1, 4] that fills the input with the whole frame, whatever that does to its proportions."""
    return np.array([[0, 0, frame_size[0], frame_size[1]]], np.float32)


def tile(
    frame_size: tuple[int, int],
    input_size: tuple[int, int],
    *,
    fit: CropRule,
    grid: tuple[int, int],
    index: int,
) -> F32:
    """The crop [1, 4] of tile `index` of a `grid` (columns, rows) over the frame; `fit`: letterbox or stretch.

    Tiles are counted row by row and overlap by a fifth of their size. With `letterbox` a crop may show more than its
    tile: the frame below it or to its right.
    """
    (width, height), (columns, rows) = frame_size, grid
    tile_width = width / (columns - (columns - 1) * TILE_OVERLAP)
    tile_height = height / (rows - (rows - 1) * TILE_OVERLAP)
    left = index % columns * tile_width * (1 - TILE_OVERLAP)
    top = index // columns * tile_height * (1 - TILE_OVERLAP)
    tile_size = math.ceil(tile_width), math.ceil(tile_height)
    crop: F32 = fit(tile_size, input_size) + np.array([left, top, left, top], np.float32)
    return crop


def crop_mapping(crops: F32, input_size: tuple[int, int]) -> tuple[F32, F32]:
    """Scale and offset, each [n, 4], from input pixels back to the frame: xyxy_frame = xyxy_input * scale + offset.

    For points take the first two columns. Each row is for boxes found in that one of `crops` [n, 4].
    """
    scale = np.divide(crops[:, 2:] - crops[:, :2], input_size, dtype=np.float32)
    corner = crops[:, :2]
    return np.concatenate([scale, scale], axis=1), np.concatenate([corner, corner], axis=1)
