"""One step a frame: keyframes, prediction in between, and a detector that fails."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT, scrfd_outputs
from fakes import FakeDetector, FakeEngine, FakeLandmarker, FakeSource, detections, frame, landmarks, tracker

from edgeface import clustering
from edgeface.boxes import letterbox, stretch
from edgeface.config import load_config
from edgeface.cpu.crop import glimpse
from edgeface.decoders import make_decoder
from edgeface.detector import FaceDetector
from edgeface.errors import ConfigError, EngineError, OutputError
from edgeface.holding import LandmarkHold
from edgeface.message import landmark_points
from edgeface.model_card import Thresholds, find_card
from edgeface.parts import Networks, Parts, build, make_detector, make_tracker
from edgeface.pipeline import Pipeline
from edgeface.scenario.scenes import make_scene
from edgeface.schedule import KeyframeSchedule
from edgeface.smoothing import FaceSmoother
from edgeface.tracker import ByteTracker
from edgeface.values import Detections, Frame, Landmarks, Signals, Tracks

BOX = (100.0, 100.0, 160.0, 180.0)


def pipeline(detector: FakeDetector, interval: int = 3) -> Pipeline:
    return Pipeline(detector, tracker(), KeyframeSchedule(interval), blind_timeout_s=1.0)


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
    dropped = [faces(steps.step(frame(number)))["dropped"] for number in (5, 6, 9, 10, 20, 3, 4)]
    assert dropped == [0, 0, 2, 0, 9, 0, 0]  # a camera that was opened again may count from the beginning


def test_the_pixels_of_a_frame_are_let_go() -> None:
    class Picture:
        pass

    picture, steps = Picture(), pipeline(FakeDetector(detections(BOX)))
    kept = weakref.ref(picture)
    steps.step(frame(0, pixels=picture))
    del picture
    assert kept() is None


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
    assert bodies[5]["keyframe_reason"] == "retry"
    assert all(len(body["faces"]) == 1 for body in bodies)
    assert told == ["degraded", "fixed"]


def test_a_detector_that_never_works_says_so_from_the_first_frame() -> None:
    steps = pipeline(FakeDetector(None))
    for number in range(3):
        body = faces(steps.step(frame(number)))
        assert (body["mode"], body["keyframe"], body["faces"]) == ("degraded", False, [])
    assert steps.problem == "7 numbers are NaN"


def test_while_the_detector_fails_faces_are_forgotten_in_time() -> None:
    steps = pipeline(FakeDetector(detections(BOX), None))
    shown, lost = [], []
    for number in range(60):
        messages = steps.step(frame(number))
        shown.append(len(faces(messages)["faces"]))
        lost += [event["track_id"] for event in events(messages) if event["event"] == "track_lost"]
    assert shown == [1] * 31 + [0] * 29  # a second, then nobody
    assert lost == [1]


def test_a_clock_that_steps_back_does_not_keep_ghosts() -> None:
    steps = pipeline(FakeDetector(detections(BOX), None))
    steps.step(frame(1000))
    shown = [len(faces(steps.step(frame(number)))["faces"]) for number in range(40)]
    assert shown == [1] * 31 + [0] * 9


def test_the_reason_stands_while_the_detector_fails() -> None:
    class Counting(FakeDetector):
        def detect(self, frame: object) -> Detections:
            self.looks.append(0)
            raise OutputError(f"{len(self.looks)} numbers are NaN")

    steps = pipeline(Counting())
    for number in range(5):
        steps.step(frame(number))
        assert steps.problem == "1 numbers are NaN"


def test_after_a_gap_it_looks_at_once() -> None:
    detector = FakeDetector(detections(BOX))
    steps = pipeline(detector, interval=300)
    for number in (0, 1, 2, 40, 41):  # 38 frames are 1.3 s
        steps.step(frame(number))
    steps.step(frame(4))  # the clock may step back as well
    assert detector.looks == [0, 40, 4]


def test_a_gap_is_longer_than_faces_are_remembered() -> None:
    detector = FakeDetector(detections(BOX))
    steps = Pipeline(detector, tracker(), KeyframeSchedule(300), blind_timeout_s=2.0)
    for number in (0, 40, 101):  # after 1.3 s, after 2.03 s
        steps.step(frame(number))
    assert detector.looks == [0, 101]


def test_a_short_timeout_makes_no_gap_of_every_frame() -> None:
    detector = FakeDetector(detections(BOX))
    steps = Pipeline(detector, tracker(lost_timeout_s=0.0), KeyframeSchedule(5), blind_timeout_s=0.0)
    for number in (*range(11), 40):  # 30 frames are 0.99999999 s
        steps.step(frame(number))
    assert detector.looks == [0, 5, 10]
    assert faces(steps.step(frame(71)))["keyframe_reason"] == "gap"


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


# --- what the configuration sets


def test_settings_reach_the_detector_and_the_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_card("edgeface-detector")
    outputs = {name: np.ones_like(value) for name, value in scrfd_outputs(64, anchors=1).items()}
    engine = FakeEngine(outputs, (64, 64))
    settings = {
        "detector": {"score_threshold": 0.62, "nms_iou_threshold": 0.33, "max_candidates": 17},
        "tracker": {
            "low_score_threshold": 0.21,
            "new_score_margin": 0.05,
            "min_hits": 4,
            "lost_timeout_s": 2.5,
            "coast_s": 0.3,
        },
    }
    config = load_config(None, settings)
    detector = make_detector(card, engine, config)
    asked: list[tuple[object, ...]] = []
    detector.decode = lambda outputs, score: (
        asked.append((score,)) or make_decoder(card, engine.outputs, (64, 64))(outputs, score)
    )
    detector.detect(frame(width=64, height=32))
    assert asked == [(0.21,)]
    assert detector.merge.func is clustering.nms
    assert detector.merge.keywords == {"iou_threshold": 0.33, "top_k": 17}
    np.testing.assert_allclose(engine.crops, letterbox((64, 32), (64, 64)))
    monkeypatch.setattr("edgeface.parts.ByteTracker", dict)
    assert make_tracker(card.thresholds, config) == {
        "high_score": pytest.approx(0.67),
        "low_score": 0.21,
        "min_hits": 4,
        "lost_timeout_s": 2.5,
        "coast_s": 0.3,
    }
    plain = make_tracker(card.thresholds, load_config(None, {}))
    assert (plain["high_score"], plain["low_score"]) == (0.6, 0.3)
    high = make_tracker(card.thresholds, load_config(None, {"detector": {"score_threshold": 0.95}}))
    assert 0.95 < high["high_score"] < 1  # or no face would ever begin
    low = make_tracker(card.thresholds, load_config(None, {"detector": {"score_threshold": 0.05}}))
    assert (low["high_score"], low["low_score"]) == (pytest.approx(0.15), 0.05)


def test_the_settings_of_each_clustering_reach_it() -> None:
    card = find_card("tao-facedetect")
    bbox, cov = np.zeros((1, 4, 26, 46), np.float32), np.zeros((1, 1, 26, 46), np.float32)
    engine = FakeEngine({"bbox": bbox, "cov": cov}, (736, 416))

    def merge(mode: str, **settings: Any) -> dict[str, Any]:
        detector = make_detector(card, engine, load_config(None, {"detector": {"clustering": mode} | settings}))
        assert detector.merge.func is getattr(clustering, mode)
        return detector.merge.keywords

    assert merge("nms") == {"iou_threshold": 0.5, "top_k": 400}
    usual = {"eps": 0.7, "min_boxes": 1, "min_score": 0.0, "athr": True}
    assert merge("deepstream_dbscan") == usual | {"top_k": 1200}
    other = {"eps": 0.2, "min_boxes": 3, "min_score": 0.5, "athr": False}
    assert merge("deepstream_dbscan", deepstream_dbscan=other, max_candidates=30) == other | {"top_k": 30}
    usual = {"eps": 0.3, "min_samples": 1.0, "confidence_threshold": 0.9, "min_height": 4.0}
    assert merge("tao_dbscan") == usual | {"top_k": 1200}
    other = {"eps": 0.15, "min_samples": 0.5, "confidence_threshold": 0.4, "min_height": 20.0}
    assert merge("tao_dbscan", tao_dbscan=other, max_candidates=30) == other | {"top_k": 30}


@pytest.mark.parametrize(
    ("settings", "scores"),
    [
        ({"clustering": "nms"}, [0.1, 0.2, 0.3]),  # the card's low score
        ({"clustering": "deepstream_dbscan"}, [0.2, 0.3]),
        ({"clustering": "deepstream_dbscan", "deepstream_dbscan": {"pre_cluster_threshold": 0.25}}, [0.3]),
        ({"clustering": "tao_dbscan"}, [0.01, 0.1, 0.2, 0.3]),
        ({"clustering": "tao_dbscan", "tao_dbscan": {"coverage_threshold": 0.05}}, [0.1, 0.2, 0.3]),
    ],
)
def test_each_clustering_says_which_candidates_count(settings: dict[str, Any], scores: list[float]) -> None:
    bbox, cov = np.ones((1, 4, 26, 46), np.float32), np.zeros((1, 1, 26, 46), np.float32)
    cov[0, 0, 10, 10:15] = [0.001, 0.01, 0.1, 0.2, 0.3]
    engine = FakeEngine({"bbox": bbox, "cov": cov}, (736, 416))
    detector = make_detector(find_card("tao-facedetect"), engine, load_config(None, {"detector": settings}))
    asked: list[np.ndarray] = []
    detector.merge = lambda xyxy, score, keypoints: asked.append(score) or Detections(xyxy, score, keypoints)
    detector.detect(frame())
    np.testing.assert_allclose(asked[0], scores)


def test_settings_reach_the_engine_and_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def open_engine(card: object, input_size: object, **options: object) -> FakeEngine:
        asked.update(options, input_size=input_size)
        return FakeEngine(scrfd_outputs(64, anchors=1), (64, 64))

    monkeypatch.setattr("edgeface.cpu.engine.open_engine", open_engine)
    settings = {
        "detector": {"input_size": [64, 64]},
        "tracker": {"keyframe_interval": 7, "lost_timeout_s": 0.25},
        "cpu": {"threads": 3, "spinning": True},
        "landmarks": {"card": "none"},
    }
    parts = build(load_config(None, settings))
    parts.close()
    steps = parts.pipeline
    assert asked == {"threads": 3, "spinning": True, "input_size": (64, 64)}
    assert parts.facts == {
        "backend": "fake",
        "detector": "edgeface-detector",
        "landmarks": "none",
        "precision": "fp32",
    }
    assert steps.schedule == KeyframeSchedule(7)
    assert steps.glimpse is None  # nobody asks for it
    settings["tracker"]["camera_moves"] = True
    parts = build(load_config(None, settings))
    parts.close()
    assert parts.pipeline.glimpse is glimpse
    detector = FakeDetector(detections(BOX), None)
    steps.detector = detector
    assert [len(faces(steps.step(frame(number)))["faces"]) for number in range(18)] == [1] * 8 + [0] * 10


def test_the_adaptive_schedule_is_made_from_the_settings_and_sees_the_pictures() -> None:
    limits = {"max_age_s": 0.1, "idle_age_s": 0.2, "max_uncertainty": 0.3, "max_travel": 0.4, "max_motion": 0.5}
    settings = {"tracker": {"keyframe_interval": "adaptive"}, "schedule": limits | {"max_detector_share": 0.6}}
    parts = build(load_config(None, settings))
    assert parts.pipeline.schedule == KeyframeSchedule(None, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    assert parts.pipeline.glimpse is glimpse
    parts.close()


def adaptive(detector: FakeDetector, **options: object) -> Pipeline:
    return Pipeline(detector, tracker(), KeyframeSchedule(None, **options), blind_timeout_s=1.0)


def test_an_adaptive_pipeline_says_why_it_looked() -> None:
    steps = adaptive(FakeDetector(detections(), detections(BOX)))
    bodies = [faces(steps.step(frame(number))) for number in range(40)]
    looks = {number: body["keyframe_reason"] for number, body in enumerate(bodies) if body["keyframe"]}
    reasons = list(looks.items())
    assert reasons[0] == (0, "start")
    assert reasons[1] == (31, "stale")  # nobody about: once a second (30 frames are 0.99999999 s)
    assert reasons[2] == (32, "new")  # somebody: again at once, and the face is confirmed
    assert {body["keyframe_age"] for number, body in enumerate(bodies) if number in looks} == {0}
    assert [body["mode"] for body in bodies[:33]] == ["idle"] * 33
    assert bodies[33]["mode"] == "adaptive"
    assert len(bodies[32]["faces"]) == 1


def test_mode_changes_are_events() -> None:
    steps = adaptive(FakeDetector(detections(BOX), detections(BOX), detections()), idle_age_s=0.1)
    said = [(topic, body) for number in range(90) for topic, body in steps.step(frame(number))]
    modes = [body["mode"] for topic, body in said if topic == "events" and body["event"] == "mode_changed"]
    assert modes == ["adaptive", "idle"]


def test_another_frame_size_is_no_change_of_the_mode() -> None:
    steps = adaptive(FakeDetector(detections(BOX)))
    said = [steps.step(frame(number, width=640 + 2 * (number // 10))) for number in range(40)]
    modes = [body["mode"] for messages in said for body in events(messages) if body["event"] == "mode_changed"]
    assert modes == ["adaptive"]


def test_something_that_moves_is_looked_at() -> None:
    steps = adaptive(FakeDetector(detections()))
    shown = np.zeros((36, 64), np.uint8)
    steps.glimpse = lambda _: shown.copy()
    for number in range(10):
        steps.step(frame(number))
    shown[5:20, 5:20] = 200
    body = faces(steps.step(frame(10)))
    assert body["keyframe_reason"] == "motion"
    assert not faces(steps.step(frame(11)))["keyframe"]  # what has been looked at is no news
    shown[:] = 0
    assert [faces(steps.step(frame(number)))["keyframe_reason"] for number in (12, 13)] == ["", "motion"]


def test_nothing_is_told_of_motion_while_the_camera_may_move() -> None:
    steps = Pipeline(
        FakeDetector(detections()), tracker(), KeyframeSchedule(None), blind_timeout_s=1.0, camera_moves=True
    )
    shown = np.zeros((36, 64), np.uint8)
    steps.glimpse = lambda _: shown.copy()
    steps.step(frame(0))
    shown[5:20, 5:20] = 200
    assert not any(faces(steps.step(frame(number)))["keyframe"] for number in range(1, 20))


def test_a_slow_detector_gets_its_share_of_the_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(FakeDetector):
        def detect(self, frame: Frame) -> Detections:
            clock[0] += 100_000_000
            return super().detect(frame)

    clock = [0]
    monkeypatch.setattr("time.perf_counter_ns", lambda: clock[0])
    detector = Slow(detections(BOX))
    steps = Pipeline(detector, tracker(), KeyframeSchedule(1, max_detector_share=0.5), blind_timeout_s=1.0)
    for number in range(30):
        steps.step(frame(number))
    assert detector.looks == [0, 7, 14, 21, 28]  # a look takes 0.1 s: every 0.2 s


def turning(number: int, down: int = 0) -> np.ndarray:
    """A glimpse of a scene that moves a cell to the right every frame, and `down` cells down in all."""
    scene = np.random.default_rng(0).integers(0, 256, (132, 200), np.uint8)
    return scene[30 - down : 102 - down, 60 - number : 188 - number]


def on_a_turning_camera(
    detector: FakeDetector | None = None,
    schedule: KeyframeSchedule | None = None,
    *,
    down: int = 0,
    camera_moves: bool = True,
) -> Pipeline:
    """A face that stands still, looked at once; `down`: cells a frame."""
    return Pipeline(
        detector or FakeDetector(detections(BOX)),
        tracker(),
        schedule or KeyframeSchedule(100),
        blind_timeout_s=1.0,
        glimpse=lambda frame: turning(frame.frame_id, down=down * frame.frame_id),
        camera_moves=camera_moves,
    )


@pytest.mark.parametrize("camera_moves", [True, False])
def test_faces_move_with_a_moving_camera(camera_moves: bool) -> None:
    steps = on_a_turning_camera(camera_moves=camera_moves)
    bodies = [faces(steps.step(frame(number))) for number in range(12)]
    moved = bodies[11]["faces"][0]["xyxy"][0] - bodies[0]["faces"][0]["xyxy"][0]
    expected = 11 * 640 / 128 if camera_moves else 0.0
    assert moved == pytest.approx(expected, abs=1.0)
    assert bodies[11]["faces"][0]["velocity"][0] == pytest.approx(expected / 11 * 30, abs=10)
    again = faces(steps.step(frame(12, width=320, height=180)))  # another size: nothing to compare with
    assert again["keyframe_reason"] == "start"
    assert again["faces"][0]["velocity"] == [0, 0]


def test_the_camera_moves_right_by_widths_and_down_by_heights() -> None:
    steps = on_a_turning_camera(down=2)
    for number in range(6):
        body = faces(steps.step(frame(number, height=240)))
    moved = np.array(body["faces"][0]["xyxy"]) - BOX
    np.testing.assert_allclose(moved, [25, 5 * 2 * 240 / 72] * 2, atol=1)


def test_the_schedule_judges_by_the_faces_own_speed() -> None:
    class Turning(FakeDetector):
        def detect(self, frame: Frame) -> Detections:
            return detections((100 + 5 * frame.frame_id, 100, 160 + 5 * frame.frame_id, 180))

    steps = on_a_turning_camera(Turning(), KeyframeSchedule(None, max_travel=0.1, max_motion=1.0))
    bodies = [faces(steps.step(frame(number))) for number in range(30)]
    assert bodies[29]["faces"][0]["velocity"][0] == pytest.approx(150, abs=10)
    assert {body["keyframe_reason"] for body in bodies} <= {"", "start", "stale", "uncertain"}


def test_a_standing_clock_gives_the_camera_no_speed() -> None:
    steps = on_a_turning_camera()
    for number in range(3):
        body = faces(steps.step(replace(frame(number), capture_ns=7)))
    assert body["faces"][0]["velocity"] == [0, 0]


def test_what_is_published_is_smoothed_and_nothing_else() -> None:
    boxes = [(100.0 + 3 * (number % 2), 100.0, 160.0, 180.0) for number in range(40)]
    plain, calm = (
        Pipeline(
            FakeDetector(*(detections(box) for box in boxes)),
            tracker(),
            KeyframeSchedule(1),
            blind_timeout_s=1.0,
            smoother=smoother,
        )
        for smoother in (None, FaceSmoother())
    )
    lefts = [
        [faces(steps.step(frame(number)))["faces"][0]["xyxy"][0] for number in range(40)][10:]
        for steps in (plain, calm)
    ]
    assert np.ptp(lefts[1]) < np.ptp(lefts[0]) / 2
    last = [steps.tracker.predict(40 * 33_333_333).xyxy.tolist() for steps in (plain, calm)]
    assert last[0] == last[1]


@pytest.mark.parametrize("smoothing", [True, False])
def test_smoothing_can_be_switched_off(smoothing: bool) -> None:
    settings = {"source": "scenario:hard?pace=0", "tracker": {"smoothing": smoothing, "keyframe_interval": 1}}
    parts = build(load_config(None, settings))
    bodies = [faces(parts.pipeline.step(parts.source.read(1.0))) for _ in range(5)]
    follow, scene = make_tracker(Thresholds(), load_config(None, {})), make_scene("hard", frames=5)
    follow.clear((scene.width, scene.height))
    raw = [follow.update(seen, round(number * 1e9 / 30)) for number, seen in enumerate(scene.detections)]
    same = [
        np.allclose([face["xyxy"] for face in body["faces"]], tracks.xyxy, atol=0.01)
        for body, tracks in zip(bodies, raw, strict=True)
    ]
    assert same == ([True, False, False, False, False] if smoothing else [True] * 5)


def test_a_scenario_needs_neither_engine_nor_card() -> None:
    settings = {
        "source": "scenario:crowd?faces=20&pace=0",
        "tracker": {"keyframe_interval": 4},
        "detector": {"card": "nobody"},
    }
    parts = build(load_config(None, settings))
    assert parts.networks is None
    assert parts.facts == {"backend": "scenario", "detector": "scenario", "landmarks": "none", "precision": "none"}
    bodies = [faces(parts.pipeline.step(parts.source.read(1.0))) for _ in range(9)]
    assert [number for number, body in enumerate(bodies) if body["keyframe"]] == [0, 4, 8]
    assert all(len(body["faces"]) > 14 for body in bodies)
    parts.close()


def test_a_scenario_has_a_usual_detectors_operating_point(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, float] = {}
    monkeypatch.setattr("edgeface.parts.ByteTracker", lambda **options: asked.update(options))
    build(load_config(None, {"source": "scenario:crowd"}))
    assert (asked["high_score"], asked["low_score"]) == (0.6, 0.1)
    build(load_config(None, {"source": "scenario:crowd", "detector": {"score_threshold": 0.7}}))
    assert (asked["high_score"], asked["low_score"]) == (pytest.approx(0.8), 0.1)


def test_what_was_built_is_closed_whatever_happens() -> None:
    class Stubborn(FakeSource):
        def close(self) -> None:
            super().close()
            raise OSError("the driver hangs")

    source, engines = Stubborn([]), (FakeEngine({}, (64, 64)), FakeEngine({}, (80, 80)))
    detector = FakeDetector(detections())
    networks = Networks(detector, Thresholds(), None, lambda frame: np.zeros((1, 1), np.uint8), engines, {})
    with pytest.raises(OSError, match="hangs"):
        Parts(source, pipeline(detector), networks, {}).close()
    assert source.closed
    assert [engine.closed for engine in engines] == [True, True]


def test_a_stretch_card_is_not_letterboxed() -> None:
    bbox, cov = np.zeros((1, 4, 26, 46), np.float32), np.zeros((1, 1, 26, 46), np.float32)
    engine = FakeEngine({"bbox": bbox, "cov": cov}, (736, 416))
    make_detector(find_card("tao-facedetect"), engine, load_config(None, {})).detect(frame(width=100, height=300))
    np.testing.assert_allclose(engine.crops, [[0, 0, 100, 300]])


def test_the_backend_that_lacks_a_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "edgeface.cpu.engine", None)
    with pytest.raises(ConfigError, match=r"pip install 'edgeface\[cpu\]'"):
        build(load_config(None, {}))


@pytest.mark.parametrize("source", ["demo:", "scenario:crowd"])
def test_a_backend_that_is_not_built_says_so(source: str) -> None:
    with pytest.raises(ConfigError, match="not built into this version"):
        build(load_config(None, {"backend": "cuda", "source": source}))


# --- landmarks

OTHER = (400.0, 100.0, 460.0, 180.0)
Change = Callable[[Frame, Landmarks], Landmarks]


def holding(
    detector: FakeDetector, change: Change | None = None, interval: int | None = 3, hold: bool = True, **parts: Any
) -> Pipeline:
    usual = {
        "tracker": tracker(),
        "landmarker": FakeLandmarker(change),
        "hold": LandmarkHold() if hold else None,
        "blind_timeout_s": 1.0,
    }
    return Pipeline(detector, schedule=KeyframeSchedule(interval), **(usual | parts))


def sources(body: dict[str, Any]) -> list[str]:
    return [face["source"] for face in body["faces"]]


def mirrored(found: Landmarks) -> Landmarks:
    """Points that no similarity takes to what they were."""
    return replace(found, xy=found.xy * np.array([-1, 1], np.float32) + 2 * found.xy.mean(axis=1)[:, None] * [1, 0])


def without(found: Landmarks, row: int) -> Landmarks:
    """One face's numbers mean nothing."""
    xy, score = found.xy.copy(), found.score.copy()
    xy[row], score[row] = np.nan, np.nan
    return replace(found, xy=xy, score=score, invalid=1)


