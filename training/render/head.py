"""The head model: ICT-FaceKit's mean, identities and expressions, and what is known about places on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeface import head_pose, point_sets
from edgeface.values import F32, I64, Bool
from training.render import markup
from training.render.mesh import I32
from training.render.raster import vertex_normals

# materials of the model
FACE, BACK, GUMS, TEETH, LEFT_EYE, RIGHT_EYE, LASHES = 0, 1, 2, 3, 4, 6, 11
SKIN = (FACE, BACK)
GAZE_RIGHT, GAZE_UP = np.radians([38, 26])  # how far eyes turn at an expression of 1


@dataclass(frozen=True, slots=True)
class Head:
    """Head units: x to the picture's right, y up, z towards the viewer; the outer eye corners are 8.9 apart."""

    base: F32  # [n, 3] the mean head
    faces: I32  # [m, 3]
    material: NDArray[np.integer]  # [m]
    identities: F32  # [100, n * 3] one standard deviation each
    expressions: F32  # [53, n * 3]
    expression: dict[str, int]
    points: I64  # [80] vertices of the mark-up; irises -1
    strips: list[markup.Strip]  # of the jaw's points
    height_over_hairline: F32  # [n] where the scalp's hair grows: above 0
    box: I64  # vertices whose extent is the face's box
    eye: dict[int, I64]  # material -> its vertices
    eye_centre: dict[int, F32]  # material -> [3]
    eye_inverse: dict[int, F32]  # material -> [4, k]: finds how an eye was moved and turned
    skin_faces: I32  # [k, 3]
    face_triangles: I32  # [k, 3] the front with its neck


@lru_cache(maxsize=2)
def load(folder: Path) -> Head:
    """Reads head.npz of the assets folder."""
    stored = np.load(folder / "head.npz")
    drawn = np.isin(stored["mat"], [FACE, BACK, GUMS, TEETH, LEFT_EYE, RIGHT_EYE, LASHES])
    used = np.unique(stored["F"][drawn])
    place = np.full(len(stored["base"]), -1, np.int64)
    place[used] = np.arange(len(used))
    base = stored["base"][used].astype(np.float32)
    faces, material = place[stored["F"][drawn]].astype(np.int32), stored["mat"][drawn]
    on_face = np.unique(faces[material == FACE])
    vertices_of = {m: np.unique(faces[material == m]) for m in (LEFT_EYE, RIGHT_EYE)}
    x, y, z = base.T
    ears = (np.abs(x) > 7.7) & (y > -3) & (y < 5.2) & (z > -3.2) & (z < 3.6)
    upward = vertex_normals(base, faces)[:, 1]
    points = markup.anchors(base, on_face, upward, place[stored["lm"]], np.nonzero(ears & (x < 0))[0])
    on_skin = np.zeros(len(base), bool)
    on_skin[np.unique(faces[np.isin(material, SKIN)])] = True
    # hairline to chin, temple to temple: about what SCRFD's networks draw
    front = on_face[(base[on_face, 1] > -6.9) & (base[on_face, 1] < 9.7)]
    front = front[(np.abs(base[front, 0]) < 6.15) & (base[front, 2] > 3.6)]
    return Head(
        base=base,
        faces=faces,
        material=material,
        identities=stored["ID"][:, used].reshape(100, -1).astype(np.float32),
        expressions=stored["EX"][:, used].reshape(53, -1).astype(np.float32),
        expression={str(name): i for i, name in enumerate(stored["exn"])},
        points=points,
        strips=markup.contour_strips(base, on_face, points),
        height_over_hairline=hairline(base, on_skin, ears),
        box=front,
        eye=vertices_of,
        eye_centre={m: base[v].mean(0) for m, v in vertices_of.items()},
        eye_inverse={
            m: np.linalg.pinv(np.c_[base[v], np.ones(len(v))]).astype(np.float32) for m, v in vertices_of.items()
        },
        skin_faces=np.ascontiguousarray(faces[np.isin(material, SKIN)]),
        face_triangles=np.ascontiguousarray(faces[material == FACE]),
    )


