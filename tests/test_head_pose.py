"""Head poses: conventions, recovery of what was projected, and faces that are none."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT
from fakes import turned
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeface.generic_head import POINTS, project, rotation
from edgeface.head_pose import Camera, angles, camera_from_fov, head_poses, quaternions
from edgeface.point_sets import flip_map
from edgeface.values import F32, F64

CAMERA = Camera(fx=900, fy=880, cx=640, cy=350)
USED = [*range(17, 36), 36, 39, 42, 45]


def seen(q: F64, position: Any, camera: Camera = CAMERA) -> F32:
    """Landmarks [n, 68, 2] of generic heads in frame pixels; the jaw is anywhere."""
    rays = project(np.nan_to_num(POINTS), q, np.atleast_2d(position).astype(np.float64))
    return (rays * [camera.fx, camera.fy] + [camera.cx, camera.cy]).astype(np.float32)


def apart_deg(a: Any, b: Any) -> F64:
    cosine = np.minimum(np.abs((a.astype(np.float64) * b).sum(axis=1)), 1)
    return np.asarray(np.degrees(2 * np.arccos(cosine)))


def golden() -> dict[str, Any]:
    return dict(np.load(ROOT / "tests" / "golden" / "poses.npz"))


def golden_pixels(data: dict[str, Any], kind: str) -> F32:
    rays = (data[kind] / 100 - data["centre"][:, None]) / data["focal"][:, None, None]
    return (rays * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy]).astype(np.float32)


@given(
    st.floats(-75, 75),
    st.floats(-45, 45),
    st.floats(-180, 180),
    st.tuples(st.floats(-0.6, 0.6), st.floats(-0.4, 0.4), st.floats(0.3, 8)),
)
def test_a_projected_head_is_found_again(yaw: float, pitch: float, roll: float, place: tuple[float, ...]) -> None:
    x, y, z = place
    q, position = turned(yaw, pitch, roll), np.array([x * z, y * z, z])
    assume(rotation(q)[0, :, 2] @ position > 0.2 * np.linalg.norm(position))  # the camera is before the face
    poses = head_poses(seen(q, position), CAMERA)
    assert apart_deg(poses.q, q)[0] < 0.2
    np.testing.assert_allclose(poses.position[0], position, atol=2e-3 * z)
    assert poses.error[0] < 2e-3
    np.testing.assert_allclose(poses.angles, angles(poses.q.astype(np.float64)), atol=1e-3)


@given(st.floats(-179, 179), st.floats(-89, 89), st.floats(-179, 179))
def test_angles_are_those_that_made_the_quaternion(yaw: float, pitch: float, roll: float) -> None:
    np.testing.assert_allclose(angles(turned(yaw, pitch, roll)), [[yaw, pitch, roll]], atol=1e-5)


@given(arrays(np.float64, (3, 4), elements=st.floats(-1, 1)).filter(lambda q: (np.linalg.norm(q, axis=1) > 0.01).all()))
def test_a_quaternion_survives_its_matrix(q: F64) -> None:
    q = q / np.linalg.norm(q, axis=1, keepdims=True)
    back = quaternions(rotation(q))
    np.testing.assert_allclose(rotation(back), rotation(q), atol=1e-9)
    assert (back[:, 3] >= 0).all()


def test_at_the_gimbal_the_quaternion_still_holds() -> None:
    q = turned(20, 90, 0)
    assert angles(q)[0, 1] == pytest.approx(90, abs=1e-4)
    np.testing.assert_allclose(rotation(q)[0, :, 2], [0, 1, 0], atol=1e-6)  # the face looks up: along -z of the head


def test_a_face_that_looks_straight_into_the_camera_has_no_rotation() -> None:
    poses = head_poses(seen(turned(0, 0, 0), [0, 0, 0.8]), CAMERA)
    np.testing.assert_allclose(poses.q, [[0, 0, 0, 1]], atol=1e-3)
    np.testing.assert_allclose(poses.angles, 0, atol=0.1)
    assert [values.dtype for values in (poses.q, poses.angles, poses.position, poses.error)] == [np.float32] * 4


def test_signs_are_those_of_the_picture() -> None:
    def nose_from_eyes(*turn: float) -> Any:
        points = seen(turned(*turn), [0, 0, 0.8])[0]
        return points[30] - points[36:48].mean(axis=0)

    straight = nose_from_eyes(0, 0, 0)
    assert nose_from_eyes(20, 0, 0)[0] > straight[0] + 5  # right
    assert nose_from_eyes(0, 20, 0)[1] < straight[1] - 5  # up
    leaning = seen(turned(0, 0, 20), [0, 0, 0.8])[0]
    assert leaning[45, 1] > leaning[36, 1] + 5  # clockwise: the eye on the right of the picture sinks


def test_a_mirrored_face_turns_and_leans_the_other_way() -> None:
    camera = Camera(900, 900, 0, 0)
    points = golden_pixels(golden(), "network") - np.array([CAMERA.cx, CAMERA.cy], np.float32)
    mirrored = (points * [-1, 1])[:, flip_map(68)].astype(np.float32)
    one, other = head_poses(points, camera), head_poses(mirrored, camera)
    np.testing.assert_allclose(other.angles, one.angles * [-1, 1, -1], atol=0.01)
    np.testing.assert_allclose(other.position, one.position * [-1, 1, 1], atol=1e-4)


@pytest.mark.parametrize(("kind", "median", "p90"), [("true", 2.7, 5), ("network", 5.5, 14)])
def test_poses_of_rendered_faces_are_near_the_truth(kind: str, median: float, p90: float) -> None:
    data = golden()
    poses = head_poses(golden_pixels(data, kind), CAMERA)
    off = apart_deg(poses.q, data["q"])
    assert np.median(off) < median
    assert np.percentile(off, 90) < p90
    assert (poses.position[:, 2] > 0).all()
    assert np.median(np.abs(poses.position[:, 2] / data["position"][:, 2] - 1)) < 0.06


def test_the_fit_is_as_close_as_opencvs() -> None:
    points = golden_pixels(golden(), "network")
    poses = head_poses(points, CAMERA)
    matrix = np.array([[CAMERA.fx, 0, CAMERA.cx], [0, CAMERA.fy, CAMERA.cy], [0, 0, 1]], np.float64)
    for row, face in enumerate(points[:, USED].astype(np.float64)):
        _, turn, place = cv2.solvePnP(POINTS[USED], np.ascontiguousarray(face), matrix, None, flags=cv2.SOLVEPNP_SQPNP)
        library = cv2.projectPoints(POINTS[USED], turn, place, matrix, None)[0][:, 0]
        ours = seen(poses.q[row : row + 1].astype(np.float64), poses.position[row])[0, USED]
        assert np.square(ours - face).sum() < np.square(library - face).sum() * 1.02 + 1e-3


def test_more_points_than_68_change_nothing() -> None:
    points = golden_pixels(golden(), "true")
    more = np.concatenate([points, np.full((len(points), 36, 2), np.nan, np.float32)], axis=1)
    expected = head_poses(points, CAMERA)
    for count in (80, 104):
        np.testing.assert_array_equal(head_poses(more[:, :count], CAMERA).q, expected.q)


def spoilt(face: F32, how: str) -> F32:
    face = face.copy()
    middle = face.mean(axis=0)
    if how == "nan":
        face[30, 1] = np.nan
    elif how == "infinite":
        face[20] = np.inf
    elif how == "far away":
        face[40:] = 1e30
    elif how == "one place":
        face[:] = middle
    elif how == "tiny":
        face = middle + (face - middle) * np.float32(0.01)
    elif how == "a line":
        face[:, 1] = middle[1]
    elif how == "squeezed":
        face = middle + (face - middle) * np.array([1, 0.42], np.float32)
    elif how == "shuffled":
        face = np.random.default_rng(5).permutation(face)
    elif how == "scattered":
        face += np.random.default_rng(6).normal(0, np.ptp(face[36:48, 0]) / 3, face.shape).astype(np.float32)
    elif how == "from behind":
        face = middle - (face - middle) * np.array([1, -1], np.float32)
    elif how == "nearer than a face can be":
        face = middle + (face - middle) * np.float32(40)
    elif how == "beside the lens":
        face += 20000
    return face


BAD = ["nan", "infinite", "far away", "one place", "tiny", "a line", "squeezed", "shuffled"]
BAD += ["scattered", "from behind", "nearer than a face can be", "beside the lens"]


@pytest.mark.parametrize("how", BAD)
def test_what_is_no_face_has_a_row_of_nan_and_harms_nobody(how: str) -> None:
    points = golden_pixels(golden(), "true")[:3]
    good = head_poses(points, CAMERA)
    points[1] = spoilt(points[1], how)
    poses = head_poses(points, CAMERA)
    for values, expected in ((poses.q, good.q), (poses.angles, good.angles), (poses.position, good.position)):
        assert np.isnan(values[1]).all()
        np.testing.assert_allclose(values[[0, 2]], expected[[0, 2]], atol=1e-5)
    assert np.isnan(poses.error).tolist() == [False, True, False]


def test_a_face_as_small_as_numbers_go_is_no_face_either() -> None:
    points = seen(turned(0, 0, 0), [0, 0, 1], Camera(1, 1, 0, 0)).astype(np.float64) * 1e-80
    assert np.isnan(head_poses(points, Camera(1, 1, 0, 0)).q).all()


def test_a_face_further_beside_the_camera_than_equations_can_be_solved_is_none() -> None:
    points = 1e12 * (np.nan_to_num(POINTS[None, :, :2]) + np.array([100.0, 30.0]))
    assert np.isnan(head_poses(points.astype(np.float32), Camera(600, 600, 320, 240)).q).all()


def test_a_face_upside_down_is_a_face() -> None:
    points = np.array([2 * CAMERA.cx, 2 * CAMERA.cy], np.float32) - golden_pixels(golden(), "true")[:1]
    straight = head_poses(golden_pixels(golden(), "true")[:1], CAMERA)
    turn = head_poses(points, CAMERA).angles[0, 2] - straight.angles[0, 2]
    assert abs(turn) == pytest.approx(180, abs=1)


def test_no_faces_give_no_rows() -> None:
    poses = head_poses(np.zeros((0, 68, 2), np.float32), CAMERA)
    assert [values.shape for values in (poses.q, poses.angles, poses.position, poses.error)] == [
        (0, 4),
        (0, 3),
        (0, 3),
        (0,),
    ]


@given(arrays(np.float32, (2, 68, 2), elements=st.floats(-1e4, 1e4, width=32) | st.just(float("nan"))))
def test_any_numbers_give_a_pose_before_the_camera_or_none(points: F32) -> None:
    poses = head_poses(points, CAMERA)
    known = np.isfinite(poses.error)
    assert (np.isfinite(poses.q).all(axis=1) == known).all()
    assert (poses.position[known, 2] > 0).all()
    np.testing.assert_allclose(np.linalg.norm(poses.q[known], axis=1), 1, atol=1e-5)


def test_a_cameras_field_of_view_reaches_from_edge_to_edge() -> None:
    camera = camera_from_fov(640, 360, 90)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx((320, 320, 320, 180))
    assert camera_from_fov(640, 360, 50).fx > camera.fx