def test_between_looks_faces_are_followed_by_their_landmarks() -> None:
    steps = holding(FakeDetector(detections(BOX, OTHER)))
    for number in range(10):
        body = faces(steps.step(frame(number)))
        assert sources(body) == (["landmarks"] * 2 if number % 3 else ["detector"] * 2)
        assert [face["age_ms"] for face in body["faces"]] == [0, 0]
        assert [face["track_id"] for face in body["faces"]] == [1, 2]
        assert set(body["timing_us"]) == {"faces", "landmarks"}
        for face, box in zip(body["faces"], (BOX, OTHER), strict=True):
            expected = landmarks(np.array([box], np.float32)).xy[0]
            np.testing.assert_allclose(landmark_points(face["landmarks"]), expected, atol=0.01)


def test_without_a_landmarker_there_is_nothing_of_it() -> None:
    body = faces(pipeline(FakeDetector(detections(BOX))).step(frame()))
    assert set(body["timing_us"]) == {"faces"}
    assert "landmarks" not in body["faces"][0]


def test_landmarks_are_sought_where_the_tracks_are() -> None:
    steps = holding(FakeDetector(detections(BOX), detections(OTHER), detections()), hold=False, interval=2)
    asked = steps.landmarker.asked
    for number in range(2):
        body = faces(steps.step(frame(number)))
        np.testing.assert_allclose(asked[-1], [face["xyxy"] for face in body["faces"]], atol=1e-3)
    assert len(faces(steps.step(frame(2)))["faces"]) == 1  # BOX is missed; OTHER has been seen but once
    assert np.isnan(asked[-1]).all()  # what is there may be another's
    assert [len(boxes) for boxes in asked] == [1, 1, 1]  # once a frame
    steps = holding(FakeDetector(detections()))
    assert faces(steps.step(frame()))["faces"] == []
    assert steps.landmarker.asked[0].shape == (0, 4)


