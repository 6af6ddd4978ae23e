"""Bodies below the heads of people who are filmed: torso, arms and legs, clothed, in colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeface.values import F32, I64
from training.render import body as bodies
from training.render import light as lights
from training.render import mesh, raster
from training.render.mesh import I32, Mesh
from training.render.person import Person

NECK = -13.0  # head units: below it the head model ends and the body begins
COLLAR = -10.9  # where cloth begins
SHOULDER, HIP = -19.0, -66.0  # about which limbs swing


@dataclass(frozen=True, slots=True)
class Dress:
    """A body: vertices in head space, coloured."""

    vertices: F32  # [n, 3]
    faces: I32  # [m, 3]
    albedo: F32  # [n, 3]
    hinge: F32  # [n] the height about which a limb swings
    swing: F32  # [n] how far: 0 the torso, -1 to 1 the limbs


def dressed(person: Person, seed: int, cloth: F32, trousers: F32, sleeve: float = 0.9) -> Dress:
    """A clothed body; the sleeves end at the share `sleeve` of the arm (1: at the wrist)."""
    vertices, faces, marks, _ = bodies.build(np.random.default_rng(seed))
    high = vertices[faces, 1]
    torso = (marks[faces, 0] == 0).all(1) & (high < COLLAR).all(1) & (high > HIP - 12).all(1)
    folds = 1 + 0.05 * np.sin(vertices[:, 1] * 0.9 + vertices[:, 0] * 0.4) + 0.03 * np.sin(vertices[:, 0] * 1.7)
    albedo = np.where(vertices[:, 1:2] < HIP + 6, trousers, cloth * folds[:, None])
    used, drawn = np.unique(faces[torso], return_inverse=True)
    vertices, albedo = vertices[used], albedo[used]
    parts = [mesh.mesh(vertices, drawn.reshape(-1, 3).astype(np.int32), albedo)]
    hinge, swing = [np.zeros(len(vertices))], [np.zeros(len(vertices))]
    for side in (-1, 1):
        for limb, at, way in _limbs(person, cloth, trousers, sleeve, np.array([side, 1, 1])):
            parts.append(limb)
            hinge.append(np.full(len(limb.vertices), at))
            swing.append(np.full(len(limb.vertices), side * way))
    whole = mesh.join(parts, 0.0)
    hinges, swings = (np.concatenate(each).astype(np.float32) for each in (hinge, swing))
    return Dress(whole.vertices, whole.faces, whole.albedo, hinges, swings)


def _limbs(person: Person, cloth: F32, trousers: F32, sleeve: float, side: I64) -> Sequence[tuple[Mesh, float, float]]:
    """Arm, hand, leg and shoe of one `side` [3], (-1, 1, 1) or (1, 1, 1); where each swings, and how far."""
    share = np.linspace(0, 1, 24)
    joints = (11, 17.5, 21, 20), (-17, -21, -45, -70), (-1, -1, -2, 5)
    arm = np.stack([np.interp(share, (0, 0.12, 0.5, 1), places) for places in joints], 1)
    thick = np.interp(share, (0, 0.1, 0.25, 0.5, 0.97, 1), (5, 6.2, 6, 4.8, 3.2, 2.8))
    worn = np.where(share[:, None] > sleeve, person.skin, cloth)
    hand = np.array([[20, -69, 5], [19.5, -77, 7], [19, -84, 7]])
    palm = [[3.5, 1.8], [4.4, 1.9], [2, 1.5]]
    leg = np.array([[8.0, HIP, 0], [8.5, -100, 1], [9, -108, 1], [9, -150, -1]])
    return (
        (mesh.tube(arm * side, thick, worn, 12, rounded=True), SHOULDER, 0.6),
        (mesh.tube(hand * side, palm, person.skin, 10, rounded=True), SHOULDER, 0.6),
        (mesh.tube(leg * side, [[10, 9.5], [7, 6.5], [6.5, 6], [5, 4.5]], trousers, 12), HIP, -1.0),
        (mesh.placed(mesh.box([8, 6, 24], trousers * 0.3 + 0.01), np.eye(3), side * [9, -152, 5]), HIP, -1.0),
    )


def walking(dress: Dress, step: float) -> F32:
    """The body's vertices [n, 3] in a step of `step` radians: one leg forward, one back, the arms against them."""
    moved = dress.vertices.copy()
    angle = np.float32(step) * dress.swing
    down = np.minimum(moved[:, 1] - dress.hinge, 0)
    moved[:, 1] += (np.cos(angle) - 1) * down
    moved[:, 2] -= np.sin(angle) * down
    return moved


def lit(light: lights.Light, vertices: F32, faces: I32, albedo: F32, solids: list[tuple[F32, I32]]) -> F32:
    """Linear light [n, 3] of cloth at a body's vertices, in the shadow of `solids` (see lights.shadows)."""
    normal = raster.vertex_normals(vertices, faces)
    total = np.maximum(lights.harmonics(normal) @ light.ambient, 0.02)
    for lamp in light.lamps:
        facing = np.clip((normal @ lamp.direction + 0.15) / 1.15, 0, None)
        if lamp.shadow:
            facing *= 1 - lights.shadows(solids, lamp.direction, vertices[None], 1.5)[0] * lamp.shadow
        total += facing[:, None] * lamp.colour
    return np.asarray(albedo * total, np.float32)
