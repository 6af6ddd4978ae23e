"""Clustering: golden vectors of DeepStream's and TAO's, plain loops to compare with, and a GridBox map end to end."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from fakes import FakeEngine, frame
from hypothesis import given
from hypothesis import strategies as st

from edgeface.clustering import deepstream_dbscan, nms, tao_dbscan
from edgeface.config import load_config
from edgeface.model_card import find_card
from edgeface.networks import make_detector
from edgeface.values import Detections

NMS = partial(nms, iou_threshold=0.3, top_k=4000)
DEEPSTREAM = partial(deepstream_dbscan, eps=0.4, min_boxes=1, min_score=0.0, athr=False, top_k=4000)
TAO = partial(tao_dbscan, eps=0.3, min_samples=1.0, confidence_threshold=0.9, min_height=4.0, top_k=4000)
MODES = [NMS, DEEPSTREAM, TAO]
G2 = [(0, 0, 50, 50), (2, 2, 52, 52), (100, 100, 150, 150)], [0.6, 0.9, 0.7]
G4 = [(left, 0, left + 20, 20) for left in range(0, 24, 4)], [0.9, 0.5, 0.5, 0.5, 0.5, 0.4]


def merge(mode: partial[Detections], boxes: object, scores: object, **changes: object) -> Detections:
    """What a mode makes of the boxes; their keypoints are their corners."""
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    with np.errstate(all="raise"):
        found = mode(xyxy, np.array(scores, np.float32).reshape(-1), xyxy.reshape(-1, 2, 2), **changes)
    assert found.xyxy.dtype == found.score.dtype == found.keypoints.dtype == np.float32
    assert found.keypoints.shape == (len(found.score), 2, 2)
    np.testing.assert_allclose(found.keypoints.reshape(-1, 4), found.xyxy)  # merged the same way
    assert (np.diff(found.score) <= 0).all()
    return found


def total(score: np.ndarray) -> np.ndarray:
    """TAO's sum of coverages, from the score."""
    return -np.log1p(-score.astype(np.float64))


# --- golden vectors


def test_g2_tao_weighs_by_coverage_and_calls_a_lone_cell_noise() -> None:
    found = merge(TAO, *G2)
    np.testing.assert_allclose(found.xyxy, [[1.2, 1.2, 51.2, 51.2]], rtol=1e-6)
    np.testing.assert_allclose(total(found.score), [1.5], rtol=1e-5)


def test_g2_suppression_keeps_the_scores_of_its_boxes() -> None:
    """TAO's own mixes them up: it sorts the scores, then indexes them by the order before."""
    found = merge(NMS, *G2)
    assert found.xyxy.tolist() == [[2, 2, 52, 52], [100, 100, 150, 150]]
    np.testing.assert_allclose(found.score, [0.9, 0.7])


@pytest.mark.parametrize(("members", "athr", "clusters"), [(3, True, 0), (3, False, 1), (4, True, 1)])
def test_g3_the_area_to_hits_ratio_drops_large_boxes_with_few_members(members: int, athr: bool, clusters: int) -> None:
    assert len(merge(DEEPSTREAM, [(0, 0, 300, 300)] * members, [0.5] * members, athr=athr).score) == clusters


def test_g4_deepstream_goes_one_hop() -> None:
    found = merge(DEEPSTREAM, *G4, min_boxes=2)
    np.testing.assert_allclose(found.xyxy[:, 0], [1.428571, 10, 17.777779], rtol=1e-6)
    np.testing.assert_allclose(found.xyxy[:, 2], [21.428571, 30, 37.777779], rtol=1e-6)
    assert (found.xyxy[:, [1, 3]] == [0, 20]).all()
    np.testing.assert_allclose(found.score, [0.9, 0.5, 0.5])


def test_tao_follows_the_chain_that_deepstream_does_not() -> None:
    found = merge(TAO, *G4, eps=0.4)
    np.testing.assert_allclose(found.xyxy, [[8.484848, 0, 28.484848, 20]], rtol=1e-6)


