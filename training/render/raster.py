"""A z-buffer rasteriser for triangle meshes, in numba: no OpenGL, no GPU, the same picture each time."""

from __future__ import annotations

import numba
import numpy as np

from edgeface.values import F32, U8
from training.render.mesh import I32

FAR = np.float32(1e9)  # the depth of an empty pixel


def buffers(height: int, width: int) -> tuple[F32, I32, F32]:
    """An empty picture: depth f32 [h, w], index i32 [h, w] of the triangle seen (-1: none), weights f32 [h, w, 2]."""
    return (
        np.full((height, width), FAR, np.float32),
        np.full((height, width), -1, np.int32),
        np.zeros((height, width, 2), np.float32),
    )


@numba.njit(fastmath=True, cache=True)
def draw(screen: F32, faces: I32, first: int, both_sides: bool, depth: F32, index: I32, weights: F32) -> None:
    """Draws `faces` i32 [m, 3] with corners `screen` f32 [n, 3] (x, y pixels, depth: less is nearer) into the buffers.

    The triangle k is entered as `first` + k. Corners run counter-clockwise seen from outside; with `both_sides`
    false, triangles seen from behind are left out. `weights` are the barycentric ones of a triangle's first two
    corners (weighted in the picture: faces are far enough away for perspective not to matter within a triangle).
    """
    height, width = depth.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        left = max(0, int(np.ceil(min(x0, x1, x2) - 0.5)))
        right = min(width - 1, int(np.floor(max(x0, x1, x2) - 0.5)))
        if right < left:
            continue
        top = max(0, int(np.ceil(min(y0, y1, y2) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(y0, y1, y2) - 0.5)))
        if bottom < top:
            continue
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0 or (area > 0 and not both_sides):
            continue
        z0, z1, z2 = screen[a, 2], screen[b, 2], screen[c, 2]
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                px, py = x + 0.5, y + 0.5
                w0 = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) / area
                w1 = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) / area
                w2 = 1.0 - w0 - w1
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                z = w0 * z0 + w1 * z1 + w2 * z2
                if z < depth[y, x]:
                    depth[y, x] = z
                    index[y, x] = first + f
                    weights[y, x, 0] = w0
                    weights[y, x, 1] = w1


@numba.njit(fastmath=True, cache=True)
def draw_cut_out(
    screen: F32, faces: I32, texture: F32, alpha: U8, threshold: int, first: int, depth: F32, index: I32, weights: F32
) -> None:
    """As `draw`, both sides, but leaves out where `alpha` u8 [h, w] at the corners' `texture` f32 [n, 2] is below."""
    height, width = depth.shape
    rows, columns = alpha.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        left = max(0, int(np.ceil(min(x0, x1, x2) - 0.5)))
        right = min(width - 1, int(np.floor(max(x0, x1, x2) - 0.5)))
        top = max(0, int(np.ceil(min(y0, y1, y2) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(y0, y1, y2) - 0.5)))
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                px, py = x + 0.5, y + 0.5
                w0 = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) / area
                w1 = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) / area
                w2 = 1.0 - w0 - w1
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                z = w0 * screen[a, 2] + w1 * screen[b, 2] + w2 * screen[c, 2]
                if z >= depth[y, x]:
                    continue
                u = w0 * texture[a, 0] + w1 * texture[b, 0] + w2 * texture[c, 0]
                v = w0 * texture[a, 1] + w1 * texture[b, 1] + w2 * texture[c, 1]
                u -= np.floor(u)
                v -= np.floor(v)
                if alpha[min(rows - 1, int(v * rows)), min(columns - 1, int(u * columns))] < threshold:
                    continue
                depth[y, x] = z
                index[y, x] = first + f
                weights[y, x, 0] = w0
                weights[y, x, 1] = w1


@numba.njit(fastmath=True, cache=True)
def interpolate(index: I32, weights: F32, faces: I32, attributes: F32, out: F32) -> None:
    """Fills `out` f32 [h, w, k] with the vertices' `attributes` f32 [n, k] where a triangle of `faces` is seen."""
    for y in range(index.shape[0]):
        for x in range(index.shape[1]):
            f = index[y, x]
            if f < 0:
                continue
            w0, w1 = weights[y, x, 0], weights[y, x, 1]
            w2 = 1 - w0 - w1
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            for k in range(attributes.shape[1]):
                out[y, x, k] = w0 * attributes[a, k] + w1 * attributes[b, k] + w2 * attributes[c, k]


@numba.njit(fastmath=True, cache=True)
def vertex_normals(vertices: F32, faces: I32) -> F32:
    """Unit normals f32 [n, 3], the triangles' weighted by their areas."""
    normals = np.zeros_like(vertices)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        wx, wy, wz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
        for k in (a, b, c):
            normals[k, 0] += nx
            normals[k, 1] += ny
            normals[k, 2] += nz
    for i in range(normals.shape[0]):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + np.float32(1e-9)
        normals[i] /= length
    return normals
