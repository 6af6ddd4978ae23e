"""ByteTrack: ids, states, both stages, and time that is not made of frames."""

from __future__ import annotations

import copy
import time
from typing import Any

import fakes
import numpy as np
import pytest
from fakes import detections
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface import kalman
from edgeface.association import costs
from edgeface.tracker import ByteTracker
from edgeface.values import CONFIRMED, DETECTOR, LANDMARKS, LOST, PREDICTED, Detections, Tracks

FRAME_NS = 33_333_333
BOX = (100.0, 100.0, 160.0, 180.0)
FAR = (400.0, 100.0, 460.0, 180.0)


def tracker(**changes: float) -> ByteTracker:
    follow = fakes.tracker(**changes)
    follow.clear((1920, 1080))
    return follow


def moved(box: tuple[float, ...], dx: float, dy: float = 0.0) -> tuple[float, float, float, float]:
    return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy


def ids(tracks: Tracks) -> list[int]:
    return tracks.track_id.tolist()


def test_faces_of_the_first_look_are_confirmed_at_once() -> None:
    tracks = tracker().update(detections(BOX, FAR), 0)
    assert ids(tracks) == tracks.started.tolist() == [1, 2]
    assert (tracks.state == CONFIRMED).all()
    np.testing.assert_allclose(tracks.xyxy, [BOX, FAR], atol=1e-4)
    assert (tracks.source == DETECTOR).all()
    assert not np.isnan(tracks.keypoints).any()


def test_later_faces_need_min_hits_and_take_an_id_only_then() -> None:
    follow = tracker(min_hits=3)
    follow.update(detections(), 0)
    assert ids(follow.update(detections(BOX, FAR), FRAME_NS)) == []
    assert ids(follow.update(detections(BOX), 2 * FRAME_NS)) == []  # FAR is dropped, it never had an id
    assert ids(follow.update(detections(BOX), 3 * FRAME_NS)) == [1]
    follow.update(detections(BOX, FAR), 4 * FRAME_NS)
    follow.update(detections(BOX, FAR), 5 * FRAME_NS)
    assert ids(follow.predict(5 * FRAME_NS)) == [1]  # what FAR had before it was missed does not count
    assert ids(follow.update(detections(BOX, FAR), 6 * FRAME_NS)) == [1, 2]


def test_a_moving_face_keeps_its_id_and_its_velocity_is_in_pixels_a_second() -> None:
    follow = tracker()
    for step in range(30):
        tracks = follow.update(detections(moved(BOX, 4 * step, -1 * step)), step * FRAME_NS)
        assert ids(tracks) == [1]
    np.testing.assert_allclose(tracks.velocity, [[120, -30]], rtol=0.05)


def test_prediction_moves_on_without_missing_anybody() -> None:
    follow = tracker()
    for step in range(20):
        follow.update(detections(moved(BOX, 5 * step)), step * FRAME_NS)
    for step in range(20, 60):  # 40 frames without a look: longer than lost_timeout_s
        tracks = follow.predict(step * FRAME_NS)
        assert ids(tracks) == [1]
        assert not (tracks.source == DETECTOR).any()
        assert tracks.age_ns[0] == (step - 19) * FRAME_NS
    assert abs(tracks.xyxy[0, 0] - (100 + 5 * 59)) < 20
    assert tracks.keypoints.shape[0] == 1


def test_irregular_time_steps_give_the_same_track() -> None:
    """Keyframes every fifth frame, in real time: the face moves 20 px between looks."""
    follow = tracker()
    for step in range(0, 100, 5):
        tracks = follow.update(detections(moved(BOX, 4 * step)), step * FRAME_NS)
        assert ids(tracks) == [1]
    np.testing.assert_allclose(tracks.velocity, [[120, 0]], atol=8)


def test_a_low_score_keeps_a_face_but_begins_none() -> None:
    follow = tracker()
    follow.update(detections(BOX), 0)
    tracks = follow.update(detections(BOX, FAR, score=0.2), FRAME_NS)
    assert ids(tracks) == [1]
    np.testing.assert_allclose(tracks.score, 0.2)
    for step in range(2, 6):
        assert ids(follow.update(detections(BOX, FAR, score=0.2), step * FRAME_NS)) == [1]


