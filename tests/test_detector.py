"""The detector: one crop of the frame, decoded and merged, in frame pixels."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from conftest import scrfd_outputs
from fakes import (
    FakeEngine,
    frame,
)

from edgeface import clustering
from edgeface.boxes import letterbox, stretch
from edgeface.decoders import make_decoder
from edgeface.detector import FaceDetector
from edgeface.errors import OutputError
from edgeface.model_card import find_card

MERGE = partial(clustering.nms, iou_threshold=0.4, top_k=400)


def scrfd_detector(outputs_size: int = 640) -> tuple[FaceDetector, FakeEngine]:
    card = find_card("scrfd-500m-kps")
    outputs = scrfd_outputs(outputs_size)
    engine = FakeEngine(outputs, (outputs_size, outputs_size))
    decode = make_decoder(card, engine.outputs, engine.input_size)
    return FaceDetector(engine, decode, letterbox, MERGE, score_threshold=0.5), engine


def test_detections_are_in_frame_pixels() -> None:
    detector, engine = scrfd_detector()
    outputs = engine.infer(frame(), np.zeros((1, 4), np.float32))
    outputs["score_32"][0, 2 * (20 * 5 + 10)] = 0.9  # centre (320, 160) of 640: (640, 320) of 1280x720
    outputs["bbox_32"][0, 2 * (20 * 5 + 10)] = 1
    outputs["kps_32"][0, 2 * (20 * 5 + 10)] = 0.5
    found = detector.detect(frame(width=1280, height=720))
    np.testing.assert_allclose(engine.crops, [[0, 0, 1280, 1280]])
    np.testing.assert_allclose(found.xyxy, [[640 - 64, 320 - 64, 640 + 64, 320 + 64]])
    np.testing.assert_allclose(found.keypoints, np.full((1, 5, 2), [640 + 32, 320 + 32]))


def test_a_crop_anywhere_in_the_frame_maps_back() -> None:
    _, engine = scrfd_detector()
    decode = make_decoder(find_card("scrfd-500m-kps"), engine.outputs, engine.input_size)
    crop = np.array([[100, 50, 100 + 1280, 50 + 1920]], np.float32)
    outputs = engine.infer(frame(), crop)
    outputs["score_32"][0, 0], outputs["bbox_32"][0, 0], outputs["kps_32"][0, 0] = 0.9, 1, 0.5
    found = FaceDetector(engine, decode, lambda *_: crop, MERGE, score_threshold=0.5).detect(frame())
    np.testing.assert_allclose(found.xyxy, [[100 - 64, 50 - 96, 100 + 64, 50 + 96]])
    np.testing.assert_allclose(found.keypoints, np.full((1, 5, 2), [100 + 32, 50 + 48]))


def test_overlapping_candidates_become_one_face_best_first() -> None:
    detector, engine = scrfd_detector()
    outputs = engine.infer(frame(), np.zeros((1, 4), np.float32))
    outputs["bbox_16"][:] = 3
    outputs["score_16"][0, [100, 101, 900], 0] = [0.7, 0.8, 0.6]
    np.testing.assert_allclose(detector.detect(frame()).score, [0.8, 0.6])


def test_nobody_is_an_empty_array_of_the_right_shape() -> None:
    detector, _ = scrfd_detector()
    found = detector.detect(frame())
    assert (found.xyxy.shape, found.score.shape, found.keypoints.shape) == ((0, 4), (0,), (0, 5, 2))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_outputs_that_mean_nothing_raise(number: float) -> None:
    detector, engine = scrfd_detector()
    engine.infer(frame(), np.zeros((1, 4), np.float32))["score_8"][0, 0] = number
    with pytest.raises(OutputError, match="1 of the detector's numbers mean nothing"):
        detector.detect(frame())


def test_a_stretched_input_scales_each_axis_by_itself() -> None:
    card = find_card("tao-facedetect")
    bbox, cov = np.zeros((1, 4, 26, 46), np.float32), np.zeros((1, 1, 26, 46), np.float32)
    engine = FakeEngine({"bbox": bbox, "cov": cov}, (736, 416))
    decode = make_decoder(card, engine.outputs, engine.input_size)
    detector = FaceDetector(engine, decode, stretch, MERGE, score_threshold=0.2)
    cov[0, 0, 10, 20], bbox[0, :, 10, 20] = 0.9, 1
    found = detector.detect(frame(width=1472, height=416))
    np.testing.assert_allclose(found.xyxy, [[2 * (320.5 - 35), 160.5 - 35, 2 * (320.5 + 35), 160.5 + 35]])
    assert found.keypoints.shape == (1, 0, 2)
