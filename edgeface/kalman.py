"""Constant-velocity Kalman filter for n boxes at once, in closed form.

ByteTrack's 8-state filter (SORT's model: four positions, four velocities) never couples its four components, so it is
four independent filters of two states, and needs no matrix: all covariances are the scalars pp, pv, vv. The state of
n boxes is one array [5, n, 4]: position x, velocity v, var(x), cov(x, v), var(v) of the four components (centre x,
centre y, width, height). Time is in any unit, the same in velocity and dt.
"""

from __future__ import annotations

import numpy as np

from edgeface.values import F64

X, V, PP, PV, VV = range(5)


def initiate(measured: F64, position_std: F64, velocity_std: F64) -> F64:
    """State [5, n, 4] of boxes first measured at [n, 4], at rest, with standard deviations [n, 4]."""
    zero = np.zeros_like(measured)
    return np.stack([measured, zero, position_std**2, zero, velocity_std**2])


def predict(state: F64, dt: float, agility: F64) -> F64:
    """The state `dt` later; `agility` [n, 4] is the standard deviation of the change of speed in one unit of time.

    White-noise acceleration (Bar-Shalom et al., Estimation with Applications to Tracking and Navigation, 6.2.2):
    x' = F x, P' = F P F^T + a^2 [[dt^3/3, dt^2/2], [dt^2/2, dt]], with F = [[1, dt], [0, 1]] for each component. Many
    short steps give the same as one long one.
    """
    moved: F64 = state.copy()
    x, v, pp, pv, vv = moved
    noise = agility**2 * dt
    x += v * dt
    pp += (2 * pv + vv * dt) * dt + noise * (dt * dt / 3)
    pv += vv * dt + noise * (dt / 2)
    vv += noise
    return moved


def update(state: F64, measured: F64, measured_std: F64) -> F64:
    """The state after positions [n, 4] were measured with standard deviations [n, 4].

    K = P H^T (H P H^T + R)^-1, x' = x + K (z - H x), P' = (I - K H) P, with H = [1, 0].
    """
    corrected: F64 = state.copy()
    x, v, pp, pv, vv = corrected
    spread = pp + measured_std**2
    gain_x, gain_v = pp / spread, pv / spread
    error = measured - x
    x += gain_x * error
    v += gain_v * error
    vv -= gain_v * pv
    pv -= gain_x * pv
    pp -= gain_x * pp
    return corrected


def size(state: F64) -> F64:
    """sqrt(width * height) [n] of the boxes, pixels."""
    side: F64 = np.sqrt(state[X, :, 2] * state[X, :, 3])
    return side


def distance(state: F64, measured: F64, spread: F64) -> F64:
    """Squared Mahalanobis distances [n, m] of measurements [m, 4] from n boxes whose variances are `spread` [n, 4].

    sum over the components of (z - x)^2 / spread, multiplied out so that it is two matrix products.
    """
    x, weight = state[X], 1 / spread
    squared = measured**2 @ weight.T - 2 * (measured @ (x * weight).T) + np.einsum("nc,nc->n", x * x, weight)
    result: F64 = squared.T
    return result
