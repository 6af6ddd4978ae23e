"""Which landmarks can be trusted between looks, each limit by itself, and the boxes that they imply."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import Box, landmarks, tracks
from hypothesis import given
from hypothesis import strategies as st

from edgeface.holding import MAX_CHANGE, MAX_GROWTH, MAX_TURN, MIN_SCORE, LandmarkHold
from edgeface.values import PREDICTED, Landmarks, Tracks

pytestmark = pytest.mark.filterwarnings(
    "error:(overflow|divide by zero|invalid value encountered in .*divide):RuntimeWarning"
)

FACE: Box = (100.0, 100.0, 160.0, 180.0)
FAR: Box = (400.0, 100.0, 460.0, 180.0)
POINTS, FAR_POINTS = landmarks(np.array([FACE, FAR], np.float32)).xy.astype(np.float64)


def learnt(*boxes: Box, score: float = 0.5) -> LandmarkHold:
    hold = LandmarkHold()
    faces = tracks(*boxes)
    hold.learn(faces, landmarks(faces.xyxy, score))
    return hold


def points(*faces: np.ndarray, score: float = 0.5) -> Landmarks:
    xy = np.array(faces, np.float32)
    return Landmarks(xy, np.full(xy.shape[:2], score, np.float32))


def turned(xy: np.ndarray, growth: float = 1.0, turn: float = 0.0) -> np.ndarray:
    """Points [N, 2] about their mean, `turn` in radians."""
    factor = growth * np.exp(1j * turn)
    centre = xy.mean(axis=0)
    moved = (xy - centre) @ np.array([[factor.real, factor.imag], [-factor.imag, factor.real]])
    return moved + centre


def distorted(xy: np.ndarray, change: float) -> np.ndarray:
    """Points [N, 2] after a change that no similarity can undo a part of: root mean square, in the spread after it."""
    a = (xy - xy.mean(axis=0)) @ [1, 1j]
    noise = np.random.default_rng(0).normal(size=(len(xy), 2)) @ [1, 1j]
    noise -= noise.mean()
    noise -= a * (np.vdot(a, noise) / np.vdot(a, a))
    noise *= np.sqrt(change**2 / (1 - change**2) * np.vdot(a, a).real / np.vdot(noise, noise).real)
    moved = a + noise
    return np.stack([moved.real, moved.imag], axis=1) + xy.mean(axis=0)


def trusts(xy: np.ndarray, score: float = 0.5, learnt_score: float = 0.5) -> bool:
    hold = learnt(FACE, score=learnt_score)
    (trusted,), _, doubted = hold.judge(tracks(FACE, source=PREDICTED), points(xy, score=score))
    assert doubted == (not trusted)
    return bool(trusted)


# --- what is trusted


def test_points_as_they_were_are_trusted_and_imply_the_box() -> None:
    trusted, xyxy, doubted = learnt(FACE, FAR).judge(tracks(FACE, FAR), landmarks(tracks(FACE, FAR).xyxy, 0.5))
    assert (trusted.tolist(), doubted) == ([True, True], 0)
    assert trusted.dtype == bool
    np.testing.assert_allclose(xyxy, [FACE, FAR], atol=1e-3)
    assert xyxy.dtype == np.float32


@pytest.mark.parametrize(("part", "trusted"), [(0.0, True), (0.97, True), (1.03, False), (3.0, False)])
def test_their_shape_may_change_a_little_in_their_own_size(part: float, trusted: bool) -> None:
    for growth in (0.8, 1.0, 1.25):
        assert trusts(turned(distorted(POINTS, part * MAX_CHANGE), growth=growth)) == trusted


@pytest.mark.parametrize(("growth", "trusted"), [(0.99, True), (1.01, False)])
def test_they_may_grow_and_shrink_a_little(growth: float, trusted: bool) -> None:
    assert trusts(turned(POINTS, growth=growth * MAX_GROWTH)) == trusted
    assert trusts(turned(POINTS, growth=1 / (growth * MAX_GROWTH))) == trusted


@pytest.mark.parametrize(("turn", "trusted"), [(0.97, True), (1.03, False)])
def test_they_may_turn_a_little_to_both_sides(turn: float, trusted: bool) -> None:
    for side in (-1, 1):
        assert trusts(turned(POINTS, turn=side * turn * MAX_TURN)) == trusted


@pytest.mark.parametrize("learnt_score", [0.9, 0.04])
@pytest.mark.parametrize(("part", "trusted"), [(1.02, True), (0.98, False)])
def test_their_score_may_drop_a_little_whatever_it_is_worth(part: float, trusted: bool, learnt_score: float) -> None:
    assert trusts(POINTS, score=part * MIN_SCORE * learnt_score, learnt_score=learnt_score) == trusted


def test_of_a_faces_scores_the_mean_counts() -> None:
    scores = np.array([[0.9, 0.9, 0.9, 0.0, 0.0, 0.0], [0.9, 0.1, 0.1, 0.1, 0.1, 0.1]], np.float32)
    faces = tracks(FACE, FAR)
    xy = landmarks(faces.xyxy).xy
    assert learnt(FACE, FAR).judge(faces, Landmarks(xy, scores))[0].tolist() == [True, False]  # 0.45 and 0.23 of 0.5
    hold = LandmarkHold()
    hold.learn(faces, Landmarks(xy, scores))
    assert hold.judge(faces, landmarks(faces.xyxy, 0.25))[0].tolist() == [False, True]


def test_a_mirrored_face_is_another() -> None:
    assert not trusts(POINTS * [-1, 1] + [260, 0])


def test_points_all_in_one_place_are_no_face() -> None:
    assert not trusts(np.full((6, 2), 130.0))
    hold = LandmarkHold()
    hold.learn(tracks(FACE), points(np.full((6, 2), 130.0)))
    assert hold.judge(tracks(FACE), points(POINTS))[0].tolist() == [False]


@pytest.mark.parametrize(("gap", "trusted"), [(-1.0, False), (1.0, True)])
def test_faces_that_touch_are_not_trusted(gap: float, trusted: bool) -> None:
    width = FACE[2] - FACE[0]
    beside = (FACE[0] + width + gap, FACE[1], FACE[2] + width + gap, FACE[3])
    faces = tracks(FACE, beside)
    assert learnt(FACE, beside).judge(faces, landmarks(faces.xyxy, 0.5))[0].tolist() == [trusted] * 2


def test_what_touches_is_the_box_that_the_points_imply() -> None:
    """They have gone over to the other face, as points do; nobody knows the other's."""
    hold = learnt(FACE)
    other = (170.0, 100.0, 230.0, 180.0)
    for right, trusted in ((5.0, True), (15.0, False)):
        faces = tracks(FACE, other, ids=[1, 7])
        found = points(POINTS + np.array([right, 0]), POINTS + np.array([70, 0]))
        assert hold.judge(faces, found)[0].tolist() == [trusted, False]


