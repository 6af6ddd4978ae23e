"""One step a frame: keyframes, prediction in between, and a detector that fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import FakeDetector, FakeEngine, detections, frame

from edgeface.boxes import letterbox, stretch
from edgeface.decoders import make_decoder
from edgeface.detector import FaceDetector
from edgeface.errors import OutputError
from edgeface.model_card import find_card
from edgeface.pipeline import KeyframeSchedule, Pipeline
from edgeface.tracker import ByteTracker

BOX = (100.0, 100.0, 160.0, 180.0)


def pipeline(detector: FakeDetector, interval: int = 3) -> Pipeline:
    tracker = ByteTracker(high_score=0.5, low_score=0.1, new_score=0.6, min_hits=2, lost_timeout_s=1.0)
    return Pipeline(detector, tracker, KeyframeSchedule(interval))


def faces(messages: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    assert messages[0][0] == "faces"
    return messages[0][1]


def events(messages: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [body for topic, body in messages if topic == "events"]


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_it_looks_at_every_nth_frame_and_predicts_in_between(interval: int) -> None:
    detector = FakeDetector(detections(BOX))
    steps = pipeline(detector, interval)
    bodies = [faces(steps.step(frame(number))) for number in range(11)]
    assert detector.looks == list(range(0, 11, interval))
    for number, body in enumerate(bodies):
        assert body["keyframe"] == (number % interval == 0)
        assert body["keyframe_age"] == number % interval
        (face,) = body["faces"]
        assert face["source"] == ("detector" if body["keyframe"] else "predicted")
        assert ("keypoints" in face) == body["keyframe"]
        assert face["age_ms"] == round(number % interval * 33.333333)


def test_an_empty_room_is_published_too() -> None:
    body = faces(pipeline(FakeDetector(detections())).step(frame()))
    assert (body["faces"], body["keyframe"], body["mode"]) == ([], True, "fixed")


def test_faces_that_come_and_go_are_events() -> None:
    nothing = detections()
    steps = pipeline(FakeDetector(detections(BOX), nothing), interval=1)
    assert events(steps.step(frame(0))) == [{"event": "track_started", "capture_ns": 0, "track_id": 1}]
    later = [event for number in range(1, 40) for event in events(steps.step(frame(number)))]
    assert [(event["event"], event["track_id"]) for event in later] == [("track_lost", 1)]


def test_frames_lost_by_the_source_are_counted() -> None:
    steps = pipeline(FakeDetector(detections(BOX)))
    dropped = [faces(steps.step(frame(number)))["dropped"] for number in (5, 6, 9, 10, 20)]
    assert dropped == [0, 0, 2, 0, 9]


def test_a_detector_whose_numbers_mean_nothing_never_looks_like_an_empty_room() -> None:
    detector = FakeDetector(detections(BOX), None, None, detections(BOX))
    steps = pipeline(detector)
    bodies, told = [], []
    for number in range(8):
        messages = steps.step(frame(number))
        bodies.append(faces(messages))
        told += [event["mode"] for event in events(messages) if event["event"] == "mode_changed"]
    assert detector.looks == [0, 3, 4, 5]  # after a failed look the next frame is looked at
    assert [body["mode"] for body in bodies] == ["fixed"] * 3 + ["degraded"] * 2 + ["fixed"] * 3
    assert [body["keyframe"] for body in bodies] == [True, False, False, False, False, True, False, False]
    assert [body["keyframe_age"] for body in bodies] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert all(len(body["faces"]) == 1 for body in bodies)
    assert told == ["degraded", "fixed"]


def test_a_detector_that_never_works_says_so_from_the_first_frame() -> None:
    steps = pipeline(FakeDetector(None))
    for number in range(3):
        body = faces(steps.step(frame(number)))
        assert (body["mode"], body["keyframe"], body["faces"]) == ("degraded", False, [])
    assert steps.problem == "7 numbers are NaN"


def test_when_frames_change_their_size_faces_start_anew() -> None:
    detector = FakeDetector(detections(BOX))
    steps = pipeline(detector)
    steps.step(frame(0))
    steps.step(frame(1))
    messages = steps.step(frame(2, width=1280, height=720))
    assert detector.looks == [0, 2]
    assert [face["track_id"] for face in faces(messages)["faces"]] == [2]
    assert [(e["event"], e["track_id"]) for e in events(messages)] == [("track_lost", 1), ("track_started", 2)]


def test_boxes_are_clipped_and_those_outside_left_out() -> None:
    outside = (-300.0, 10.0, -200.0, 100.0)
    steps = pipeline(FakeDetector(detections((-20, -10, 60, 70), (600, 300, 700, 400), outside)))
    body = faces(steps.step(frame()))
    assert [face["xyxy"] for face in body["faces"]] == [[0, 0, 60, 70], [600, 300, 640, 360]]


# --- the detector


def scrfd_detector(outputs_size: int = 640, **changes: Any) -> tuple[FaceDetector, FakeEngine]:
    card = find_card("scrfd-500m-kps")
    outputs = {}
    for kind, values in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            outputs[f"{kind}{stride}"] = np.zeros((1, (outputs_size // stride) ** 2 * 2, values), np.float32)
    engine = FakeEngine(outputs, (outputs_size, outputs_size))
    decode = make_decoder(card, engine.outputs, engine.input_size)
    options = {"score_threshold": 0.5, "nms_iou_threshold": 0.4, "max_candidates": 400} | changes
    return FaceDetector(engine, decode, letterbox, **options), engine


def test_detections_are_in_frame_pixels() -> None:
    detector, engine = scrfd_detector()
    outputs = engine.infer(frame(), np.zeros((1, 4), np.float32))
    outputs["score32"][0, 2 * (20 * 5 + 10)] = 0.9  # centre (320, 160) of 640: (640, 320) of 1280x720
    outputs["bbox32"][0, 2 * (20 * 5 + 10)] = 1
    outputs["kps32"][0, 2 * (20 * 5 + 10)] = 0.5
    found = detector.detect(frame(width=1280, height=720))
    np.testing.assert_allclose(engine.crops, [[0, 0, 1280, 1280]])
    np.testing.assert_allclose(found.xyxy, [[640 - 64, 320 - 64, 640 + 64, 320 + 64]])
    np.testing.assert_allclose(found.keypoints, np.full((1, 5, 2), [640 + 32, 320 + 32]))


def test_overlapping_candidates_become_one_face_best_first() -> None:
    detector, engine = scrfd_detector()
    outputs = engine.infer(frame(), np.zeros((1, 4), np.float32))
    outputs["bbox16"][:] = 3
    outputs["score16"][0, [100, 101, 900], 0] = [0.7, 0.8, 0.6]
    np.testing.assert_allclose(detector.detect(frame()).score, [0.8, 0.6])


def test_nobody_is_an_empty_array_of_the_right_shape() -> None:
    detector, _ = scrfd_detector()
    found = detector.detect(frame())
    assert (found.xyxy.shape, found.score.shape, found.keypoints.shape) == ((0, 4), (0,), (0, 5, 2))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_outputs_that_mean_nothing_raise(number: float) -> None:
    detector, engine = scrfd_detector()
    engine.infer(frame(), np.zeros((1, 4), np.float32))["score8"][0, 0] = number
    with pytest.raises(OutputError, match="1 numbers that are NaN or infinite"):
        detector.detect(frame())


def test_a_stretched_input_scales_each_axis_by_itself() -> None:
    card = find_card("tao-facedetect")
    bbox, cov = np.zeros((1, 4, 26, 46), np.float32), np.zeros((1, 1, 26, 46), np.float32)
    engine = FakeEngine({"bbox": bbox, "cov": cov}, (736, 416))
    decode = make_decoder(card, engine.outputs, engine.input_size)
    detector = FaceDetector(engine, decode, stretch, score_threshold=0.2, nms_iou_threshold=0.5, max_candidates=20)
    cov[0, 0, 10, 20], bbox[0, :, 10, 20] = 0.9, 1
    found = detector.detect(frame(width=1472, height=416))
    np.testing.assert_allclose(found.xyxy, [[2 * (320.5 - 35), 160.5 - 35, 2 * (320.5 + 35), 160.5 + 35]])
    assert found.keypoints.shape == (1, 0, 2)