def test_a_score_at_the_threshold_counts_as_high() -> None:
    follow = tracker(high_score=0.5)
    assert ids(follow.update(detections(BOX, score=0.5), 0)) == [1]


def test_a_score_between_low_and_high_begins_no_track() -> None:
    follow = tracker()
    assert ids(follow.update(detections(BOX, score=0.55), 0)) == []


def test_a_missed_face_is_predicted_for_a_while_then_hidden_and_comes_back_with_its_id() -> None:
    follow = tracker(coast_s=0.2)
    for step in range(10):
        follow.update(detections(moved(BOX, 3 * step)), step * FRAME_NS)
    for step in range(10, 16):  # 6 frames are 0.2 s
        tracks = follow.update(detections(), step * FRAME_NS)
        assert (ids(tracks), tracks.state.tolist(), tracks.source.tolist()) == ([1], [LOST], [PREDICTED])
    assert abs(tracks.xyxy[0, 0] - (100 + 3 * 15)) < 3
    assert ids(follow.update(detections(), 16 * FRAME_NS)) == []
    assert ids(follow.predict(17 * FRAME_NS)) == []
    tracks = follow.update(detections(moved(BOX, 3 * 20)), 20 * FRAME_NS)
    assert (ids(tracks), tracks.state.tolist()) == ([1], [CONFIRMED])
    assert tracks.started.tolist() == []


def test_a_face_that_leaves_the_frame_is_forgotten_at_the_next_look() -> None:
    follow = tracker()
    for step in range(10):
        follow.update(detections(moved(BOX, -12 * step)), step * FRAME_NS)
    tracks = follow.predict(13 * FRAME_NS)  # the centre is now at -26
    assert (ids(tracks), tracks.lost.tolist()) == ([], [])
    assert follow.update(detections(), 14 * FRAME_NS).lost.tolist() == [1]


def test_a_prediction_that_explodes_is_forgotten() -> None:
    follow = tracker(coast_s=10, lost_timeout_s=10)
    for step in range(10):
        follow.update(detections(BOX), step * FRAME_NS)
    follow._kalman[kalman.V, 0, 2:] = 90  # pixels a second, of 60 and 80
    assert follow.update(detections(), 20 * FRAME_NS).lost.tolist() == []
    assert follow.update(detections(), 60 * FRAME_NS).lost.tolist() == [1]


def test_a_prediction_that_shrinks_to_less_than_half_is_forgotten() -> None:
    for growth, shown, lost in ((-600.0, [], [1]), (0.0, [1], [])):
        follow = tracker()
        follow.update(detections(BOX), 0)
        follow._kalman[kalman.V, 0, 2:] = growth
        assert ids(follow.predict(2 * FRAME_NS)) == shown
        assert follow.update(detections(), 3 * FRAME_NS).lost.tolist() == lost


def test_a_prediction_outside_the_frame_is_hidden_and_nobody_is_lost() -> None:
    follow = tracker()
    for step in range(10):
        follow.update(detections(moved((1800.0, 100.0, 1860.0, 180.0), 6 * step)), step * FRAME_NS)
    assert ids(follow.predict(12 * FRAME_NS)) == [1]  # its centre is at 1902 of 1920
    outside = follow.predict(20 * FRAME_NS)
    assert (ids(outside), outside.lost.tolist()) == ([], [])


@pytest.mark.parametrize("left", [-36.0, -50.0])
def test_a_face_seen_with_its_centre_outside_does_not_flicker(left: float) -> None:
    follow = tracker()
    for step in range(10):
        follow.update(detections((left, 100.0, left + 60, 180.0)), 3 * step * FRAME_NS)
        for later in (1, 2):
            assert ids(follow.predict((3 * step + later) * FRAME_NS)) == [1]
    assert ids(follow.update(detections(), 30 * FRAME_NS)) == []


def test_a_missed_face_at_the_border_may_have_stopped_there() -> None:
    follow = tracker()
    for step in range(10):
        follow.update(detections(moved((1817.0, 100.0, 1877.0, 180.0), 8 * step)), step * FRAME_NS)
    tracks = follow.update(detections(), 10 * FRAME_NS)  # its centre should be at 1927 of 1920
    assert (ids(tracks), tracks.lost.tolist()) == ([], [])


