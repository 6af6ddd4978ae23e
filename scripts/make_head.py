"""Make the table of edgeface/generic_head.py again from ICT-FaceKit's mean head.

    python scripts/make_head.py ICT_ASSETS

ICT_ASSETS is the folder FaceXModel of ICT-FaceKit (https://github.com/ICT-VGL/ICT-FaceKit, MIT License), or one .npz
made from it: `base` [v, 3] vertices in cm, `F` [f, 3] triangles, `mat` [f] material of each (0: the face), `lm` [68]
vertices of the landmarks.

Brows and the sides of the nose are moved from ICT-FaceKit's vertices to where iBUG's annotators put them in a picture,
as the faces that the default network learnt from have them; then the head is made symmetric.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np

from edgeface.generic_head import FIRST
from edgeface.point_sets import LEFT_EYE, RIGHT_EYE, flip_map
from edgeface.values import F64, I64

TARGET = Path(__file__).parent.parent / "edgeface" / "generic_head.py"
BROWS = range(17, 27)
BROW_SCALE, BROW_SHIFT = np.array([1.035, 1, 1]), np.array([0, -0.42, 0.05])  # cm; x to the person's left, y up
NOSE_SHIFT = {31: (-0.22, 0.45), 32: (-0.14, 0.2), 34: (0.14, 0.2), 35: (0.22, 0.45)}
FACE_MATERIAL = "M_Face"


def main(assets: Path) -> None:
    points = inner_points(*(read_npz if assets.suffix == ".npz" else read_folder)(assets))
    rows = "\n".join(f"        [{x:.4f}, {y:.4f}, {z:.4f}]," for x, y, z in points + 0.0)
    source = TARGET.read_text()
    TARGET.write_text(re.sub(r"(?<=np\.array\(\n    \[\n).*?(?=\n    \]\n\))", rows, source, flags=re.DOTALL))


def read_npz(path: Path) -> tuple[F64, I64, I64]:
    """Vertices [v, 3], the indices of the face's, and the landmarks' [68]."""
    data = np.load(path)
    return data["base"].astype(np.float64), np.unique(data["F"][data["mat"] == 0]), data["lm"]


def read_folder(folder: Path) -> tuple[F64, I64, I64]:
    """The same from ICT-FaceKit's own files."""
    vertices, face, material = [], set(), ""
    for line in (folder / "generic_neutral_mesh.obj").read_text().splitlines():
        word, *values = line.split() or [""]
        if word == "v":
            vertices.append([float(value) for value in values[:3]])
        elif word == "usemtl":
            material = values[0]
        elif word == "f" and material == FACE_MATERIAL:
            face |= {int(corner.split("/")[0]) - 1 for corner in values}
    landmarks = json.loads((folder / "vertex_indices.json").read_text())["idx_to_landmark_verts"]
    return np.array(vertices), np.array(sorted(face)), np.array(landmarks)


def inner_points(vertices: F64, face: I64, landmarks: I64) -> F64:
    """Points 17 to 67 in metres: x to the left of the person, y down, z into the head, the origin between the eyes."""

    def nearest(point: F64) -> F64:
        found: F64 = vertices[face[np.argmin(((vertices[face] - point) ** 2).sum(axis=1))]]
        return found

    points: F64 = vertices[landmarks]
    for index in BROWS:
        points[index] = nearest(points[index] * BROW_SCALE + BROW_SHIFT)
    for index, (right, up) in NOSE_SHIFT.items():
        points[index] = nearest(points[index] + [right, up, 0.1])
    points = (points + points[flip_map(68)] * [-1, 1, 1]) / 2
    points -= points[np.concatenate([RIGHT_EYE, LEFT_EYE])].mean(axis=0)
    inner: F64 = points[FIRST:] * [0.01, -0.01, -0.01]
    return inner


if __name__ == "__main__":
    main(Path(sys.argv[1]))
