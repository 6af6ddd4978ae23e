"""Matching: ATSS against the algorithm written plainly, and GridBox's covered cells."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from edgeface.boxes import iou
from training import matching


def some_faces(seed: int, count: int = 10, size: int = 320) -> np.ndarray:
    random = np.random.default_rng(seed)
    side = np.exp(random.uniform(np.log(8), np.log(250), (count, 1)))
    middle = random.uniform(0, size, (count, 2))
    return np.concatenate([middle - side / 2, middle + side / 2], 1).astype(np.float32)


def plain_atss(xyxy: np.ndarray, anchors: matching.Grid) -> np.ndarray:
    """Algorithm 1 face by face over all anchors, without the rescue of faces that get none."""
    half = anchors.side[:, None] / 2
    squares = np.concatenate([anchors.centre - half, anchors.centre + half], 1)
    best = np.zeros(len(squares))
    owner = np.full(len(squares), -1)
    for face, box in enumerate(xyxy):
        middle = (box[:2] + box[2:]) / 2
        apart = ((anchors.centre - middle) ** 2).sum(1)
        near = []
        for begin, end in zip(anchors.first[:-1], anchors.first[1:], strict=True):
            near += list(begin + np.argsort(apart[begin:end], kind="stable")[:9])
        overlap = iou(squares[near].astype(np.float32), box[None])[:, 0]
        for index, value in zip(near, overlap, strict=True):
            x, y = anchors.centre[index]
            inside = box[0] < x < box[2] and box[1] < y < box[3]
            if inside and value >= overlap.mean() + overlap.std() and value > best[index]:
                best[index], owner[index] = value, face
    return owner


@pytest.mark.parametrize("size", [(320, 320), (64, 96)])
@pytest.mark.parametrize("seed", range(5))
def test_atss_is_the_paper_s_algorithm(seed: int, size: tuple[int, int]) -> None:
    anchors = matching.grid(*size)
    faces = some_faces(seed, size=size[0])
    expected, found = plain_atss(faces, anchors), matching.atss(faces, anchors)
    rescued = np.setdiff1d(np.arange(len(faces)), expected)
    np.testing.assert_array_equal(np.where(np.isin(found, rescued), expected, found), expected)


def test_each_level_gets_its_sizes() -> None:
    anchors = matching.grid(320, 320)
    for side, level in ((20, 0), (80, 1), (250, 2)):
        face = np.array([[160 - side / 2, 160 - side / 2, 160 + side / 2, 160 + side / 2]], np.float32)
        (cells,) = np.nonzero(matching.atss(face, anchors) == 0)
        assert len(cells)
        assert np.searchsorted(anchors.first, cells, side="right").tolist() == [level + 1] * len(cells)


def test_a_face_between_the_centres_gets_the_nearest_free_cell() -> None:
    anchors = matching.grid(320, 320)
    face = np.array([[33, 33, 38, 38]], np.float32)  # no multiple of 8 within
    owner = matching.atss(np.repeat(face, 2, axis=0), anchors)
    (cells,) = np.nonzero(owner >= 0)
    assert sorted(owner[cells].tolist()) == [0, 1]
    assert np.abs(anchors.centre[cells] - 35.5).max() <= 8


def test_no_face_no_owner() -> None:
    anchors = matching.grid(64, 64)
    nothing = np.zeros((0, 4), np.float32)
    assert set(matching.atss(nothing, anchors)) == {-1}
    assert not matching.ignored(nothing, anchors).any()


def test_what_lies_in_an_ignored_box_is_not_asked() -> None:
    anchors = matching.grid(64, 64)
    inside = matching.ignored(np.array([[8, 8, 17, 17]], np.float32), anchors)
    assert sorted(map(tuple, anchors.centre[inside])) == [(8, 8), (8, 16), (16, 8), (16, 16), (16, 16)]


def test_a_face_covers_an_ellipse_of_cells() -> None:
    box = np.array([[0.5 + 48, 0.5 + 48, 0.5 + 112, 0.5 + 112]], np.float32)  # 64 px around cell 5, 5: radius 25.6 px
    owner, weight = matching.coverage(box, np.zeros(1), 160, 160)
    covered = {(5, 5), (4, 5), (6, 5), (5, 4), (5, 6), (4, 4), (4, 6), (6, 4), (6, 6)}  # sqrt(2) * 16 = 22.6
    assert set(zip(*map(np.ndarray.tolist, np.nonzero(owner == 0)), strict=True)) == covered
    assert weight[5, 7] == 0  # 32 px: between 25.6 and 42.9
    assert weight[5, 8] == 1  # 48 px


def test_a_cell_s_point_is_half_a_pixel_from_its_corner() -> None:
    box = np.array([[60.5, 60.5, 100.5, 100.5]], np.float32)  # radius 16 px about the point of cell 5, 5
    owner, _ = matching.coverage(box, np.zeros(1), 160, 160)
    assert {tuple(cell) for cell in np.argwhere(owner == 0).tolist()} == {(5, 5), (4, 5), (6, 5), (5, 4), (5, 6)}


def test_a_small_face_covers_a_cell_and_ignored_ones_none() -> None:
    boxes = np.array([[20, 20, 24, 24], [100, 100, 140, 140]], np.float32)
    owner, weight = matching.coverage(boxes, np.array([0, 1]), 160, 160)
    assert (owner == 0).any()
    assert not (owner == 1).any()
    assert weight[7, 7] == 0
    assert weight[9, 0] == 1


def test_a_corner_face_takes_the_nearest_cell_and_one_outside_none() -> None:
    boxes = np.array([[156, 156, 162, 162], [200, 200, 210, 210]], np.float32)
    owner, _ = matching.coverage(boxes, np.zeros(2), 160, 160)
    assert (owner == 0).sum() == 1
    assert owner[9, 9] == 0


def test_the_smaller_face_is_before_the_larger() -> None:
    boxes = np.array([[64, 64, 96, 96], [0, 0, 160, 160]], np.float32)
    owner, _ = matching.coverage(boxes, np.zeros(2), 160, 160)
    assert owner[5, 5] == 0
    assert owner[5, 7] == 1
