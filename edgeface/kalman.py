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


def initiate(measured: F64, position_variance: F64, velocity_variance: F64) -> F64:
    """State [5, n, 4] of boxes first measured at [n, 4], at rest, with variances [n, 4]."""
    zero = np.zeros_like(measured)
    return np.stack([measured, zero, position_variance, zero, velocity_variance])


def predict(state: F64, dt: float, agility_variance: F64) -> F64:
    """The state `dt` later; `agility_variance` [n, 4] is that of the change of speed in one unit of time.

    White-noise acceleration (Bar-Shalom et al., Estimation with Applications to Tracking and Navigation, 6.2.2):
    x' = F x, P' = F P F^T + q [[dt^3/3, dt^2/2], [dt^2/2, dt]], with F = [[1, dt], [0, 1]] for each component. Many
    short steps give the same as one long one.
    """
    moved: F64 = state.copy()
    x, v, pp, pv, vv = moved
    noise = agility_variance * dt
    x += v * dt
    pp += (2 * pv + vv * dt + noise * (dt / 3)) * dt
    pv += vv * dt + noise * (dt / 2)
    vv += noise
    return moved


def update(state: F64, measured: F64, measured_variance: F64) -> F64:
    """The state after positions [n, 4] were measured with variances [n, 4].

    K = P H^T (H P H^T + R)^-1, x' = x + K (z - H x), P' = (I - K H) P, with H = [1, 0].
    """
    corrected: F64 = state.copy()
    x, v, pp, pv, vv = corrected
    spread = pp + measured_variance
    gain_x, gain_v = pp / spread, pv / spread
    error = measured - x
    x += gain_x * error
    v += gain_v * error
    vv -= gain_v * pv
    pv -= gain_x * pv
    pp -= gain_x * pp
    return corrected
