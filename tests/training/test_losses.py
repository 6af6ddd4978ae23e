"""Losses: each against a case worked out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from training import losses  # noqa: E402


def test_wing_is_a_logarithm_that_becomes_a_line() -> None:
    error = torch.tensor([0.0, 2.0, -2.0, 10.0, 14.0])
    value = losses.wing(error, width=10.0, curvature=2.0)
    meeting = 10 - 10 * math.log(6)
    expected = [0, 10 * math.log(2), 10 * math.log(2), 10 - meeting, 14 - meeting]
    torch.testing.assert_close(value, torch.tensor(expected))
    torch.testing.assert_close(value[3], torch.tensor(10 * math.log(6)))  # both pieces meet


def test_spread_is_zero_where_the_variance_is_as_wanted() -> None:
    grid = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    heat = torch.tensor([[[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]]])
    points = heat @ grid
    value = losses.spread(heat, points, grid, sigma=math.sqrt(0.5))  # the first has variance 1/2 along both axes
    torch.testing.assert_close(value, torch.tensor([[0.0, 0.5]]))  # the second none: 2 * (0 - 1/2)^2


def landmark_parts(points: list[float], target: list[float], visible: float, **more: float) -> dict[str, float]:
    heat = torch.zeros(1, 1, 1)
    parts = losses.landmarks(
        torch.tensor([[points]]),
        torch.zeros(1, 1),
        heat + 1,
        torch.zeros(1, 2),
        torch.tensor([[target]]),
        torch.tensor([[visible]]),
        torch.ones(1),
        **more,
    )
    return {name: float(value) for name, value in parts.items()}


def test_landmarks_are_asked_where_they_are_in_the_crop_and_seen_everywhere() -> None:
    near = landmark_parts([40.0, 40.8], [40.0, 40.0], 1.0, seen_weight=1.0)
    assert near["points"] == pytest.approx(math.log(2), rel=1e-5)  # width 4, curvature 0.8: 4 ln 2 / 4
    assert near["seen"] == pytest.approx(math.log(2))  # a logit of 0
    outside = landmark_parts([79.0, 40.0], [84.0, 40.0], 0.0, seen_weight=1.0)
    assert outside["points"] == outside["spread"] == 0
    assert outside["seen"] == pytest.approx(math.log(2))
    border = landmark_parts([80.0, 40.0], [81.0, 40.0], 0.0)
    assert border["points"] == 0  # asked, and as near as a crop's point can be
    assert landmark_parts([70.0, 40.0], [81.0, 40.0], 0.0)["points"] > 1
    assert border["spread"] == 0 < near["spread"]  # half of its heat would lie outside


def test_hidden_points_weigh_less_in_the_mean() -> None:
    parts = losses.landmarks(
        torch.tensor([[[40.0, 40.0], [40.0, 40.8]]]),
        torch.zeros(1, 2),
        torch.ones(1, 2, 1),
        torch.zeros(1, 2),
        torch.full((1, 2, 2), 40.0),
        torch.tensor([[1.0, 0.0]]),
        torch.ones(2),
        hidden_weight=0.5,
    )
    assert float(parts["points"]) == pytest.approx(math.log(2) * 0.5 / 1.5, rel=1e-5)


def test_points_weigh_as_they_are_told_to() -> None:
    parts = losses.landmarks(
        torch.tensor([[[40.0, 40.0], [40.0, 40.8]]]),
        torch.zeros(1, 2),
        torch.ones(1, 2, 1),
        torch.zeros(1, 2),
        torch.full((1, 2, 2), 40.0),
        torch.ones(1, 2),
        torch.tensor([1.0, 3.0]),
    )
    assert float(parts["points"]) == pytest.approx(math.log(2) * 3 / 4, rel=1e-5)


def test_diou_of_known_boxes() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]]).expand(3, 4)
    b = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [4.0, 0.0, 6.0, 2.0]])
    iou, diou = losses.iou_and_diou(a, b)
    torch.testing.assert_close(iou, torch.tensor([1.0, 1 / 3, 0.0]))
    # around both: 2x2, 3x2 and 6x2; centres 0, 1 and 4 apart
    torch.testing.assert_close(diou, torch.tensor([1.0, 1 / 3 - 1 / 13, -16 / 40]))


def test_quality_focal_of_known_scores() -> None:
    value = losses.quality_focal(torch.zeros(3), torch.tensor([0.0, 1.0, 0.5]))
    torch.testing.assert_close(value, torch.tensor([0.25 * math.log(2), 0.25 * math.log(2), 0.0]))


def test_a_detector_s_loss_by_hand() -> None:
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    points = torch.zeros(1, 5, 2)
    parts = losses.scrfd(
        torch.zeros(3),
        torch.tensor([[1.0, 0.0, 3.0, 2.0]]),
        points + torch.tensor([0.2, 0.0]),
        torch.tensor([1, 0, -1]),
        box,
        points,
        torch.tensor([2.0]),
        beta=0.05,
    )
    face, background = (1 / 3 - 0.5) ** 2, 0.25  # the third anchor is not asked
    entropy = math.log(2)  # of a half with anything
    assert float(parts["score"]) == pytest.approx((face + background) * entropy, rel=1e-5)
    assert float(parts["box"]) == pytest.approx(2 * (1 - 1 / 3 + 1 / 13) / 3, rel=1e-5)  # weighed by its IoU, 1/3
    assert float(parts["keypoints"]) == pytest.approx(0.5 * 5 * (0.1 - 0.025), rel=1e-5)


def test_a_picture_without_a_face_teaches_its_background_only() -> None:
    none = torch.zeros(0, 4, requires_grad=True)
    points = torch.zeros(0, 5, 2)
    parts = losses.scrfd(torch.zeros(4), none, points, torch.zeros(4), none, points, torch.zeros(0))
    assert float(parts["score"]) == pytest.approx(4 * 0.25 * math.log(2))
    assert parts["box"].item() == parts["keypoints"].item() == 0


def test_gridbox_s_loss_by_hand() -> None:
    box = torch.tensor([[0.0, 0.0, 70.0, 70.0]])
    parts = losses.gridbox(
        torch.zeros(3), box + 35, torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0]), box, face_weight=4.0
    )
    assert float(parts["coverage"]) == pytest.approx((4 + 1) * math.log(2) / 4)
    assert float(parts["distance"]) == pytest.approx(0.05 * 4)
    assert float(parts["box"]) == pytest.approx(2 * (1 - 1 / 7 + 2 * 35**2 / (2 * 105**2)), rel=1e-5)


def test_gridbox_s_coverage_may_be_the_box_s_quality() -> None:
    box = torch.tensor([[0.0, 0.0, 70.0, 70.0]])
    logit, face, asked = torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    parts = losses.gridbox(logit, box + 35, face, asked, box, face_weight=1.0, quality=True)
    # p = 0.5 against the IoU of 1 / 7, and against 0: |q - p|^2 * cross entropy, which is ln 2 for p = 0.5
    assert float(parts["coverage"]) == pytest.approx(((0.5 - 1 / 7) ** 2 + 0.25) * math.log(2), rel=1e-5)