def test_without_hold_landmarks_correct_nothing() -> None:
    steps = holding(FakeDetector(detections(BOX)), lambda _, found: replace(found, xy=found.xy + 5), hold=False)
    for number in range(6):
        body = faces(steps.step(frame(number)))
        assert sources(body) == ["predicted" if number % 3 else "detector"]
        np.testing.assert_allclose(body["faces"][0]["xyxy"], BOX, atol=0.01)
        assert "landmarks" in body["faces"][0]


def test_the_box_goes_where_the_landmarks_go() -> None:
    """Nobody looks; the face moves off, faster and faster."""

    def place(number: int) -> np.ndarray:
        right = 0.3 * number**2
        return np.array([(100 + right, 100, 160 + right, 180)], np.float32)

    detector = FakeDetector(detections(BOX))
    steps = holding(detector, lambda now, _: landmarks(place(now.frame_id)), interval=300)
    for number in range(20):
        (face,) = faces(steps.step(frame(number)))["faces"]
        np.testing.assert_allclose(face["xyxy"], place(number)[0], atol=5)
        assert face["source"] == ("landmarks" if number else "detector")
    assert face["velocity"][0] == pytest.approx(0.6 * 19 * 30, rel=0.2)


def test_a_face_whose_landmarks_fail_is_predicted_and_looked_for_at_once() -> None:
    steps = holding(
        FakeDetector(detections(BOX, OTHER), detections(OTHER)),
        lambda now, found: (
            replace(found, xy=np.concatenate([mirrored(found).xy[:1], found.xy[1:]])) if now.frame_id >= 3 else found
        ),
        interval=10,
    )
    bodies = [faces(steps.step(frame(number))) for number in range(16)]
    assert [sources(body) for body in bodies[:6]] == [
        ["detector", "detector"],
        ["landmarks", "landmarks"],
        ["landmarks", "landmarks"],
        ["predicted", "landmarks"],
        ["predicted", "detector"],
        ["predicted", "landmarks"],
    ]
    looks = {number: body["keyframe_reason"] for number, body in enumerate(bodies) if body["keyframe"]}
    assert looks == {0: "start", 4: "landmarks", 14: "interval"}


