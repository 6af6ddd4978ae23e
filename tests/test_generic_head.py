"""The generic head's table, rotations and projection."""

from __future__ import annotations

import cv2
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
