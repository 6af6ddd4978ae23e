"""Scenes: exact labels, whose face is seen where, what is ignored, the shards."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("numba", reason="Numba is not installed")

from training.render import banks, body, camera, scene, shards, sheet  # noqa: E402
from training.render.background import lookalike_bank  # noqa: E402
from training.render.canvas import Canvas  # noqa: E402

WHOLE = 64  # pixels of a head's patch
BOX = np.array([16, 12, 48, 52], np.float32)
POINTS = np.array([[24, 26], [40, 26], [30, 34], [26, 44], [37, 44]], np.float32)
BARE = frozenset({"overlap"})  # people and nothing else, a perfect camera


def heads(many: int = 4, kind: int = banks.FACE) -> banks.Heads:
    """White ellipses that fill their boxes exactly."""
    alpha = np.zeros((many, WHOLE, WHOLE), np.uint8)
    y, x = np.mgrid[:WHOLE, :WHOLE] + 0.5
    alpha[:, ((x - 32) / 16) ** 2 + ((y - 32) / 20) ** 2 < 1] = 255
    luma = np.where(alpha > 0, 255, 0).astype(np.uint8)
    luma[:, 30:34, 28:36] = 90  # not flat
    return banks.heads_of(
        luma,
        alpha,
        np.tile(BOX, (many, 1)),
        np.tile(POINTS, (many, 1, 1)),
        np.full(many, kind, np.uint8),
        np.tile(np.array([180.0 if kind == banks.BACK else 20, 5, -3], np.float32), (many, 1)),
        np.full(many, 0.4, np.float32),
    )


def bodies() -> body.Bodies:
    square = np.zeros((2, 32, 32), np.uint8)
    square[:, 4:, 6:26] = 255
    return body.Bodies(
        square // 2,
        square,
        np.array([body.UPPER, body.HAND], np.uint8),
        np.tile(np.array([16, 5], np.float32), (2, 1)),
        np.full(2, 0.4, np.float32),
        np.full(2, 0.4, np.float32),
        np.zeros(2, np.uint8),
    )


def bank(kind: int = banks.FACE) -> banks.Banks:
    return banks.Banks(heads(kind=kind), bodies(), lookalike_bank(0, 12, 32), [])


def black(monkeypatch: pytest.MonkeyPatch, sizes: list[float]) -> None:
    """Scenes of faces of these sizes on black."""
    monkeypatch.setattr(scene, "background", lambda rng, views, h, w, what: np.zeros((h, w), np.float32))
    monkeypatch.setattr(scene, "_sizes", lambda rng, size: np.array(sizes))


def same(one: scene.Scene, other: scene.Scene) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__slots__)


def test_the_same_seed_gives_the_same_scene() -> None:
    given = bank()
    first, again, other = (scene.scene(np.random.default_rng([7, k]), given, 128) for k in (1, 1, 2))
    assert same(first, again)
    assert not np.array_equal(first.picture, other.picture)
    assert first.picture.shape == (128, 128) and first.picture.dtype == np.uint8


@pytest.mark.parametrize("size", [20.0, 35.777087, 90.0])
def test_the_box_is_where_the_head_is(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disc alone on black: its outline, measured with alpha as area, is the label; the label is bank x scale."""
    black(monkeypatch, [size])
    for seed in range(12):
        made = scene.scene(np.random.default_rng(seed), bank(), 256, BARE)
        (xyxy,), (points,) = made.xyxy, made.keypoints
        scale = (xyxy[2] - xyxy[0]) / 32
        side = round(scale * WHOLE)
        assert abs(scale - side / WHOLE) < 1e-3 / 32  # the patch was scaled by exactly this
        assert abs((xyxy[3] - xyxy[1]) / 40 - scale) < 1e-3 / 40
        assert abs(scale * np.sqrt(32 * 40) - size) < np.sqrt(32 * 40) / WHOLE
        left, top = xyxy[0] - 16 * scale, xyxy[1] - 12 * scale
        assert abs(left - round(float(left))) < 1e-3 and abs(top - round(float(top))) < 1e-3
        plain, turned = POINTS, (POINTS * (-1, 1) + np.array([WHOLE, 0]))[[1, 0, 2, 4, 3]]
        placed = [candidate * scale + np.array([left, top]) for candidate in (plain, turned)]
        way = int(made.pose[0, 0] < 0)  # the mirrored head looks to the other side
        assert np.abs(points - placed[way]).max() < 1e-3
        assert np.array_equal(made.pose[0], ([20, 5, -3], [-20, 5, 3])[way])
        if (xyxy >= 1).all() and (xyxy <= 255).all():
            columns, rows = (np.flatnonzero(made.picture.max(axis) > 64) for axis in (0, 1))
            seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert np.abs(seen - xyxy).max() < 1 + scale / 2  # whole pixels; outlines are soft when enlarged
            assert made.visible[0] == 1


