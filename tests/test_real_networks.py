"""Real SCRFD networks on real pictures: equal to an independent reference, box by box."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnxruntime as ort
import pytest
from fakes import frame

from edgeface.boxes import letterbox
from edgeface.clustering import nms
from edgeface.cpu.engine import open_engine
from edgeface.decoders import make_decoder
from edgeface.detector import FaceDetector
from edgeface.model_card import find_card

NETWORKS = ["scrfd_500m_kps", "scrfd_2.5g_kps", "scrfd_2.5g_kps_named"]


def pictures(data: Path) -> Iterator[tuple[str, np.ndarray]]:
    """All still pictures, and every 5th frame of the clips."""
    for path in sorted([*data.glob("pictures/*.png"), *data.glob("landmarks/*.jpg")]):
        yield path.name, cv2.imread(str(path))
    for path in sorted(data.glob("clips/*.gif")):
        capture = cv2.VideoCapture(str(path))
        number = 0
        while (picture := capture.read()[1]) is not None:
            if number % 5 == 0:
                yield f"{path.name} frame {number}", picture
            number += 1


class Reference:
    """SCRFD as facts and paper have it: every anchor decoded, one loop a box, one scale for both axes, "+1" areas."""

    def __init__(self, path: Path) -> None:
        self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def detect(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes with score [n, 5] and points [n, 5, 2], best first."""
        height, width = picture.shape[:2]
        if height > width:
            fitted_height, fitted_width = 640, int(640 / (height / width))
        else:
            fitted_height, fitted_width = int(640 * (height / width)), 640
        scale = fitted_height / height
        canvas = np.zeros((640, 640, 3), np.uint8)
        canvas[:fitted_height, :fitted_width] = cv2.resize(picture, (fitted_width, fitted_height))
        blob = ((canvas[:, :, ::-1].astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None]
        boxes, points = [], []
        outputs = [output[0] for output in self.session.run(None, {self.input: blob})]
        for level, stride in enumerate((8, 16, 32)):
            for row in np.flatnonzero(outputs[level][:, 0] >= 0.5):
                cell = row // 2
                x, y = cell % (640 // stride) * stride, cell // (640 // stride) * stride
                left, top, right, bottom = outputs[level + 3][row] * stride
                score = outputs[level][row, 0]
                boxes.append(np.array([x - left, y - top, x + right, y + bottom, score * scale]) / scale)
                points.append((outputs[level + 6][row].reshape(5, 2) * stride + [x, y]) / scale)
        order = sorted(range(len(boxes)), key=lambda index: -boxes[index][4])
        kept: list[int] = []
        for index in order:
            if all(self.overlap(boxes[index], boxes[other]) <= 0.4 for other in kept):
                kept.append(index)
        return np.array([boxes[index] for index in kept]).reshape(-1, 5), np.array([points[index] for index in kept])

    @staticmethod
    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        width = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
        height = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
        areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
        return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("network", NETWORKS)
def test_equal_to_the_reference(data: Path, network: str) -> None:
    path = data / "networks" / f"{network}.onnx"
    card = msgspec.structs.replace(find_card("scrfd-500m-kps"), onnx=path.name, sha256="", folders=(str(path.parent),))
    engine = open_engine(card, None, threads=2, spinning=False)
    decode = make_decoder(card, engine.outputs, engine.input_size)
    merge = partial(nms, iou_threshold=0.4, top_k=1000)
    detector = FaceDetector(engine, decode, letterbox, merge, score_threshold=0.5)
    reference = Reference(path)
    faces = 0
    for name, picture in pictures(data):
        expected, points = reference.detect(picture)
        found = detector.detect(frame(0, picture.shape[1], picture.shape[0], picture))
        assert len(found.score) == len(expected), name
        np.testing.assert_allclose(found.score, expected[:, 4], atol=1e-3, err_msg=name)
        np.testing.assert_allclose(found.xyxy, expected[:, :4], atol=0.5, err_msg=name)
        if len(expected):
            np.testing.assert_allclose(found.keypoints, points, atol=0.5, err_msg=name)
        faces += len(expected)
    assert faces >= 50


def test_the_bundled_cards_take_the_networks_they_name(data: Path) -> None:
    folders = (str(data / "networks"),)
    for name in ("scrfd-500m-kps", "scrfd-2.5g-kps"):
        engine = open_engine(find_card(name, folders), None, threads=1, spinning=False)
        assert engine.input_size == (640, 640)
