"""Landmarks in the pipeline: what is held, what is doubted, faces that go, and what the configuration makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import demo_picture
from fakes import (
    FakeDetector,
    FakeLandmarker,
    detections,
    events,
    faces,
    frame,
    landmarks,
    tracker,
)

from edgeface.config import load_config
from edgeface.errors import ConfigError, EngineError
from edgeface.holding import LandmarkHold
from edgeface.message import landmark_points
from edgeface.parts import build
from edgeface.pipeline import Pipeline
from edgeface.schedule import KeyframeSchedule
from edgeface.self_test import SelfTest
from edgeface.smoothing import FaceSmoother
from edgeface.tracker import ByteTracker
from edgeface.values import Frame, Landmarks, Signals, Tracks

BOX = (100.0, 100.0, 160.0, 180.0)
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
    body = faces(holding(FakeDetector(detections(BOX)), hold=False, landmarker=None).step(frame()))
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
    def change(now: Frame, found: Landmarks) -> Landmarks:
        return replace(found, xy=found.xy + 1.0 * (now.frame_id % 2))

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
def four_faces() -> np.ndarray:
    return demo_picture()


@pytest.mark.parametrize("behind", ["noise", "clouds", "wall", "grey"])
def test_a_face_that_has_gone_is_not_followed_on_what_is_behind_it(four_faces: np.ndarray, behind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, four_faces.shape, np.uint8)
    clouds = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 8), None, 0, 255, cv2.NORM_MINMAX)
    wall = np.tile(four_faces[:40, 430:530], (9, 7, 1))[:360, :640]
    after = {"noise": noise, "clouds": clouds, "wall": wall, "grey": np.full_like(four_faces, 128)}[behind]
    bodies = film(four_faces, after, 75, change_at=8, tracker={"keyframe_interval": 6})
    assert [sources(body) for body in bodies[6:8]] == [["detector"] * 4, ["landmarks"] * 4]
    assert "landmarks" in {body["keyframe_reason"] for body in bodies[8:11]}
    assert all(sources(body) == ["predicted"] * 4 for body in bodies[10:15])
    assert all("landmarks" not in sources(body) for body in bodies[10:])
    assert [number for number, body in enumerate(bodies) if body["faces"]][-1] < 8 + 16  # coast_s
    assert sorted(id_ for body in bodies for id_ in body["lost"]) == [1, 2, 3, 4]


@pytest.mark.parametrize("interval", [6, "adaptive"])
def test_of_four_faces_one_goes_and_three_are_followed_on(four_faces: np.ndarray, interval: int | str) -> None:
    after = four_faces.copy()
    after[30:200, 515:640] = np.tile(four_faces[:40, 430:530], (5, 2, 1))[:170, :125]  # background over one face
    bodies = film(four_faces, after, 40, change_at=9, tracker={"keyframe_interval": interval})
    (gone,) = (face["track_id"] for face in bodies[8]["faces"] if face["xyxy"][0] > 515)
    others = {1, 2, 3, 4} - {gone}
    assert "landmarks" in {body["keyframe_reason"] for body in bodies[9:12]}
    for number, body in enumerate(bodies):
        found = {face["track_id"]: face["source"] for face in body["faces"]}
        assert set(found) - {gone} == others
        if number >= 9 and not body["keyframe"]:
            assert {found[track] for track in others} == {"landmarks"}
        if number >= 11:
            assert found.get(gone) in (None, "predicted")
    assert gone not in {face["track_id"] for face in bodies[-1]["faces"]}


def test_faces_that_stay_are_held_by_the_default_network(four_faces: np.ndarray) -> None:
    still = film(four_faces, four_faces, 12, change_at=0, tracker={"keyframe_interval": 6})
    assert [body["keyframe_reason"] for body in still] == ["start", *[""] * 5, "interval", *[""] * 5]
    assert all(sources(body) == ["landmarks"] * 4 for body in still if not body["keyframe"])
    for settings in ({"hold_tracks": False}, {"card": "none"}):
        plain = film(four_faces, four_faces, 4, change_at=0, landmarks=settings)
        assert [sources(body) for body in plain] == [["detector"] * 4, *[["predicted"] * 4] * 2, ["detector"] * 4]
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
    make_onnx: Callable[..., Path], make_card: Callable[..., Path], four_faces: np.ndarray
) -> None:
    card = small_landmarks(make_onnx, make_card, 5)
    settings = {"landmarks": {"card": card, "quality": True}}
    parts = build(load_config(None, settings))
    assert parts.facts["landmarks"] == "small"
    assert parts.facts["detector"] == "edgeface-detector"
    assert parts.networks.landmarker is parts.pipeline.landmarker
    assert parts.networks.backend.engines[-1] is parts.networks.landmarker.engine
    for face in faces(parts.pipeline.step(frame(0, pixels=four_faces)))["faces"]:
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


# --- engines that fail their self-test


def failing(detector: str = "", landmarks: str = "") -> SelfTest:
    """Always due; the reasons why one fails."""
    now_ns = iter(range(0, 10**15, 10**10))
    return SelfTest([("a", lambda: detector)], [("b", lambda: landmarks)], 1.0, lambda: next(now_ns))


def run_tested(steps: Pipeline, frames: range) -> list[dict[str, Any]]:
    """The frames' messages, with each engine tested between two frames."""
    bodies = []
    for number in frames:
        bodies.append(faces(steps.step(frame(number))))
        steps.self_test()
        steps.self_test()
    return bodies


def test_a_detector_that_fails_its_self_test_is_not_asked() -> None:
    detector = FakeDetector(detections(BOX))
    steps = holding(detector, self_test=failing(detector="expected this, found that"))
    first, *rest = run_tested(steps, range(10))
    assert detector.looks == [0]
    assert first["mode"] == "fixed"
    assert {body["mode"] for body in rest[2:]} == {"degraded"}
    assert [sources(body) for body in rest[2:]] == [["landmarks"]] * 7  # they still hold it
    assert steps.problem == "a fails its self-test: expected this, found that"


def test_landmarks_that_fail_their_self_test_are_not_asked_for() -> None:
    detector = FakeDetector(detections(BOX))
    steps = holding(detector, self_test=failing(landmarks="expected this, found that"))
    first, *rest = run_tested(steps, range(10))
    assert "landmarks" in first["faces"][0]
    assert not any("landmarks" in face for body in rest for face in body["faces"])
    assert {body["mode"] for body in rest} == {"fixed"}
    assert {tuple(sources(body)) for body in rest} == {("detector",), ("predicted",)}
    assert steps.problem == "b fails its self-test: expected this, found that"


def test_without_a_self_test_nothing_is_tested() -> None:
    steps = holding(FakeDetector(detections(BOX)))
    assert all(body["mode"] == "fixed" for body in run_tested(steps, range(4)))
    assert steps.problem == ""
