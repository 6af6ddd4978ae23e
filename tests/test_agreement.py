"""How far two answers are from each other: exact figures on hand-made ones."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import detections
from hypothesis import given
from hypothesis import strategies as st

from edgeface.boxes import iou
from edgeface.build.agreement import average_precision, detection_figures, landmark_figures, normalised_errors
from edgeface.point_sets import OUTER_EYE_CORNERS
from edgeface.values import Detections, Landmarks

NOBODY = detections()
LEFT, RIGHT = (0.0, 0.0, 100.0, 100.0), (200.0, 0.0, 300.0, 100.0)


def found(*faces: tuple[tuple[float, float, float, float], float]) -> Detections:
    """Boxes and scores; keypoints at fixed places of a box, the eyes half of its width apart."""
    xyxy = np.array([box for box, _ in faces], np.float32).reshape(-1, 4)
    places = np.array([[0.25, 0.4], [0.75, 0.4], [0.5, 0.6], [0.3, 0.8], [0.7, 0.8]], np.float32)
    keypoints = xyxy[:, None, :2] + places * (xyxy[:, 2:] - xyxy[:, :2])[:, None]
    return Detections(xyxy, np.array([score for _, score in faces], np.float32), keypoints)


def moved(box: tuple[float, float, float, float], right: float) -> tuple[float, float, float, float]:
    return box[0] + right, box[1], box[2] + right, box[3]


def test_the_same_is_the_same() -> None:
    seen = [found((LEFT, 0.9), (RIGHT, 0.6)), NOBODY, found((LEFT, 0.3))]
    figures = detection_figures(
        seen, seen, score_threshold=0.5, truth=[np.array([LEFT, RIGHT]), np.zeros((0, 4)), np.zeros((0, 4))]
    )
    assert (figures.faces, figures.matched, figures.weak, figures.extra) == (2, 1.0, 0.0, 0.0)
    assert (figures.mean_iou, figures.score_shift, figures.score_shift_p95) == (pytest.approx(1), 0, 0)
    assert (figures.keypoint_shift, figures.keypoint_shift_p95) == (0, 0)
    assert figures.ap_fp32 == figures.ap_form == 1.0


def test_every_figure_of_a_detector() -> None:
    full = [found((LEFT, 0.9), (RIGHT, 0.8)), found((LEFT, 0.7), (RIGHT, 0.6)), found((LEFT, 0.4)), NOBODY]
    form = [
        found((moved(LEFT, 2), 0.8), (moved(RIGHT, 20), 0.8)),  # IoU 98/102 and 80/120
        found((LEFT, 0.45)),  # too low a score; the other one is lost
        found((LEFT, 0.55)),  # FP32 has it, if weakly: nothing new
        found((LEFT, 0.6)),  # FP32 has nobody there
    ]
    figures = detection_figures(full, form, score_threshold=0.5)
    assert (figures.faces, figures.matched, figures.weak, figures.extra) == (4, 0.25, 0.25, 0.25)
    assert figures.mean_iou == pytest.approx(np.mean([98 / 102, 80 / 120, 1]))
    shifts = np.array([-0.1, 0, -0.25])
    assert figures.score_shift == pytest.approx(shifts.mean(), abs=1e-6)
    assert figures.score_shift_p95 == pytest.approx(np.percentile(np.abs(shifts), 95), abs=1e-6)
    keypoints = np.array([2, 20, 0]) / 50
    assert figures.keypoint_shift == pytest.approx(keypoints.mean(), abs=1e-6)
    assert figures.keypoint_shift_p95 == pytest.approx(np.percentile(keypoints, 95), abs=1e-6)
    assert figures.ap_fp32 is figures.ap_form is None


def test_nobody_at_all() -> None:
    figures = detection_figures([NOBODY], [NOBODY], score_threshold=0.5)
    assert (figures.faces, figures.matched, figures.extra, figures.mean_iou, figures.keypoint_shift) == (
        0,
        0,
        0,
        None,
        None,
    )
    lost = detection_figures([found((LEFT, 0.9))], [NOBODY], score_threshold=0.5)
    assert (lost.faces, lost.matched, lost.mean_iou, lost.score_shift) == (1, 0, None, None)
    new = detection_figures([NOBODY], [found((LEFT, 0.9), (RIGHT, 0.9))], score_threshold=0.5)
    assert (new.faces, new.extra) == (0, 2)


def test_a_detector_without_five_keypoints() -> None:
    plain = Detections(np.array([LEFT], np.float32), np.array([0.9], np.float32), np.zeros((1, 0, 2), np.float32))
    assert detection_figures([plain], [plain], score_threshold=0.5).keypoint_shift is None


@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(0.5, 1)), min_size=1, max_size=6))
def test_shares_are_counts_of_pairs(changes: list[tuple[float, float]]) -> None:
    full = [found((LEFT, 0.8)) for _ in changes]
    form = [found((moved(LEFT, right), score)) for right, score in changes]
    figures = detection_figures(full, form, score_threshold=0.5)
    share = [float(iou(one.xyxy, other.xyxy)[0, 0]) for one, other in zip(full, form, strict=True)]
    assert figures.matched == pytest.approx(np.mean([one >= 0.9 for one in share]))
    assert figures.extra == pytest.approx(np.mean([one < 0.3 for one in share]))


def test_average_precision() -> None:
    truth = [np.array([LEFT, RIGHT]), np.array([LEFT])]
    wrong = (500.0, 0.0, 600.0, 100.0)
    first = found((LEFT, 0.9), (LEFT, 0.8), (RIGHT, 0.3))  # the second on LEFT is one too many
    assert average_precision([first, NOBODY], truth) == pytest.approx((1 / 1 + 2 / 3) / 3)
    assert average_precision([first, found((wrong, 0.95), (LEFT, 0.2))], truth) == pytest.approx(3 * (3 / 5) / 3)
    assert average_precision([NOBODY, NOBODY], truth) == 0
    assert average_precision([first], [np.zeros((0, 4))]) == 0


def face(eyes: float, count: int = 68, right: float = 0, down: float = 0) -> np.ndarray:
    """Points along a line, the outer corners of the eyes so far apart; moved."""
    xy = np.zeros((1, count, 2))
    xy[0, :, 0] = np.arange(count)
    corner, other = OUTER_EYE_CORNERS
    xy[0, other, 0] = xy[0, corner, 0] + eyes
    moved_by: np.ndarray = xy + np.array([right, down])
    return moved_by


def placed(*xy: np.ndarray, score: float = 0.5) -> Landmarks:
    points = np.concatenate(xy).astype(np.float32)
    return Landmarks(points, np.full(points.shape[:2], score, np.float32))


NOT_PLACED = np.full((1, 68, 2), np.nan)


def test_every_figure_of_landmarks() -> None:
    full = [placed(face(50), face(100), NOT_PLACED), placed(face(50))]
    form = [placed(face(50, down=1), face(100, down=4), face(50), score=0.6), placed(NOT_PLACED)]
    figures = landmark_figures(full, form)
    assert (figures.faces, figures.placed, figures.labelled) == (3, pytest.approx(2 / 3), 0)
    assert figures.shift == pytest.approx(0.03)
    assert figures.shift_p95 == pytest.approx(np.percentile([0.02, 0.04], 95))
    assert figures.score_shift == figures.score_shift_p95 == pytest.approx(0.1)
    assert figures.nme_fp32 is figures.nme_form is None


def test_the_error_on_labelled_faces() -> None:
    full = [placed(face(50, right=3), face(50), face(50))]
    form = [placed(face(50, right=4), face(50), NOT_PLACED)]
    truth = [np.concatenate([face(50), NOT_PLACED, face(50)])]
    figures = landmark_figures(full, form, truth=truth)
    assert (figures.faces, figures.labelled) == (3, 1)
    assert (figures.nme_fp32, figures.nme_form) == (pytest.approx(3 / 50), pytest.approx(4 / 50))


def test_labels_with_fewer_points_than_the_network() -> None:
    wide = placed(face(50, 80, down=5))
    assert landmark_figures([wide], [wide], truth=[face(50)]).nme_fp32 == pytest.approx(5 / 50)


def test_points_without_eyes_are_measured_by_their_box() -> None:
    square = np.array([[[0, 0], [10, 0], [0, 10], [10, 10]]], float)
    assert normalised_errors(square + np.array([0, 2]), square).tolist() == [0.2]
    assert landmark_figures([placed(square)], [placed(NOT_PLACED[:, :4])]).placed == 0


def test_no_face_at_all() -> None:
    nobody = placed(np.zeros((0, 68, 2)))
    figures = landmark_figures([nobody], [nobody], truth=[np.zeros((0, 68, 2))])
    assert (figures.faces, figures.placed, figures.shift, figures.nme_form) == (0, 0, None, None)
