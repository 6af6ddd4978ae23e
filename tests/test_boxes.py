"""Boxes: overlaps, suppression, letterbox."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.boxes import area, around, centre_and_size, crop_mapping, iou, letterbox, nms, stretch

SIDES = st.integers(16, 4096)


def test_a_box_is_its_centre_and_size() -> None:
    boxes = np.array([[10, 20, 40, 100], [-5, 0, 5, 1]], np.float32)
    centre, size = centre_and_size(boxes)
    assert (centre.tolist(), size.tolist()) == ([[25, 60], [0, 0.5]], [[30, 80], [10, 1]])
    np.testing.assert_array_equal(around(centre, size), boxes)
    assert [part.shape for part in centre_and_size(boxes[:0])] == [(0, 2), (0, 2)]


@st.composite
def scored_boxes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Anything from no box to several blocks of them: whole numbers or not, tied scores, no area, inside out."""
    count = draw(st.integers(0, 150))
    whole = draw(st.booleans())
    smallest, spread = draw(st.sampled_from([(-5, 10), (0, 60), (1, 300)]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    corner = random.uniform(-spread, spread, (count, 2))
    size = random.uniform(smallest, draw(st.sampled_from([8, 100])), (count, 2))
    xyxy = np.concatenate([corner, corner + size], axis=1)
    score = random.integers(0, draw(st.sampled_from([2, 20, 10**6])), count)
    return (np.round(xyxy) if whole else xyxy).astype(np.float32), (score / 10**6).astype(np.float32)


def plain_nms(xyxy: np.ndarray, score: np.ndarray, threshold: float) -> list[int]:
    """Suppression as one would write it on paper, box by box."""
    left = sorted(range(len(score)), key=lambda i: (-score[i], i))
    kept = []
    size = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0)
    area = size[:, 0] * size[:, 1]
    while left:
        best, left = left[0], left[1:]
        kept.append(best)
        corner, far = np.maximum(xyxy[best, :2], xyxy[left, :2]), np.minimum(xyxy[best, 2:], xyxy[left, 2:])
        shared = np.prod(np.maximum(far - corner, 0), axis=1)
        union = area[best] + area[left] - shared
        left = [i for i, s, u in zip(left, shared, union, strict=True) if u == 0 or s / u <= np.float32(threshold)]
    return kept


def test_iou_of_known_boxes() -> None:
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 5]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose(iou(a, b), [[1, 1 / 3, 0], [0, 0, 0]], rtol=1e-6)


def test_iou_of_no_boxes_has_the_right_shape() -> None:
    none = np.zeros((0, 4), np.float32)
    one = np.array([[0, 0, 1, 1]], np.float32)
    assert iou(none, one).shape == (0, 1)
    assert iou(one, none).shape == (1, 0)


def test_an_inside_out_box_has_no_area() -> None:
    assert area(np.array([[10, 10, 0, 20]], np.float32))[0] == 0


