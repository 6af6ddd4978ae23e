"""The triangles of one person in one array: head, what is worn and held, hair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeface.values import F32
from training.render import head as heads
from training.render import raster
from training.render.mesh import I32, Mesh
from training.render.person import Person

HAIR, WORN = 90, 91  # materials of what is not the head model's


@dataclass(frozen=True, slots=True)
class Surfaces:
    """`hair_first` is -1 without a hair mesh; `hair_vertex` is its first vertex."""

    vertices: F32  # [n, 3]
    normals: F32  # [n, 3]
    model: F32  # [n, 4] place on the mean head, and how much is hair
    albedo: F32  # [n, 3]
    faces: I32  # [m, 3]
    code: NDArray[np.integer]  # [m] material
    gloss: F32  # [m]
    opacity: F32  # [m]
    runs: list[tuple[int, int, bool]]  # (first, last, both sides) to draw
    through: tuple[int, int]  # the transparent triangles
    hair_first: int
    hair_vertex: int


def gathered(head: heads.Head, person: Person, vertices: F32, hair: F32 | None, worn: Sequence[Mesh]) -> Surfaces:
    """All that is drawn of a person: the head `vertices` f32 [n, 3], `hair` f32 [k, 3], what is `worn` and held.

    Under a hat the hair mesh is left out. The triangles' order: head, worn, transparent, hair.
    """
    with_hat = any(kind == "hat" for kind, _ in person.worn)
    lashes = head.material == heads.LASHES
    keep = ~lashes | (np.arange(len(lashes)) * 0.618 % 1 < person.lashes)
    blocks = [(vertices, head.faces[keep], head.material[keep], None, 0.0, None)]
    for mesh in worn:
        blocks.append(
            (mesh.vertices, mesh.faces, np.full(len(mesh.faces), WORN), mesh.albedo, mesh.gloss, mesh.opacity)
        )
    with_hair = hair is not None and not with_hat
    if with_hair:
        blocks.append((hair, person.hair.faces, np.full(len(person.hair.faces), HAIR), None, 0.0, None))
    corners, faces, code, albedo, gloss, opacity, model = [], [], [], [], [], [], []
    n = 0
    for k, (v, f, c, a, g, o) in enumerate(blocks):
        corners.append(v)
        faces.append(f + n)
        code.append(c)
        albedo.append(np.zeros_like(v) if a is None else a)
        gloss.append(np.full(len(f), g, np.float32))
        opacity.append(np.ones(len(f), np.float32) if o is None else o)
        model.append(np.c_[head.base, person.covered] if k == 0 else np.zeros((len(v), 4)))
        n += len(v)
    solid = np.concatenate(opacity) >= 0.999
    faces, code = np.concatenate(faces), np.concatenate(code)
    hairy = code == HAIR
    order = np.concatenate([np.nonzero(solid & ~hairy)[0], np.nonzero(~solid)[0], np.nonzero(hairy)[0]])
    faces, code = np.ascontiguousarray(faces[order], np.int32), code[order]
    n_head, n_solid, n_clear = int((code < HAIR).sum()), int((solid & ~hairy).sum()), int((~solid).sum())
    all_vertices = np.concatenate(corners).astype(np.float32)
    return Surfaces(
        vertices=all_vertices,
        normals=raster.vertex_normals(all_vertices, faces),
        model=np.concatenate(model).astype(np.float32),
        albedo=np.concatenate(albedo).astype(np.float32),
        faces=faces,
        code=code,
        gloss=np.concatenate(gloss)[order],
        opacity=np.concatenate(opacity)[order],
        runs=[(0, n_head, False), (n_head, n_solid, True)],
        through=(n_solid, n_solid + n_clear),
        hair_first=n_solid + n_clear if with_hair else -1,
        hair_vertex=len(all_vertices) - (len(hair) if with_hair else 0),
    )
