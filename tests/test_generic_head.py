"""The generic head's table, rotations and projection, and the script that makes the table."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import make_head
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeface.generic_head import FIRST, POINTS, project, rotation
from edgeface.point_sets import flip_map


def test_the_head_is_symmetric_in_metres_and_has_no_jaw() -> None:
    assert POINTS.shape == (68, 3)
    assert np.isnan(POINTS[:FIRST]).all()
    np.testing.assert_allclose(POINTS[flip_map(68)][FIRST:], POINTS[FIRST:] * [-1, 1, 1], atol=1e-9)
    np.testing.assert_allclose(POINTS[36:48].mean(axis=0), 0, atol=1e-4)
    assert 0.088 < np.linalg.norm(POINTS[36] - POINTS[45]) < 0.09  # adults' outer eye corners
    assert POINTS[30, 2] < POINTS[36, 2]  # the nose comes towards the camera
    assert POINTS[8 + 49, 1] > POINTS[30, 1] > POINTS[19, 1]  # lip below nose below brow


@given(st.tuples(*[st.floats(-3, 3)] * 3))
def test_rotations_are_those_of_opencv(axis: tuple[float, float, float]) -> None:
    vector = np.array(axis)
    half = np.linalg.norm(vector) / 2
    q = np.array([*(vector / 2 * np.sinc(half / np.pi)), np.cos(half)])
    np.testing.assert_allclose(rotation(q[None])[0], cv2.Rodrigues(vector)[0], atol=1e-9)


def test_points_are_projected_as_a_pinhole_sees_them() -> None:
    points = np.array([[0.1, 0, 0], [0, 0.2, 0.5]])
    quarter = np.array([0, 0, np.sqrt(0.5), np.sqrt(0.5)])  # clockwise about the optical axis
    seen = project(points, np.array([[0, 0, 0, 1], quarter]), np.array([[0, 0, 2.0], [1, 0, 1]]))
    np.testing.assert_allclose(seen, [[[0.05, 0], [0, 0.08]], [[1, 0.1], [0.8 / 1.5, 0]]], atol=1e-12)


def test_the_script_reads_icts_folder_as_it_reads_the_archive_and_moves_brows_and_nose(tmp_path: Path) -> None:
    """A head of 68 points and a face of one vertex: what is moved snaps to it, the rest stays."""
    points = np.nan_to_num(POINTS) * [100, -100, -100]
    vertices = np.concatenate([points, [[0, 5, 9]]])
    (tmp_path / "generic_neutral_mesh.obj").write_text(
        "".join(f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in vertices)
        + "\nusemtl M_Face\nf 69/1/1 69/1/1 69/1/1\nusemtl M_Teeth\nf 1/1/1 2/1/1 3/1/1\n"
    )
    (tmp_path / "vertex_indices.json").write_text(json.dumps({"idx_to_landmark_verts": list(range(68))}))
    archive = tmp_path / "head.npz"
    np.savez(archive, base=vertices, F=[[68, 68, 68], [0, 1, 2]], mat=[0, 3], lm=np.arange(68))
    read = [make_head.read_npz(archive), make_head.read_folder(tmp_path)]
    for one, other in zip(*read, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    made = make_head.inner_points(*read[1])
    eyes = POINTS[36:48].mean(axis=0)
    np.testing.assert_allclose(made[36 - FIRST :], POINTS[36:] - eyes, atol=1e-6)
    np.testing.assert_allclose(made[:10], np.tile([0, -0.05, -0.09] - eyes, (10, 1)), atol=1e-6)
    np.testing.assert_allclose(made[27 - FIRST], POINTS[27] - eyes, atol=1e-6)
    np.testing.assert_allclose(made[31 - FIRST], [0, -0.05, -0.09] - eyes, atol=1e-6)
