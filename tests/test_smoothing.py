"""Smoothing: calm at rest, no lag in motion, in seconds and not in frames, and nothing kept of who is gone."""

from __future__ import annotations

from dataclasses import fields, replace

import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.smoothing import FaceSmoother
from edgeface.values import Tracks

FRAME_NS = 10**9 // 30
START_NS = 10**12
SIZE = 100.0  # of all boxes here, pixels


def tracks(
    x: list[float], speed: float = 0.0, ids: list[int] | None = None, score: float = 0.5, width: float = SIZE
) -> Tracks:
    """Faces with their centres at (x, 50), moving at `speed` sizes per 1/30 s to the right."""
    count = len(x)
    centre = np.array([[place, 50.0] for place in x]).reshape(-1, 2)
    half = np.array([width, SIZE]) / 2
    return replace(
        fakes.tracks(*np.concatenate([centre - half, centre + half], axis=1), ids=ids),
        score=np.full(count, score, np.float32),
        velocity=np.tile(np.array([speed * SIZE * 30, 0], np.float32), (count, 1)),
        keypoints=np.zeros((count, 5, 2), np.float32),
        started=np.array([7], np.int64),
        lost=np.array([8], np.int64),
    )


def smooth(smoother: FaceSmoother, given_tracks: Tracks, capture_ns: int) -> Tracks:
    return smoother.smooth(given_tracks, np.zeros((len(given_tracks.track_id), 0, 2), np.float32), capture_ns)[0]


def shown(smoother: FaceSmoother, frame: float, *args: object, **named: object) -> list[float]:
    """Published centres after the faces `tracks(...)` at this frame."""
    xyxy = smooth(smoother, tracks(*args, **named), START_NS + round(frame * FRAME_NS)).xyxy
    return ((xyxy[:, 0] + xyxy[:, 2]) / 2).tolist()


def test_a_new_face_is_published_as_it_is() -> None:
    smoother = FaceSmoother()
    given_tracks = tracks([100, 300])
    for later_ns in (0, FRAME_NS):
        out = smooth(smoother, given_tracks, START_NS + later_ns)
        np.testing.assert_array_equal(out.xyxy, given_tracks.xyxy)
        np.testing.assert_array_equal(out.score, given_tracks.score)


@pytest.mark.parametrize(("jump", "weight"), [(2.0, 0.3), (10.0, 0.9)])
def test_a_small_jump_is_noise_and_a_large_one_is_motion(jump: float, weight: float) -> None:
    smoother = FaceSmoother()
    shown(smoother, 0, [100])
    assert shown(smoother, 1, [100 + jump]) == pytest.approx([100 + jump * weight], abs=1e-3)


def test_nobody_is_nobody() -> None:
    smoother = FaceSmoother()
    for faces in ([], [100], []):
        assert smooth(smoother, tracks(faces), START_NS).xyxy.shape == (len(faces), 4)


def test_all_but_boxes_and_scores_goes_through_and_the_input_stays() -> None:
    smoother = FaceSmoother()
    smooth(smoother, tracks([100]), START_NS)
    given_tracks, before = tracks([101], score=0.6), tracks([101], score=0.6)
    out = smooth(smoother, given_tracks, START_NS + FRAME_NS)
    for field in fields(Tracks):
        np.testing.assert_array_equal(getattr(given_tracks, field.name), getattr(before, field.name))
        if field.name not in ("xyxy", "score"):
            np.testing.assert_array_equal(getattr(out, field.name), getattr(before, field.name))
    assert out.xyxy[0, 0] < before.xyxy[0, 0]
    assert out.score[0] < before.score[0]


