"""Every detector that is bundled: its file is the card's, and it finds the faces of the demo clip."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing

import cv2
import numpy as np
import pytest
from conftest import ROOT

from edgeface.boxes import iou
from edgeface.config import load_config
from edgeface.model_card import bundled_engines, find_card, find_onnx
from edgeface.networks import open_networks
from edgeface.values import Frame

EVERY = 12
TRUTH = json.loads((ROOT / "edgeface" / "demo" / "demo.json").read_text())["frames"]
NETWORKS = sorted(path.stem for path in bundled_engines().glob("edgeface-*.onnx") if "int8" not in path.name)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Every 12th frame of the demo clip."""
    film, seen = cv2.VideoCapture(str(ROOT / "edgeface" / "demo" / "demo.mp4")), []
    while (picture := film.read()[1]) is not None:
        seen.append(picture)
    return seen[::EVERY]


def test_what_is_bundled() -> None:
    assert NETWORKS == [
        "edgeface-detector",
        "edgeface-detector-0.1g",
        "edgeface-detector-2.5g",
        "edgeface-gridbox",
        "edgeface-landmarks",
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_is_the_one_that_the_card_means(name: str) -> None:
    card = find_card(name)
    path = find_onnx(card)
    assert path is not None
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card.sha256
    assert card.commercial is True
    page = ROOT / card.source.partition(": ")[2]
    assert card.sha256 in page.read_text()


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "edgeface-landmarks"])
def test_a_detector_finds_the_faces_of_the_demo_clip(name: str, pictures: list[np.ndarray]) -> None:
    config = load_config(None, {"detector": {"card": name}, "landmarks": {"card": "none"}, "backend": "cpu"})
    found = total = false = boxes = 0
    with closing(open_networks(config)) as networks:
        for number, picture in enumerate(pictures):
            detections = networks.detector.detect(Frame(number, 0, 640, 360, "bgr8", picture))
            sure = detections.xyxy[detections.score >= networks.thresholds.score]
            truth = TRUTH[number * EVERY]
            overlap = iou(np.array([face["xyxy"] for face in truth], np.float32), sure)
            is_open = np.array([face["visible_fraction"] >= 0.7 and abs(face["pose"][0]) < 60 for face in truth])
            found += int((overlap[is_open].max(axis=1, initial=0) > 0.5).sum())
            total += int(is_open.sum())
            false += int((overlap.max(axis=0, initial=0) < 0.2).sum())
            boxes += len(sure)
    assert found >= 0.95 * total
    assert false <= 0.02 * boxes
