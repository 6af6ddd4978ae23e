"""The picture's shift between two glimpses, known by construction."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.camera_motion import shift, spectrum

ROWS, COLUMNS = 72, 128
SCENE = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (300, 400), np.uint8), (0, 0), 2)


def seen(right: float, down: float, scene: np.ndarray = SCENE) -> np.ndarray:
    """The middle of the scene after the camera moved so that everything lies `right`, `down` cells further."""
    back = np.array([[1, 0, 130 - right], [0, 1, 110 - down]], float)
    return cv2.warpAffine(scene, back, (COLUMNS, ROWS), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def told(before: np.ndarray, now: np.ndarray) -> tuple[float, float]:
    """The shift in cells."""
    right, down = shift(spectrum(before), spectrum(now), COLUMNS)
    return right * COLUMNS, down * ROWS


@given(st.floats(-20, 20), st.floats(-10, 10))
def test_a_shift_is_told_to_a_part_of_a_cell(right: float, down: float) -> None:
    np.testing.assert_allclose(told(seen(0, 0), seen(right, down)), (right, down), atol=0.5)


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_a_small_shift_is_told_better_than_by_whole_cells(right: float, down: float) -> None:
    np.testing.assert_allclose(told(seen(0, 0), seen(right, down)), (right, down), atol=0.3)


def test_nothing_moved_and_nothing_to_see() -> None:
    assert told(seen(0, 0), seen(0, 0)) == pytest.approx((0, 0), abs=1e-6)
    dark = np.zeros((ROWS, COLUMNS), np.uint8)
    assert told(dark, dark) == (0, 0)
    assert told(dark, seen(0, 0)) == (0, 0)


def test_another_picture_is_no_shift() -> None:
    other = np.random.default_rng(2).integers(0, 256, (ROWS, COLUMNS), np.uint8)
    assert told(seen(0, 0), other) == (0, 0)


def test_more_than_a_quarter_of_the_picture_is_not_believed() -> None:
    assert told(seen(0, 0), seen(30, 0))[0] == pytest.approx(30, abs=0.5)
    assert told(seen(0, 0), seen(34, 0)) == (0, 0)
    assert told(seen(0, 0), seen(0, 20)) == (0, 0)


@pytest.mark.parametrize(("right", "down"), [(0, 0), (6, -2)])
def test_people_in_front_of_the_background_do_not_count(right: int, down: int) -> None:
    before, now = seen(0, 0), seen(right, down)
    person = cv2.flip(SCENE, 1)[:40, :20]  # of the same stuff
    before[20:60, 30:50], now[20:60, 39:59] = person, person  # walks 9 cells to the right
    np.testing.assert_allclose(told(before, now), (right, down), atol=0.6)
