"""Hair of the scalp: eight cut meshes, and growth that pushes the scalp itself outward."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgeface.values import F32, U8
from training.render.mesh import I32
from training.render.raster import vertex_normals


@dataclass(frozen=True, slots=True)
class Style:
    """A hair mesh on the mean head; its strands are cut out of a texture."""

    vertices: F32  # [n, 3] head units
    faces: I32  # [m, 3]
    texture: F32  # [n, 2] 0..1, down
    alpha: U8  # [256, 256]
    shade: F32  # [256, 256] multiplies the hair's colour, mean about 1


@lru_cache(maxsize=2)
def styles(folder: Path) -> tuple[Style, ...]:
    """Reads hair.npz of the assets folder; MakeHuman's scale and place become the head model's."""
    stored = np.load(folder / "hair.npz")
    found = []
    for name in (str(s) for s in stored["styles"]):
        v, t, faces, alpha, grey = (stored[f"{name}_{part}"] for part in ("V", "vt", "f", "alpha", "gray"))
        grey = grey.astype(np.float32)
        place = np.stack([v[:, 0] * 10.6, (v[:, 1] - v[:, 1].max()) * 9.6 + 15.0, (v[:, 2] - 0.57) * 10.4 + 1.05], 1)
        found.append(
            Style(
                place.astype(np.float32),
                faces.astype(np.int32),
                np.stack([t[:, 0], 1 - t[:, 1]], 1).astype(np.float32),
                alpha,
                grey / max(1, grey[alpha > 60].mean()),
            )
        )
    return tuple(found)


STYLE_SHARES = (0.09, 0.09, 0.09, 0.09, 0.16, 0.24, 0.10, 0.14)  # short ones look alike: long ones more often


def combed(rng: np.random.Generator, folder: Path) -> tuple[Style, F32]:
    """A style and its vertices f32 [n, 3] on somebody: larger or smaller, fuller towards the ends, wavy, mirrored."""
    style = styles(folder)[rng.choice(len(STYLE_SHARES), p=STYLE_SHARES)]
    vertices = style.vertices * rng.uniform([0.96, 0.96, 0.96], [1.1, 1.08, 1.1]).astype(np.float32)
    vertices += np.float32([0, rng.uniform(-0.6, 0.9), rng.uniform(-0.8, 0.4)])
    ends = np.clip((9 - vertices[:, 1]) / 14, 0, 1)  # 0 at the crown
    vertices[:, 0] *= 1 + ends * rng.uniform(0, 0.45)
    high = rng.uniform(0, 0.55) * rng.integers(0, 2) * np.sqrt(ends)
    for axis in (0, 2):
        along = vertices @ rng.normal((0.3, 1.4, 0.3), 0.25).astype(np.float32)
        vertices[:, axis] += high * np.sin(along + rng.uniform(0, 6))
    return style, vertices * np.float32([rng.choice([-1, 1]), 1, 1])


def scalp(rng: np.random.Generator, base: F32, over_hairline: F32) -> tuple[F32, F32]:
    """How much of each vertex is hair f32 [n] 0..1, and how far hair pushes it outward f32 [n], head units."""
    waves = np.sin(base[:, 0] * rng.uniform(0.6, 3) + rng.uniform(0, 6)) * rng.uniform(0, 0.35)
    forehead = np.clip((base[:, 2] - 5) / 3, 0, 1) * rng.uniform(-0.6, 1.4)  # it grows, too
    line = over_hairline + rng.normal(0, 0.5) - forehead + waves
    covered = np.clip(line / 0.5 + 0.5, 0, 1).astype(np.float32)
    thick = rng.choice([0.1, 0.5, 1.2, 2.0]) * rng.uniform(0.5, 1.3)
    curls = 1 + 0.25 * np.sin(base @ rng.uniform(0.5, 2.5, 3).astype(np.float32) + rng.uniform(0, 6))
    return covered, (np.clip(line / 2.0, 0, 1) * covered * thick * curls).astype(np.float32)


def grow(vertices: F32, faces: I32, by: F32) -> F32:
    """Pushes each vertex outward `by` f32 [n] head units."""
    return vertices + vertex_normals(vertices, faces) * by[:, None]
