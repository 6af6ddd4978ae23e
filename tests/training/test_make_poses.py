"""Faces of known pose: their points are where the pose and the camera in the file put a head's."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="training's extra is not installed: pip install -e .[train]")

from edgeface.head_pose import Camera, angles, head_poses
from training import assets, make_poses

try:
    FOLDER = assets.folder()
except FileNotFoundError as missing:
    pytest.skip(f"no assets to render from: {missing}", allow_module_level=True)
BANDS = {0, 1, 2, 3, 4}


@pytest.fixture(scope="module")
def faces():
    return [made for seed in range(12) if (made := make_poses.rendered(seed, BANDS, FOLDER))]


def test_only_wanted_bands_are_rendered_and_each_face_lies_in_its_own(faces):
    assert len(faces) >= 8
    for band, row in faces:
        yaw = abs(angles(row["q"][None])[0, 0])
        low, high = make_poses.BANDS[band]
        assert low - 0.1 <= yaw <= high + 0.1
    first = next(seed for seed in range(12) if make_poses.rendered(seed, BANDS, FOLDER))
    assert make_poses.rendered(first, BANDS - {faces[0][0]}, FOLDER) is None


def test_the_pose_and_the_camera_fit_the_points(faces):
    off, far = [], []
    for band, row in faces:
        if band < 4:
            camera = Camera(row["focal"], row["focal"], *row["centre"])
            found = head_poses(row["true"][None], camera)
            turn = 2 * np.arccos(min(abs(float((found.q[0] * row["q"]).sum())), 1))
            off.append(np.degrees(turn))
            far.append(found.position[0] / row["position"][2])
            expected = row["position"][:2] / row["position"][2] * row["focal"] + row["centre"]
            assert np.hypot(*(expected - row["true"][36:48].mean(axis=0))) < 1.5  # lids move
    assert np.median(off) < 4  # no face is the generic one
    np.testing.assert_allclose(np.median(far, axis=0)[2], 1, atol=0.08)


def test_eyelids_are_as_the_row_says(faces):
    blinks = np.array([row["blink"] for _, row in faces])
    lids = np.array([row["lids"] for _, row in faces])
    assert (blinks == 1).any() and (blinks == 0).any()
    assert np.median(lids[blinks == 1]) < 0.3
    assert np.median(lids[blinks == 0]) > 0.7