def test_who_is_before_whom() -> None:
    """Face 0 of 10 x 10 pixels; face 1 hides its right 6 columns; a thing hides one row of both."""
    canvas = Canvas(np.zeros((20, 40), np.float32), np.zeros((20, 40), np.int16))
    full = np.ones((10, 10), np.float32), np.ones((10, 10), np.float32)
    assert canvas.lay_face(full, 5, 5, np.array([5, 5, 15, 15], np.float32), 0) == 100
    assert canvas.lay_face(full, 9, 5, np.array([9, 5, 19, 15], np.float32), 1) == 100
    assert canvas.seen(2).tolist() == [40, 100]
    canvas.lay((np.ones((1, 40), np.float32), np.ones((1, 40), np.float32)), 0, 7)
    assert canvas.seen(2).tolist() == [36, 90]
    canvas.lay((np.ones((5, 5), np.float32), np.full((5, 5), 0.4, np.float32)), 5, 5)  # one sees through it
    assert canvas.seen(2).tolist() == [36, 90]


@pytest.mark.parametrize(("left", "top", "seen"), [(-4, 0, 60), (35, 0, 50), (0, -10, 0), (40, 0, 0), (15, 14, 60)])
def test_what_is_outside_the_picture_is_not_seen(left: int, top: int, seen: int) -> None:
    canvas = Canvas(np.zeros((20, 40), np.float32), np.zeros((20, 40), np.int16))
    box = np.array([left, top, left + 10, top + 10], np.float32)
    assert canvas.lay_face((np.ones((10, 10), np.float32),) * 2, left, top, box, 0) == 100
    assert canvas.seen(1).tolist() == [seen]


def test_hair_beside_the_box_is_no_face() -> None:
    canvas = Canvas(np.zeros((20, 20), np.float32), np.zeros((20, 20), np.int16))
    assert canvas.lay_face((np.ones((10, 10), np.float32),) * 2, 5, 5, np.array([7, 8, 12, 15], np.float32), 0) == 35


def test_what_is_ignored() -> None:
    xyxy = np.array(
        [
            [10, 10, 17.9, 17.9],
            [10, 10, 18.1, 18.1],
            [10, 10, 40, 40],
            [10, 10, 40, 40],
            [-19, 0, 11, 30],
            [-17, 0, 13, 30],
        ],
        np.float32,
    )
    visible = np.array([1, 1, 0.29, 0.31, 1, 1], np.float32)
    assert scene.ignored(xyxy, visible, 100).tolist() == [1, 0, 1, 0, 1, 0]
    assert scene.ignored(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 100).tolist() == []


def test_a_face_of_which_only_noise_is_left_is_ignored() -> None:
    picture = np.random.default_rng(0).normal(240, 6, (100, 100)).clip(0, 255).astype(np.uint8)
    picture[50:70, 10:60] = 100
    xyxy = np.array([[10, 0, 60, 40], [10, 30, 60, 90], [98, 98, 99, 120]], np.float32)
    assert scene.flat(picture, xyxy).tolist() == [1, 0, 0]


def test_a_hidden_face_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    black(monkeypatch, [20.0, 22.0])
    counted: list[int] = []
    monkeypatch.setattr(Canvas, "seen", lambda self, many: counted.append(many) or np.array([0, 200])[:many])
    for seed in range(4):
        made = scene.scene(np.random.default_rng(seed), bank(), 128, BARE)
        assert len(made.xyxy) == len(made.keypoints) == len(made.visible) == len(made.pose) == len(made.ignore) == 1
    assert counted == [2] * 4


def test_backs_of_heads_are_no_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    black(monkeypatch, [40.0])
    made = scene.scene(np.random.default_rng(0), bank(banks.BACK), 128, BARE | {"backs"})
    assert len(made.xyxy) == 0 and made.picture.max() > 0


def test_without_backs_only_faces_are_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    black(monkeypatch, [40.0])
    two = heads(2)
    mixed = banks.Heads(
        *(getattr(two, name) for name in two.__slots__[:4]), np.array([0, 1], np.uint8), two.pose, two.skin, two.neck
    )
    given = banks.Banks(mixed, bodies(), lookalike_bank(0, 12, 32), [])
    many = [len(scene.scene(np.random.default_rng(seed), given, 128, BARE).xyxy) for seed in range(8)]
    assert many == [1] * 8


def test_face_free_scenes_have_no_faces_but_things() -> None:
    for seed in range(6):
        made = scene.scene(np.random.default_rng(seed), bank(), 96, faces=False)
        assert len(made.xyxy) == 0 and made.picture.std() > 0


def area(made: scene.Scene) -> int:
    return int((made.picture > 0).sum())