def test_a_touched_face_is_trusted_again_when_it_stands_alone() -> None:
    hold = learnt(FACE)
    together, alone = tracks(FACE, FACE, ids=[1, 7]), tracks(FACE)
    found = landmarks(together.xyxy, 0.5)
    trusted, _, doubted = hold.judge(together, found)
    assert (trusted.tolist(), doubted) == ([False, False], 0)
    assert hold.judge(alone, points(POINTS))[0].tolist() == [True]


# --- what is learnt


def test_a_face_unknown_at_the_last_look_is_not_held() -> None:
    hold = learnt(FACE)
    faces = tracks(FACE, FAR, ids=[1, 5])
    trusted, _, doubted = hold.judge(faces, landmarks(faces.xyxy, 0.5))
    assert (trusted.tolist(), doubted) == ([True, False], 0)


def test_a_face_that_a_look_misses_is_held_no_more() -> None:
    hold = learnt(FACE, FAR)
    faces = tracks(FACE, FAR)
    faces.source[0] = PREDICTED
    hold.learn(faces, landmarks(faces.xyxy, 0.5))
    trusted, _, doubted = hold.judge(faces, landmarks(faces.xyxy, 0.5))
    assert (trusted.tolist(), doubted) == ([False, True], 0)
    hold.learn(tracks(), landmarks(tracks().xyxy))
    assert hold.judge(faces, landmarks(faces.xyxy, 0.5))[0].tolist() == [False, False]