def test_an_adaptive_schedule_looks_for_it_too() -> None:
    steps = holding(
        FakeDetector(detections(BOX), detections()),
        lambda now, found: mirrored(found) if now.frame_id == 4 else found,
        interval=None,
    )
    bodies = [faces(steps.step(frame(number))) for number in range(6)]
    assert [body["keyframe_reason"] for body in bodies] == ["start", "", "", "", "", "landmarks"]


def test_a_face_that_a_look_misses_is_not_held() -> None:
    steps = holding(FakeDetector(detections(BOX), detections()))
    bodies = [faces(steps.step(frame(number))) for number in range(40)]
    assert [sources(body) for body in bodies[:3]] == [["detector"], ["landmarks"], ["landmarks"]]
    assert all(sources(body) == ["predicted"] for body in bodies[3:16])
    assert all(body["faces"] == [] for body in bodies[16:])  # 0.5 s after it was seen


class Dropping(ByteTracker):
    """Finds, once it is told where they are, that all but the last have left."""

    def hold(self, track_id: np.ndarray, xyxy: np.ndarray) -> Tracks:
        held = super().hold(track_id, xyxy)
        per_face = ("track_id", "state", "score", "xyxy", "velocity", "centre_std", "source", "age_ns", "track_age_ns")
        return replace(held, **{name: getattr(held, name)[-1:] for name in (*per_face, "keypoints")})


