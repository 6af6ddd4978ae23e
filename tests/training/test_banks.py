"""Banks of heads and bodies: what is read, what is left out, what is measured on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("numba", reason="Numba is not installed")

from synthetic_banks import POINTS, WHOLE, heads  # noqa: E402

from training.render import bank, banks, body  # noqa: E402


def test_heads_cut_by_their_patch_and_half_turned_backs_are_left_out() -> None:
    good = heads(5)
    alpha, kind, pose, xyxy = good.alpha.copy(), good.kind.copy(), good.pose.copy(), good.xyxy.copy()
    alpha[1, 0, 30] = alpha[2, 40, 0] = 255
    kind[3], pose[3, 0] = bank.BACK, 100
    xyxy[4, 3] = 63
    pose[:, 1] = np.arange(5)
    kept = banks.heads_of(good.luma, alpha, xyxy, good.keypoints, kind, pose, good.skin)
    assert kept.pose[:, 1].tolist() == [0]


def test_heads_are_read_from_shards(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="render a bank of heads first"):
        banks.load_heads(tmp_path)
    made = heads(2)
    for k in range(2):
        np.savez(
            tmp_path / f"heads-0000{k}.npz",
            picture=made.luma,
            alpha=made.alpha,
            xyxy=made.xyxy,
            keypoints=made.keypoints,
            kind=made.kind,
            pose=made.pose,
            skin=made.skin,
        )
    read = banks.load_heads(tmp_path)
    assert read.luma.shape == (4, WHOLE, WHOLE)
    assert np.allclose(read.neck[:, 0], 32) and np.allclose(read.neck[:, 1], 62)


def test_banks_are_loaded_with_photographs_or_say_how_to_make_them(tmp_path: Path) -> None:
    made = heads(2)
    fields = ("alpha", "xyxy", "keypoints", "kind", "pose", "skin")
    np.savez(tmp_path / "heads-00000.npz", picture=made.luma, **{name: getattr(made, name) for name in fields})
    np.savez(tmp_path / "hdri.npz", **{"0": np.ones((8, 16, 3), np.float16)})
    with pytest.raises(FileNotFoundError, match=r"no photos\.npz in .*: run python -m training\.prepare_assets"):
        banks.load_banks(tmp_path, tmp_path, 1, bodies=1, things=1)
    np.savez(tmp_path / "photos.npz", grass=np.full((4, 6), 9, np.uint8))
    loaded = banks.load_banks(tmp_path, tmp_path, 1, bodies=1, things=1)
    assert len(loaded.heads.kind) == 2 and len(loaded.views) == 1
    assert [photo.tolist() for photo in loaded.photos] == [[[9] * 6] * 4]


def test_a_back_without_a_box_is_as_large_as_the_faces_are(monkeypatch: pytest.MonkeyPatch) -> None:
    two = heads(3)
    xyxy, kind, pose = two.xyxy.copy(), np.array([1, 0, 1], np.uint8), two.pose.copy()
    xyxy[1], pose[1, 0] = 0, 190
    read = banks.heads_of(two.luma, two.alpha, xyxy, two.keypoints, kind, pose, two.skin)
    assert read.kind.tolist() == [1, 0, 1]
    assert np.allclose(read.xyxy[1, 2:] - read.xyxy[1, :2], [32, 40])
    assert np.allclose((read.xyxy[1, 2:] + read.xyxy[1, :2]) / 2, POINTS.mean(0))


def test_a_banks_faces_know_how_bright_they_are() -> None:
    made = heads(1)
    mouth = 4 * 8 / (np.pi * 16 * 20)
    assert abs(float(made.face[0]) - (1 - mouth * (1 - 90 / 255))) < 0.01


def test_bodies_repeat_and_know_their_necks() -> None:
    first, again = (body.body_bank(3, 6, 48) for _ in range(2))
    assert np.array_equal(first.luma, again.luma) and np.array_equal(first.alpha, again.alpha)
    upper = np.flatnonzero(first.kind == body.UPPER)
    assert len(upper)
    for k in upper:  # below the neck's root the patch is covered
        x, y = (int(v) for v in first.neck[k])
        assert first.alpha[k, y + 3, x] > 200