@pytest.mark.parametrize(
    ("score", "cells", "clusters"), [(0.9, 1, 0), (0.4, 3, 1), (0.3, 3, 0), (0.5, 2, 1), (1.0, 1, 1)]
)
def test_a_core_has_weight_around_it(score: float, cells: int, clusters: int) -> None:
    found = merge(TAO, [(0, 0, 50, 50)] * cells, [score] * cells)
    np.testing.assert_allclose(total(found.score), [score * cells] * clusters, rtol=1e-5)


# --- cores, borders, noise

ROW = [(0, 0, 100, 20), (20, 0, 120, 20), (40, 0, 140, 20)]  # neighbours at eps 0.4; the first and the third are not


def test_borders_join_in_tao() -> None:
    found = merge(TAO, ROW, [0.1, 0.85, 0.1], eps=0.4)  # the outer ones alone have 0.95 around them
    np.testing.assert_allclose(total(found.score), [1.05], rtol=1e-5)


def test_a_border_of_two_clusters_joins_the_first() -> None:
    boxes = [(left, 0, left + 100, 20) for left in range(0, 100, 20)]  # each is a neighbour of the next
    scores = [0.8, 0.3, 0.1, 0.3, 0.8]  # around the middle one 0.7, around the others at least 1.1
    for order, left in (
        ([0, 1, 2, 3, 4], True),
        ([4, 3, 2, 1, 0], False),
        ([2, 3, 1, 0, 4], False),
        ([0, 4, 3, 1, 2], True),
    ):
        found = merge(TAO, [boxes[i] for i in order], [scores[i] for i in order], eps=0.4)
        np.testing.assert_allclose(total(found.score), [1.2, 1.1], rtol=1e-5)
        assert (found.xyxy[0, 0] < 40) == left


def test_borders_are_dropped_in_deepstream() -> None:
    found = merge(DEEPSTREAM, ROW, [0.9, 0.5, 0.7], min_boxes=3)
    assert found.xyxy.tolist() == [[20, 0, 120, 20]]
    np.testing.assert_allclose(found.score, [0.5])


def test_one_hop_depends_on_the_order() -> None:
    boxes, scores = ROW, [0.5, 0.5, 0.9]
    assert sorted(merge(DEEPSTREAM, boxes, scores).xyxy[:, 0].tolist()) == [10, 40]
    middle_first = merge(DEEPSTREAM, [boxes[1], boxes[0], boxes[2]], [0.5, 0.5, 0.9])
    assert len(middle_first.score) == 1


def test_the_least_sum_of_scores_and_the_least_height() -> None:
    pair = [(0, 0, 50, 20)] * 2
    assert len(merge(DEEPSTREAM, pair, [0.5, 0.25], min_score=0.75).score) == 1
    assert len(merge(DEEPSTREAM, pair, [0.5, 0.25], min_score=0.76).score) == 0
    assert len(merge(TAO, pair, [0.75, 0.5], confidence_threshold=1.2).score) == 1
    assert len(merge(TAO, pair, [0.75, 0.5], confidence_threshold=1.25).score) == 0
    assert len(merge(TAO, pair, [0.75, 0.5], min_height=19.9).score) == 1
    assert len(merge(TAO, pair, [0.75, 0.5], min_height=20).score) == 0


# --- beside plain loops

SIDES = st.integers(0, 8)
PLACES = st.integers(0, 10)
EPS = st.sampled_from([0.2137, 0.4391, 0.7077])  # no ratio of such small areas