def test_a_face_that_turns_has_its_new_speed_at_once() -> None:
    follow = tracker()
    for step in range(20):
        follow.update(detections(BOX), step * FRAME_NS)
    tracks = follow.update(detections(moved(BOX, 20)), 20 * FRAME_NS)
    assert ids(tracks) == [1]
    assert tracks.velocity[0, 0] == pytest.approx(20 * 30, rel=0.1)


def test_a_face_that_turns_round_is_not_lost() -> None:
    follow = tracker()
    for step in range(40):
        x = 8 * step if step < 20 else 8 * (40 - step)
        tracks = follow.update(detections(moved(BOX, 200 + x)), step * FRAME_NS)
        assert ids(tracks) == [1]
        if step == 24:
            assert tracks.velocity[0, 0] < -150  # four frames after it turned
    np.testing.assert_allclose(tracks.velocity, [[-240, 0]], atol=25)


def test_a_box_that_changes_its_size_once_does_not_go_on_growing() -> None:
    follow = tracker()
    for step in range(10):
        follow.update(detections(BOX), step * FRAME_NS)
    x1, y1, x2, y2 = BOX
    tracks = follow.update(detections((x1 - 7, y1, x2 + 7, y2)), 10 * FRAME_NS)
    assert tracks.source.tolist() == [DETECTOR]
    assert abs(follow._kalman[kalman.V, 0, 2]) < 60  # pixels a second; it grew by 14 in a thirtieth


def test_a_face_that_has_come_near_is_judged_by_its_last_size() -> None:
    follow = tracker()
    for step in range(60):
        half = 20 * 1.03**step
        follow.update(detections((900 - half, 500 - half, 900 + half, 500 + half)), step * FRAME_NS)
    assert ids(follow.update(detections(), 60 * FRAME_NS)) == [1]


def test_a_detection_is_one_face_and_a_face_one_detection() -> None:
    follow = tracker()
    follow.update(detections(BOX), 0)
    near = detections(BOX, moved(BOX, 2), moved(BOX, 4))
    scores = np.array([0.9, 0.3, 0.55], np.float32)  # high; low; high, but too low to begin a face
    for step in range(1, 4):
        follow.update(Detections(near.xyxy, scores, near.keypoints), step * FRAME_NS)
        assert len(follow._rows) == 1
        assert follow._rows["hits"].tolist() == [1 + step]
        np.testing.assert_allclose(follow._rows["score"], [0.9])


def test_a_fast_small_face_is_matched_without_any_overlap() -> None:
    """20 px wide, 24 px a look from the second look on: IoU is 0 between looks."""
    follow = tracker()
    small = (300.0, 300.0, 320.0, 324.0)
    for step in range(12):
        tracks = follow.update(detections(moved(small, 24 * step)), step * 5 * FRAME_NS)
    assert ids(tracks) == [1]
    np.testing.assert_allclose(tracks.velocity, [[144, 0]], atol=5)


def test_of_several_the_assignment_is_the_best_one_for_all() -> None:
    """Two faces side by side step to the right: greedy matching by the nearest would swap one."""
    follow = tracker(high_score=0.95)
    left, right = (100.0, 100.0, 160.0, 160.0), (150.0, 100.0, 210.0, 160.0)
    start = detections(left, right, score=0.97)
    follow.update(start, 0)
    tracks = follow.update(detections(moved(right, 28), moved(left, 28), score=0.97), 2 * FRAME_NS)
    order = np.argsort(tracks.xyxy[:, 0])
    assert tracks.track_id[order].tolist() == [1, 2]


def test_a_far_detection_of_middling_score_does_not_pull_a_face_away() -> None:
    follow = tracker(high_score=0.7)
    for step in range(10):
        follow.update(detections(BOX, score=0.9), step * FRAME_NS)
    aside = moved(BOX, 40, 0)  # too far for a doubtful one
    for score, pulled in ((0.6, False), (0.9, True)):
        trial = copy.deepcopy(follow)
        tracks = trial.update(detections(aside, score=score), 10 * FRAME_NS)
        assert (tracks.source == DETECTOR).any() == pulled


