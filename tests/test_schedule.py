"""When to look: the rule table, rule by rule, and what the rules judge by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from fakes import detections, tracker
from hypothesis import given
from hypothesis import strategies as st

from edgeface.schedule import RULES, KeyframeSchedule, Situation, moved_share, situation
from edgeface.values import LOST

ADAPTIVE = KeyframeSchedule()
CALM = Situation(age=5, age_s=0.1, look_s=0.0, faces=2)
FRAME = (640, 360)


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("", {}),
        ("stale", {"age_s": 0.25}),
        ("stale", {"age_s": 1.0, "faces": 0}),
        ("", {"age_s": 0.9, "faces": 0}),
        ("new", {"tentative": 1, "age": 1}),
        ("uncertain", {"uncertainty": 0.16, "age": 1}),
        ("", {"uncertainty": 0.14}),
        ("travel", {"travel": 0.51, "age": 1}),
        ("", {"travel": 0.49}),
        ("missed", {"missed": 1, "age": 2}),
        ("", {"missed": 1, "age": 1}),
        ("motion", {"motion": 0.011, "age": 3}),
        ("", {"motion": 0.011, "age": 2}),
        ("", {"motion": 0.009}),
        ("stale", {"age_s": 9.0, "tentative": 1, "motion": 1.0}),
        ("new", {"tentative": 1, "motion": 1.0, "doubted": 1}),
        ("landmarks", {"age": 2, "doubted": 1, "uncertainty": 0.2}),
    ],
)
def test_each_rule_says_why(why: str, changes: dict) -> None:
    assert ADAPTIVE.reason(CALM._replace(**changes)) == why


def test_the_page_names_every_rule() -> None:
    page = (ROOT / "docs" / "tracking.md").read_text()
    assert all(f"`{name}`" in page for name, _, _ in RULES)


def test_every_limit_can_be_set() -> None:
    wide = replace(ADAPTIVE, max_age_s=2, idle_age_s=3, max_uncertainty=1, max_travel=5, max_motion=1)
    for changes in ({"age_s": 1.9}, {"faces": 0, "age_s": 2.9}, {"uncertainty": 0.9}, {"travel": 4.9}, {"motion": 1.0}):
        assert wide.reason(CALM._replace(**changes)) == ""


def test_fixed_looks_at_every_nth_frame_and_where_landmarks_fail() -> None:
    every_third = KeyframeSchedule(3)
    busy = CALM._replace(tentative=5, missed=5, uncertainty=9, travel=9, motion=1.0, age_s=30)
    assert [every_third.reason(busy._replace(age=age)) for age in (1, 2, 3, 4)] == ["", "", "interval", "interval"]
    doubtful = CALM._replace(doubted=1)
    assert [every_third.reason(doubtful._replace(age=age)) for age in (1, 2, 3)] == ["", "landmarks", "interval"]


@given(st.floats(0.01, 1, exclude_max=True), st.floats(0, 0.2), st.floats(0, 3), st.integers(0, 3))
def test_looking_keeps_its_share_of_the_time_but_nobody_gets_stale(
    share: float, look_s: float, age_s: float, faces: int
) -> None:
    for schedule in (KeyframeSchedule(1, max_detector_share=share), KeyframeSchedule(max_detector_share=share)):
        now = Situation(age=5, age_s=age_s, look_s=look_s, faces=faces, tentative=1)
        stale = age_s >= (0.25 if faces else 1.0)
        assert bool(schedule.reason(now)) == (stale or age_s >= look_s / share)
        assert replace(schedule, max_detector_share=1.0).reason(now)  # no limit


def test_modes() -> None:
    assert KeyframeSchedule(5).mode(CALM) == "fixed"
    assert ADAPTIVE.mode(CALM) == "adaptive"
    assert ADAPTIVE.mode(CALM._replace(faces=0)) == "idle"


def test_the_situation_is_counted_in_sizes_of_the_faces() -> None:
    follow = tracker()
    box = (100.0, 100.0, 140.0, 140.0)
    for step in range(12):  # 60 pixels a second to the right, with sizes of 40
        shift = 2.0 * step
        tracks = follow.update(detections((box[0] + shift, 100, box[2] + shift, 140)), step * 33_333_333)
    now = situation(3, 0.1, 0.02, tracks, 2, 0.5)
    assert now[:3] == (3, 0.1, 0.02)
    assert (now.faces, now.tentative, now.missed, now.doubted, now.motion) == (1, 0, 0, 2, 0.5)
    assert now.travel == pytest.approx(0.15, abs=0.01)  # 1.5 sizes a second for a tenth
    assert now.uncertainty == pytest.approx(float(tracks.centre_std[0]) / 40, rel=0.02)
    assert 0.01 < now.uncertainty < 0.1

    tracks = follow.update(detections((400.0, 200.0, 440.0, 240.0)), 12 * 33_333_333)
    assert tracks.state.tolist() == [LOST]
    now = situation(1, 0.03, 0.02, tracks, 0, 0.0)
    assert (now.tentative, now.missed) == (1, 1)
    for step in range(13, 24):
        tracks = follow.update(detections(), step * 33_333_333)
    assert len(tracks.state) == 1
    assert situation(1, 0.03, 0.02, tracks, 0, 0.0).missed == 0  # it has been gone for too long


def test_nobody_is_an_empty_situation() -> None:
    now = situation(1, 0.5, 0.1, tracker().predict(0), 0, 0.0)
    assert now == Situation(1, 0.5, 0.1)


def glimpse(*patches: tuple[int, int, int, int], level: int = 100) -> np.ndarray:
    """A grey glimpse with brighter patches (column, row, columns, rows)."""
    picture = np.full((36, 64), level, np.uint8)
    for x, y, width, height in patches:
        picture[y : y + height, x : x + width] += 80
    return picture


NOBODY = np.zeros((0, 4), np.float32)


def test_motion_is_the_share_that_changed_where_nobody_is_followed() -> None:
    cells = 36 * 64
    moved = glimpse((10, 10, 4, 6))
    assert moved_share(glimpse(), moved, NOBODY, FRAME) == pytest.approx(24 / cells)
    face = np.array([[100, 90, 140, 130]], np.float32)  # cells are 10 pixels wide; the body is below the face
    assert moved_share(glimpse(), moved, face, FRAME) == 0
    assert moved_share(glimpse(), moved, face + 300, FRAME) == pytest.approx(24 / cells)
    for aside in (-150, 150):  # pixels
        beside = face + np.array([aside, 0, aside, 0], np.float32)
        assert moved_share(glimpse(), moved, beside, FRAME) == pytest.approx(24 / cells)
    above = glimpse((10, 0, 4, 5))
    assert moved_share(glimpse(), above, face, FRAME) == pytest.approx(20 / cells)
    both = np.concatenate([face + 300, face])
    assert moved_share(glimpse(), moved, both, FRAME) == 0


def test_light_and_noise_are_no_motion() -> None:
    assert moved_share(glimpse(), glimpse(level=160), NOBODY, FRAME) == 0
    noise = np.random.default_rng(0).integers(-15, 16, (36, 64))
    assert moved_share(glimpse(), (glimpse() + noise).astype(np.uint8), NOBODY, FRAME) == 0


@pytest.mark.parametrize("interval", [None, 5])
def test_doubted_landmarks_are_looked_at_but_not_on_two_frames_running(interval: int | None) -> None:
    schedule = KeyframeSchedule(interval)
    now = Situation(age=1, age_s=0.03, look_s=0.0, faces=1, doubted=1)
    assert schedule.reason(now) == ""
    assert schedule.reason(now._replace(age=2)) == "landmarks"
    assert schedule.reason(now._replace(age=2, doubted=0)) == ""