class Told:
    """Signals that remember what they were derived from."""

    def derive(self, frame: Frame, tracks: Tracks, landmarks: Landmarks, calm: Landmarks) -> Signals:
        self.frame, self.tracks, self.landmarks, self.calm = frame, tracks, landmarks, calm
        return Signals(openness=np.full((len(tracks.track_id), 2), 0.25, np.float32))


def test_who_proves_to_have_left_takes_its_landmarks_along() -> None:
    told = Told()
    steps = holding(
        FakeDetector(detections(BOX, OTHER)),
        lambda _, found: replace(found, grey=np.arange(len(found.xy), dtype=np.float32)[:, None, None]),
        tracker=Dropping(high_score=0.6, low_score=0.1),
        signals=told,
    )
    steps.step(frame(0))
    (face,) = faces(steps.step(frame(1)))["faces"]
    assert face["track_id"] == 2
    expected = landmarks(np.array([OTHER], np.float32)).xy[0]
    np.testing.assert_allclose(landmark_points(face["landmarks"]), expected, atol=0.01)
    assert told.landmarks.grey.tolist() == [[[1.0]]]


def test_signals_are_derived_from_the_landmarks_of_the_frame_and_from_calm_ones() -> None:
    jitter, still = 2.0, landmarks(np.array([BOX], np.float32))
    told = Told()
    steps = holding(
        FakeDetector(detections(BOX), detections((103, 100, 160, 180)), detections(BOX)),
        lambda now, _: replace(still, xy=still.xy + jitter * (now.frame_id % 2)),
        interval=1,
        signals=told,
        smoother=FaceSmoother(),
        hold=False,
    )
    steps.step(frame(0))
    for number in (1, 2):
        shown = frame(number)
        body = faces(steps.step(shown))
        (face,) = body["faces"]
        raw = still.xy + jitter * (number % 2)
        np.testing.assert_allclose(told.landmarks.xy, raw, atol=0.01)
        assert 0.1 < np.abs(told.calm.xy - raw).mean() < 1.9
        np.testing.assert_array_equal(landmark_points(face["landmarks"]), told.calm.xy[0])
        np.testing.assert_array_equal(told.calm.score, told.landmarks.score)
        assert told.frame is shown
        assert told.tracks.xyxy[0].tolist() == face["xyxy"] != steps.landmarker.asked[-1][0].tolist()
        assert face["eyes"] == {"right": 0.25, "left": 0.25}
        assert set(body["timing_us"]) == {"faces", "landmarks", "signals"}


