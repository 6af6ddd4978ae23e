"""What faces are like, for figures by kind: from a picture and five points, or from what the renderer knows.

From a picture, turn and tilt follow from the line between the eyes' and the mouth's middles; tone is the individual
typology angle of the cheeks (Chardon et al. 1991), as it appears in this light to this camera; light is the luma of
the box and of both cheeks. These are estimates, to see where a network is weak, not labels of people.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from edgeface.values import F32, F64, U8

Kinds = dict[str, list[str]]  # property -> the name of its row, for each face

TURN = ((0.2, 0.4), ("0-20 deg", "20-40 deg", "40+ deg"))  # medians of rendered faces
TILT_DEG = ((20.0, 45.0), ("0-20 deg", "20-45 deg", "45+ deg"))
TONE_DEG = ((10.0, 41.0), ("dark", "medium", "light"))  # Chardon's brown and tan, intermediate and light
DIM, ONE_SIDE = 60.0, 1.7  # luma; ratio of the cheeks
CHEEK = 0.12  # half a patch, of the distance from the eyes to the mouth
GREY = 3.0  # less chroma than this is no colour

YAW_DEG = ((30.0, 60.0), ("0-30 deg", "30-60 deg", "60+ deg"))
SEEN = ((0.5, 0.8), ("0-50 %", "50-80 %", "80-100 %"))
ALBEDO = ((0.15, 0.35), ("dark", "medium", "light"))  # linear, 0..1


def rows(values: ArrayLike, scale: tuple[Sequence[float], Sequence[str]]) -> list[str]:
    """The name of the row of each value."""
    borders, names = scale
    return [names[number] for number in np.digitize(values, borders).tolist()]


def of_picture(pixels: U8, xyxy: F32, points: F32) -> Kinds:
    """What the faces of a picture [h, w, 3] BGR are like: boxes [n, 4], points [n, 5, 2], both in its pixels."""
    points = points.astype(float)
    eyes, mouth = points[:, :2].mean(axis=1), points[:, 3:5].mean(axis=1)
    down = mouth - eyes
    length = np.maximum(np.hypot(*down.T), 1e-6)
    beside = points[:, 2] - (eyes + mouth) / 2
    aside = np.abs(beside[:, 1] * down[:, 0] - beside[:, 0] * down[:, 1]) / length**2
    cheeks = (points[:, :2] + points[:, 3:5]) / 2
    tones, lights = [], []
    for box, both, half in zip(xyxy, cheeks, CHEEK * length, strict=True):
        patches = [patch(pixels, np.array([*(at - half), *(at + half)])) for at in both]
        tones.append(tone(np.concatenate([one.reshape(-1, 3) for one in patches])))
        lights.append(light(patch(pixels, box.astype(float)), patches))
    return {
        "turn": rows(aside, TURN),
        "tilt": rows(np.abs(np.degrees(np.arctan2(down[:, 0], down[:, 1]))), TILT_DEG),
        "tone": tones,
        "light": lights,
    }


def patch(pixels: U8, xyxy: F64) -> U8:
    """What lies in a box, at least a pixel of the picture."""
    height, width = pixels.shape[:2]
    left, top = np.clip(np.floor(xyxy[:2]), 0, [width - 1, height - 1]).astype(int)
    right, bottom = np.clip(np.ceil(xyxy[2:]), [left + 1, top + 1], [width, height]).astype(int)
    return pixels[top:bottom, left:right]


def tone(skin: U8) -> str:
    """The row of skin's pixels [n, 3] BGR by their typology angle, arctan((L* - 50) / b*) of the medians."""
    lab = cv2.cvtColor(skin[None].astype(np.float32) / 255, cv2.COLOR_BGR2LAB)[0]
    lightness, a, b = np.median(lab, axis=0).tolist()
    if np.hypot(a, b) < GREY:
        return "no colour"
    return rows([np.degrees(np.arctan2(lightness - 50, b))], TONE_DEG)[0]


def light(face: U8, cheeks: Sequence[U8]) -> str:
    """Whether a face [h, w, 3] is dim, or one of its cheeks much brighter than the other."""
    if luma(face) < DIM:
        return "dim"
    one, other = sorted(luma(cheek) for cheek in cheeks)
    return "from one side" if other > ONE_SIDE * one else "even"


def luma(pixels: U8) -> float:
    return float(np.median(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)))


def of_truth(pose: F32, seen: F32) -> Kinds:
    """Of rendered faces: pose [n, 3] degrees, the share [n] of them that is seen."""
    return {"yaw": rows(np.abs(pose[:, 0]), YAW_DEG), "seen": rows(seen, SEEN)}
