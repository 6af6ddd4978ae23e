"""Association: what a pair costs, and the pairs that are cheapest together."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeface import kalman
from edgeface.association import Motion, assign, costs


@given(hnp.arrays(bool, st.tuples(st.integers(0, 8), st.integers(0, 8))), st.randoms())
def test_the_sum_of_all_pairs_is_least(near: np.ndarray, random: object) -> None:
    cost = np.array([random.uniform(-20, 5) if pair else 1.0 for pair in near.ravel()]).reshape(near.shape)
    rows, columns = assign(cost)
    assert (cost[rows, columns] < 0).all()
    assert len(set(rows.tolist())) == len(rows)
    assert len(set(columns.tolist())) == len(columns)
    assert cost[rows, columns].sum() == pytest.approx(brute_force(cost), abs=1e-6)


def test_a_pair_that_costs_is_none_and_does_not_count_against_others() -> None:
    rows, columns = assign(np.array([[-3.0, -1.0], [-1.0, 5.0]]))
    assert (rows.tolist(), columns.tolist()) == ([0], [0])  # though -1 - 1 is less than -3 + 5


def brute_force(cost: np.ndarray) -> float:
    """The least sum, row by row with memory of the columns taken."""

    @functools.cache
    def best(row: int, taken: int) -> float:
        if row == cost.shape[0]:
            return 0.0
        found = best(row + 1, taken)
        for column in range(cost.shape[1]):
            if not taken >> column & 1:
                found = min(found, cost[row, column] + best(row + 1, taken | 1 << column))
        return found

    return best(0, 0)


def test_where_nobody_has_a_choice_no_solver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("lap.lapjvx", refuse)
    rows, columns = assign(np.array([[5.0, -1.0], [-2.0, 0.0], [3.0, 3.0]]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]
    with pytest.raises(AssertionError):
        assign(np.array([[-5.0, -1.0]]))


def boxes(*rows: tuple[float, float, float, float], variance: float = 1.0) -> np.ndarray:
    """Kalman state of boxes whose places are known with `variance`, nothing moving."""
    measured = np.array(rows, float).reshape(-1, 4)
    return kalman.initiate(measured, np.full_like(measured, variance), np.zeros_like(measured))


def cost_of(state: np.ndarray, measured: np.ndarray, motion: Motion, **changes: np.ndarray) -> np.ndarray:
    """Costs for confirmed faces and high scores, seen a moment ago, if not said otherwise."""
    area = state[kalman.X, :, 2] * state[kalman.X, :, 3]
    usual = {
        "unseen_s": np.zeros(len(area)),
        "known": np.ones(len(area), bool),
        "sure": np.ones(len(measured), bool),
    }
    said = usual | changes
    return costs(state, area, said["unseen_s"], said["known"], measured, said["sure"], motion)


@given(
    hnp.arrays(np.float64, (3, 4), elements=st.floats(10, 1900)),
    hnp.arrays(np.float64, (2, 4), elements=st.floats(10, 1900)),
    hnp.arrays(np.float64, 3, elements=st.floats(0, 3)),
    hnp.arrays(bool, 3),
    hnp.arrays(bool, 2),
    st.floats(0.01, 400),
)
def test_the_cost_is_the_formula(
    faces: np.ndarray, measured: np.ndarray, unseen_s: np.ndarray, known: np.ndarray, sure: np.ndarray, variance: float
) -> None:
    motion, state = Motion(), boxes(*faces, variance=variance)
    cost = cost_of(state, measured, motion, unseen_s=unseen_s, known=known, sure=sure)
    for i, face in enumerate(faces):
        size = np.sqrt(face[2] * face[3])
        stds = np.array([motion.measured_std] * 2 + [motion.measured_size_std] * 2)
        path = variance / size**2 + stds**2
        slack = motion.slack**2 * unseen_s[i] * 30
        loose = path + slack * np.array([1, 1, 0, 0])
        for j, box in enumerate(measured):
            error = (box - face) / size
            keeps, leaves = ((error**2 / spread).sum() + np.log(spread).sum() for spread in (path, loose))
            expected = min(keeps, leaves + motion.off_path_cost) - motion.stranger_cost
            expected += motion.low_score_cost * (int(not known[i]) + int(not sure[j]))
            assert cost[i, j] == pytest.approx(expected, rel=1e-6, abs=1e-4)


def test_distances_count_in_standard_deviations_and_box_sizes() -> None:
    motion = Motion()
    near = cost_of(boxes((100, 100, 10, 10)), np.array([[103.0, 100, 10, 10]]), motion)
    far = cost_of(boxes((100, 100, 10, 10)), np.array([[109.0, 100, 10, 10]]), motion)
    vague = cost_of(boxes((100, 100, 10, 10), variance=9), np.array([[109.0, 100, 10, 10]]), motion)
    large = cost_of(boxes((1000, 1000, 100, 100), variance=100), np.array([[1030.0, 1000, 100, 100]]), motion)
    assert near < 0 < far
    assert vague < far
    np.testing.assert_allclose(near, large)  # ten times the picture, the same cost


def test_slack_grows_with_the_root_of_time() -> None:
    variance = Motion(slack=0.1).slack_variance(np.array([0, 1, 4, 9]) / 30)
    np.testing.assert_allclose(np.sqrt(variance), [0, 0.1, 0.2, 0.3])


def test_a_face_that_may_have_left_its_path_is_cheaper_far_off_and_dearer_on_it() -> None:
    on, off = np.array([[100.0, 100, 30, 30]]), np.array([[120.0, 100, 30, 30]])
    state, late = boxes((100, 100, 30, 30)), {"unseen_s": np.array([0.3])}
    for slack, cheaper in ((Motion(), True), (Motion(slack=0.0), False)):
        assert (cost_of(state, off, slack, **late) < 0).all() == cheaper
        assert cost_of(state, on, slack, **late) < cost_of(state, off, slack, **late)
    np.testing.assert_allclose(cost_of(state, on, Motion(), **late), cost_of(state, on, Motion()))


def test_no_faces_and_no_measurements() -> None:
    assert cost_of(boxes(), np.zeros((3, 4)), Motion()).shape == (0, 3)
    assert cost_of(boxes((9, 9, 9, 9)), np.zeros((0, 4)), Motion()).shape == (1, 0)
    for shape in ((0, 3), (1, 0)):
        rows, columns = assign(np.zeros(shape))
        assert len(rows) == len(columns) == 0
