"""Figures by kind: what a face is like, from a picture made up and from the renderer's truth."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeface.model_card import bundled_engines
from edgeface.values import Detections
from training import detector_agreement as agreement
from training import face_kinds, measure_detectors, measure_landmarks, rendered_landmarks

POINTS = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32)
BOX = np.array([[10, 10, 90, 100]], np.float32)
LIGHT_SKIN, DARK_SKIN = (170, 190, 225), (60, 80, 115)  # BGR


def kinds(colour: tuple[int, int, int], points: np.ndarray = POINTS, left: float = 1.0) -> dict[str, str]:
    """Of one face of one colour, whose left half is so many times as bright."""
    picture = np.full((110, 100, 3), colour, np.uint8)
    picture[:, :50] = np.clip(picture[:, :50] * left, 0, 255)
    found = face_kinds.of_picture(picture, BOX, points[None])
    return {name: one for name, (one,) in found.items()}


def test_a_face_that_looks_at_the_camera_in_even_light() -> None:
    assert kinds(LIGHT_SKIN) == {"turn": "0-20 deg", "tilt": "0-20 deg", "tone": "light", "light": "even"}
    assert kinds(DARK_SKIN)["tone"] == "dark"
    assert kinds((128, 128, 128))["tone"] == "no colour"


def test_turn_and_tilt_follow_from_the_points_however_large_the_face() -> None:
    aside = POINTS.copy()
    aside[2, 0] += 0.3 * 40  # of the distance from the eyes to the mouth
    assert kinds(LIGHT_SKIN, aside)["turn"] == "20-40 deg"
    aside[2, 0] += 0.2 * 40
    assert kinds(LIGHT_SKIN, aside)["turn"] == "40+ deg"
    for degrees, row in ((30, "20-45 deg"), (-80, "45+ deg")):
        turn = cv2.getRotationMatrix2D((50, 60), degrees, 0.5)
        turned = (aside @ turn[:, :2].T + turn[:, 2]).astype(np.float32)
        assert (kinds(LIGHT_SKIN, turned)["tilt"], kinds(LIGHT_SKIN, turned)["turn"]) == (row, "40+ deg")


def test_light_is_dim_or_comes_from_one_side() -> None:
    assert kinds((20, 30, 40))["light"] == "dim"
    assert kinds((120, 130, 140), left=0.5)["light"] == "from one side"


def test_a_face_beyond_the_border_has_its_kind_all_the_same() -> None:
    away = face_kinds.of_picture(np.full((20, 20, 3), 200, np.uint8), BOX + 500, POINTS[None] + 500)
    assert [len(one) for one in away.values()] == [1, 1, 1, 1]


def test_faces_are_counted_by_kind_from_a_size_on() -> None:
    truth = np.array([[0, 0, 40, 40], [100, 0, 140, 40], [200, 0, 210, 10]], np.float32)
    reference = Detections(truth, np.full(3, 0.9, np.float32), np.zeros((3, 0, 2), np.float32))
    found = Detections(truth[:1], np.full(1, 0.9, np.float32), np.zeros((1, 0, 2), np.float32))
    like = {"yaw": ["0-30 deg", "60+ deg", "0-30 deg"]}
    one = agreement.look("faces", (640, 480), reference, found, 0.6, like)
    assert agreement.by_kind([one], 0.5) == {"yaw": {"0-30 deg": (1, 1), "60+ deg": (0, 1)}}


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two scenes of noise; the second has a face, and one to be ignored."""
    np.savez(
        tmp_path / "scenes-00000.npz",
        picture=np.random.default_rng(0).integers(0, 30, (2, 128, 128), np.uint8),
        first=np.array([0, 0, 2]),
        xyxy=np.array([[10, 10, 60, 60], [70, 70, 90, 90]], np.float32),
        keypoints=np.zeros((2, 5, 2), np.float32),
        ignore=np.array([0, 1], np.uint8),
        visible=np.array([0.7, 0.2], np.float32),
        pose=np.array([[-70, 0, 0], [0, 0, 0]], np.float32),
    )
    return tmp_path


def test_rendered_scenes_are_measured_against_their_truth(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = list(measure_detectors.scenes_of(scenes / "scenes-00000.npz"))[1]
    assert second.faces.score.tolist() == [1.0, 0.0]
    assert second.alike == {"yaw": ["60+ deg"], "seen": ["50-80 %"]}
    network, out = str(bundled_engines() / "edgeface-detector.onnx"), scenes / "out.json"
    measure_detectors.main([network, "--reference", network, "--rendered", str(scenes), "--json", str(out)])
    one = next(iter(json.loads(out.read_text())["rendered"]["networks"].values()))
    assert one["by_kind"] == {"seen": {"50-80 %": [0, 1]}, "yaw": {"60+ deg": [0, 1]}}
    assert one["recall"] == 0.0
    assert "| yaw 60+ deg (1) | 0.00 |" in capsys.readouterr().out


def test_landmarks_on_rendered_faces(tmp_path: Path) -> None:
    seen = np.ones((3, 80), np.uint8)
    seen[1, 40:] = 0
    seen[2] = 0  # nothing of it is seen: it does not count
    np.savez(
        tmp_path / "faces-00000.npz",
        picture=np.random.default_rng(0).integers(0, 255, (3, 96, 96), np.uint8),
        landmarks=np.random.default_rng(1).uniform(30, 66, (3, 80, 2)).astype(np.float32),
        visible=seen,
        pose=np.array([[5, 0, 0], [-45, 0, 0], [0, 0, 0]], np.float32),
        skin=np.array([0.1, 0.5, 0.5], np.float32),
        eyes=np.array([[1, 1], [0, 0], [1, 1]], np.float32),
    )
    found = rendered_landmarks.figures(measure_landmarks.landmark_card("edgeface-landmarks", None), tmp_path)
    assert found["faces"] == 2
    assert {name: list(rows) for name, rows in found["by_kind"].items()} == {
        "yaw": ["0-30 deg", "30-60 deg"],
        "points seen": ["50-80 %", "80-100 %"],
        "skin": ["dark", "light"],
        "mean luma": ["60-190"],
        "eyes": ["closed", "open"],
    }
    mean = np.mean([value for _, value in found["by_kind"]["yaw"].values()])
    assert found["seen_points"] == pytest.approx(mean)
    assert "calibration error" in rendered_landmarks.text({"network": found})


def test_scores_that_foretell_what_happens_have_no_error() -> None:
    happened = np.array([True] * 7 + [False] * 3)
    assert rendered_landmarks.calibration_error(np.full(10, 0.7), happened) == pytest.approx(0)
    assert rendered_landmarks.calibration_error(np.full(10, 0.9), happened) == pytest.approx(0.2)