def test_a_face_without_landmarks_at_a_look_is_not_held() -> None:
    faces, hold = tracks(FACE, FAR), LandmarkHold()
    found = landmarks(faces.xyxy, 0.5)
    found.xy[0], found.score[0] = np.nan, np.nan
    hold.learn(faces, found)
    trusted, xyxy, doubted = hold.judge(faces, landmarks(faces.xyxy, 0.5))
    assert (trusted.tolist(), doubted) == ([False, True], 0)
    np.testing.assert_allclose(xyxy[1], FAR, atol=1e-3)


def test_what_was_learnt_last_is_what_counts() -> None:
    hold = learnt(FACE, score=0.5)
    wide = distorted(POINTS, 2 * MAX_CHANGE)
    hold.learn(tracks(FACE), points(wide, score=0.1))
    assert hold.judge(tracks(FACE), points(wide, score=0.09))[0].tolist() == [True]
    assert hold.judge(tracks(FACE), points(POINTS, score=0.09))[0].tolist() == [False]


def test_how_a_box_lies_about_its_points_is_averaged_over_the_looks() -> None:
    bigger = (102.0, 96.0, 168.0, 188.0)  # about the same points
    far = (380.0, 90.0, 450.0, 200.0)
    hold = LandmarkHold()
    hold.learn(tracks(FACE, far), points(POINTS, FAR_POINTS))
    found = points(FAR_POINTS, POINTS)
    hold.learn(tracks(far, bigger, ids=[2, 1]), found)  # in another order
    expected = [far, tuple(before + 0.4 * (now - before) for before, now in zip(FACE, bigger, strict=True))]
    faces = tracks(*expected, ids=[2, 1])
    np.testing.assert_allclose(hold.judge(faces, found)[1], expected, atol=1e-3)
    hold.learn(tracks(far, ids=[2]), points(FAR_POINTS))  # once unseen, face 1 begins anew
    hold.learn(tracks(bigger, ids=[1]), points(POINTS))
    np.testing.assert_allclose(hold.judge(tracks(bigger, ids=[1]), points(POINTS))[1], [bigger], atol=1e-3)


# --- the implied box


@given(
    st.floats(-200, 200),
    st.floats(-200, 200),
    st.floats(1 / MAX_GROWTH + 0.01, MAX_GROWTH - 0.01),
    st.floats(-0.5, 0.5),
    st.integers(0, 99),
)
def test_the_box_moves_and_grows_as_its_points_do(right: float, down: float, growth: float, off: float, n: int) -> None:
    xy = np.random.default_rng(n).uniform(200, 300, (1, 68, 2))
    box: Box = (195.0, 180.0, 310.0, 315.0)
    hold = LandmarkHold()
    hold.learn(tracks(box), points(*xy))
    expected = np.array([box]) * growth + [right, down] * 2
    near = tracks(tuple((expected + off * 100)[0].tolist()), source=PREDICTED)  # wherever it was expected
    trusted, xyxy, doubted = hold.judge(near, points(*(xy * growth + [right, down])))
    assert (trusted.tolist(), doubted) == ([True], 0)
    np.testing.assert_allclose(xyxy, expected, atol=0.05)


