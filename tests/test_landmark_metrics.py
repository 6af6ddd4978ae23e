"""Errors of landmarks: regions, normalisation, the mean face, boxes and what is done to them."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeface import landmark_metrics as metrics
from edgeface.config import load_config
from edgeface.evaluate.labels import demo_labels, frames
from edgeface.evaluate.landmarks import detected_boxes
from edgeface.networks import open_networks

COUNTS = st.sampled_from([1, 5, 29, 68, 80, 98, 104])
COORDINATES = st.floats(-500, 2000, width=32)


@st.composite
def faces(draw: st.DrawFn) -> np.ndarray:
    """Points [n, N, 2]."""
    return draw(arrays(float, (draw(st.integers(1, 4)), draw(COUNTS), 2), elements=COORDINATES))


@st.composite
def counted_errors(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Errors [n, N] and which of them count."""
    shape = draw(st.integers(1, 4)), draw(COUNTS)
    return draw(arrays(float, shape, elements=st.floats(0, 100))), draw(arrays(bool, shape))


DEMO_FACES = np.concatenate([picture.xy for picture in demo_labels()[::20]])


@given(faces())
def test_a_perfect_prediction_has_no_error(xy: np.ndarray) -> None:
    errors = metrics.point_errors(xy, xy)
    assert not errors.any()
    assert set(metrics.region_means(errors, np.ones_like(errors, bool)).values()) == {0.0}


@given(faces(), st.floats(0, 50), st.floats(0, 6.3))
def test_points_moved_by_d_pixels_are_wrong_by_d(xy: np.ndarray, d: float, angle: float) -> None:
    errors = metrics.point_errors(xy + d * np.array([np.cos(angle), np.sin(angle)]), xy)
    np.testing.assert_allclose(errors, d, atol=1e-9)
    np.testing.assert_allclose(list(metrics.region_means(errors, np.ones_like(errors, bool)).values()), d, atol=1e-9)


@given(st.floats(0.1, 20), st.integers(0, 2**32 - 1))
def test_normalised_errors_do_not_know_the_size_of_a_face(scale: float, seed: int) -> None:
    truth = DEMO_FACES[:4]
    placed = truth + np.random.default_rng(seed).normal(0, 3, truth.shape)
    for size in (metrics.eye_distance, lambda xy: metrics.box_size(metrics.points_box(xy))):
        small = metrics.point_errors(placed, truth) / size(truth)[:, None]
        large = metrics.point_errors(placed * scale, truth * scale) / size(truth * scale)[:, None]
        np.testing.assert_allclose(small, large)


@given(counted_errors())
def test_region_means_against_a_plain_loop(given_errors: tuple[np.ndarray, np.ndarray]) -> None:
    errors, counts = given_errors
    found = metrics.region_means(errors, counts)
    for name, points in metrics.regions(errors.shape[1]).items():
        of_points = []
        for point in points:
            values = [errors[face, point] for face in range(len(errors)) if counts[face, point]]
            if values:
                of_points.append(sum(values) / len(values))
        np.testing.assert_allclose(found[name], sum(of_points) / len(of_points) if of_points else np.nan)


def test_a_point_that_is_never_seen_is_left_out_and_not_an_error_of_0() -> None:
    errors, counts = np.full((2, 68), 4.0), np.ones((2, 68), bool)
    errors[:, 36], counts[:, 36] = 1000.0, False
    counts[0, 37], errors[0, 37] = False, 1000.0
    found = metrics.region_means(errors, counts)
    assert (found["eyes"], found["all"]) == (4.0, 4.0)
    assert np.isnan(metrics.region_means(errors, np.zeros_like(counts))["all"])
    assert np.isnan(metrics.region_means(errors[:0], counts[:0])["all"])


def test_the_regions_are_those_of_the_fpenet_card() -> None:
    ends = {name: (points[0], points[-1], len(points)) for name, points in metrics.regions(80).items()}
    assert ends == {
        "all": (0, 79, 80),
        "eyes": (36, 47, 12),
        "nose": (27, 35, 9),
        "mouth": (48, 67, 20),
        "brows": (17, 26, 10),
        "chin": (0, 16, 17),
        "pupil": (68, 75, 8),
        "ears": (76, 79, 4),
    }
    assert list(metrics.regions(68)) == ["all", "eyes", "nose", "mouth", "brows", "chin"]
    assert list(metrics.regions(104)) == list(metrics.regions(80))
    assert list(metrics.regions(98)) == ["all"]


def test_the_eyes_are_the_outer_corners_and_the_box_is_round_the_points() -> None:
    xy = np.zeros((1, 68, 2))
    xy[0, 36], xy[0, 45], xy[0, 8] = (10, 20), (40, 60), (30, 80)
    assert metrics.eye_distance(xy) == pytest.approx([50])
    assert metrics.points_box(xy).tolist() == [[0, 0, 40, 80]]
    assert metrics.box_size(np.array([[10.0, 10, 30, 90]])) == pytest.approx([40])
    assert np.isnan(metrics.eye_distance(np.zeros((2, 98, 2)))).all()


def test_the_figures_of_known_errors() -> None:
    found = metrics.summary(np.array([0.0, 0.02, 0.04, 0.09, 0.2]))
    assert found is not None
    assert (found.mean, found.median) == pytest.approx((0.07, 0.04))
    assert (found.above_8, found.above_10) == pytest.approx((0.4, 0.2))
    assert found.p90 == pytest.approx(0.156)
    assert metrics.summary(np.zeros(0)) is None