@pytest.mark.parametrize("name", ["lookalikes", "headless", "parts"])
def test_negatives_are_switched_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    black(monkeypatch, [])
    nothing = [area(scene.scene(np.random.default_rng(seed), bank(), 96, frozenset())) for seed in range(4)]
    switched = [area(scene.scene(np.random.default_rng(seed), bank(), 96, frozenset({name}))) for seed in range(4)]
    assert max(nothing) == 0 and max(switched) > 0


@pytest.mark.parametrize("name", ["bodies", "occluders", "tone"])
def test_people_are_dressed_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    black(monkeypatch, [30.0] * 3)
    plain, switched = (
        [scene.scene(np.random.default_rng(seed), bank(), 160, what) for seed in range(12)]
        for what in (BARE, BARE | {name})
    )
    assert any(not np.array_equal(a.picture, b.picture) for a, b in zip(plain, switched, strict=True))
    if name == "tone":  # light moves nobody
        assert all(np.array_equal(a.visible, b.visible) for a, b in zip(plain, switched, strict=True))


def test_leaving_out_the_camera_changes_no_label() -> None:
    given = bank()
    whole = scene.scene(np.random.default_rng(3), given, 160)
    without = scene.scene(np.random.default_rng(3), given, 160, scene.CONTENT)
    assert np.array_equal(whole.xyxy, without.xyxy) and np.array_equal(whole.visible, without.visible)


def test_sizes_reach_from_the_smallest_to_the_whole_picture() -> None:
    sizes = [scene._sizes(np.random.default_rng(seed), 384) for seed in range(400)]
    empty = np.mean([len(one) == 0 for one in sizes])
    assert 0.18 < empty < 0.32
    assert max(len(one) for one in sizes) <= 60 and max(len(one) for one in sizes) > 40
    every = np.concatenate(sizes)
    assert every.min() < 9 and every.max() > 0.9 * 384 and every.max() <= 0.95 * 384


def test_heads_cut_by_their_patch_and_half_turned_backs_are_left_out() -> None:
    good = heads(4)
    alpha, kind, pose = good.alpha.copy(), good.kind.copy(), good.pose.copy()
    alpha[1, 0, 30] = alpha[2, 40, 0] = 255
    kind[3], pose[3, 0] = banks.BACK, 100
    pose[:, 1] = np.arange(4)
    kept = banks.heads_of(good.luma, alpha, good.xyxy, good.keypoints, kind, pose, good.skin)
    assert kept.pose[:, 1].tolist() == [0]


def test_shards_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    given = bank()
    sample = partial(scene.scene, banks=given, size=96)
    wanted = {"seed": 5, "count": 5, "per_shard": 2}
    written = []
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        shards.write(folder, "scenes", sample, scene.packed, **wanted, jobs=jobs)
        written.append(sorted(folder.iterdir()))
        assert [path.name for path in written[-1]] == [f"scenes-0000{k}.npz" for k in range(3)]
    for one, other in zip(*written, strict=True):
        with np.load(one) as a, np.load(other) as b:
            assert set(a.files) == {"picture", "first", "xyxy", "keypoints", "ignore", "visible", "pose"}
            assert all(np.array_equal(a[name], b[name]) for name in a.files)
    with np.load(written[0][1]) as shard:
        second = scene.scene(np.random.default_rng([5, 3]), given, 96)
        assert np.array_equal(shard["picture"][1], second.picture)
        assert np.array_equal(shard["xyxy"][shard["first"][1] : shard["first"][2]], second.xyxy)
    before = written[0][0].stat().st_mtime_ns
    shards.write(tmp_path / "1", "scenes", sample, scene.packed, **wanted, jobs=1)
    assert written[0][0].stat().st_mtime_ns == before


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


def test_a_sheet_shows_the_labels() -> None:
    made = scene.Scene(
        np.full((40, 40), 50, np.uint8),
        np.array([[5, 5, 25, 30], [28, 5, 36, 12]], np.float32),
        np.zeros((2, 5, 2), np.float32) + 15,
        np.array([0, 1], np.uint8),
        np.ones(2, np.float32),
        np.zeros((2, 3), np.float32),
    )
    shown = sheet.sheet([made] * 3, columns=2, pixels=40)
    assert shown.shape == (80, 80, 3)
    assert shown[5, 15, 1] > shown[5, 15, 2] and shown[5, 32, 2] > shown[5, 32, 1]


def test_bodies_repeat_and_know_their_necks() -> None:
    first, again = (body.body_bank(3, 6, 48) for _ in range(2))
    assert np.array_equal(first.luma, again.luma) and np.array_equal(first.alpha, again.alpha)
    upper = np.flatnonzero(first.kind == body.UPPER)
    assert len(upper)
    for k in upper:  # below the neck's root the patch is covered
        x, y = (int(v) for v in first.neck[k])
        assert first.alpha[k, y + 3, x] > 200


def test_the_camera_is_part_of_the_ingredients() -> None:
    assert camera.INGREDIENTS < scene.INGREDIENTS and scene.CONTENT < scene.INGREDIENTS
