"""What the configuration puts together: the settings of landmarks reach the part that they are for."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from edgeface.config import load_config
from edgeface.model_card import find_card
from edgeface.networks import make_landmarker, open_networks
from edgeface.parts import build

FACES = list[dict[str, Any]]


def faces(frames: int, **landmarks: Any) -> FACES:
    """What is said of the faces of the demo clip's first frames."""
    with closing(build(load_config(None, {"source": "demo:?pace=0", "landmarks": landmarks}))) as parts:
        return [face for _ in range(frames) for face in parts.pipeline.step(parts.source.read(10.0))[0][1]["faces"]]


def test_nothing_is_derived_from_landmarks_unless_asked_for() -> None:
    for asked in ((), ("pose",), ("eyes",), ("quality",), ("pose", "eyes", "quality")):
        first = faces(1, **dict.fromkeys(asked, True))[0]
        assert {"pose", "eyes", "quality"} & set(first) == set(asked)


def test_landmarks_hold_faces_between_looks_unless_told_otherwise() -> None:
    assert {face["source"] for face in faces(3)} == {"detector", "landmarks"}
    assert {face["source"] for face in faces(3, hold_tracks=False)} == {"detector", "predicted"}


def test_a_cameras_matrix_or_its_field_of_view_says_how_far_away_faces_are() -> None:
    def places(**landmarks: Any) -> np.ndarray:
        return np.array([face["pose"]["position_m"] for face in faces(1, pose=True, **landmarks)])

    wide = places(horizontal_fov_deg=90.0)
    np.testing.assert_allclose(places(camera_matrix=[320.0, 320.0, 320.0, 180.0]), wide, rtol=1e-5)
    usual = 320 / math.tan(math.radians(30))  # 60 degrees
    np.testing.assert_allclose(places(camera_matrix=[usual, usual, 320.0, 180.0]), places(), rtol=1e-5)
    aside = places(camera_matrix=[320.0, 320.0, 0.0, 180.0])
    assert (aside[:, 0] > wide[:, 0]).all()


@pytest.mark.parametrize(("border", "cut"), [("pad", [-10, 0, 90, 100]), ("tao", [0, 0, 100, 100])])
def test_the_card_says_what_part_of_the_frame_is_looked_at(tmp_path: Path, border: str, cut: list[float]) -> None:
    text = (ROOT / "engines" / "edgeface-landmarks.toml").read_text()
    path = tmp_path / "other.toml"
    path.write_text(text.replace("crop_scale = 1.05", f'crop_scale = 2.0\nborder = "{border}"'))
    config = load_config(None, {"landmarks": {"card": str(path)}})
    with closing(open_networks(config)) as networks:
        landmarker = make_landmarker(find_card(str(path)), networks.backend.engines[-1], config)
        crops: list[np.ndarray] = []
        infer = landmarker.engine.infer
        landmarker.engine.infer = lambda frame, given: crops.append(given) or infer(frame, given)
        with closing(build(load_config(None, {"source": "demo:?pace=0", "landmarks": {"card": "none"}}))) as parts:
            landmarker.locate(parts.source.read(10.0), np.array([[15, 25, 65, 75]], np.float32))
    np.testing.assert_allclose(crops[0], [cut], atol=1e-4)