def test_what_was_given_out_may_be_written_to() -> None:
    one, other = FaceSmoother(), FaceSmoother()
    for frame in range(3):
        out = smooth(one, tracks([100 + frame % 2], score=0.5 + 0.1 * frame), START_NS + frame * FRAME_NS)
        same = smooth(other, tracks([100 + frame % 2], score=0.5 + 0.1 * frame), START_NS + frame * FRAME_NS)
        np.testing.assert_array_equal(out.xyxy, same.xyxy)
        np.testing.assert_array_equal(out.score, same.score)
        for array in (out.xyxy, out.score, out.track_id):
            array[:] = 0


def test_at_rest_noise_becomes_less_in_place_and_size() -> None:
    random = np.random.default_rng(1)
    smoother = FaceSmoother()
    noise = random.normal(0, 1, (200, 2))
    out = [
        smooth(smoother, tracks([100 + x], width=SIZE + w), START_NS + frame * FRAME_NS).xyxy[0].tolist()
        for frame, (x, w) in enumerate(noise)
    ]
    x1, _, x2, _ = np.array(out)[20:].T
    assert np.std((x1 + x2) / 2) < 0.5 * noise[:, 0].std()
    assert np.std(x2 - x1) < 0.5 * noise[:, 1].std()


@pytest.mark.parametrize("speed", [0.01, 0.03, 0.2])
@pytest.mark.parametrize("frames", [1, 2.5])
def test_uniform_motion_has_no_lag(speed: float, frames: float) -> None:
    smoother = FaceSmoother()
    for step in range(10):
        x = 100 + speed * SIZE * frames * step
        assert shown(smoother, frames * step, [x], speed) == pytest.approx([x], abs=1e-2)


def test_a_velocity_below_rest_is_trusted_in_proportion() -> None:
    smoother = FaceSmoother(still_weight=0.0, still_motion=0.01)
    shown(smoother, 0, [100])
    assert shown(smoother, 1, [100], 0.005) == pytest.approx([100.25])


def test_a_small_change_counts_by_still_weight_and_a_jump_by_moving_weight() -> None:
    for change, weight in ((1, 0.3), (30, 0.9)):
        smoother = FaceSmoother(still_weight=0.3, moving_weight=0.9)
        shown(smoother, 0, [100])
        assert shown(smoother, 1, [100 + change]) == pytest.approx([100 + weight * change], abs=1e-3)


def test_a_moving_face_has_moving_weight_in_place_but_not_in_size() -> None:
    smoother = FaceSmoother(still_weight=0.3, moving_weight=0.9)
    smooth(smoother, tracks([100], 0.1), START_NS)
    x1, _, x2, _ = smooth(smoother, tracks([111], 0.1, width=SIZE + 1), START_NS + FRAME_NS).xyxy[0].tolist()
    assert (x1 + x2) / 2 == pytest.approx(110 + 0.9, abs=1e-2)
    assert x2 - x1 == pytest.approx(SIZE + 0.3, abs=1e-2)


def test_between_rest_and_full_motion_the_weight_rises_evenly() -> None:
    smoother = FaceSmoother(still_weight=0.2, moving_weight=0.8, still_motion=0.02, full_motion=0.06)
    shown(smoother, 0, [100])
    assert shown(smoother, 1, [105], 0.04) == pytest.approx([104 + 0.5], abs=1e-2)


@given(st.floats(0.05, 1), st.lists(st.floats(0.1, 3), min_size=1, max_size=8))
def test_many_short_steps_are_one_long_one(weight: float, steps: list[float]) -> None:
    one, many = FaceSmoother(still_weight=weight), FaceSmoother(still_weight=weight)
    for smoother in (one, many):
        shown(smoother, 0, [100], score=0.5)
    frame = 0.0
    for step in steps:
        frame += step
        out = smooth(many, tracks([101], score=0.9), START_NS + round(frame * FRAME_NS))
    same = smooth(one, tracks([101], score=0.9), START_NS + round(frame * FRAME_NS))
    np.testing.assert_allclose(out.xyxy, same.xyxy, atol=1e-3)
    np.testing.assert_allclose(out.score, same.score, atol=1e-5)