def test_tracks_are_held_by_the_landmarks_as_they_are_not_by_calm_ones() -> None:
    change = lambda now, found: replace(found, xy=found.xy + 1.0 * (now.frame_id % 2))  # noqa: E731
    plain, calm = (
        holding(FakeDetector(detections(BOX)), change, smoother=smoother) for smoother in (None, FaceSmoother())
    )
    for number in range(12):
        for steps in (plain, calm):
            steps.step(frame(number))
    assert plain.tracker.predict(12 * 33_333_333).xyxy.tolist() == calm.tracker.predict(12 * 33_333_333).xyxy.tolist()


def test_landmarks_that_mean_nothing_are_told_and_hurt_no_other_face(caplog: pytest.LogCaptureFixture) -> None:
    steps = holding(
        FakeDetector(detections(BOX, OTHER)),
        lambda now, found: replace(without(found, 0), invalid=now.frame_id) if now.frame_id in (2, 3, 4) else found,
        interval=1,
    )
    plain = holding(FakeDetector(detections(BOX, OTHER)), interval=1)
    for number in range(7):
        (one, other), (_, same) = (faces(each.step(frame(number)))["faces"] for each in (steps, plain))
        bad = number in (2, 3, 4)
        assert ("landmarks" in one) == (not bad)
        assert other == same
        reason = "the landmarks of 2 faces mean nothing (NaN, infinite or absurd)"  # the first reason stands
        assert steps.problem == (reason if bad else "")
    assert caplog.text.count("mean nothing") == 1