@given(scored_boxes(), st.sampled_from([0.0, 0.25, 0.4, 0.5, 0.75, 1.0]) | st.floats(0, 1))
def test_nms_is_greedy_suppression(boxes: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    assert nms(*boxes, threshold).tolist() == plain_nms(*boxes, threshold)


@pytest.mark.parametrize("scale", [0.001, 1, 30])
@pytest.mark.parametrize("inner", [[599.9, 0, 1000, 10], [0, 0, 400.1, 10], [0, 5.999, 1000, 10], [0, 0, 1000, 4.001]])
def test_nms_sees_a_box_that_is_barely_large_enough_within_another(inner: list[float], scale: float) -> None:
    xyxy = np.array([[0, 0, 1000, 10], inner], np.float32) * np.float32(scale)
    assert nms(xyxy, np.array([0.9, 0.8], np.float32), 0.4).tolist() == [0]
    assert nms(xyxy, np.array([0.8, 0.9], np.float32), 0.4).tolist() == [1]


def crowd(count: int, seed: int, place: float, smallest: float, largest: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centre = random.uniform(0, place, (count, 2))
    half = np.exp(random.uniform(np.log(smallest), np.log(largest), (count, 2))) / 2
    score = random.integers(0, 1000, count) / 1000
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32), score.astype(np.float32)


@pytest.mark.parametrize(
    "boxes",
    [
        crowd(3000, 1, place=1000, smallest=20, largest=100),
        crowd(3000, 2, place=1000, smallest=1, largest=900),  # huge among tiny
        crowd(3000, 3, place=1, smallest=50, largest=70),  # all in one place
        crowd(3000, 4, place=1e6, smallest=1, largest=3),  # so far out that pixels are rounded
        crowd(3000, 5, place=50, smallest=1e-6, largest=1e-3),  # hardly any area
        (np.zeros((3000, 4), np.float32), np.ones(3000, np.float32)),
    ],
    ids=["faces", "huge and tiny", "one place", "far out", "specks", "nothing"],
)
def test_nms_of_many(boxes: tuple[np.ndarray, np.ndarray]) -> None:
    assert nms(*boxes, 0.4, top_k=3000).tolist() == plain_nms(*boxes, 0.4)


@pytest.mark.parametrize(("start", "end"), [(0.5, 1), (0, 0.5)])
def test_nms_sees_a_box_whose_limit_is_rounded_onto_it(start: float, end: float) -> None:
    far = 2**20  # float32 has eighths of a pixel here
    along_x = np.array([[far, 0, far + 1, 10], [far + start, 0, far + end, 10]], np.float32)
    for xyxy in (along_x, along_x[:, [1, 0, 3, 2]]):
        assert nms(xyxy, np.array([0.9, 0.8], np.float32), 0.49).tolist() == [0]


@pytest.mark.parametrize(
    ("boxes", "count", "peak_bytes"),
    [
        (crowd(17000, 6, place=1, smallest=50, largest=70), 1, 80e6),
        ((np.zeros((17000, 4), np.float32), np.ones(17000, np.float32)), 17000, 15e6),
    ],
    ids=["one place", "nothing"],
)
def test_nms_of_very_many_needs_little_memory(
    boxes: tuple[np.ndarray, np.ndarray], count: int, peak_bytes: float
) -> None:
    tracemalloc.start()
    kept = nms(*boxes, 0.4, top_k=17000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) == count
    assert peak < peak_bytes  # a 17000 x 17000 matrix of bytes has 289e6


@given(scored_boxes(), st.floats(0.1, 0.9))
def test_nms_keeps_the_best_and_is_idempotent(boxes: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    xyxy, score = boxes
    kept = nms(xyxy, score, threshold)
    if len(score):
        assert score[kept[0]] == score.max()
    again = nms(xyxy[kept], score[kept], threshold)
    assert again.tolist() == list(range(len(kept)))


def test_nms_looks_at_the_best_top_k_only() -> None:
    xyxy = np.array([[i * 20, 0, i * 20 + 10, 10] for i in range(50)], np.float32)
    score = np.linspace(0.1, 0.9, 50, dtype=np.float32)
    assert nms(xyxy, score, 0.5, top_k=7).tolist() == list(range(49, 42, -1))


@given(SIDES, SIDES, st.integers(1, 64).map(lambda n: n * 32), st.integers(1, 64).map(lambda n: n * 32))
def test_letterbox_there_and_back(width: int, height: int, input_width: int, input_height: int) -> None:
    size = (input_width, input_height)
    crop = letterbox((width, height), size)
    assert crop[0, 0] == crop[0, 1] == 0
    assert crop[0, 2] >= width * (1 - 1e-6)
    assert crop[0, 3] >= height * (1 - 1e-6)
    whole = np.array([[0, 0, width, height]], np.float32)
    scale, offset = crop_mapping(crop, size)
    inside = (whole - offset) / scale
    assert inside[0, 2] <= input_width * (1 + 1e-6)
    assert inside[0, 3] <= input_height * (1 + 1e-6)
    np.testing.assert_allclose(inside * scale + offset, whole, rtol=1e-5)


def test_letterbox_of_720p_is_exact() -> None:
    assert letterbox((1280, 720), (640, 640)).tolist() == [[0, 0, 1280, 1280]]
    assert letterbox((720, 1280), (640, 640)).tolist() == [[0, 0, 1280, 1280]]


def test_stretch_maps_each_axis_by_itself() -> None:
    scale, offset = crop_mapping(stretch((1920, 1080), (736, 416)), (736, 416))
    np.testing.assert_allclose(np.array([368, 104, 736, 416]) * scale + offset, [[960, 270, 1920, 1080]])


def test_crops_inside_a_frame_map_back_by_their_corner() -> None:
    crops = np.array([[100, 50, 180, 210], [-40, -40, 40, 40]], np.float32)
    scale, offset = crop_mapping(crops, (80, 80))
    boxes = np.array([[0, 0, 80, 80], [40, 40, 80, 80]], np.float32)
    np.testing.assert_allclose(boxes * scale + offset, [[100, 50, 180, 210], [0, 0, 40, 40]])
