"""A mesh that a renderer can draw, and the shapes from which such meshes are put together.

All lengths are in head units: x to the image's right, y up, z to the viewer; one unit is about a centimetre.
Triangles wind counter-clockwise seen from outside. Sheets (lenses, peaks, cloth) have one layer: draw both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeface.values import F32, F64

I32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangles in head space, coloured by vertex."""

    vertices: F32  # [n, 3] head units
    faces: I32  # [m, 3] rows of vertices
    albedo: F32  # [n, 3] linear RGB 0..1
    opacity: F32  # [m] 1 hides what is behind, less lets it shine through (lenses)
    gloss: float  # strength of the highlight, 0..1


def mesh(vertices: ArrayLike, faces: I32, albedo: ArrayLike, opacity: ArrayLike = 1.0, gloss: float = 0.0) -> Mesh:
    """A mesh from `vertices` of any leading shape; `albedo` and `opacity` spread over vertices and triangles."""
    flat = np.asarray(vertices, dtype=np.float32).reshape(-1, 3)
    colours = np.asarray(albedo, dtype=np.float32)
    colours = colours.reshape(-1, 3) if colours.size > 3 else colours
    clear = np.broadcast_to(np.asarray(opacity, dtype=np.float32), (len(faces),))
    return Mesh(flat, faces, np.clip(np.broadcast_to(colours, flat.shape), 0, 1), clear, float(gloss))


def join(parts: Sequence[Mesh], gloss: float) -> Mesh:
    """All `parts` as one mesh with one gloss."""
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + np.int32(start) for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.albedo for part in parts]),
        np.concatenate([part.opacity for part in parts]),
        float(gloss),
    )


def placed(shape: Mesh, rotation: F64, at: ArrayLike, mirror: bool = False) -> Mesh:
    """`shape` turned by `rotation` [3, 3], then moved to `at` [3]; `mirror` swaps left and right before that."""
    vertices = shape.vertices * np.float32([-1, 1, 1]) if mirror else shape.vertices
    faces = np.ascontiguousarray(shape.faces[:, ::-1]) if mirror else shape.faces
    moved = vertices @ np.asarray(rotation, dtype=np.float32).T + np.asarray(at, dtype=np.float32)
    return Mesh(moved.astype(np.float32), faces, shape.albedo, shape.opacity, shape.gloss)


