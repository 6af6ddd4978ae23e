"""Which followed faces are remembered, published, or one face twice."""

from __future__ import annotations

import numpy as np

from edgeface.lifecycle import ROW, doubles
from edgeface.values import CONFIRMED, LOST


def test_of_two_tracks_on_one_face_the_older_stays() -> None:
    rows = np.zeros(2, ROW)
    rows["state"] = LOST, CONFIRMED
    seen = np.array([False, True])
    xyxy = np.array([[10, 10, 50, 50]] * 2, np.float32)
    rows["first_ns"] = 0, 1
    assert doubles(rows, xyxy, seen).tolist() == [False, True]
    rows["first_ns"] = 1, 0
    assert doubles(rows, xyxy, seen).tolist() == [True, False]
    xyxy[1] += 20
    assert doubles(rows, xyxy, seen).tolist() == [False, False]