def test_a_lost_face_is_forgotten_after_the_timeout_and_its_id_never_returns() -> None:
    follow = tracker(lost_timeout_s=0.5)
    follow.update(detections(BOX), 0)
    assert follow.update(detections(), 15 * FRAME_NS).lost.tolist() == []
    assert follow.update(detections(), 16 * FRAME_NS).lost.tolist() == [1]
    follow.update(detections(BOX), 17 * FRAME_NS)
    assert ids(follow.update(detections(BOX), 18 * FRAME_NS)) == [2]


def test_crossing_faces_keep_their_ids() -> None:
    follow = tracker()
    for step in range(60):
        pair = moved(BOX, 6 * step), moved(BOX, 360 - 6 * step, 45)
        tracks = follow.update(detections(*pair), step * FRAME_NS)
        assert sorted(ids(tracks)) == [1, 2]
    left_to_right = tracks.track_id[np.argmax(tracks.velocity[:, 0])]
    assert left_to_right == 1


def test_doubles_are_sought_when_a_face_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    follow = tracker(lost_timeout_s=5)
    follow.update(detections(BOX), 0)
    monkeypatch.setattr("edgeface.tracker.doubles", lambda rows, xyxy, seen: ~seen)  # all that was not seen
    follow.update(detections(FAR), FRAME_NS)
    assert follow.update(detections(FAR), 2 * FRAME_NS).lost.tolist() == [1]


def test_clear_forgets_everybody_but_not_the_ids() -> None:
    follow = tracker()
    follow.update(detections(BOX, FAR), 0)
    assert follow.clear((640, 360)).lost.tolist() == [1, 2]
    assert ids(follow.update(detections(BOX), FRAME_NS)) == [3]


def test_a_clock_that_steps_back_moves_nothing() -> None:
    follow = tracker()
    for step in range(10):
        follow.update(detections(moved(BOX, 5 * step)), step * FRAME_NS)
    before = follow.predict(10 * FRAME_NS)
    after = follow.predict(3 * FRAME_NS)
    np.testing.assert_array_equal(after.xyxy, before.xyxy)
    assert after.age_ns.tolist() == before.age_ns.tolist() == [FRAME_NS]
    assert follow.update(detections(), 3 * FRAME_NS + 10**9).lost.tolist() == [1]  # time goes on from there


def test_a_shrinking_face_never_turns_inside_out() -> None:
    follow = tracker()
    for step in range(10):
        half = 40 - 4 * step
        follow.update(detections((200 - half, 200 - half, 200 + half, 200 + half)), step * FRAME_NS)
    follow._kalman[kalman.V, 0, 2:] = [-900, 10]
    follow.predict(100 * FRAME_NS)
    assert (follow._kalman[kalman.X, 0, 2:] >= 1).all()


def test_the_snapshot_is_the_callers_to_keep() -> None:
    follow = tracker()
    tracks = follow.update(detections(BOX), 0)
    before = tracks.xyxy.copy(), tracks.score.copy()
    follow.update(detections(moved(BOX, 10), score=0.7), FRAME_NS)
    np.testing.assert_array_equal(tracks.xyxy, before[0])
    np.testing.assert_array_equal(tracks.score, before[1])


NOWHERE = [
    (np.nan, 0, 10, 10),
    (0, 0, np.inf, 10),
    (-np.inf, 0, 10, 10),
    (10, 10, 10, 20),
    (20, 20, 10, 10),
]


@pytest.mark.parametrize("box", NOWHERE)
def test_detections_that_are_no_boxes_are_passed_over(box: tuple[float, float, float, float]) -> None:
    follow = tracker()
    follow.update(detections(BOX), 0)
    tracks = follow.update(detections(box, BOX), FRAME_NS)
    assert ids(tracks) == [1]
    assert np.isfinite(tracks.xyxy).all()


def test_nan_scores_are_passed_over() -> None:
    follow = tracker()
    assert ids(follow.update(detections(BOX, score=np.nan), 0)) == []