def hairline(base: F32, on_skin: Bool, ears: Bool) -> F32:
    """How far f32 [n] each vertex lies above the line where hair begins, head units."""
    x, y, z = base.T
    line = np.interp(
        z, [-5, -2, 0.5, 2.2, 3.2, 4.2, 5.2, 6.5, 8, 11], [-4.5, -3.5, -1, 1.5, 1.2, 4.5, 7.6, 8.9, 9.9, 10.2]
    )
    above = (y - line).astype(np.float32)
    above[ears] = -2
    above[~on_skin] = -5
    above[(y < -1) & (z > -1)] = -3
    above[(np.abs(x) > 7.2) & (y < 5) & (z > -2) & (z < 3) & (y > -3)] -= 1
    return above


def turn_eyes(head: Head, vertices: F32, weights: F32) -> None:
    """Turns the eyeballs of `vertices` f32 [n, 3] in place as eyeLook* say, of which the model moves only the lids."""

    def weight(name: str) -> float:
        return float(weights[head.expression[name]])

    for eye, side, sign in ((LEFT_EYE, "L", 1), (RIGHT_EYE, "R", -1)):
        right = sign * (weight(f"eyeLookOut_{side}") - weight(f"eyeLookIn_{side}")) * GAZE_RIGHT
        up = (weight(f"eyeLookUp_{side}") - weight(f"eyeLookDown_{side}")) * GAZE_UP
        if right or up:
            ball = vertices[head.eye[eye]]
            centre = ball.mean(0)
            vertices[head.eye[eye]] = (ball - centre) @ rotation(right, -up, 0).T + centre


def rotation(yaw: float, pitch: float, roll: float) -> F32:
    """Rotation f32 [3, 3] that turns a head: yaw about its own axis, then pitch (down), then roll; radians."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_z @ about_x @ about_y).astype(np.float32)


def angles(turn: F32) -> F32:
    """Yaw, pitch and roll f32 [3] in degrees, as the bus has them, of a head's rotation f32 [3, 3].

    Those of edgeface.head_pose: yaw and pitch say where the face looks, whatever its roll. `rotation` takes others:
    it rolls last. Here y is up and z towards the viewer; there y is down and z forward.
    """
    optical = np.diag([1.0, -1.0, -1.0])
    whole = optical @ turn.astype(np.float64) @ optical
    return head_pose.angles(head_pose.quaternions(whole[None]))[0].astype(np.float32)


def iris_points(head: Head, vertices: F32, size: float) -> tuple[F32, F32]:
    """The iris edges' left, top, right, bottom f32 [8, 3] and the two eyes' axes f32 [2, 3], of posed `vertices`.

    `size` is the sine of the angle between an eye's axis and the edge of its iris.
    """
    edge = np.float32([[-size, 0], [0, size], [size, 0], [0, -size]])
    directions = np.c_[edge, np.full(4, np.sqrt(1 - size**2), np.float32)]
    places, axes = [], []
    # the model's left eye is the person's, on the picture's right
    for eye in sorted((LEFT_EYE, RIGHT_EYE), key=lambda m: head.eye_centre[m][0]):
        moved = head.eye_inverse[eye] @ vertices[head.eye[eye]]  # [4, 3]: affine
        centre = head.eye_centre[eye]
        radius = np.median(np.linalg.norm(head.base[head.eye[eye]] - centre, axis=1))
        places.append((centre + radius * directions) @ moved[:3] + moved[3])
        axis = moved[2] / np.linalg.norm(moved[2])
        axes.append(axis)
    return np.concatenate(places).astype(np.float32), np.stack(axes).astype(np.float32)


def eye_openness(head: Head, neutral: F32, vertices: F32) -> F32:
    """How open f32 [2] the eyes are: the lids' distance over the neutral face's, 0..1; the picture's left eye first."""

    def aperture(v: F32, eye: I64) -> np.floating:
        p = v[head.points[eye]]
        lids = np.linalg.norm(p[1] - p[5]) + np.linalg.norm(p[2] - p[4])
        return lids / np.linalg.norm(p[0] - p[3])

    return np.float32(
        [
            np.clip(aperture(vertices, eye) / aperture(neutral, eye), 0, 1)
            for eye in (point_sets.RIGHT_EYE, point_sets.LEFT_EYE)
        ]
    )
