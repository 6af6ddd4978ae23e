"""Which followed faces are remembered, published, or one face twice."""

from __future__ import annotations

import numpy as np
import pytest

from edgeface import kalman
from edgeface.association import Motion
from edgeface.lifecycle import ROW, doubles, known
from edgeface.values import CONFIRMED, LOST, TENTATIVE

SECOND_NS = 10**9


def judged(
    state: int = CONFIRMED,
    *,
    unseen_s: float = 0.0,
    unmeasured_s: float = 0.0,
    x: float = 300.0,
    speed: float = 0.0,
    size: float = 50.0,
    seen: bool = False,
    middle: bool = True,
) -> tuple[bool, bool]:
    """Whether a face of 50 pixels is remembered and published; a second it is, half a second after a look."""
    rows, now_ns = np.zeros(1, ROW), 100 * SECOND_NS
    rows["state"], rows["area"] = state, 50.0**2
    rows["seen_ns"], rows["measured_ns"] = now_ns - round(unseen_s * 1e9), now_ns - round(unmeasured_s * 1e9)
    filtered = np.zeros((5, 1, 4))
    filtered[kalman.X, 0] = x, 200, size, size
    filtered[kalman.V, 0, 0] = speed
    filtered[kalman.PP] = 5.0**2
    remembered, shown = known(
        rows,
        filtered,
        now_ns,
        np.array([seen]),
        motion=Motion(slack=0.15),
        middle=np.array([320.0, 180.0]) if middle else None,
        coast_ns=SECOND_NS // 2,
        lost_timeout_ns=SECOND_NS,
    )
    return bool(remembered[0]), bool(shown[0])


@pytest.mark.parametrize("unmeasured_s", [0.0, 0.4])
def test_how_long_a_face_lives_counts_from_when_the_detector_saw_it(unmeasured_s: float) -> None:
    ages = (0.0, 0.5, 0.51, 1.0, 1.01)
    lost = [judged(LOST, unseen_s=age, unmeasured_s=min(age, unmeasured_s)) for age in ages]
    assert lost == [(True, True), (True, True), (True, False), (True, False), (False, False)]
    confirmed = [judged(CONFIRMED, unseen_s=age, unmeasured_s=min(age, unmeasured_s)) for age in ages]
    assert confirmed == [(True, True)] * 4 + [(False, True)]  # nobody has missed it


def test_a_tentative_face_lives_from_look_to_look_and_is_never_published() -> None:
    assert judged(TENTATIVE) == (False, False)
    assert judged(TENTATIVE, seen=True) == (True, False)


def test_where_a_face_may_be_counts_from_when_it_was_last_measured() -> None:
    """Its centre 12 pixels outside, its standard deviation 5, and 7.5 more for a frame without a measurement."""
    assert judged(LOST, x=652, unseen_s=0.3, unmeasured_s=0.0) == (False, False)
    assert judged(LOST, x=652, unseen_s=0.3, unmeasured_s=0.3) == (True, False)
    assert judged(LOST, x=652, unseen_s=0.3, middle=False) == (True, True)


def test_who_was_measured_outside_is_shown_there_until_it_is_missed() -> None:
    assert judged(x=646, unseen_s=0.3, unmeasured_s=0.0, speed=200) == (False, True)
    assert judged(x=646, unseen_s=0.3, unmeasured_s=0.1, speed=200) == (True, False)  # it was at 626
    assert judged(LOST, x=646, unseen_s=0.3, unmeasured_s=0.0, speed=200) == (False, False)


@pytest.mark.parametrize(("size", "plausible"), [(99, True), (101, False), (25.5, True), (24.5, False)])
def test_a_prediction_of_another_size_than_was_measured_is_no_face(size: float, plausible: bool) -> None:
    assert judged(size=size) == (plausible, plausible)
    assert judged(size=size, seen=True) == (True, True)


def test_of_two_tracks_on_one_face_the_older_stays() -> None:
    rows = np.zeros(2, ROW)
    rows["state"] = LOST, CONFIRMED
    seen = np.array([False, True])
    xyxy = np.array([[10, 10, 50, 50]] * 2, np.float32)
    rows["first_ns"] = 0, 1
    assert doubles(rows, xyxy, seen).tolist() == [False, True]
    rows["first_ns"] = 1, 0
    assert doubles(rows, xyxy, seen).tolist() == [True, False]
    xyxy[1] += 20
    assert doubles(rows, xyxy, seen).tolist() == [False, False]