def test_scores_move_by_still_weight() -> None:
    smoother = FaceSmoother(still_weight=0.3)
    smooth(smoother, tracks([100], score=0.5), START_NS)
    out = smooth(smoother, tracks([150], score=0.9), START_NS + FRAME_NS)
    assert out.score.tolist() == pytest.approx([0.62], abs=1e-4)
    assert out.score.dtype == out.xyxy.dtype == np.float32


@given(st.permutations([3, 5, 8, 13]), st.permutations([3, 5, 8, 13]))
def test_faces_are_known_by_their_id_whatever_their_order(first: list[int], second: list[int]) -> None:
    smoother = FaceSmoother(still_weight=0.5)
    shown(smoother, 0, [id_ * 1000.0 for id_ in first], ids=first)
    out = shown(smoother, 1, [id_ * 1000 + 1.0 for id_ in second], ids=second)
    assert out == pytest.approx([id_ * 1000 + 0.5 for id_ in second], abs=2e-3)


def test_who_is_missing_once_is_forgotten() -> None:
    smoother = FaceSmoother()
    shown(smoother, 0, [100, 300], ids=[1, 2])
    shown(smoother, 1, [301], ids=[2])
    assert shown(smoother, 2, [101, 301], ids=[1, 2])[0] == 101
    for number in range(50):
        shown(smoother, 3 + number, [100], ids=[10 + number])
    kept = [value for value in vars(smoother).values() if isinstance(value, np.ndarray)]
    assert {len(array) for array in kept} == {1}


def test_when_the_clock_stands_still_so_do_the_boxes() -> None:
    smoother = FaceSmoother()
    shown(smoother, 0, [100])
    before = shown(smoother, 1, [102])
    assert shown(smoother, 1, [130], 0.2, score=0.9) == before
    assert shown(smoother, 2, [102])[0] > before[0]


def test_when_the_clock_steps_back_all_faces_are_new() -> None:
    smoother = FaceSmoother()
    shown(smoother, 100, [100])
    assert shown(smoother, 50, [130]) == [130]
    assert 130 < shown(smoother, 51, [131])[0] < 131


@pytest.mark.parametrize("pause_frames", [30, 10**9])
def test_after_a_pause_the_past_counts_no_more(pause_frames: int) -> None:
    smoother = FaceSmoother()
    shown(smoother, 0, [100], 0.1)
    assert shown(smoother, pause_frames, [101], 0.001) == pytest.approx([101], abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(-0.3, 0.3)), min_size=1, max_size=10))
def test_with_full_weights_boxes_stay_what_they_are(path: list[tuple[float, float]]) -> None:
    smoother = FaceSmoother(still_weight=1, moving_weight=1)
    for frame, (x, speed) in enumerate(path):
        assert shown(smoother, frame, [x], speed) == pytest.approx([x], abs=1e-3)


# --- landmarks


def calm(smoother: FaceSmoother, frame: float, xy: object, *args: object, **named: object) -> np.ndarray:
    """Published landmarks [n, N, 2] after the faces `tracks(...)` with landmarks `xy` at this frame."""
    given_xy = np.array(xy, np.float32)
    kept = given_xy.copy()
    _, out = smoother.smooth(tracks(*args, **named), given_xy, START_NS + round(frame * FRAME_NS))
    np.testing.assert_array_equal(given_xy, kept)
    assert out.dtype == np.float32
    assert out is not given_xy
    return out


POINTS = np.array([[90.0, 40.0], [110.0, 40.0], [100.0, 60.0]])
RIGHT = np.array([1.0, 0.0])


def test_new_landmarks_are_published_as_they_are() -> None:
    smoother = FaceSmoother()
    for frame in range(2):
        np.testing.assert_array_equal(calm(smoother, frame, [POINTS], [100]), [POINTS])
    assert calm(smoother, 2, np.zeros((0, 3, 2)), []).shape == (0, 3, 2)