def places(xy: np.ndarray) -> tuple[np.ndarray, float, np.ndarray, float]:
    """Centre and spread of points [N, 2] by their extent and by their mean."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    return (low + high) / 2, np.hypot(*(high - low)), xy.mean(axis=0), np.sqrt(xy.var(axis=0).sum())


@pytest.mark.parametrize(("off", "part"), [(0.0, 0.0), (0.075, 0.5), (0.15, 1.0), (0.5, 1.0)])
@pytest.mark.parametrize("along", [(1.0, 0.0), (0.0, -1.0), (0.6, 0.8)])
def test_a_face_far_from_where_it_was_expected_is_placed_by_the_mean_of_its_points(
    off: float, part: float, along: tuple[float, float]
) -> None:
    """The outermost point gives way, as when the crop cuts the face."""
    cut = POINTS.copy()
    cut[np.argmin(cut[:, 0]), 0] += 8
    before, after = places(POINTS), places(cut)
    middle, size = np.array([130.0, 140.0]), np.array([60.0, 80.0])
    centres, sizes = [], []
    for kind in (0, 2):  # by extent, by mean
        grown = after[kind + 1] / before[kind + 1]
        centres.append(after[kind] + (middle - before[kind]) * grown)
        sizes.append(size * grown)
    assert np.hypot(*(centres[1] - centres[0])) > 1
    at = centres[1] + np.array(along) * off * np.sqrt(sizes[1].prod())  # where it is expected
    expected = tracks((at[0] - 30, at[1] - 40, at[0] + 30, at[1] + 40), FAR, ids=[2, 1])
    trusted, xyxy, _ = learnt(FAR, FACE).judge(expected, points(cut, FAR_POINTS))
    assert trusted.all()
    np.testing.assert_allclose(xyxy[1], FAR, atol=1e-3)
    centre, size = (both[0] + (both[1] - both[0]) * part for both in (centres, sizes))
    np.testing.assert_allclose(xyxy[0], [*(centre - size / 2), *(centre + size / 2)], atol=1e-3)


# --- who is doubted


def test_a_face_is_doubted_once() -> None:
    hold, faces = learnt(FACE, FAR), tracks(FACE, FAR)
    good, bad = points(POINTS, FAR_POINTS), points(turned(POINTS, growth=2), FAR_POINTS)
    said = [hold.judge(faces, found) for found in (good, bad, bad, good, bad)]
    assert [trusted.tolist() for trusted, _, _ in said] == [
        [True, True],
        [False, True],
        [False, True],
        [True, True],
        [False, True],
    ]
    assert [doubted for _, _, doubted in said] == [0, 1, 0, 0, 1]


def test_all_faces_are_doubted_together() -> None:
    hold, faces = learnt(FACE, FAR), tracks(FACE, FAR)
    bad = points(turned(POINTS, turn=1), turned(FAR_POINTS, turn=1))
    assert hold.judge(faces, bad)[2] == 2


def test_after_a_look_a_face_may_be_doubted_again() -> None:
    hold, bad = learnt(FACE), points(turned(POINTS, growth=2))
    assert hold.judge(tracks(FACE), bad)[2] == 1
    hold.learn(tracks(FACE), points(POINTS))
    assert hold.judge(tracks(FACE), bad)[2] == 1


def test_a_touched_face_is_not_doubted() -> None:
    hold, bad = learnt(FACE), turned(POINTS, growth=1.4)
    together = tracks(FACE, FACE, ids=[1, 7])
    for _ in range(2):
        assert hold.judge(together, points(bad, POINTS))[2] == 0
    assert hold.judge(tracks(FACE), points(bad))[2] == 0  # it was not trusted any more


def test_a_face_without_landmarks_is_doubted_and_hurts_no_other() -> None:
    hold, faces = learnt(FACE, FAR), tracks(FACE, FAR)
    found = landmarks(faces.xyxy, 0.5)
    found.xy[0], found.score[0] = np.nan, np.nan
    for expected in (1, 0):
        trusted, xyxy, doubted = hold.judge(faces, found)
        assert (trusted.tolist(), doubted) == ([False, True], expected)
        np.testing.assert_allclose(xyxy[1], FAR, atol=1e-3)


# --- nobody


def nobody_known() -> list[LandmarkHold]:
    empty = LandmarkHold()
    empty.learn(tracks(), landmarks(tracks().xyxy))
    return [LandmarkHold(), empty, learnt(FAR)]


@pytest.mark.parametrize("faces", [tracks(), tracks(FACE, ids=[9])])
def test_with_nobody_in_common_nobody_is_trusted(faces: Tracks) -> None:
    for hold in nobody_known():
        trusted, xyxy, doubted = hold.judge(faces, landmarks(faces.xyxy))
        assert (trusted.tolist(), doubted) == ([False] * len(faces.track_id), 0)
        np.testing.assert_array_equal(xyxy, faces.xyxy)
        assert xyxy is not faces.xyxy


def test_the_tracks_stay_as_they_are() -> None:
    faces = tracks(FACE)
    xyxy = learnt(FACE).judge(faces, points(POINTS + 9))[1]
    assert xyxy[0, 0] == pytest.approx(109, abs=1e-3)
    np.testing.assert_array_equal(faces.xyxy, [FACE])
