"""Crops of a host frame -> the network's input tensor: cut, resize (bilinear), colour, mean and scale, NCHW.

An output pixel whose centre lies outside the frame is padding; any other is interpolated between the frame's own
pixels, the border's repeated where it looks half a pixel beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeface.errors import EngineError
from edgeface.model_card import Input
from edgeface.values import F32, U8, Frame

_GLIMPSE = 128, 72  # columns, rows


class Cropper:
    """Fills one reused float32 tensor [n, channels, height, width]; it is valid until the next call."""

    def __init__(self, spec: Input, input_size: tuple[int, int]) -> None:
        self._spec, self._size = spec, input_size
        mean = np.broadcast_to(np.array(spec.mean, np.float64), spec.channels)
        self._scale = float(spec.scale)
        self._shift = [float(-value * spec.scale) for value in mean]
        self._order = {"rgb": (2, 1, 0), "bgr": (0, 1, 2), "luma": (0,), "luma3": (0, 0, 0)}[spec.colour]
        self._tensor = np.empty((0, spec.channels, input_size[1], input_size[0]), np.float32)
        self._filled: list[tuple[int, int]] = []  # for each row, the size of the picture that it holds

    def __call__(self, frame: Frame, crops: F32) -> F32:
        """The tensor for `crops` [n, 4] of `frame`: xyxy in frame pixels, padding where they reach outside."""
        if frame.format != "bgr8":
            raise EngineError(f"the CPU backend expects bgr8 frames, found {frame.format}")
        if len(self._tensor) < len(crops):
            self._tensor = np.empty((len(crops), *self._tensor.shape[1:]), np.float32)
            self._filled = [(-1, -1)] * len(crops)
        for row, crop in enumerate(crops.tolist()):
            picture = self._cut(frame.pixels, crop)
            self._write(row, picture)
        return self._tensor[: len(crops)]

    def _cut(self, pixels: NDArray[Any], crop: list[float]) -> NDArray[Any]:
        """The crop at the input's scale; without the padding on the right and below when it begins at the corner."""
        frame_height, frame_width = pixels.shape[:2]
        x1, y1, x2, y2 = crop
        width, height = self._size
        if x1 == 0 and y1 == 0 and x2 >= frame_width - 1e-3 and y2 >= frame_height - 1e-3:
            fitted_width, fitted_height = frame_width * width / x2, frame_height * height / y2
            fitted = round(fitted_width), round(fitted_height)
            if abs(fitted[0] - fitted_width) < 1e-3 and abs(fitted[1] - fitted_height) < 1e-3:  # boxes.letterbox
                return cv2.resize(pixels, fitted) if fitted != (frame_width, frame_height) else pixels
        scale_x, scale_y = (x2 - x1) / width, (y2 - y1) / height
        # as cv2.resize aligns: the centre of output pixel i looks at x1 + (i + 0.5) * scale, in pixel areas
        back = np.array([[scale_x, 0, x1 + scale_x / 2 - 0.5], [0, scale_y, y1 + scale_y / 2 - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        picture = cv2.warpAffine(pixels, back, self._size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        x = x1 + (np.arange(width) + 0.5) * scale_x
        y = y1 + (np.arange(height) + 0.5) * scale_y
        picture[(y < 0) | (y >= frame_height)] = self._spec.padding
        picture[:, (x < 0) | (x >= frame_width)] = self._spec.padding
        return picture

    def _write(self, row: int, picture: NDArray[Any]) -> None:
        """Colour and normalise `picture` into the top-left of the tensor's row; padding beyond it."""
        height, width = picture.shape[:2]
        target = self._tensor[row]
        if self._filled[row] != (width, height):
            for channel, shift in enumerate(self._shift):
                target[channel] = self._spec.padding * self._scale + shift
            self._filled[row] = (width, height)
        if self._spec.colour in ("luma", "luma3"):
            planes: Sequence[NDArray[Any]] = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)]
        else:
            planes = cv2.split(picture)
        for channel, plane in enumerate(self._order):
            source, out = planes[plane], target[channel, :height, :width]
            cv2.addWeighted(source, self._scale, source, 0, self._shift[channel], dst=out, dtype=cv2.CV_32F)


def glimpse(frame: Frame) -> U8:
    """A grey picture [72, 128] of the frame; of large frames every n-th pixel is enough."""
    pixels: NDArray[Any] = frame.pixels
    step = max(min(frame.width // (2 * _GLIMPSE[0]), frame.height // (2 * _GLIMPSE[1])), 1)
    small = cv2.resize(np.ascontiguousarray(pixels[::step, ::step]), _GLIMPSE, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)
