"""A frame in memory that the GPU can read, as it was captured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FORMATS = ("gray8", "rgb8", "bgr8", "rgba8", "bgra8", "nv12", "yuyv")  # in the order of crop.cu's Format

Yuv = tuple[float, float, float, float, float, float]  # crop.cu's `yuv`: from Y, U, V to red, green, blue

# the coefficients stand in crop.cu, with the formula
BT601: Yuv = (16.0, 255 / 219, 1.596027, -0.391762, -0.812968, 2.017232)
BT601_FULL: Yuv = (0.0, 1.0, 1.402, -0.344136, -0.714136, 1.772)
BT709: Yuv = (16.0, 255 / 219, 1.792741, -0.213249, -0.532909, 2.112402)
BT709_FULL: Yuv = (0.0, 1.0, 1.5748, -0.187324, -0.468124, 1.8556)


@dataclass(frozen=True, slots=True)
class Picture:
    """What Frame.pixels is when a frame was captured into mapped memory; Frame.format is one of FORMATS.

    Every row is in one block of `nbytes` from `plane` on, the chroma of nv12 too. It is valid as long as the source
    says for frames.
    """

    plane: int  # the GPU's address of the first pixel
    pitch: int  # bytes from row to row
    nbytes: int
    chroma: int = 0  # the address of nv12's pairs U, V
    chroma_pitch: int = 0
    yuv: Yuv = BT601
    owner: Any = None  # whatever keeps the memory alive
