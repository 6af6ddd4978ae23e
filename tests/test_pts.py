"""Timestamps of a pipeline on the monotonic clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.cuda.pts import PtsClock

MS, S = 1_000_000, 1_000_000_000
BEGAN = 7000 * S  # when the pipeline began, monotonic
PERIOD = 33_333_333

any_ns = st.integers(0, 2**63)
delays = st.lists(st.integers(0, 900 * MS), min_size=1, max_size=100)


def dequeued(delays_ns: list[int], period_ns: int = PERIOD) -> list[tuple[int, int]]:
    """(PTS, dequeued) of frames in order; a frame waits for the one before it."""
    times, last = [], 0
    for number, delay in enumerate(delays_ns, 1):
        last = max(last + 1, BEGAN + number * period_ns + delay)
        times.append((number * period_ns, last))
    return times


@given(st.lists(st.tuples(any_ns, st.integers(1, 10**12)), min_size=1, max_size=60))
def test_capture_times_rise_and_are_never_later_than_the_dequeue_whatever_the_timestamps(
    frames: list[tuple[int, int]],
) -> None:
    clock, now, last = PtsClock(), 0, 0
    for pts, step in frames:
        now += step
        capture_ns, origin = clock.stamp(pts, now)
        assert last < capture_ns <= now
        assert origin == "pts" or capture_ns == now
        last = capture_ns


@given(delays)
def test_after_the_least_delay_came_the_steps_are_those_of_the_pipeline(delays_ns: list[int]) -> None:
    clock, frames = PtsClock(), dequeued(delays_ns)
    stamps = [clock.stamp(*frame) for frame in frames]
    assert {origin for _, origin in stamps} == {"pts"}
    late = [at - BEGAN - pts for pts, at in frames]
    best = int(np.argmin(late))
    steps = np.diff([capture_ns for capture_ns, _ in stamps[best:]])
    assert (steps == PERIOD).all()
    assert stamps[best][0] == frames[best][1]


@given(delays)
def test_a_stamp_is_the_frames_own_time_and_the_least_delay_so_far(delays_ns: list[int]) -> None:
    clock, least, last = PtsClock(), 10 * S, 0
    for pts, at in dequeued(delays_ns):
        least = min(least, at - BEGAN - pts)
        last = max(BEGAN + pts + least, last + 1)
        assert clock.stamp(pts, at) == (last, "pts")


def test_a_clock_that_drifts_is_followed() -> None:
    """The camera's clock is slow by 1 in 1000: after two windows nothing older counts."""
    clock = PtsClock()
    for number in range(1, 3000):
        at = BEGAN + number * PERIOD
        capture_ns, _ = clock.stamp(number * PERIOD * 999 // 1000, at)
        assert at - capture_ns <= 11 * S // 1000
    assert at - capture_ns >= 4 * S // 1000  # it has not begun anew at each frame


def test_the_window_is_not_longer_than_two_of_its_kind() -> None:
    clock = PtsClock()
    clock.stamp(S, BEGAN + S)  # no delay; from now on 100 ms
    errors = [clock.stamp(t * S, BEGAN + t * S + 100 * MS)[0] - BEGAN - t * S for t in range(2, 16)]
    assert errors[0] == 0
    assert errors[3] == 0
    assert errors[8] == 0  # of the window before
    assert errors[-1] == 100 * MS


@pytest.mark.parametrize("bad", [0, 5 * PERIOD, 4 * PERIOD, 5 * PERIOD + 2 * S])
def test_a_timestamp_that_cannot_be_is_not_used_and_the_next_ones_are(bad: int) -> None:
    clock = PtsClock()
    for number in range(1, 6):
        clock.stamp(number * PERIOD, BEGAN + number * PERIOD)
    at = BEGAN + 6 * PERIOD + 20 * MS
    assert clock.stamp(bad, at) == (at, "dequeue")
    after = bad + PERIOD if bad else 7 * PERIOD
    assert clock.stamp(after, at + PERIOD) == (at + PERIOD, "pts")


def test_a_pipeline_that_stood_still_is_noticed() -> None:
    clock = PtsClock()
    clock.stamp(PERIOD, BEGAN)
    later = BEGAN + PERIOD + 1100 * MS  # the next frame of the pipeline's own time
    assert clock.stamp(2 * PERIOD, later) == (later, "dequeue")
    assert clock.stamp(3 * PERIOD, later + PERIOD + 5 * MS) == (later + PERIOD + 5 * MS, "pts")


def test_timestamps_that_never_rise_are_never_used() -> None:
    clock = PtsClock()
    clock.stamp(9, BEGAN)
    assert {clock.stamp(9, BEGAN + number)[1] for number in range(1, 9)} == {"dequeue"}


def test_another_run_of_the_pipeline_may_count_from_zero_and_time_still_rises() -> None:
    clock = PtsClock()
    first, _ = clock.stamp(100 * S, BEGAN)
    clock.reset()
    assert clock.stamp(PERIOD, BEGAN + 1) == (BEGAN + 1, "pts")
    assert first < BEGAN + 1