def test_of_ten_thousand_detections_the_best_are_taken() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1000, (10_000, 2)).astype(np.float32)
    many = Detections(
        np.hstack([corner, corner + 20]),
        rng.uniform(0.6, 1, 10_000).astype(np.float32),
        np.zeros((10_000, 0, 2), np.float32),
    )
    follow = tracker(max_faces=200)
    for step in range(3):
        begun = time.perf_counter()
        tracks = follow.update(many, step * FRAME_NS)
        assert time.perf_counter() - begun < 2
    assert len(ids(tracks)) <= 200
    assert tracks.score.min() >= np.sort(many.score)[-200]


def test_hundreds_of_detections_in_one_place_take_bounded_time() -> None:
    heap = detections(*[BOX] * 500)
    follow = tracker()
    for step in range(3):
        begun = time.perf_counter()
        tracks = follow.update(heap, step * FRAME_NS)
        assert time.perf_counter() - begun < 5
    assert len(ids(tracks)) == 500


def test_an_hour_s_pause_forgets_everybody() -> None:
    follow = tracker()
    for step in range(5):
        follow.update(detections(moved(BOX, 5 * step)), step * FRAME_NS)
    tracks = follow.predict(3600 * 10**9)
    assert np.isfinite(tracks.xyxy).all()
    assert np.abs(follow._kalman[kalman.X]).max() < 5000  # at most ten seconds of motion
    assert follow.update(detections(), 3600 * 10**9).lost.tolist() == [1]


def test_time_that_stands_still_is_no_error() -> None:
    follow = tracker()
    for _ in range(5):
        tracks = follow.update(detections(BOX), 7)
    assert ids(tracks) == [1]


@st.composite
def looks(draw: st.DrawFn) -> list[Detections | None]:
    """Some looks, each with faces on a coarse grid; None: nobody looked."""
    steps: list[Detections | None] = []
    for _ in range(draw(st.integers(1, 25))):
        if draw(st.booleans()):
            steps.append(None)
            continue
        cells = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=6, unique=True))
        boxes = [(x * 50.0, y * 60.0, x * 50.0 + 60, y * 60.0 + 70) for x, y in cells]
        found = detections(*boxes)
        score = np.array([draw(st.floats(0, 1, width=32)) for _ in boxes], np.float32)
        steps.append(Detections(found.xyxy, score, found.keypoints))
    return steps


@settings(max_examples=150)
@given(looks(), st.integers(1, 20))
def test_ids_are_unique_and_never_repeat(steps: list[Detections | None], frames_a_step: int) -> None:
    follow = tracker()
    begun: list[int] = []
    ended: set[int] = set()
    for number, step in enumerate(steps):
        now_ns = number * frames_a_step * FRAME_NS
        tracks = follow.predict(now_ns) if step is None else follow.update(step, now_ns)
        assert len(set(ids(tracks))) == len(ids(tracks))
        begun += tracks.started.tolist()
        ended |= set(tracks.lost.tolist())
        assert set(ids(tracks)) <= set(begun)
        assert not set(ids(tracks)) & ended
        assert np.isfinite(tracks.xyxy).all()
    assert begun == list(range(1, len(begun) + 1))


def test_a_detector_that_always_sees_others_does_not_fill_the_memory() -> None:
    follow = tracker(min_hits=1, max_faces=3, lost_timeout_s=60.0)
    begun: list[int] = []
    ended: list[int] = []
    for number in range(20):
        at = 90.0 * number
        tracks = follow.update(detections(*[(at, y, at + 8, y + 8) for y in (100.0, 400.0, 700.0)]), number * FRAME_NS)
        begun += tracks.started.tolist()
        ended += tracks.lost.tolist()
    assert ended == begun[:-6]  # of six the three of the last look and the three before
    assert (tracks.source == DETECTOR).sum() == 3
    assert follow.clear((10, 10)).lost.tolist() == begun[-6:]


def test_faces_move_with_the_camera_and_keep_their_own_speed() -> None:
    still, turned = tracker(), tracker()
    for step in range(10):
        for follow in (still, turned):
            follow.update(detections(moved(BOX, 4 * step)), step * FRAME_NS)
    turned.move(50.0, -20.0)
    here, there = still.predict(10 * FRAME_NS), turned.predict(10 * FRAME_NS)
    np.testing.assert_allclose(there.xyxy - here.xyxy, [[50, -20, 50, -20]], atol=1e-3)
    np.testing.assert_allclose(there.velocity, here.velocity)
    tracker().move(1.0, 1.0)  # nobody: nothing