@st.composite
def candidates(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Up to 40 boxes on a small field, some without an area; scores are 64ths, so that sums are exact."""
    rows = draw(st.lists(st.tuples(PLACES, PLACES, SIDES, SIDES, st.integers(1, 64)), max_size=40))
    table = np.array(rows, np.float32).reshape(-1, 5)
    return np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1), table[:, 4] / 64


def distance(a: np.ndarray, b: np.ndarray, margin: float) -> float:
    x1, y1, x2, y2 = *map(max, a[:2], b[:2]), *map(min, a[2:], b[2:])
    shared = max(float(x2 - x1), 0.0) * max(float(y2 - y1), 0.0)
    both = sum(float(c[2] - c[0]) * float(c[3] - c[1]) for c in (a, b))
    return 1 - shared / (both - shared + margin) if both - shared + margin > 0 else 1.0


def one_hop(xyxy: np.ndarray, eps: float, min_boxes: int) -> list[list[int]]:
    """DeepStream's clusters as one would write them on paper."""
    count = range(len(xyxy))
    near = [[j for j in count if j != i and distance(xyxy[i], xyxy[j], 0) < eps] for i in count]
    visited: set[int] = set()
    clusters = []
    for i in count:
        if i in visited:
            continue
        visited.add(i)
        if len(near[i]) + 1 >= min_boxes:
            fresh = [j for j in near[i] if j not in visited]
            visited.update(fresh)
            clusters.append([i, *(j for j in fresh if len(near[j]) + 1 >= min_boxes)])
    return clusters


def dbscan(xyxy: np.ndarray, score: np.ndarray, eps: float, min_samples: float) -> list[list[int]]:
    """Weighted DBSCAN as one would write it on paper."""
    count = range(len(xyxy))
    near = [[j for j in count if distance(xyxy[i], xyxy[j], 0.01) <= eps] for i in count]
    core = [i in near[i] and sum(float(score[j]) for j in near[i]) >= min_samples for i in count]
    label: dict[int, int] = {}
    clusters: list[list[int]] = []
    for i in count:
        if i in label or not core[i]:
            continue
        label[i], members = len(clusters), [i]
        for member in members:  # it grows
            for j in near[member] if core[member] else []:
                if j not in label:
                    label[j] = len(clusters)
                    members.append(j)
        clusters.append(members)
    return clusters


def weighed(clusters: list[list[int]], xyxy: np.ndarray, score: np.ndarray, rank: np.ufunc) -> tuple[np.ndarray, ...]:
    """The clusters' mean boxes and ranks, best first."""
    clusters = sorted(clusters, key=lambda members: -rank.reduce(score[members]))
    rows = [np.average(xyxy[members], axis=0, weights=score[members]) for members in clusters]
    return np.array(rows).reshape(-1, 4), np.array([rank.reduce(score[members]) for members in clusters])


def deepstream_as_it_should_be(
    xyxy: np.ndarray, score: np.ndarray, eps: float, min_boxes: int, min_score: float
) -> tuple[np.ndarray, ...]:
    clusters = [members for members in one_hop(xyxy, eps, min_boxes) if score[members].sum() >= min_score]
    return weighed(clusters, xyxy, score, np.maximum)


def tao_as_it_should_be(
    xyxy: np.ndarray, score: np.ndarray, eps: float, min_samples: float, threshold: float
) -> tuple[np.ndarray, ...]:
    clusters = [members for members in dbscan(xyxy, score, eps, min_samples) if score[members].sum() > threshold]
    boxes, sums = weighed(clusters, xyxy, score, np.add)
    return boxes, 1 - np.exp(-sums)


@given(candidates(), EPS, st.integers(1, 4), st.sampled_from([0.0, 0.7]))
def test_deepstream_is_the_plain_loop(
    boxes: tuple[np.ndarray, np.ndarray], eps: float, min_boxes: int, min_score: float
) -> None:
    found = merge(DEEPSTREAM, *boxes, eps=eps, min_boxes=min_boxes, min_score=min_score)
    xyxy, score = deepstream_as_it_should_be(*boxes, eps, min_boxes, min_score)
    np.testing.assert_allclose(found.xyxy, xyxy, rtol=1e-5)
    np.testing.assert_allclose(found.score, score)


@given(candidates(), EPS, st.sampled_from([0.5, 1.0, 2.0]))
def test_tao_is_the_plain_loop(boxes: tuple[np.ndarray, np.ndarray], eps: float, min_samples: float) -> None:
    found = merge(TAO, *boxes, eps=eps, min_samples=min_samples, confidence_threshold=0.4, min_height=0.0)
    xyxy, score = tao_as_it_should_be(*boxes, eps, min_samples, 0.4)
    np.testing.assert_allclose(found.xyxy, xyxy, rtol=1e-5)
    np.testing.assert_allclose(found.score, score, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_many_boxes_in_any_order_are_the_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner, side = rng.integers(0, 40, (200, 2)), rng.integers(2, 9, (200, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32), rng.integers(1, 64, 200) / 64
    found = merge(DEEPSTREAM, *boxes, eps=0.7077, min_boxes=2)
    np.testing.assert_allclose(found.xyxy, deepstream_as_it_should_be(*boxes, 0.7077, 2, 0.0)[0], rtol=1e-5)
    found = merge(TAO, *boxes, eps=0.4391, min_samples=0.5, confidence_threshold=0.4, min_height=0.0)
    np.testing.assert_allclose(found.xyxy, tao_as_it_should_be(*boxes, 0.4391, 0.5, 0.4)[0], rtol=1e-5)


@pytest.mark.parametrize(("shift", "neighbours"), [(17, True), (18, False)])
def test_neighbours_overlap_by_more_than_one_minus_eps(shift: int, neighbours: bool) -> None:
    pair = [(0, 0, 100, 20), (shift, 0, 100 + shift, 20)]  # IoU 0.709, 0.695
    assert len(merge(DEEPSTREAM, pair, [0.6, 0.6], eps=0.3).score) == (1 if neighbours else 2)
    assert len(merge(TAO, pair, [0.6, 0.6]).score) == (1 if neighbours else 0)


@pytest.mark.parametrize(("area", "clusters"), [(0.02, 0), (0.03, 1)])
def test_tao_adds_a_hundredth_to_the_union(area: float, clusters: int) -> None:
    pair = [(0, 0, area**0.5, area**0.5)] * 2  # 0.667 and 0.75 of the union and the hundredth
    assert len(merge(TAO, pair, [0.6, 0.6], min_height=0).score) == clusters


# --- odd input


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("points", [0, 5])
def test_no_candidates_are_an_empty_array_of_the_right_shape(mode: partial[Detections], points: int) -> None:
    found = mode(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, points, 2), np.float32))
    assert (found.xyxy.shape, found.score.shape, found.keypoints.shape) == ((0, 4), (0,), (0, points, 2))


@pytest.mark.parametrize("mode", MODES)
def test_one_box_and_2000_in_one_place_are_that_box(mode: partial[Detections]) -> None:
    for count in (1, 2000):
        found = merge(mode, [(10, 10, 60, 80)] * count, [1.0] * count)
        np.testing.assert_allclose(found.xyxy, [[10, 10, 60, 80]])
        assert 0.63 < found.score[0] <= 1


@pytest.mark.parametrize("mode", MODES)
def test_equal_scores_keep_the_order_of_their_boxes(mode: partial[Detections]) -> None:
    lefts = [number * 7 % 40 * 100 for number in range(40)]
    assert merge(mode, [(left, 0, left + 50, 50) for left in lefts], [1] * 40).xyxy[:, 0].tolist() == lefts


def test_sums_beyond_the_scale_still_come_best_first() -> None:
    boxes = [(0, 0, 50, 50)] * 40 + [(100, 0, 150, 50)] * 50
    found = merge(TAO, boxes, [1] * 90)
    assert found.xyxy[:, 0].tolist() == [100, 0]
    assert found.score.tolist() == [1, 1]


def test_boxes_without_an_area_are_alone() -> None:
    flat = [(10, 10, 10, 60), (10, 10, 10, 60), (20, 20, 20, 20)]
    assert len(merge(TAO, flat, [1, 1, 1]).score) == 0
    assert len(merge(DEEPSTREAM, flat, [1, 1, 1]).score) == 3
    assert len(merge(DEEPSTREAM, flat, [1, 1, 1], min_boxes=2).score) == 0


def test_candidates_without_a_score_make_no_cluster() -> None:
    assert len(merge(DEEPSTREAM, [(0, 0, 50, 50)] * 2, [0, 0]).score) == 0
    assert len(merge(TAO, [(0, 0, 50, 50)] * 2, [0, 0], confidence_threshold=0).score) == 0


def test_only_the_best_candidates_count_and_they_keep_their_order() -> None:
    boxes, scores = [(500, 0, 600, 20), *ROW], [0.1, 0.5, 0.6, 0.7]
    found = merge(DEEPSTREAM, boxes, scores, top_k=3)  # the first takes the second, the third stays alone
    np.testing.assert_allclose(found.xyxy[:, 0], [40, 20 * 0.6 / 1.1], rtol=1e-6)
    assert len(merge(TAO, ROW, [0.4, 0.5, 0.6], eps=0.4).score) == 1
    assert len(merge(TAO, ROW, [0.4, 0.3, 0.5], eps=0.4, top_k=2).score) == 0  # the weak one held them together


# --- from a GridBox network's outputs to faces in the frame

MODE_NAMES = ["nms", "deepstream_dbscan", "tao_dbscan"]


def gridbox_outputs(*faces: tuple[float, float, float, float], spread_px: float = 1.0) -> dict[str, np.ndarray]:
    """What FaceDetect is trained to say of faces (input pixels): TAO's target, with noise and a weak background.

    A face covers an ellipse of 0.4 of its sides around its centre, at least the cell it lies in.
    """
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:26, :46] * 16 + 0.5
    cov = np.where(rng.random((26, 46)) < 0.05, 0.02, 0.0)
    bbox = rng.uniform(-0.5, 1.5, (4, 26, 46))  # where there is no face, the distances are anything
    for left, top, right, bottom in faces:
        across, down = (max(0.4 * side, 9.0) for side in (right - left, bottom - top))
        far = np.hypot((x - (left + right) / 2) / across, (y - (top + bottom) / 2) / down)
        ltrb = np.stack([x - left, y - top, right - x, bottom - y]) + rng.normal(0, spread_px, (4, 26, 46))
        cov = np.where(far < 1, 0.95 - 0.5 * far, cov)
        bbox = np.where(far < 1, ltrb / 35, bbox)
    return {"bbox": bbox[None].astype(np.float32), "cov": cov[None, None].astype(np.float32)}


