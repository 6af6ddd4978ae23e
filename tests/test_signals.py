"""What is derived from landmarks: only what was asked for, each signal from the points that suit it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fakes import frame, tracks
from test_head_pose import CAMERA, golden, golden_pixels

from edgeface.config import load_config
from edgeface.eyes import openness
from edgeface.head_pose import camera_from_fov, head_poses
from edgeface.message import QUALITIES
from edgeface.parts import build
from edgeface.quality import quality
from edgeface.signals import FaceSignals
from edgeface.values import F32, Landmarks

XY: F32 = golden_pixels(golden(), "network")[:4]  # of four heads, in a frame of 1280 x 720
FACES = tracks((100, 100, 200, 220), (1200, 300, 1300, 400), (0, 0, 50, 60), (500, 500, 600, 640))
FRAME = frame(0, 1280, 720)
NOBODY = Landmarks(np.zeros((0, 68, 2), np.float32), np.zeros((0, 68), np.float32), 0, np.zeros((0, 80, 80)))


def landmarks(xy: F32 = XY, pictures: bool = True) -> Landmarks:
    random = np.random.default_rng(0)
    score = random.random(xy.shape[:2], np.float32)
    return Landmarks(xy, score, 0, 255 * random.random((len(xy), 80, 80), np.float32) if pictures else None)


def same(found: Any, expected: Any) -> None:
    for field in type(expected).__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


@pytest.mark.parametrize("asked", ["pose", "eyes", "quality"])
def test_only_what_was_asked_for_is_derived(asked: str) -> None:
    wanted = {"pose": False, "eyes": False, "quality": False} | {asked: True}
    signals = FaceSignals(**wanted, camera=CAMERA).derive(FRAME, FACES, landmarks(), landmarks())
    assert [signals.poses is not None, signals.openness is not None, signals.quality is not None] == [*wanted.values()]


def test_poses_are_of_the_calm_points_and_eyes_of_those_of_this_frame() -> None:
    """A blink is too short for smoothed points."""
    raw, calm = landmarks(XY + 3), landmarks(XY)
    raw.xy[:, 36:48, 1] *= 1.01
    signals = FaceSignals(pose=True, eyes=True, quality=True, camera=CAMERA).derive(FRAME, FACES, raw, calm)
    poses = head_poses(XY, CAMERA)
    same(signals.poses, poses)
    np.testing.assert_array_equal(signals.openness, openness(raw.xy, poses.q, poses.position))
    same(signals.quality, quality(FACES.xyxy, (1280, 720), raw.grey, raw.score, poses.angles[:, 0]))
    assert np.isfinite(signals.poses.error).all()
    assert signals.quality.outside[1] == pytest.approx(0.2)


def test_the_camera_is_the_one_given_or_has_the_field_of_view() -> None:
    def position(**options: Any) -> F32:
        found = FaceSignals(pose=True, eyes=False, quality=False, **options)
        poses = found.derive(FRAME, FACES, landmarks(), landmarks()).poses
        assert poses is not None
        return poses.position

    np.testing.assert_array_equal(position(camera=CAMERA, horizontal_fov_deg=99), head_poses(XY, CAMERA).position)
    for fov_deg in (40.0, 90.0):
        expected = head_poses(XY, camera_from_fov(1280, 720, fov_deg)).position
        np.testing.assert_array_equal(position(horizontal_fov_deg=fov_deg), expected)
    np.testing.assert_array_equal(position(), position(horizontal_fov_deg=60.0))


def test_quality_needs_no_names_of_points() -> None:
    five = landmarks(XY[:, :5])
    signals = FaceSignals(pose=True, eyes=True, quality=True).derive(FRAME, FACES, five, five)
    assert signals.poses is None
    assert signals.openness is None
    assert signals.quality is not None
    assert np.isnan(signals.quality.yaw).all()
    for name in set(QUALITIES) - {"yaw"}:
        assert np.isfinite(getattr(signals.quality, name)).all()


def test_without_pictures_there_is_no_quality() -> None:
    blind = landmarks(pictures=False)
    signals = FaceSignals(pose=True, eyes=False, quality=True, camera=CAMERA).derive(FRAME, FACES, blind, blind)
    assert signals.quality is None
    assert signals.poses is not None


def test_nobody_and_faces_without_landmarks_hurt_nothing() -> None:
    derive = FaceSignals(pose=True, eyes=True, quality=True, camera=CAMERA).derive
    signals = derive(FRAME, tracks(), NOBODY, NOBODY)
    assert signals.openness.shape == (0, 2)
    assert len(signals.poses.error) == len(signals.quality.blur) == 0
    holed = landmarks(XY.copy())
    holed.xy[1], holed.score[1], holed.grey[1] = np.nan, np.nan, 0
    signals = derive(FRAME, FACES, holed, holed)
    alone = derive(FRAME, FACES, landmarks(), landmarks())
    assert np.isnan(signals.poses.error).tolist() == [False, True, False, False]
    assert np.isnan(signals.openness[1]).all()
    for row in (0, 2, 3):
        np.testing.assert_array_equal(signals.poses.angles[row], alone.poses.angles[row])
        np.testing.assert_array_equal(signals.quality.blur[row], alone.quality.blur[row])


# --- through the pipeline, with the default networks on the bundled clip


def bodies(frames: int, **settings: Any) -> Iterator[dict[str, Any]]:
    parts = build(load_config(None, {"source": "demo:?pace=0", "landmarks": settings}))
    for _ in range(frames):
        yield parts.pipeline.step(parts.source.read(1.0))[0][1]
    parts.close()


def test_nothing_is_derived_unless_it_is_asked_for() -> None:
    for body in bodies(2):
        assert set(body["timing_us"]) == {"faces", "landmarks"}
        assert len(body["faces"]) == 4
        for face in body["faces"]:
            assert face["landmarks"]["n"] == 80
            assert not {"pose", "eyes", "quality"} & set(face)


def test_faces_of_the_demo_have_plausible_signals() -> None:
    for body in bodies(12, pose=True, eyes=True, quality=True):
        assert set(body["timing_us"]) == {"faces", "landmarks", "signals"}
        assert body["timing_us"]["signals"] > 0
        assert len(body["faces"]) == 4
        for face in body["faces"]:
            pose, seen = face["pose"], face["quality"]
            assert abs(pose["yaw"]) < 70
            assert abs(pose["pitch"]) < 30
            assert abs(pose["roll"]) < 30
            assert np.linalg.norm(pose["q"]) == pytest.approx(1, abs=1e-4)
            assert 0.3 < pose["position_m"][2] < 6
            assert pose["error"] < 0.1
            assert (pose["position_m"][0] < 0) == (sum(face["xyxy"][::2]) / 2 < 320)
            assert all(0 <= level <= 1 for level in face["eyes"].values())
            assert max(face["eyes"].values()) > 0.3  # nobody sleeps
            assert set(seen) == set(QUALITIES)
            assert seen["yaw"] == pose["yaw"]
            width, height = np.subtract(face["xyxy"][2:], face["xyxy"][:2])
            assert seen["size_px"] == pytest.approx((width * height) ** 0.5, rel=1e-3)
            assert 0.1 < seen["blur"] < 0.8
            assert 0.1 < seen["brightness"] < 0.9
            assert 0 <= seen["clipped"] < 0.3
            assert 0 < seen["landmark_score"] < 1
            assert seen["outside"] == 0


@pytest.mark.parametrize("asked", ["pose", "eyes", "quality"])
def test_one_signal_alone(asked: str) -> None:
    (body,) = bodies(1, **{asked: True})
    for face in body["faces"]:
        assert {"pose", "eyes", "quality"} & set(face) == {asked}


def test_the_settings_of_the_camera_reach_the_poses() -> None:
    def distances(**settings: Any) -> list[float]:
        (body,) = bodies(1, pose=True, **settings)
        return [face["pose"]["position_m"][2] for face in body["faces"]]

    narrow, wide = distances(horizontal_fov_deg=40.0), distances(horizontal_fov_deg=80.0)
    assert all(near > far for near, far in zip(narrow, wide, strict=True))
    camera = camera_from_fov(640, 360, 40.0)
    matrix = [camera.fx, camera.fy, camera.cx, camera.cy]
    assert distances(camera_matrix=matrix, horizontal_fov_deg=80.0) == pytest.approx(narrow, rel=1e-6)
    assert distances(camera_matrix=[2 * camera.fx, 2 * camera.fy, 0, 0]) != pytest.approx(narrow, rel=0.2)
