"""Augmentation: labels go where the picture goes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("cv2", reason="training needs OpenCV")

from training import augment, scenes  # noqa: E402


def spots(places: np.ndarray, size: int = 96) -> torch.Tensor:
    """Pictures u8 [n, size, size], one bright soft spot each at its place (x, y)."""
    y, x = np.mgrid[:size, :size] + 0.5
    apart = (x - places[:, 0, None, None]) ** 2 + (y - places[:, 1, None, None]) ** 2
    return torch.from_numpy((250 * np.exp(-apart / 8)).astype(np.uint8))


def centroids(luma: torch.Tensor) -> torch.Tensor:
    """Where the brightness is, [n, 2]."""
    line = torch.arange(luma.shape[-1]) + 0.5
    weight = luma[:, 0] / luma[:, 0].sum((1, 2), keepdim=True)
    return torch.stack([(weight.sum(1) * line).sum(-1), (weight.sum(2) * line).sum(-1)], -1)


def test_an_empty_crop_shows_nobody_and_its_points_are_nowhere() -> None:
    generator = torch.Generator().manual_seed(5)
    luma = torch.full((300, 1, 80, 80), 90.0)
    luma[:, :, 30:50, 30:50] = 250  # the face
    points, visible = torch.full((300, 80, 2), 40.0), torch.ones(300, 80)
    shown, placed, seen = augment.emptied(luma, points, visible, generator, share=0.3)
    empty = placed[:, 0, 0] < 0
    assert 60 < empty.sum() < 120
    assert (seen[empty] == 0).all() and (seen[~empty] == 1).all()
    assert torch.equal(shown[~empty], luma[~empty])
    steps = shown[empty].diff(dim=-1).abs().amax((1, 2, 3))
    assert (steps < 5).all()  # nothing of the face is left
    assert (steps < 0.01).sum() > 20  # some are flat or enlarged of what is flat


def test_without_changes_the_crop_is_the_middle_as_it_is() -> None:
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 96, 96), dtype=np.uint8))
    luma, points = augment.crop_faces(picture, torch.full((2, 80, 2), 48.0))
    torch.testing.assert_close(luma[:, 0], picture[:, 8:88, 8:88].float(), atol=1e-2, rtol=0)
    torch.testing.assert_close(points, torch.full((2, 80, 2), 40.0))


def test_points_go_with_the_crop() -> None:
    random = np.random.default_rng(1)
    places = random.uniform(34, 62, (40, 2))
    draw = torch.from_numpy(random.normal(size=(40, 4))).float()
    luma, points = augment.crop_faces(
        spots(places),
        torch.from_numpy(places).float()[:, None],
        draw[:, 0] * 0.3,
        torch.exp(draw[:, 1] * 0.1),
        draw[:, 2:] * 3,
    )
    torch.testing.assert_close(centroids(luma), points[:, 0], atol=0.1, rtol=0)


def test_a_mirrored_crop_has_its_points_mirrored_and_renamed() -> None:
    luma = torch.arange(80.0).expand(2, 1, 80, 80).contiguous()
    points = torch.arange(160.0).reshape(1, 80, 2).expand(2, -1, -1) / 2
    seen = (torch.arange(80) < 40).float().expand(2, -1)
    new, moved, visible = augment.mirror_faces(luma, points, seen, torch.tensor([True, False]))
    assert new[0, 0, 0, 0] == 79
    torch.testing.assert_close(moved[0, 0], torch.tensor([80 - points[0, 16, 0], points[0, 16, 1]]))
    assert visible[0, 36] == seen[0, 45]
    torch.testing.assert_close((new[1], moved[1], visible[1]), (luma[1], points[1], seen[1]))


def test_what_is_laid_over_a_point_hides_it() -> None:
    generator = torch.Generator().manual_seed(0)
    luma = torch.full((50, 1, 80, 80), 300.0)
    line = torch.arange(80.0) + 0.5
    points = torch.stack([line, line], -1).expand(50, -1, -1)
    covered, visible = augment.cover(luma, points, torch.ones(50, 80), generator, share=1.0)
    diagonal = torch.diagonal(covered[:, 0], dim1=1, dim2=2)
    changed = (diagonal != 300) | (visible == 0)  # a patch of another crop looks the same here
    assert (visible[diagonal != 300] == 0).all()
    assert 0.05 < float((visible == 0).float().mean()) < 0.6
    assert changed.any()
    same, still = augment.cover(luma, points, torch.ones(50, 80), generator, share=0.0)
    assert (same == 300).all()
    assert (still == 1).all()


def test_a_batch_is_the_same_for_the_same_seed_and_points_outside_are_not_seen() -> None:
    picture = spots(np.full((8, 2), 48.0))
    points = torch.full((8, 80, 2), 48.0)
    points[:, 0] = 2.0
    batches = [
        augment.faces(picture, points, torch.ones(8, 80), torch.Generator().manual_seed(3), turn_deg=1.0)
        for _ in range(2)
    ]
    torch.testing.assert_close(batches[0], batches[1], rtol=0, atol=0)
    luma, placed, visible = batches[0]
    outside = ((placed < 0) | (placed > 80)).any(-1)
    assert outside.any()
    assert (visible[outside] == 0).all()
    assert float(luma.min()) >= 0
    assert float(luma.max()) <= 255


def a_scene(size: int, faces: int, seed: int) -> scenes.Scene:
    """A scene whose points are the corners and the middle of its boxes, marked by dots."""
    random = np.random.default_rng(seed)
    picture = np.zeros((size, size), np.uint8)
    low = random.integers(0, size - 30, (faces, 2))
    xyxy = np.concatenate([low, low + random.integers(16, 28, (faces, 2))], 1).astype(np.float32)
    for left, top, right, bottom in xyxy.astype(int):
        picture[top:bottom, left:right] = 200
    centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    keypoints = np.stack([xyxy[:, [0, 1]], xyxy[:, [2, 1]], centre, xyxy[:, [0, 3]], xyxy[:, [2, 3]]], 1)
    return {"picture": picture, "xyxy": xyxy, "keypoints": keypoints, "ignore": np.zeros(faces, np.uint8)}


@pytest.mark.parametrize("seed", range(30))
def test_boxes_and_points_go_with_the_scene(seed: int) -> None:
    random = np.random.default_rng(seed)
    four = [a_scene(96, 1, 100 * seed + i) for i in range(4)]
    seen = scenes.view(four, 64, random, least_px=4.0, turned=0.0)
    assert seen["picture"].shape == (64, 64)
    expected = np.zeros((64, 64))
    for box, points, ignore in zip(seen["xyxy"], seen["keypoints"], seen["ignore"], strict=True):
        left, top, right, bottom = box.round().astype(int)
        expected[top:bottom, left:right] = 200
        if not ignore:
            # image-left points stay to the left after mirroring; clipping may have moved the box's sides inwards
            assert points[0, 0] < points[1, 0]
            assert (points[0] <= box[:2] + 1e-3).all()
            assert (points[4] >= box[2:] - 1e-3).all()
    assert (np.abs(expected - seen["picture"]) > 100).mean() < 0.06  # a border of rounding


def test_quarter_turns_move_boxes_and_points_with_the_picture() -> None:
    picture = np.zeros((40, 40), np.uint8)
    picture[5:9, 20:30] = 200  # x 20..30, y 5..9
    scene = {
        "picture": picture,
        "xyxy": np.array([[20, 5, 30, 9]], np.float32),
        "keypoints": np.full((1, 5, 2), (21.0, 6.0), np.float32),
        "ignore": np.zeros(1, np.uint8),
    }
    for times in range(4):
        turned = scenes.quarter_turned(scene, times)
        x0, y0, x1, y1 = turned["xyxy"][0].astype(int)
        assert (turned["picture"][y0:y1, x0:x1] == 200).all() and turned["picture"].sum() == picture.sum()
        assert (turned["picture"][y0:y1, x0:x1].size) == 40
        px, py = turned["keypoints"][0, 0]
        assert x0 < px < x1 and y0 < py < y1
    assert np.allclose(scenes.quarter_turned(scene, 1)["keypoints"][0, 0], (6, 19))  # counter-clockwise


def test_views_lie_on_a_side_as_often_as_they_are_told_to() -> None:
    scene = a_scene(64, 0, 0)
    scene["picture"] = np.broadcast_to(np.arange(64, dtype=np.uint8) * 3, (64, 64)).copy()  # brighter to the right
    for turned, upright in ((0.0, 20), (1.0, None)):
        along_x = 0
        for seed in range(20):
            seen = scenes.view([scene] * 4, 32, np.random.default_rng(seed), 1.0, 1.0, turned=turned)["picture"]
            along_x += bool((np.diff(seen.astype(int), axis=1) != 0).all())
        assert along_x == upright if upright else 1 <= along_x <= 14  # a third is upside down


@pytest.mark.parametrize("factor", [0.5, 1.4])
def test_stretching_moves_boxes_and_points_with_the_picture(factor: float) -> None:
    picture = np.zeros((40, 40), np.uint8)
    picture[5:9, 20:30] = 200
    scene = {
        "picture": picture,
        "xyxy": np.array([[20, 5, 30, 9]], np.float32),
        "keypoints": np.full((1, 5, 2), (25.0, 6.0), np.float32),
        "ignore": np.zeros(1, np.uint8),
    }
    wide = scenes.stretched(scene, factor)
    assert wide["picture"].shape == (40, 40 * factor)
    assert np.allclose(wide["xyxy"][0], (20 * factor, 5, 30 * factor, 9))
    assert np.allclose(wide["keypoints"][0, 0], (25 * factor, 6))
    left, right = int(20 * factor) + 1, int(30 * factor) - 1
    assert (wide["picture"][6:8, left:right] == 200).all() and wide["picture"][:, : left - 2].sum() == 0
    assert scene["xyxy"][0, 0] == 20  # the bank's own labels stay


def test_views_are_stretched_only_when_wanted() -> None:
    four = [a_scene(96, 1, i) for i in range(4)]
    plain, same, wide = (
        scenes.view(four, 64, np.random.default_rng(3), turned=0.0, stretch=stretch) for stretch in (1.0, 1.0, 1.6)
    )
    assert np.array_equal(plain["picture"], same["picture"]) and not np.array_equal(plain["picture"], wide["picture"])


def test_small_and_cut_faces_are_to_be_ignored_and_those_outside_are_gone() -> None:
    scene = {
        "picture": np.zeros((64, 64), np.uint8),
        "xyxy": np.array([[0, 0, 20, 20], [30, 30, 36, 36], [-15, 0, 5, 20], [70, 0, 90, 20]], np.float32),
        "keypoints": np.zeros((4, 5, 2), np.float32),
        "ignore": np.zeros(4, np.uint8),
    }
    asked_for = scenes.trimmed({**scene, "ignore": np.array([1, 0, 0, 0], np.uint8)}, 8.0, 0.5)
    assert asked_for["ignore"].tolist() == [True, True, True]
    seen = scenes.trimmed(scene, 8.0, 0.5)
    assert seen["xyxy"].tolist() == [[0, 0, 20, 20], [30, 30, 36, 36], [0, 0, 5, 20]]
    assert seen["ignore"].tolist() == [False, True, True]


def test_tone_keeps_the_range_and_changes_every_picture_in_its_own_way() -> None:
    luma = torch.full((4, 1, 8, 8), 100.0)
    toned = augment.tone(luma, torch.Generator().manual_seed(0))
    assert float(toned.min()) >= 0
    assert float(toned.max()) <= 255
    assert len({round(float(mean), 3) for mean in toned.mean((1, 2, 3))}) == 4
    noisy = toned.flatten(1).std(1) > 0.1
    assert noisy.any() and not noisy.all()
    torch.testing.assert_close(augment.tone(luma, torch.Generator().manual_seed(0), 0.0), luma)
