"""The self-test: what counts as the same answer, and when it is asked for."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, MakeOnnx, scrfd_outputs
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgeface import self_test
from edgeface.cpu.engine import open_engine
from edgeface.errors import DeviceError
from edgeface.model_card import Card, find_card, input_sizes, load_card
from edgeface.passport import Golden, Precision
from edgeface.self_test import SelfTest, golden_picture, make_check, make_golden

DETECTOR, LANDMARKS = find_card("edgeface-detector"), find_card("edgeface-landmarks")
SECOND = 1_000_000_000


def opened(card: Card, size: tuple[int, int] | None = None) -> Any:
    return open_engine(card, size, threads=1, spinning=False)


class Skewed:
    """An engine whose outputs are changed on the way."""

    def __init__(self, engine: Any, change: Callable[[str, np.ndarray], np.ndarray]) -> None:
        self._engine, self._change = engine, change
        self.input_size, self.outputs, self.precision = engine.input_size, engine.outputs, "int8"

    def infer(self, frame: Any, crops: Any) -> dict[str, np.ndarray]:
        return {name: self._change(name, out) for name, out in self._engine.infer(frame, crops).items()}


# --- the picture and the answer


def test_the_picture_is_small_and_has_faces_for_landmarks() -> None:
    frame, xyxy, sha256 = golden_picture()
    assert (frame.width, frame.height, frame.pixels.shape) == (256, 144, (144, 256, 3))
    assert (ROOT / "edgeface" / "demo" / "golden.npz").stat().st_size < 100_000
    assert (frame.format, frame.pixels.dtype, xyxy.dtype, len(sha256)) == ("bgr8", np.uint8, np.float32, 64)
    assert xyxy.shape == (5, 4)
    assert (xyxy[:, 2:] - xyxy[:, :2] > 24).all()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("size", [*input_sizes(DETECTOR), (320, 192), (1280, 736)])
def test_the_default_detector_sees_faces_for_certain_at_every_size_and_passes(
    size: tuple[int, int], precision: Precision
) -> None:
    engine = opened(DETECTOR, size)
    golden = make_golden(DETECTOR, engine, precision)
    assert golden is not None
    assert len(golden.faces) >= 2
    assert {len(row) for row in golden.faces} == {5 + 10}
    check = make_check(DETECTOR, engine, golden)
    assert check is not None
    assert check() == ""


@pytest.mark.parametrize("name", ["scrfd-500m-kps", "scrfd-2.5g-kps"])
def test_so_do_the_scrfd_networks(data: Path, name: str) -> None:
    card = find_card(name, (str(data / "networks"),))
    engine = opened(card)
    golden = make_golden(card, engine, "int8")
    assert golden is not None
    assert len(golden.faces) == 5
    check = make_check(card, engine, golden)
    assert check is not None
    assert check() == ""


def test_the_default_landmarks_pass() -> None:
    engine = opened(LANDMARKS)
    golden = make_golden(LANDMARKS, engine, "fp16")
    assert golden is not None
    assert [len(row) for row in golden.faces] == [160] * 5
    check = make_check(LANDMARKS, engine, golden)
    assert check is not None
    assert check() == ""


@pytest.mark.parametrize("card", [DETECTOR, LANDMARKS], ids=["detector", "landmarks"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name, out: out * 0, "expected"),
        (lambda name, out: out + np.float32(np.nan), "expected . faces in the golden picture, found that"),
        (lambda name, out: np.full_like(out, np.inf), "mean nothing"),
        (lambda name, out: out[:, ::-1], "expected"),  # another order of rows
    ],
)
def test_an_engine_that_gives_nonsense_fails_and_it_says_why(
    card: Card, change: Callable[[str, np.ndarray], np.ndarray], said: str
) -> None:
    engine = opened(card)
    check = make_check(card, Skewed(engine, change), make_golden(card, engine, "int8"))
    assert check is not None
    why = check()
    assert re.search(said, why), why
    assert "\n" not in why


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name, out: out + 4 if "bbox" in name else out, r"found one of 0.\d\d at \[.*% of its size off"),
        (lambda name, out: out + 20 if "kps" in name else out, r"found one of 0.\d\d at \[.*% of its size off"),
        (lambda name, out: out * 0.5 if "score" in name else out, r"expected a face of score 0.9\d at \[.*found"),
        (lambda name, out: 1 - 0.05 * out if "score" in name else out, "expected"),
        (lambda name, out: out * 0, r"expected a face of score 0.9\d at \[.*\] .* found none there, 0 elsewhere"),
    ],
)
def test_a_detector_that_is_a_little_wrong_fails_too(
    change: Callable[[str, np.ndarray], np.ndarray], said: str
) -> None:
    engine = opened(DETECTOR)
    check = make_check(DETECTOR, Skewed(engine, change), make_golden(DETECTOR, engine, "int8"))
    assert check is not None
    assert re.search(said, check()), check()


def test_a_network_that_sees_nobody_has_no_answer(make_onnx: MakeOnnx, make_card: Callable[..., Path]) -> None:
    make_onnx(scrfd_outputs())
    card = load_card(make_card())
    assert make_golden(card, opened(card), "fp16") is None


def test_without_an_answer_to_this_picture_there_is_no_test(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine = opened(LANDMARKS)
    golden = make_golden(LANDMARKS, engine, "fp16")
    assert golden is not None
    for other in (None, replace(golden, picture="0" * 64)):
        caplog.clear()
        assert make_check(LANDMARKS, engine, other) is None
        assert caplog.messages == [
            "edgeface-landmarks: no self-test, its passport has no answer to the golden picture; build it anew for one"
        ]


@pytest.mark.parametrize("card", [DETECTOR, LANDMARKS], ids=["detector", "landmarks"])
def test_an_answer_of_another_form_is_another(card: Card) -> None:
    engine = opened(card)
    golden = make_golden(card, engine, "fp16")
    assert golden is not None
    others = [tuple(row[:-2] for row in golden.faces)]
    if card is LANDMARKS:
        others.append(golden.faces[:2])
    for faces in others:
        check = make_check(card, engine, replace(golden, faces=faces))
        assert check is not None
        assert check().endswith("the card has changed")


# --- the same, or not


def rows(*faces: tuple[float, ...]) -> np.ndarray:
    return np.array(faces, np.float32).reshape(len(faces), 5)


ONE, TWO = (0.9, 10.0, 10.0, 50.0, 50.0), (0.7, 100.0, 10.0, 140.0, 50.0)
GOLDEN = Golden(picture="0" * 64, faces=(ONE, TWO), score_tolerance=0.1, place_tolerance=0.1)


def differ(found: np.ndarray) -> str:
    return self_test._faces_differ(found, rows(ONE, TWO), GOLDEN, 0.5)


@given(st.lists(st.floats(-0.99, 0.99), min_size=10, max_size=10), st.booleans())
def test_faces_within_the_tolerances_are_the_same_in_any_order(off: list[float], turned: bool) -> None:
    found = rows(ONE, TWO) + np.array(off, np.float32).reshape(2, 5) * np.array([0.1, 4, 4, 4, 4], np.float32)
    assert differ(found[::-1] if turned else found) == ""


@given(st.integers(0, 1), st.integers(0, 4), st.sampled_from([-1, 1]), st.floats(1.01, 3))
def test_one_number_beyond_its_tolerance_is_not(face: int, column: int, sign: int, off: float) -> None:
    found = rows(ONE, TWO)
    found[face, column] += sign * off * (0.1, 4, 4, 4, 4)[column]
    assert differ(found) != ""
    found[face, column] = np.nan
    assert differ(found) != ""


def test_faces_that_are_missing_or_too_many() -> None:
    assert differ(rows(ONE)) == (
        "expected a face of score 0.70 at [100, 10, 140, 50] in the golden picture, found none there, 1 elsewhere"
    )
    assert differ(rows(ONE, TWO, (0.59, 200, 10, 240, 50))) == ""
    assert differ(rows(ONE, TWO, (0.99, 20, 10, 60, 50))) == ""  # at one that is expected
    assert differ(rows(ONE, TWO, (0.61, 200, 10, 240, 50))) == (
        "expected 2 faces in the golden picture, found one more of 0.61 at [200, 10, 240, 50]"
    )


@given(st.floats(0, 30))
def test_points_may_be_off_by_the_tolerance_in_the_mean(off: float) -> None:
    _, xyxy, _ = golden_picture()
    expected = np.zeros((len(xyxy), 160), np.float32)
    found = expected.copy()
    found[1, ::2] += np.float32(off)
    share = off / float(np.sqrt((xyxy[1, 2:] - xyxy[1, :2]).prod()))
    why = self_test._points_differ(found, expected, GOLDEN, 0.5)
    if abs(share - 0.1) > 1e-3:
        assert (why == "") == (share < 0.1)
    assert not why or why.startswith("expected the landmarks of face 2 in the golden picture within 10% of its size")


# --- now and then


class Clock:
    def __init__(self) -> None:
        self.ns = 5 * SECOND

    def __call__(self) -> int:
        return self.ns


class Answer:
    """A check whose answer can be set."""

    def __init__(self) -> None:
        self.why, self.asked = "", 0

    def __call__(self) -> str:
        self.asked += 1
        return self.why


def test_each_engine_is_tested_once_a_period_and_one_at_a_time() -> None:
    clock, checks = Clock(), [Answer(), Answer(), Answer()]
    test = SelfTest([("a", checks[0]), ("b", checks[1])], [("c", checks[2])], 60, clock)
    test.run_due(keyframe=False)
    assert [check.asked for check in checks] == [0, 0, 0]
    for round_ in (1, 2):
        clock.ns += 60 * SECOND
        for number in range(3):
            test.run_due(keyframe=False)
            assert sum(check.asked for check in checks) == 3 * round_ - 2 + number
        test.run_due(keyframe=False)
        assert [check.asked for check in checks] == [round_] * 3


def test_it_waits_a_second_for_a_frame_without_a_look() -> None:
    clock, check = Clock(), Answer()
    test = SelfTest([("a", check)], [], 60, clock)
    clock.ns += 61 * SECOND - 1
    test.run_due(keyframe=True)
    assert check.asked == 0
    clock.ns += 1
    test.run_due(keyframe=True)
    assert check.asked == 1


def test_one_that_fails_is_tested_every_second_until_it_passes(caplog: pytest.LogCaptureFixture) -> None:
    clock, detector, landmarks = Clock(), Answer(), Answer()
    test = SelfTest([("a", detector)], [("b", landmarks)], 60, clock)
    landmarks.why = "expected this, found that"
    clock.ns += 60 * SECOND
    test.run_due(keyframe=False)
    test.run_due(keyframe=False)
    assert test.problem == test.landmarks_problem == "b fails its self-test: expected this, found that"
    assert test.detector_problem == ""
    detector.why = landmarks.why = "expected this, found something else"
    clock.ns += SECOND
    test.run_due(keyframe=False)
    assert (detector.asked, landmarks.asked) == (1, 2)
    assert test.landmarks_problem.endswith("found that")  # the first reason stands
    clock.ns += 59 * SECOND
    test.run_due(keyframe=False)
    test.run_due(keyframe=False)
    assert test.problem == test.detector_problem == "a fails its self-test: expected this, found something else"
    detector.why = landmarks.why = ""
    for _ in range(2):
        clock.ns += SECOND
        test.run_due(keyframe=False)
        test.run_due(keyframe=False)
    assert test.problem == ""
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR", "WARNING", "WARNING"]
    assert caplog.messages[-1].endswith("passes its self-test again")
    asked = detector.asked
    clock.ns += 50 * SECOND
    test.run_due(keyframe=False)
    assert detector.asked == asked


def test_a_gpu_that_is_lost_in_a_test_is_the_loops_affair() -> None:
    def lost() -> str:
        raise DeviceError("lost")

    clock = Clock()
    test = SelfTest([("a", lost)], [], 1, clock)
    clock.ns += SECOND
    with pytest.raises(DeviceError):
        test.run_due(keyframe=False)