def look(mode: str, outputs: dict[str, np.ndarray], scale: int = 1) -> Detections:
    engine = FakeEngine(outputs, (736, 416))
    detector = make_detector(find_card("tao-facedetect"), engine, load_config(None, {"detector": {"clustering": mode}}))
    return detector.detect(frame(width=736 * scale, height=416 * scale))


@pytest.mark.parametrize("mode", MODE_NAMES)
def test_a_gridbox_map_becomes_the_faces(mode: str) -> None:
    near_face, far_face = (100.0, 80.0, 220.0, 230.0), (500.0, 200.0, 540.0, 250.0)
    found = look(mode, gridbox_outputs(near_face, far_face), scale=2)
    found_at = found.xyxy[np.argsort(found.xyxy[:, 0])]
    np.testing.assert_allclose(found_at, 2 * np.array([near_face, far_face]), atol=2 * (4 if mode == "nms" else 2))
    assert found.keypoints.shape == (2, 0, 2)
    assert ((found.score > 0.63) & (found.score <= 1)).all()


@pytest.mark.parametrize("mode", MODE_NAMES)
def test_an_empty_room_has_no_faces(mode: str) -> None:
    assert len(look(mode, gridbox_outputs()).score) == 0


def test_a_face_of_one_cell_is_noise_to_tao() -> None:
    outputs = gridbox_outputs((313, 153, 328, 168))
    assert [len(look(mode, outputs).score) for mode in MODE_NAMES] == [1, 1, 0]


def test_sizes_are_in_pixels_of_the_input_whatever_the_frame() -> None:
    outputs = gridbox_outputs((100.0, 80.0, 220.0, 230.0))  # in a frame 30 times as large athr would drop it
    for mode in MODE_NAMES:
        np.testing.assert_allclose(look(mode, outputs, 30).xyxy, 30 * look(mode, outputs).xyxy, rtol=1e-5)