def test_landmarks_recover_also_when_everybody_has_gone() -> None:
    detector = FakeDetector(detections(BOX), detections())
    steps = holding(detector, lambda _, found: without(found, 0) if len(found.xy) else found, interval=1)
    steps.step(frame(0))
    assert steps.problem
    for number in range(1, 40):
        body = faces(steps.step(frame(number)))
    assert (body["faces"], steps.problem) == ([], "")


def test_a_detector_that_fails_is_the_greater_problem() -> None:
    steps = holding(FakeDetector(detections(BOX), None), lambda _, found: without(found, 0), interval=2)
    steps.step(frame(0))
    assert steps.problem.startswith("the landmarks of 1 faces")
    for number in (1, 2):
        steps.step(frame(number))
    assert steps.problem == "7 numbers are NaN"


def test_a_face_whose_landmarks_become_nan_is_looked_for_at_once() -> None:
    steps = holding(
        FakeDetector(detections(BOX, OTHER)),
        lambda now, found: without(found, 0) if now.frame_id == 3 else found,
        interval=10,
    )
    bodies = [faces(steps.step(frame(number))) for number in range(6)]
    assert [body["keyframe_reason"] for body in bodies] == ["start", "", "", "", "landmarks", ""]
    assert sources(bodies[3]) == ["predicted", "landmarks"]


def test_a_landmark_network_that_dies_ends_the_run() -> None:
    def dead(_: Frame, found: Landmarks) -> Landmarks:
        raise EngineError("out of memory")

    with pytest.raises(EngineError, match="out of memory"):
        holding(FakeDetector(detections(BOX)), dead).step(frame())


def test_after_another_frame_size_nobody_is_held_by_old_landmarks() -> None:
    steps = holding(FakeDetector(detections(BOX)))
    steps.step(frame(0))
    assert sources(faces(steps.step(frame(1)))) == ["landmarks"]
    steps.step(frame(2, width=320))
    body = faces(steps.step(frame(3, width=320)))
    assert [(face["track_id"], face["source"]) for face in body["faces"]] == [(2, "landmarks")]


# --- landmarks with the default networks


def film(shown: np.ndarray, after: np.ndarray, frames: int, change_at: int, **settings: Any) -> list[dict[str, Any]]:
    """The bodies of a film whose picture changes once, and the ids lost under "lost"."""
    parts = build(load_config(None, settings))
    bodies = []
    for number in range(frames):
        picture = shown if number < change_at else after
        messages = parts.pipeline.step(frame(number, pixels=picture))
        lost = [event["track_id"] for event in events(messages) if event["event"] == "track_lost"]
        bodies.append(faces(messages) | {"lost": lost})
    parts.close()
    return bodies


@pytest.fixture(scope="module")
def three_faces() -> np.ndarray:
    picture: np.ndarray = cv2.VideoCapture(str(ROOT / "edgeface" / "demo" / "demo.mp4")).read()[1]
    return picture


@pytest.mark.parametrize("behind", ["noise", "clouds", "wall", "grey"])
def test_a_face_that_has_gone_is_not_followed_on_what_is_behind_it(three_faces: np.ndarray, behind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, three_faces.shape, np.uint8)
    clouds = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 8), None, 0, 255, cv2.NORM_MINMAX)
    wall = np.tile(three_faces[:60, 520:640], (6, 6, 1))[:360, :640]
    after = {"noise": noise, "clouds": clouds, "wall": wall, "grey": np.full_like(three_faces, 128)}[behind]
    bodies = film(three_faces, after, 75, change_at=8, tracker={"keyframe_interval": 6})
    assert [sources(body) for body in bodies[6:8]] == [["detector"] * 3, ["landmarks"] * 3]
    assert "landmarks" in {body["keyframe_reason"] for body in bodies[8:11]}
    assert all(sources(body) == ["predicted"] * 3 for body in bodies[10:15])
    assert all("landmarks" not in sources(body) for body in bodies[10:])
    assert [number for number, body in enumerate(bodies) if body["faces"]][-1] < 8 + 16  # coast_s
    assert sorted(id_ for body in bodies for id_ in body["lost"]) == [1, 2, 3]


