"""Eye openness: what it is blind to, which eye is which, what is not known, and rendered eyelids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from fakes import turned
from hypothesis import given
from hypothesis import strategies as st

from edgeface.eyes import CLOSED, OPEN, openness
from edgeface.generic_head import POINTS, project
from edgeface.head_pose import Camera, head_poses
from edgeface.values import F32, F64

RIGHT_LIDS, LEFT_LIDS = ((37, 41), (38, 40)), ((43, 47), (44, 46))
FAR = np.array([[0.0, 0, 2]])


def head(right: float, left: float) -> F64:
    """The generic head with the gaps of its lids times `right` and `left`."""
    points = np.nan_to_num(POINTS)
    for lids, gap in ((RIGHT_LIDS, right), (LEFT_LIDS, left)):
        for upper, lower in lids:
            points[upper] = points[lower] + (points[upper] - points[lower]) * gap
    return points


def opened(points: F64, q: F64, position: F64 = FAR) -> F32:
    xy = project(points, q, position) * 1000
    return openness(xy.astype(np.float32), q.astype(np.float32), position.astype(np.float32))


def golden(kind: str) -> tuple[F32, dict[str, Any]]:
    data = dict(np.load(ROOT / "tests" / "golden" / "poses.npz"))
    rays = (data[kind] / 100 - data["centre"][:, None]) / data["focal"][:, None, None]
    xy = (rays * 1000).astype(np.float32)
    poses = head_poses(xy, Camera(1000, 1000, 0, 0))
    return openness(xy, poses.q, poses.position), data


# up to 28 degrees off in all: further on, an eye that leans is too narrow to tell
@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(-90, 90), st.floats(0, 1.5), st.floats(0, 1.5))
def test_the_pose_does_not_change_how_open_an_eye_is(
    yaw: float, pitch: float, roll: float, right: float, left: float
) -> None:
    found = opened(head(right, left), turned(yaw, pitch, roll))
    expected = np.clip((np.array([right, left]) - CLOSED) / (OPEN - CLOSED), 0, 1)
    np.testing.assert_allclose(found[0], expected, atol=0.01)


@given(st.floats(-180, 180), st.floats(0.1, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_turning_scaling_and_moving_the_picture_change_nothing(turn: float, scale: float, x: float, y: float) -> None:
    q = turned(15, -10)
    xy = project(head(0.5, 0.7), q, FAR) * 1000
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    changed = xy @ np.array([[c, s], [-s, c]]) * scale + [x, y]
    one, other = (
        openness(points.astype(np.float32), q.astype(np.float32), FAR.astype(np.float32)) for points in (xy, changed)
    )
    np.testing.assert_allclose(other, one, atol=2e-3)


def test_the_right_eye_of_the_person_comes_first() -> None:
    np.testing.assert_allclose(opened(head(0.1, 1), turned(0)), [[0, 1]], atol=0.01)


@pytest.mark.parametrize(("yaw", "known"), [(0, [1, 1]), (34, [1, 1]), (44, [1, 0]), (-44, [0, 1]), (75, [0, 0])])
def test_an_eye_seen_from_the_side_tells_nothing(yaw: float, known: list[int]) -> None:
    """yaw > 0: the face turns to the right of the picture, so its left eye is the far one."""
    assert np.isfinite(opened(head(1, 1), turned(yaw)))[0].tolist() == [bool(eye) for eye in known]


def test_what_is_not_known_is_nan_and_harms_nobody() -> None:
    q = np.repeat(turned(0), 6, axis=0).astype(np.float32)
    position = np.repeat(FAR, 6, axis=0).astype(np.float32)
    xy = (project(head(1, 1), q.astype(np.float64), position.astype(np.float64)) * 1000).astype(np.float32)
    xy[0, 37] = np.nan
    xy[1, 46, 0] = np.inf
    xy[2, 36] = xy[2, 39]
    q[3] = np.nan
    position[4, 2] = np.nan
    found = openness(xy, q, position)
    assert np.isfinite(found).astype(int).tolist() == [[0, 1], [1, 0], [0, 1], [0, 0], [0, 0], [1, 1]]
    np.testing.assert_allclose(found[np.isfinite(found)], 1, atol=0.01)
    assert found.dtype == np.float32


def test_no_faces_give_no_rows() -> None:
    nobody = openness(np.zeros((0, 68, 2), np.float32), np.zeros((0, 4), np.float32), np.zeros((0, 3), np.float32))
    assert nobody.shape == (0, 2)


def test_another_networks_calibration_moves_both_ends() -> None:
    q = turned(0)
    xy = (project(head(0.75, 0.9), q, FAR) * 1000).astype(np.float32)
    found = openness(xy, q.astype(np.float32), FAR.astype(np.float32), closed=0.7, opened=0.8)
    np.testing.assert_allclose(found, [[0.5, 1]], atol=0.01)


def test_rendered_eyelids_are_told_apart_where_the_points_lie_on_them() -> None:
    found, data = golden("true")
    known = np.isfinite(found)
    assert (found > 0.5)[known & (data["blink"] == 0)].mean() > 0.9
    assert (found <= 0.5)[known & (data["blink"] == 1)].mean() > 0.9
    assert np.corrcoef(found[known], data["lids"][known])[0, 1] > 0.9


def test_the_default_network_sees_eyelids_and_calls_no_open_eye_shut() -> None:
    found, data = golden("network")
    is_open, is_shut = (found[np.isfinite(found) & (data["blink"] == lids)] for lids in (0, 1))
    assert (is_open > 0.5).mean() > 0.95
    assert (is_open[:, None] > is_shut).mean() > 0.8  # one of each: 0.5 is chance
