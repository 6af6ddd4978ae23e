"""One step a frame: keyframes, prediction in between, and a detector that fails."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import scrfd_outputs
from fakes import (
    FakeDetector,
    FakeEngine,
    FakeSource,
    detections,
    events,
    faces,
    frame,
    tracker,
)

from edgeface import clustering
from edgeface.backend import Backend
from edgeface.boxes import letterbox
from edgeface.config import load_config
from edgeface.cpu.crop import glimpse
from edgeface.decoders import make_decoder
from edgeface.errors import OutputError
from edgeface.model_card import Thresholds, find_card
from edgeface.networks import Networks, make_detector
from edgeface.parts import Parts, build, make_tracker
from edgeface.pipeline import Pipeline
from edgeface.scenario.scenes import make_scene
from edgeface.schedule import KeyframeSchedule
from edgeface.smoothing import FaceSmoother
from edgeface.values import Detections, Frame

BOX = (100.0, 100.0, 160.0, 180.0)


def pipeline(detector: FakeDetector, interval: int = 3) -> Pipeline:
    return Pipeline(detector, tracker(), KeyframeSchedule(interval), blind_timeout_s=1.0)


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
    assert plain["high_score"] == pytest.approx(card.thresholds.score + 0.1)
    assert plain["low_score"] == card.thresholds.low_score
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
    with ExitStack() as stack:
        for engine in engines:
            stack.callback(engine.close)
        backend = Backend(
            engines, lambda frame: np.zeros((1, 1), np.uint8), lambda uri: source, {}, stack.pop_all().close
        )
    networks = Networks(detector, Thresholds(), None, backend, {})
    with pytest.raises(OSError, match="hangs"):
        Parts(source, pipeline(detector), networks, {}).close()
    assert source.closed
    assert [engine.closed for engine in engines] == [True, True]


def test_a_stretch_card_is_not_letterboxed() -> None:
    bbox, cov = np.zeros((1, 4, 26, 46), np.float32), np.zeros((1, 1, 26, 46), np.float32)
    engine = FakeEngine({"bbox": bbox, "cov": cov}, (736, 416))
    make_detector(find_card("tao-facedetect"), engine, load_config(None, {})).detect(frame(width=100, height=300))
    np.testing.assert_allclose(engine.crops, [[0, 0, 100, 300]])