def test_each_landmark_is_drawn_by_its_own_jump() -> None:
    smoother = FaceSmoother()
    calm(smoother, 0, [POINTS], [100])
    jumps = np.array([[2.0, 0.0], [0.0, -10.0], [0.0, 0.0]])  # of sizes of 100: noise, motion, rest
    out = calm(smoother, 1, [POINTS + jumps], [100])[0]
    np.testing.assert_allclose(out, POINTS + jumps * [[0.3], [0.9], [0.0]], atol=1e-3)


def test_landmarks_move_with_their_face_without_lag() -> None:
    for speed in (0.01, 0.03, 0.2):
        smoother = FaceSmoother()
        for frame in range(8):
            x = speed * SIZE * frame
            xy = [POINTS + x * RIGHT]
            np.testing.assert_allclose(calm(smoother, frame, xy, [100 + x], speed), xy, atol=1e-2)


def test_landmarks_of_a_moving_face_have_moving_weight() -> None:
    smoother = FaceSmoother()
    calm(smoother, 0, [POINTS], [100], 0.1)
    out = calm(smoother, 1, [POINTS + 11 * RIGHT], [110], 0.1)
    np.testing.assert_allclose(out, [POINTS + 10.9 * RIGHT], atol=1e-2)


def test_landmarks_at_rest_become_calmer() -> None:
    noise = np.random.default_rng(2).normal(0, 0.5, (200, 1, 3, 2))
    smoother = FaceSmoother()
    out = np.array([calm(smoother, frame, POINTS + one, [100]) for frame, one in enumerate(noise)])
    assert (out[20:].std(axis=0) < 0.6 * noise[20:].std(axis=0)).all()


def test_landmarks_are_known_by_their_faces_id() -> None:
    smoother = FaceSmoother(still_weight=0.5)
    one, other = POINTS, POINTS + 200 * RIGHT
    calm(smoother, 0, [one, other], [100, 300], ids=[1, 2])
    out = calm(smoother, 1, [other + 1, one + 1], [300, 100], ids=[2, 1])
    np.testing.assert_allclose(out, [other + 0.5, one + 0.5], atol=1e-3)
    calm(smoother, 2, [other], [300], ids=[2])
    np.testing.assert_array_equal(calm(smoother, 3, [one + 9], [100], ids=[1]), [one + 9])  # once missing, it is new


def test_a_face_without_landmarks_begins_anew_and_hurts_no_other() -> None:
    smoother = FaceSmoother(still_weight=0.5)
    one, other = POINTS, POINTS + 200 * RIGHT
    calm(smoother, 0, [one, other], [100, 300])
    out = calm(smoother, 1, [np.full((3, 2), np.nan), other + 1], [100, 300])
    assert np.isnan(out[0]).all()
    np.testing.assert_allclose(out[1], other + 0.5, atol=1e-3)
    out = calm(smoother, 2, [one + 5, other + 0.5], [100, 300])
    np.testing.assert_array_equal(out[0], one + 5)
    np.testing.assert_allclose(out[1], other + 0.5, atol=1e-3)


def test_landmarks_stand_still_with_the_clock_and_are_new_when_it_steps_back() -> None:
    smoother = FaceSmoother()
    calm(smoother, 5, [POINTS], [100])
    np.testing.assert_array_equal(calm(smoother, 5, [POINTS + 5], [100]), [POINTS])
    np.testing.assert_array_equal(calm(smoother, 3, [POINTS + 7], [100]), [POINTS + 7])


@given(st.lists(st.floats(0.1, 3), min_size=1, max_size=8))
def test_many_short_steps_are_one_long_one_for_landmarks(steps: list[float]) -> None:
    one, many = FaceSmoother(), FaceSmoother()
    for smoother in (one, many):
        calm(smoother, 0, [POINTS], [100])
    for frame in np.cumsum(steps):
        out = calm(many, float(frame), [POINTS + 1], [100])
    np.testing.assert_allclose(out, calm(one, float(frame), [POINTS + 1], [100]), atol=1e-3)
