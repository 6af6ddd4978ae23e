"""Boxes: overlaps, suppression, letterbox."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeface.boxes import area, crop_mapping, iou, letterbox, nms, stretch

SIDES = st.integers(16, 4096)


@st.composite
def scored_boxes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    count = draw(st.integers(0, 80))
    corner = draw(hnp.arrays(np.float32, (count, 2), elements=st.floats(0, 300, width=32)))
    size = draw(hnp.arrays(np.float32, (count, 2), elements=st.floats(1, 100, width=32)))
    score = draw(hnp.arrays(np.float32, count, elements=st.floats(0, 1, width=32)))
    return np.concatenate([corner, corner + size], axis=1), score


def greedy(xyxy: np.ndarray, score: np.ndarray, threshold: float) -> list[int]:
    """Suppression as one would write it on paper."""
    kept: list[int] = []
    for index in sorted(range(len(score)), key=lambda i: (-score[i], i)):
        if all(iou(xyxy[[index]], xyxy[[other]])[0, 0] <= threshold for other in kept):
            kept.append(index)
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


@given(scored_boxes(), st.floats(0.1, 0.9))
def test_nms_is_greedy_suppression(boxes: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    assert nms(*boxes, threshold).tolist() == greedy(*boxes, threshold)


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
