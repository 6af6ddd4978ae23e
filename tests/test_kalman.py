"""The closed-form filter is the textbook one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeface import kalman


def pack(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Textbook mean [8] and covariance [8, 8] -> the closed form's planes [5, 1, 4]."""
    here, there = np.arange(4), np.arange(4, 8)
    planes = [mean[:4], mean[4:], covariance[here, here], covariance[here, there], covariance[there, there]]
    return np.stack(planes)[:, None]


POSITIVE = st.floats(0.05, 30)
FOUR = (1, 4)


@given(
    hnp.arrays(np.float64, FOUR, elements=st.floats(1, 2000)),
    st.lists(
        st.tuples(
            st.floats(0, 3),
            hnp.arrays(np.float64, FOUR, elements=POSITIVE),
            hnp.arrays(np.float64, FOUR, elements=POSITIVE),
            st.one_of(st.none(), hnp.arrays(np.float64, FOUR, elements=st.floats(1, 2000))),
        ),
        max_size=8,
    ),
    hnp.arrays(np.float64, FOUR, elements=POSITIVE),
    hnp.arrays(np.float64, FOUR, elements=POSITIVE),
)
def test_equal_to_a_textbook_filter_of_eight_states(
    first: np.ndarray, steps: list[tuple], position_std: np.ndarray, velocity_std: np.ndarray
) -> None:
    mean = np.concatenate([first[0], np.zeros(4)])
    covariance = np.diag(np.concatenate([position_std[0], velocity_std[0]]) ** 2)
    state = kalman.initiate(first, position_std**2, velocity_std**2)
    h = np.eye(4, 8)
    for dt, q_position, q_velocity, measured in steps:
        f = np.eye(8) + dt * np.eye(8, k=4)
        mean = f @ mean
        noise = np.kron([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]], np.diag(q_velocity[0] ** 2))
        covariance = f @ covariance @ f.T + noise
        state = kalman.predict(state, dt, q_velocity**2)
        if measured is not None:
            spread = h @ covariance @ h.T + np.diag(q_position[0] ** 2)
            gain = covariance @ h.T @ np.linalg.inv(spread)
            mean = mean + gain @ (measured[0] - h @ mean)
            covariance = (np.eye(8) - gain @ h) @ covariance
            state = kalman.update(state, measured, q_position**2)
        np.testing.assert_allclose(state, pack(mean, covariance), rtol=1e-6, atol=1e-6)


def test_g8_bytetracks_numbers() -> None:
    """ByteTrack's own state (x, y, aspect, height) and noise, on the same formulas."""

    def noise(height: float) -> tuple[np.ndarray, np.ndarray]:
        position = np.array([[height / 20, height / 20, 1e-2, height / 20]])
        velocity = np.array([[height / 160, height / 160, 1e-5, height / 160]])
        return position, velocity

    def moved(state: np.ndarray, height: float) -> np.ndarray:
        """ByteTrack adds its noise to the variances alone."""
        position, velocity = noise(height)
        later = kalman.predict(state, 1, np.zeros((1, 4)))
        later[kalman.PP] += position**2
        later[kalman.VV] += velocity**2
        return later

    position, velocity = noise(50)
    initial = position * 2, velocity * 10
    initial[0][0, 2], initial[1][0, 2] = 1e-2, 1e-5
    state = kalman.initiate(np.array([[100.0, 200, 0.8, 50]]), initial[0] ** 2, initial[1] ** 2)
    np.testing.assert_allclose(state[kalman.PP, 0], [25, 25, 1e-4, 25])
    np.testing.assert_allclose(state[kalman.VV, 0], [9.765625, 9.765625, 1e-10, 9.765625])

    state = moved(state, 50)
    np.testing.assert_allclose(state[kalman.PP, 0], [41.015625, 41.015625, 2e-4, 41.015625], rtol=1e-6)
    np.testing.assert_allclose(state[kalman.VV, 0, [0, 1, 3]], 9.863281, rtol=1e-6)

    measured_std = np.array([[50 / 20, 50 / 20, 1e-1, 50 / 20]])
    state = kalman.update(state, np.array([[104, 198, 0.82, 52]]), measured_std**2)
    np.testing.assert_allclose(state[kalman.X, 0], [103.471074, 198.264463, 0.800392, 51.735537], atol=1e-6)
    np.testing.assert_allclose(state[kalman.V, 0], [0.826446, -0.413223, 0, 0.413223], atol=1e-6)
    np.testing.assert_allclose(state[kalman.PP, 0], [5.423554, 5.423554, 0.000196, 5.423554], atol=1e-6)
    np.testing.assert_allclose(state[kalman.VV, 0, 0], 7.84559, atol=1e-5)

    for _ in range(3):
        state = moved(state, state[kalman.X, 0, 3])
    np.testing.assert_allclose(state[kalman.X, 0], [105.950413, 197.024793, 0.800392, 52.975207], atol=1e-6)
    np.testing.assert_allclose(state[kalman.PP, 0, 0], 104.703295, atol=1e-6)


def test_no_boxes() -> None:
    none = np.zeros((0, 4))
    state = kalman.initiate(none, none, none)
    assert kalman.update(kalman.predict(state, 0.1, none), none, none).shape == (5, 0, 4)


@given(st.integers(1, 40), st.floats(0.001, 5))
def test_many_short_steps_are_one_long_one(count: int, total: float) -> None:
    four = np.full((1, 4), 2.0)
    once = steps = kalman.initiate(four * 50, four, four * 3)
    once = kalman.predict(once, total, four)
    for _ in range(count):
        steps = kalman.predict(steps, total / count, four)
    np.testing.assert_allclose(steps, once, rtol=1e-9)