def turn(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> F64:
    """The rotation [3, 3] about z, then x, then y (degrees), each right-handed."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(np.radians([x, y, z])), np.cos(np.radians([x, y, z]))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


@lru_cache(maxsize=64)
def lattice(rows: int, columns: int, closed: bool) -> I32:
    """Triangles [m, 3] of a grid of `rows` x `columns` vertices; `closed` joins the last column to the first.

    They face along (next column) x (next row).
    """
    row, column = np.mgrid[: rows - 1, : columns if closed else columns - 1]
    right = (column + 1) % columns
    a, b, c, d = (i * columns + j for i, j in ((row, column), (row, right), (row + 1, right), (row + 1, column)))
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3).astype(np.int32)
    faces.setflags(write=False)
    return faces


def tube(
    path: ArrayLike, radius: ArrayLike, albedo: ArrayLike, sides: int = 6, across: ArrayLike = (0, 0, 1),
    closed: bool = False, rounded: bool = False,
) -> Mesh:  # fmt: skip
    """A tube along `path` [n, 3]; `radius` [n], or [n, 2] along `across` and at right angles to it, may be broadcast.

    `albedo` [3] or [n, 3]. `closed` joins the end to the start; `rounded` closes both ends with domes.
    `across` must nowhere run along the path.
    """
    path = np.asarray(path, dtype=np.float64)
    radii = np.asarray(radius, dtype=np.float64)
    radii = np.broadcast_to(radii if radii.ndim == 2 else radii.reshape(-1, 1), (len(path), 2))
    colour = np.broadcast_to(np.asarray(albedo, dtype=np.float64), (len(path), 3))
    if closed:
        along = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    else:
        along = np.empty_like(path)
        along[1:-1], along[0], along[-1] = path[2:] - path[:-2], path[1] - path[0], path[-1] - path[-2]
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    if rounded:
        first, last = radii[0].mean() * along[0], radii[-1].mean() * along[-1]
        path = np.concatenate(
            [[path[0] - first, path[0] - 0.7 * first], path, [path[-1] + 0.7 * last, path[-1] + last]]
        )
        radii = np.concatenate([[radii[0] * 0.02, radii[0] * 0.7], radii, [radii[-1] * 0.7, radii[-1] * 0.02]])
        colour = np.concatenate([colour[[0, 0]], colour, colour[[-1, -1]]])
        along = np.concatenate([along[[0, 0]], along, along[[-1, -1]]])
    u = np.asarray(across, dtype=np.float64) - along * (along @ np.asarray(across, dtype=np.float64))[:, None]
    u /= np.linalg.norm(u, axis=1, keepdims=True) + 1e-9
    v = np.cross(along, u)
    angle = np.arange(sides) * (2 * np.pi / sides)
    ring = np.cos(angle)[:, None] * (u * radii[:, :1])[:, None] + np.sin(angle)[:, None] * (v * radii[:, 1:])[:, None]
    rows = path[:, None] + ring
    if closed:  # the first ring again, so that the grid needs to close in one direction only
        rows, colour = np.concatenate([rows, rows[:1]]), np.concatenate([colour, colour[:1]])
    return mesh(rows, lattice(len(rows), sides, True), np.repeat(colour, sides, axis=0))


def box(size: ArrayLike, albedo: ArrayLike) -> Mesh:
    """A box of `size` [3] about the origin, each side with its own corners so that edges stay sharp."""
    corners = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], dtype=np.float64)
    sides = [corners @ turn(y=y).T for y in (0, 90, 180, 270)] + [corners @ turn(x=x).T for x in (90, -90)]
    faces = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    faces = np.concatenate([faces + 4 * k for k in range(6)]).astype(np.int32)
    return mesh(np.concatenate(sides) * np.asarray(size) / 2, faces, albedo)


def lathe(radius: ArrayLike, height: ArrayLike, albedo: ArrayLike, sides: int = 16) -> Mesh:
    """A body of revolution about y: `radius` [n] at `height` [n], upwards; `albedo` [3] or [n, 3]."""
    height = np.asarray(height, dtype=np.float64)
    angle = np.arange(sides) * (2 * np.pi / sides)
    ring = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], -1)
    rows = np.asarray(radius, dtype=np.float64)[:, None, None] * ring + height[:, None, None] * np.array([0, 1, 0])
    colour = np.broadcast_to(np.asarray(albedo, dtype=np.float64), (len(height), 3))
    return mesh(rows, lattice(len(height), sides, True), np.repeat(colour, sides, axis=0))


def colour(rng: np.random.Generator) -> F64:
    """A dye's linear RGB [3]: dark, white and grey things are commoner than bright ones."""
    kind, grey = rng.random(), rng.random()
    if kind < 0.35:
        return np.full(3, 0.01 + 0.07 * grey) * rng.uniform(0.7, 1.3, 3)
    if kind < 0.5:
        return np.full(3, 0.5 + 0.35 * grey) * rng.uniform(0.92, 1.0, 3)
    if kind < 0.62:
        return np.full(3, 0.08 + 0.4 * grey)
    return np.asarray(rng.uniform(0.02, 0.65, 3) ** 1.3)


def pattern(rng: np.random.Generator, around: F64, along: F64) -> F64:
    """Albedo [..., 3] of cloth: plain, two-tone or striped, by its coordinates `around` and `along` (0..1)."""
    first, second, kind = colour(rng), colour(rng), rng.random()
    if kind < 0.5:
        share = np.zeros(np.broadcast(around, along).shape)
    elif kind < 0.65:
        share = (along + 0 * around > rng.uniform(0.2, 0.7)).astype(np.float64)
    elif kind < 0.85:
        share = (np.sin(2 * np.pi * (along + 0 * around) * rng.integers(2, 7)) > rng.uniform(-0.6, 0.6)).astype(
            np.float64
        )
    else:
        share = (np.sin(2 * np.pi * (around + 0 * along) * rng.integers(3, 12)) > 0).astype(np.float64)
    return first + (second - first) * share[..., None]
