"""What is worn and held, by name; and flat things that come before the camera."""

from __future__ import annotations

import cv2
import numpy as np

from edgeface.values import F32, Bool
from training.render import hands, headwear, props, wear
from training.render import head as heads
from training.render.mesh import Mesh
from training.render.paint import fixed
from training.render.patches import noise

KINDS = ("glasses", "sunglasses", "hat", "mask", "hand", "thing")


def make(kind: str, seed: int, head: heads.Head, vertices: F32, points: F32, skin: F32) -> Mesh:
    """The mesh of one of KINDS for a head with an expression: `vertices` f32 [n, 3], `points` f32 [80, 3], head space.

    `skin` f32 [3] is the albedo of the hand. The same `seed` makes the same thing, fitted to the head anew.
    """
    rng, marks = np.random.default_rng(seed), points[:68]
    if kind in ("glasses", "sunglasses"):
        return getattr(wear, kind)(rng, marks, float(np.ptp(vertices[head.box, 0])))
    if kind == "hat":
        return headwear.hat(rng, vertices, marks)
    if kind == "mask":
        return wear.mask(rng, vertices, head.face_triangles, marks)
    return hands.hand(rng, marks, skin) if kind == "hand" else props.thing(rng, marks, skin)


def patch(rng: np.random.Generator, picture: F32) -> tuple[F32, Bool]:
    """`picture` f32 [h, w] behind a flat thing near the camera, and where bool [h, w] that is."""
    size = picture.shape[0]
    corners = int(rng.integers(3, 9))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = rng.uniform(0.08, 0.35) * size * rng.uniform(0.6, 1.2, corners)
    outline = rng.uniform(0, size, 2) + np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]
    cover = np.zeros_like(picture)
    cv2.fillPoly(cover, [fixed(outline)], 1.0, cv2.LINE_AA, 4)
    cover = cv2.GaussianBlur(cover, (0, 0), float(rng.uniform(0.5, 2)))
    surface = np.clip(noise(rng, *picture.shape, 4, 64, 0.8) * 0.08 + rng.uniform(0.05, 0.9), 0, 1)
    return picture * (1 - cover) + surface * cover, cover > 0.5
