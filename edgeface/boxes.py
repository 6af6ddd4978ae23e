"""Geometry of boxes and crops: pure functions on arrays.

Boxes are xyxy = left, top, right, bottom in pixels; (0, 0) is the top-left corner of the top-left pixel, so a box
from 10 to 20 is 10 pixels wide (never +1).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from edgeface.values import F32, F64, I64

Floats = TypeVar("Floats", F32, F64)

_NMS_BLOCK = 32  # how many of the best boxes suppress in one go


def area(xyxy: Floats) -> Floats:
    """Areas [n] of boxes [n, 4]; an inside-out box has area 0."""
    size = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0)
    product: Floats = size[:, 0] * size[:, 1]
    return product


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
    `iou_threshold`. Equal scores keep their input order.
    """
    left = np.argsort(-score, kind="stable")[:top_k]
    kept: list[int] = []
    while len(left):
        head = left[:_NMS_BLOCK]
        hits = iou(xyxy[head], xyxy[left]) > iou_threshold
        gone, stay = 0, []  # gone: a bit for each box of the head
        for row, bits in enumerate(np.packbits(hits[:, : len(head)], axis=1, bitorder="little")):
            if not gone >> row & 1:
                stay.append(row)
                gone |= int.from_bytes(bits.tobytes(), "little")
        kept.extend(head[stay].tolist())
        left = left[len(head) :][~hits[stay, len(head) :].any(axis=0)]
    return np.array(kept, np.int64)


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


def crop_mapping(crops: F32, input_size: tuple[int, int]) -> tuple[F32, F32]:
    """Scale and offset, each [n, 4], from input pixels back to the frame: xyxy_frame = xyxy_input * scale + offset.

    For points take the first two columns. Each row is for boxes found in that one of `crops` [n, 4].
    """
    scale = np.divide(crops[:, 2:] - crops[:, :2], input_size, dtype=np.float32)
    return np.tile(scale, 2), np.tile(crops[:, :2], 2)
