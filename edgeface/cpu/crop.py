"""Crops of a host frame -> the network's input tensor: cut, resize (bilinear), colour, mean and scale, NCHW.

The rule, for every backend:
- An output pixel whose centre lies outside the frame is padding; any other is interpolated between the frame's own
  pixels, the border's repeated where it looks half a pixel beyond them. With `padding = "edge"` the border's pixels are
  repeated without end, and there is no padding.
- A crop that shrinks by 2 or more on both axes is interpolated between blocks of m x m pixels instead, as if the frame
  had first been made smaller by m: m = 2, 4, 8 or 16, the largest that the lesser of both factors reaches. A block is
  the mean of four bilinear samples, at the centres of its quarters. Blocks are counted from the frame's top-left
  corner; the last ones are made whole by repeating the border. What is outside, and thus padding, does not depend on m.
- The whole frame, fitted in whole pixels as by `boxes.letterbox` and `boxes.stretch`, is never averaged: so detectors
  know it.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeface.errors import EngineError
from edgeface.model_card import Input
from edgeface.values import F32, U8, Frame

Picture = NDArray[Any]  # [height, width] grey, or [height, width, 3 or 4] blue first; 8-bit

_GLIMPSE = 128, 72  # columns, rows
_FORMATS = "bgr8", "bgra8", "gray8"
_TO_GREY = {3: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGRA2GRAY}  # by the number of channels
_LARGEST_BLOCK = 16


class Cropper:
    """Fills one reused float32 tensor [n, channels, height, width]; it is valid until the next call."""

    def __init__(self, spec: Input, input_size: tuple[int, int]) -> None:
        self._size = input_size
        self._padding = None if spec.padding == "edge" else spec.padding  # None: the border's pixels
        self._luma = spec.colour in ("luma", "luma3")
        mean = np.broadcast_to(np.array(spec.mean, np.float64), spec.channels)
        self._scale = float(spec.scale)
        self._shift = [float(-value * spec.scale) for value in mean]
        self._order = {"rgb": (2, 1, 0), "bgr": (0, 1, 2), "luma": (0,), "luma3": (0, 0, 0)}[spec.colour]
        self._tensor = np.empty((0, spec.channels, input_size[1], input_size[0]), np.float32)
        self._filled: list[tuple[int, int]] = []  # for each row, the size of the picture that it holds

    def __call__(self, frame: Frame, crops: F32) -> F32:
        """The tensor for `crops` [n, 4] of `frame`: xyxy in frame pixels, padding where they reach outside."""
        _check_format(frame)
        if len(self._tensor) < len(crops):
            self._tensor = np.empty((len(crops), *self._tensor.shape[1:]), np.float32)
            self._filled = [(-1, -1)] * len(crops)
        for row, crop in enumerate(crops.tolist()):
            fitted = self._fitted(frame.pixels, crop)
            self._write(row, self._cut(frame.pixels, crop) if fitted is None else self._fit(frame.pixels, fitted))
        return self._tensor[: len(crops)]

    def _fitted(self, pixels: Picture, crop: list[float]) -> tuple[int, int] | None:
        """The size (width, height) of the whole frame in the input, if `crop` is one of boxes.letterbox or stretch."""
        frame_height, frame_width = pixels.shape[:2]
        x1, y1, x2, y2 = crop
        if x1 == 0 and y1 == 0 and x2 >= frame_width - 1e-3 and y2 >= frame_height - 1e-3:
            width, height = frame_width * self._size[0] / x2, frame_height * self._size[1] / y2
            fitted = round(width), round(height)
            if abs(fitted[0] - width) < 1e-3 and abs(fitted[1] - height) < 1e-3:
                return fitted
        return None

    def _fit(self, pixels: Picture, fitted: tuple[int, int]) -> Picture:
        """The whole frame at `fitted` (width, height), top-left in the input; without its padding."""
        picture = cv2.resize(pixels, fitted) if fitted != pixels.shape[1::-1] else pixels
        right, below = self._size[0] - fitted[0], self._size[1] - fitted[1]
        if self._padding is None and right:
            picture = cv2.hconcat([picture, cv2.resize(pixels[:, -1:], (right, fitted[1]))])
        if self._padding is None and below:
            border = cv2.resize(pixels[-1:], (fitted[0], below))
            picture = cv2.vconcat([picture, cv2.copyMakeBorder(border, 0, 0, 0, right, cv2.BORDER_REPLICATE)])
        return self._grey(picture)

    def _cut(self, pixels: Picture, crop: list[float]) -> Picture:
        """The crop at the input's size, cut anywhere."""
        frame_height, frame_width = pixels.shape[:2]
        x1, y1, x2, y2 = crop
        width, height = self._size
        scale_x, scale_y = (x2 - x1) / width, (y2 - y1) / height
        shrinks = min(int(scale_x), int(scale_y), _LARGEST_BLOCK)
        block = 1 << shrinks.bit_length() - 1 if shrinks > 1 else 1
        left, right = _reach(x1, x2, block, frame_width)
        top, bottom = _reach(y1, y2, block, frame_height)
        part = self._grey(_blocks(pixels[top:bottom, left:right], block))  # no more than the crop shows
        # as cv2.resize aligns: the centre of output pixel i looks at x1 + (i + 0.5) * scale, in pixel areas
        x, y = x1 + scale_x / 2 - left, y1 + scale_y / 2 - top
        back = np.array([[scale_x / block, 0, x / block - 0.5], [0, scale_y / block, y / block - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        picture: Picture = cv2.warpAffine(part, back, self._size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        if self._padding is not None:
            if x1 + scale_x / 2 < 0 or x2 - scale_x / 2 >= frame_width:
                across = x1 + (np.arange(width) + 0.5) * scale_x
                picture[:, (across < 0) | (across >= frame_width)] = self._padding
            if y1 + scale_y / 2 < 0 or y2 - scale_y / 2 >= frame_height:
                down = y1 + (np.arange(height) + 0.5) * scale_y
                picture[(down < 0) | (down >= frame_height)] = self._padding
        return picture

    def _grey(self, picture: Picture) -> Picture:
        """The luma of `picture` if the network sees no more."""
        return cv2.cvtColor(picture, _TO_GREY[picture.shape[2]]) if self._luma and picture.ndim == 3 else picture

    def _write(self, row: int, picture: Picture) -> None:
        """Normalise `picture` into the top-left of the tensor's row; padding beyond it."""
        height, width = picture.shape[:2]
        target = self._tensor[row]
        if self._filled[row] != (width, height):
            for channel, shift in enumerate(self._shift):
                target[channel] = (self._padding or 0) * self._scale + shift
            self._filled[row] = (width, height)
        planes = cv2.split(picture) if picture.ndim == 3 else (picture, picture, picture)
        for channel, plane in enumerate(self._order):
            source, out = planes[plane], target[channel, :height, :width]
            cv2.addWeighted(source, self._scale, source, 0, self._shift[channel], dst=out, dtype=cv2.CV_32F)


def _reach(start: float, end: float, block: int, length: int) -> tuple[int, int]:
    """The pixels of an axis of `length` that a crop from `start` to `end` looks at: whole blocks, one at least."""
    last = -(-length // block) - 1
    first = min(max(math.floor(start / block) - 1, 0), last)
    return first * block, (min(max(math.floor(end / block) + 1, first), last) + 1) * block


def _blocks(part: Picture, block: int) -> Picture:
    """`part`, which begins at a block's corner, made smaller by `block`."""
    if block == 1:
        return part
    below, right = -part.shape[0] % block, -part.shape[1] % block
    if below or right:
        part = cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_REPLICATE)
    height, width = part.shape[0] // block, part.shape[1] // block
    if block > 2:  # quarters; OpenCV halves fast, and reads no more than it needs
        part = cv2.resize(part, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)


def _check_format(frame: Frame) -> None:
    if frame.format not in _FORMATS:
        raise EngineError(f"the CPU backend expects frames of {', '.join(_FORMATS)}, found {frame.format}")


def glimpse(frame: Frame) -> U8:
    """A grey picture [72, 128] of the frame; of large frames every n-th pixel is enough. Raises EngineError."""
    _check_format(frame)
    pixels: Picture = frame.pixels
    step = max(min(frame.width // (2 * _GLIMPSE[0]), frame.height // (2 * _GLIMPSE[1])), 1)
    small = cv2.resize(np.ascontiguousarray(pixels[::step, ::step]), _GLIMPSE, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, _TO_GREY[small.shape[2]]) if small.ndim == 3 else small, np.uint8)
