"""A scene while it is painted, from far to near: the picture, and whose face is seen at each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeface.values import F32, I64, U8
from training.render.patches import Patch, between, paste, scaled

I16 = NDArray[np.int16]


@dataclass(slots=True)
class Canvas:
    """A scene while it is painted, from far to near."""

    picture: F32  # [s, s] display values
    owner: I16  # [s, s] 1 + number of the face seen there, 0: none

    def lay(self, patch: Patch, left: int, top: int) -> None:
        """Pastes something that is no face: what it covers is nobody's."""
        where = paste(self.picture, *patch, left, top)
        if where:
            (rows, columns), alpha = where, patch[1]
            part = alpha[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            self.owner[where][part > 0.5] = 0

    def lay_face(self, patch: Patch, left: int, top: int, xyxy: F32, number: int) -> int:
        """Pastes a head; its opaque pixels inside the box `xyxy` become `number`'s. Returns how many those are,
        the ones outside the picture included."""
        self.lay(patch, left, top)
        alpha = patch[1]
        x0, y0, x1, y1 = np.round(xyxy - np.array([left, top, left, top])).astype(int)
        face = np.zeros(alpha.shape, np.bool_)
        face[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = (
            alpha[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] > 0.5
        )
        height, width = self.owner.shape
        rows = slice(max(0, top), max(0, min(height, top + alpha.shape[0])))
        columns = slice(max(0, left), max(0, min(width, left + alpha.shape[1])))
        part = face[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        if part.size:
            self.owner[rows, columns][part] = number + 1
        return int(face.sum())

    def seen(self, many: int) -> I64:
        """How many pixels of each of `many` faces are seen [many]."""
        return np.bincount(self.owner.ravel(), minlength=many + 1)[1 : many + 1]


def patch_of(luma: U8, alpha: U8, width: int, height: int, mirror: bool) -> Patch:
    shade, cover = scaled(luma, alpha, width, height)
    return (shade[:, ::-1], cover[:, ::-1]) if mirror else (shade, cover)


def turned(patch: Patch, rng: np.random.Generator) -> Patch:
    """Turned in the picture, mostly a little."""
    angle = rng.uniform(0, 360) if rng.random() < 0.2 else rng.normal(0, 18)
    height, width = patch[0].shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), float(angle), 1.0)
    luma = cv2.warpAffine(np.ascontiguousarray(patch[0]), turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(np.ascontiguousarray(patch[1]), turn, (width, height))
    return np.asarray(luma, np.float32), np.asarray(alpha, np.float32)


def rounded_off(patch: Patch, rng: np.random.Generator) -> Patch:
    """Without the straight edges of the patch: a super-ellipse of it, its rim soft or sharp."""
    height, width = patch[0].shape
    power, sharp = rng.uniform(2, 5), between(rng, 4, max(5, width / 3))
    y, x = (np.abs(np.linspace(-1, 1, n, dtype=np.float32)) ** np.float32(power) for n in (height, width))
    return patch[0], patch[1] * np.clip((1 - y[:, None] - x[None]) * np.float32(sharp), 0, 1)


def tone_of(rng: np.random.Generator) -> tuple[float, float]:
    """A person's light: exponent and gain."""
    return float(np.exp(rng.normal(0, 0.12))), float(np.exp(rng.normal(0, 0.1)))


def toned(patch: Patch, tone: tuple[float, float]) -> Patch:
    if tone == (1.0, 1.0):
        return patch
    return np.clip(np.asarray(cv2.pow(np.ascontiguousarray(patch[0]), tone[0])) * np.float32(tone[1]), 0, 1), patch[1]