@given(arrays(float, st.integers(1, 20), elements=st.floats(0, 0.3)))
def test_the_area_under_the_cumulative_curve(values: np.ndarray) -> None:
    found = metrics.summary(values)
    assert found is not None
    limits = (np.arange(4000) + 0.5) / 4000 * metrics.AUC_LIMIT
    assert found.auc_8 == pytest.approx(np.mean([(values <= limit).mean() for limit in limits]), abs=1e-3)


@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_the_mean_shape_is_that_of_the_others_against_a_plain_loop(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    xy, corner, side = rng.normal(100, 30, (n, 5, 2)), rng.normal(80, 20, (n, 2)), rng.uniform(20, 90, (n, 2))
    found = metrics.mean_shapes(xy, np.concatenate([corner, corner + side], axis=1))
    for face in range(n):
        others = [(xy[i] - corner[i] - side[i] / 2) / max(side[i]) for i in range(n) if i != face]
        expected = sum(others) / len(others) * max(side[face]) + corner[face] + side[face] / 2
        np.testing.assert_allclose(found[face], expected)


def test_equal_faces_are_their_mean_wherever_they_are_and_however_large() -> None:
    shape = np.random.default_rng(1).uniform(0, 1, (68, 2))
    boxes = np.array([[0, 0, 10, 10], [50, 20, 90, 60], [7, 7, 8, 8]], float)
    xy = boxes[:, None, :2] + shape * (boxes[:, 2:] - boxes[:, :2])[:, None]
    np.testing.assert_allclose(metrics.mean_shapes(xy, boxes), xy)


def test_a_detector_like_box_is_where_the_default_detector_puts_one() -> None:
    pictures = demo_labels()[::50]
    xy = np.concatenate([picture.xy for picture in pictures])
    with closing(open_networks(load_config(None, {"landmarks": {"card": "none"}}))) as networks:
        boxes = [detected_boxes(networks.detector, 0.5, frame, picture) for frame, picture in frames(pictures)]
    found = np.concatenate(boxes)
    seen = np.isfinite(found[:, 0])
    assert seen.mean() > 0.9
    box, found = metrics.detector_like(xy)[seen], found[seen]
    side = (found[:, 2:] - found[:, :2]).max(axis=1)
    assert np.median((box[:, 2] - box[:, 0]) / side) == pytest.approx(1, abs=0.1)
    off = (box[:, :2] + box[:, 2:] - found[:, :2] - found[:, 2:]) / 2 / side[:, None]
    np.testing.assert_allclose(np.median(off, axis=0), 0, atol=0.08)


def test_a_detector_like_box_is_a_square_about_the_points_less_the_ears() -> None:
    box = metrics.detector_like(np.array([[[0.0, 0.0], [78.0, 39.0]]]))
    np.testing.assert_allclose(box, [[-11, -43.5, 89, 56.5]])  # 100 wide, its middle 13 higher
    xy = DEMO_FACES
    more = np.concatenate([xy, np.full((len(xy), 12, 2), 999.0)], axis=1)
    np.testing.assert_allclose(metrics.detector_like(more), metrics.detector_like(xy))  # ears are not in it


def test_each_face_has_its_own_detection() -> None:
    truth = np.array([[0, 0, 10, 10], [100, 0, 110, 10], [3, 0, 13, 10], [200, 0, 210, 10]], float)
    found = np.array([[101, 0, 111, 10], [0, 1, 10, 11], [207, 0, 217, 10]], float)
    assert metrics.matches(truth, found).tolist() == [1, 0, -1, -1]
    assert metrics.matches(truth, found[:0]).tolist() == [-1] * 4
    assert metrics.matches(truth[:0], found).tolist() == []


@given(st.floats(0, 0.5), st.floats(0.5, 2))
def test_moved_and_scaled_boxes(share: float, factor: float) -> None:
    boxes = np.array([[10, 10, 30, 50], [0, 0, 8, 4]], float)
    moved = metrics.shifted(boxes, share)
    assert moved.shape == (8, 2, 4)
    step = (moved - boxes)[:, :, :2]
    np.testing.assert_allclose((moved - boxes)[:, :, 2:], step, atol=1e-12)
    np.testing.assert_allclose(np.hypot(step[..., 0], step[..., 1]), [[share * 40, share * 8]] * 8, atol=1e-9)
    np.testing.assert_allclose(step.sum(axis=0), 0, atol=1e-9)
    grown = metrics.scaled(boxes, factor)
    np.testing.assert_allclose(grown[:, 2:] - grown[:, :2], (boxes[:, 2:] - boxes[:, :2]) * factor)
    np.testing.assert_allclose(grown[:, :2] + grown[:, 2:], boxes[:, :2] + boxes[:, 2:])


@pytest.mark.parametrize(("off", "expected"), [(5.0, 0), (5.5, -1)])
def test_a_detection_on_a_face_overlaps_it_by_three_tenths(off: float, expected: int) -> None:
    truth = np.array([[0, 0, 10, 10]], float)
    found = truth + np.array([off, 0, off, 0])  # IoU (10 - off) / (10 + off)
    assert metrics.matches(truth, found).tolist() == [expected]