# --- held by their landmarks


def held(follow: ByteTracker, *faces: tuple[int, tuple[float, ...]]) -> Tracks:
    """These faces, id and box, were seen by their landmarks."""
    boxes = np.array([box for _, box in faces], np.float32).reshape(-1, 4)
    return follow.hold(np.array([id_ for id_, _ in faces], np.int64), boxes)


def test_a_held_face_is_where_its_landmarks_are_at_the_speed_they_show() -> None:
    follow = tracker()
    for step in range(10):
        follow.update(detections(moved(BOX, 4 * step)), step * FRAME_NS)
    for step in range(10, 30):  # it stops
        before = follow.predict(step * FRAME_NS)
        tracks = held(follow, (1, moved(BOX, 36)))
        assert (tracks.source.tolist(), tracks.age_ns.tolist()) == ([LANDMARKS], [0])
        assert before.source.tolist() == [PREDICTED]
    np.testing.assert_allclose(tracks.xyxy, [moved(BOX, 36)], atol=1)
    np.testing.assert_allclose(tracks.velocity, [[0, 0]], atol=5)
    assert tracks.track_age_ns.tolist() == [29 * FRAME_NS]
    assert (tracks.state.tolist(), tracks.score.tolist()) == ([CONFIRMED], [pytest.approx(0.9)])
    assert tracks.keypoints.shape == (1, 0, 2)
    assert (tracks.started.tolist(), tracks.lost.tolist()) == ([], [])
    assert tracks.centre_std[0] < before.centre_std[0]