@pytest.mark.parametrize("interval", [6, "adaptive"])
def test_of_three_faces_one_goes_and_two_are_followed_on(three_faces: np.ndarray, interval: int | str) -> None:
    after = three_faces.copy()
    after[70:260, 370:540] = np.tile(three_faces[:50, 540:625], (4, 2, 1))[:190]  # background over face 2
    bodies = film(three_faces, after, 40, change_at=9, tracker={"keyframe_interval": interval})
    assert "landmarks" in {body["keyframe_reason"] for body in bodies[9:12]}
    for number, body in enumerate(bodies):
        found = {face["track_id"]: face["source"] for face in body["faces"]}
        assert set(found) - {2} == {1, 3}
        if not body["keyframe"]:
            assert (found[1], found[3]) == ("landmarks", "landmarks")
        if number >= 11:
            assert found.get(2) in (None, "predicted")
    assert 2 not in {face["track_id"] for face in bodies[-1]["faces"]}


def test_faces_that_stay_are_held_by_the_default_network(three_faces: np.ndarray) -> None:
    still = film(three_faces, three_faces, 12, change_at=0, tracker={"keyframe_interval": 6})
    assert [body["keyframe_reason"] for body in still] == ["start", *[""] * 5, "interval", *[""] * 5]
    assert all(sources(body) == ["landmarks"] * 3 for body in still if not body["keyframe"])
    for settings in ({"hold_tracks": False}, {"card": "none"}):
        plain = film(three_faces, three_faces, 4, change_at=0, landmarks=settings)
        assert [sources(body) for body in plain] == [["detector"] * 3, *[["predicted"] * 3] * 2, ["detector"] * 3]
        located = "card" not in settings
        for body in plain:
            assert ("landmarks" in body["timing_us"]) == located
            assert all(("landmarks" in face) == located for face in body["faces"])


# --- what the configuration makes of landmarks


def small_landmarks(make_onnx: Callable[..., Path], make_card: Callable[..., Path], points: int, **card: Any) -> str:
    """A made network of so many points at (8, 8) of 16 pixels, batch 1."""
    xy, score = np.full((1, points, 2), 8, np.float32), np.full((1, points), 0.5, np.float32)
    make_onnx({"score": score, "points": xy}, input_shape=[1, 1, 16, 16])
    usual = {"name": "small", "task": "landmarks", "width": 16, "height": 16, "colour": "luma"}
    return str(make_card(f'type = "fpenet"\npoints = {card.pop("said", points)}', **(usual | card)))


def test_any_landmark_network_goes_with_any_detector(
    make_onnx: Callable[..., Path], make_card: Callable[..., Path], three_faces: np.ndarray
) -> None:
    card = small_landmarks(make_onnx, make_card, 5)
    settings = {"landmarks": {"card": card, "quality": True}}
    parts = build(load_config(None, settings))
    assert parts.facts["landmarks"] == "small"
    assert parts.facts["detector"] == "edgeface-detector"
    assert parts.networks.landmarker is parts.pipeline.landmarker
    assert parts.networks.engines[-1] is parts.networks.landmarker.engine
    for face in faces(parts.pipeline.step(frame(0, pixels=three_faces)))["faces"]:
        assert face["landmarks"]["n"] == 5
        x1, y1, x2, y2 = face["xyxy"]
        np.testing.assert_allclose(landmark_points(face["landmarks"]), [((x1 + x2) / 2, (y1 + y2) / 2)] * 5, atol=0.01)
        assert "yaw" not in face["quality"]
        assert face["quality"]["size_px"] > 50
    parts.close()
    for signal in ("pose", "eyes"):
        with pytest.raises(ConfigError, match=r"small: pose and eyes need \(68, 80, 104\) points, it has 5"):
            build(load_config(None, {"landmarks": {"card": card, signal: True}}))


def test_a_scenario_has_no_landmarks_whatever_is_asked_for() -> None:
    settings = {"source": "scenario:crowd?pace=0", "landmarks": {"card": "nobody", "pose": True, "quality": True}}
    parts = build(load_config(None, settings))
    assert parts.facts["landmarks"] == "none"
    assert (parts.pipeline.landmarker, parts.pipeline.signals) == (None, None)
    for _ in range(3):
        body = faces(parts.pipeline.step(parts.source.read(1.0)))
        assert set(body["timing_us"]) == {"faces"}
        assert not {"landmarks", "pose", "quality"} & {key for face in body["faces"] for key in face}
    parts.close()


def test_a_network_that_is_no_landmark_network_is_refused(
    make_onnx: Callable[..., Path], make_card: Callable[..., Path]
) -> None:
    with pytest.raises(EngineError, match="edgeface-detector: expected a card with task landmarks, found detect"):
        build(load_config(None, {"landmarks": {"card": "edgeface-detector"}}))
    with pytest.raises(EngineError, match="edgeface-landmarks: a landmarks network cannot detect"):
        build(load_config(None, {"detector": {"card": "edgeface-landmarks"}}))
    with pytest.raises(ConfigError, match="no network called 'nobody'; there are: edgeface-detector"):
        build(load_config(None, {"landmarks": {"card": "nobody"}}))
    card = small_landmarks(make_onnx, make_card, 5, said=68)
    with pytest.raises(EngineError, match=r"small: for 68 points .*found score \[1, 5\], points \[1, 5, 2\]"):
        build(load_config(None, {"landmarks": {"card": card}}))


# --- the detector


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