def test_a_held_face_is_matched_as_if_it_were_less_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often landmarks said so: they all lie as the box did that was seen last."""
    asked: list[np.ndarray] = []

    def watched(state: np.ndarray, *others: Any) -> np.ndarray:
        asked.append(state[kalman.PP].copy())
        return costs(state, *others)

    monkeypatch.setattr("edgeface.tracker.costs", watched)
    follow = tracker()
    follow.update(detections(BOX, FAR), 0)
    follow.predict(FRAME_NS)
    held(follow, (1, BOX))
    follow.predict(2 * FRAME_NS)
    own, area = follow._kalman[kalman.PP].copy(), follow._rows["area"]
    bias = [0.1**2 * area[0], 0]
    follow.update(detections(BOX, FAR), 2 * FRAME_NS)
    np.testing.assert_allclose(asked[-1], own + np.array(bias)[:, None])
    follow.update(detections(BOX, FAR), 3 * FRAME_NS)
    assert (asked[-1] < own[0, 0] + bias[0] / 2).all()  # a look has seen both


def test_a_box_from_landmarks_is_trusted_less_in_its_size_than_in_its_place() -> None:
    follow = tracker()
    for step in range(10):
        follow.update(detections(BOX), step * FRAME_NS)
    follow.predict(10 * FRAME_NS)
    before, variance = follow._kalman[kalman.X, 0].copy(), follow._kalman[kalman.PP, 0].copy()
    measured = np.array([132.0, 143.0, 64.0, 86.0])  # centre, width, height
    held(follow, (1, (100.0, 100.0, 164.0, 186.0)))
    noise = 60 * 80 * np.array([0.03, 0.03, 0.05, 0.05]) ** 2
    expected = before + (measured - before) * variance / (variance + noise)
    np.testing.assert_allclose(follow._kalman[kalman.X, 0], expected, atol=0.01)


def test_who_is_not_held_is_predicted() -> None:
    follow = tracker()
    follow.update(detections(BOX, FAR), 0)
    predicted = follow.predict(FRAME_NS)
    tracks = held(follow, (2, moved(FAR, 3)))
    assert ids(tracks) == [1, 2]
    assert tracks.source.tolist() == [PREDICTED, LANDMARKS]
    assert tracks.age_ns.tolist() == [FRAME_NS, 0]
    np.testing.assert_array_equal(tracks.xyxy[0], predicted.xyxy[0])
    assert ids(held(follow)) == [1, 2]
    assert held(follow).source.tolist() == [PREDICTED, PREDICTED]
    nobody = tracker()
    nobody.predict(0)
    assert ids(held(nobody)) == []


def test_faces_are_held_by_their_ids_in_whatever_order_they_lie() -> None:
    follow = tracker()
    strangers = [moved(BOX, 0, 200 * number) for number in (1, 2, 3, 4)]
    follow.update(detections(BOX, FAR), 0)
    follow.update(detections(BOX, FAR, *strangers), FRAME_NS)  # tentative: they have no ids yet
    assert follow._rows["track_id"].tolist() == [1, 2, 0, 0, 0, 0]
    before = follow.predict(2 * FRAME_NS)
    tracks = held(follow, (2, moved(FAR, 9)), (1, moved(BOX, -9)))
    assert ids(before) == ids(tracks) == [1, 2]
    assert tracks.tentative == 4
    assert tracks.source.tolist() == [LANDMARKS, LANDMARKS]
    assert tracks.xyxy[0, 0] < BOX[0] - 4
    assert tracks.xyxy[1, 0] > FAR[0] + 4
    np.testing.assert_allclose(follow._xyxy()[2:], strangers, atol=1e-3)


def test_a_lost_face_that_proves_to_have_left_is_hidden() -> None:
    follow = tracker()
    follow.update(detections(BOX), 0)
    follow.update(detections(), FRAME_NS)
    assert ids(held(follow, (1, moved(BOX, -60)))) == [1]
    assert ids(held(follow, (1, moved(BOX, -400)))) == []


def test_a_face_held_on_a_wall_dies_as_if_it_were_not_held() -> None:
    """The detector sees it last at 0; landmarks, if anybody believed them, would follow it for ever."""
    follow = tracker(coast_s=0.3, lost_timeout_s=0.6)
    follow.update(detections(BOX), 0)
    states: dict[int, tuple[list[int], list[int]]] = {}
    for step in range(1, 20):
        now_ns = step * 30_000_000
        if step == 5:
            tracks = follow.update(detections(), now_ns)
            assert tracks.source.tolist() == [PREDICTED]
        else:
            tracks = follow.predict(now_ns)
            if len(tracks.track_id):
                tracks = held(follow, (1, BOX))
        states[step] = ids(tracks), tracks.state.tolist()
    assert [states[step] for step in (4, 5, 10, 11)] == [([1], [CONFIRMED]), ([1], [LOST]), ([1], [LOST]), ([], [])]
    assert follow.update(detections(), 20 * 30_000_000).lost.tolist() == []
    assert follow.update(detections(), 21 * 30_000_000).lost.tolist() == [1]


def test_holding_is_no_hit() -> None:
    follow = tracker(min_hits=2)
    follow.update(detections(BOX), 0)
    follow.predict(FRAME_NS)
    held(follow, (1, BOX))
    assert follow._rows["hits"].tolist() == [1]
    assert follow._rows["seen_ns"].tolist() == [0]
    assert follow._rows["measured_ns"].tolist() == [FRAME_NS]


def test_a_held_face_is_found_again_far_from_where_it_was_seen() -> None:
    """It turns after the last look; landmarks go with it, the prediction does not."""
    for hold, expected in ((True, [1]), (False, [])):
        follow = tracker()
        for step in range(10):
            follow.update(detections(moved(BOX, 10 * step)), step * FRAME_NS)
        for step in range(10, 25):
            follow.predict(step * FRAME_NS)
            if hold:
                held(follow, (1, moved(BOX, 90 - 10 * (step - 9))))
        tracks = follow.update(detections(moved(BOX, 90 - 160)), 25 * FRAME_NS)
        assert [id_ for id_, source in zip(ids(tracks), tracks.source, strict=True) if source == DETECTOR] == expected


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(-6, 6)), min_size=1, max_size=20))
def test_held_faces_stay_finite_and_keep_their_ids(steps: list[tuple[bool, int]]) -> None:
    follow, x = tracker(), 0
    follow.update(detections(BOX, FAR), 0)
    for number, (hold, dx) in enumerate(steps, 1):
        x += dx
        tracks = follow.predict(number * FRAME_NS)
        if hold:
            tracks = held(follow, (1, moved(BOX, x)))
        assert ids(tracks) == [1, 2]
        assert np.isfinite(tracks.xyxy).all()
        assert tracks.source.tolist() == [LANDMARKS if hold else PREDICTED, PREDICTED]
