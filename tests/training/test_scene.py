"""Scenes: exact labels, whose face is seen where, what is ignored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("numba", reason="Numba is not installed")

from synthetic_banks import POINTS, WHOLE, bank, bodies, heads  # noqa: E402

from training.render import banks, camera, negatives, scene  # noqa: E402
from training.render.background import lookalike_bank  # noqa: E402
from training.render.bank import BACK  # noqa: E402
from training.render.canvas import Canvas  # noqa: E402

BARE = frozenset({"overlap"})  # people and nothing else, a perfect camera


def black(monkeypatch: pytest.MonkeyPatch, sizes: list[float]) -> None:
    """Scenes of faces of these sizes on black."""
    monkeypatch.setattr(
        scene.background, "background", lambda rng, views, h, w, what, photos: np.zeros((h, w), np.float32)
    )
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
    visible = np.array([1, 1, 0.39, 0.41, 1, 1], np.float32)
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
    made = scene.scene(np.random.default_rng(0), bank(BACK), 128, BARE | {"backs"})
    assert len(made.xyxy) == 0 and made.picture.max() > 0


def test_without_backs_only_faces_are_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    black(monkeypatch, [40.0])
    two = heads(2)
    mixed = replace(two, kind=np.array([0, 1], np.uint8))
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


def test_packed_scenes_keep_their_faces_apart() -> None:
    made = [scene.scene(np.random.default_rng([5, k]), bank(), 96) for k in range(6)]
    arrays = scene.packed(made)
    assert set(arrays) == {"picture", "first", "xyxy", "keypoints", "ignore", "visible", "pose"}
    assert arrays["first"].dtype == np.int64 and len(arrays["xyxy"]) == arrays["first"][-1] > 0
    for k, one in enumerate(made):
        rows = slice(arrays["first"][k], arrays["first"][k + 1])
        assert np.array_equal(arrays["picture"][k], one.picture)
        for name in ("xyxy", "keypoints", "ignore", "visible", "pose"):
            assert np.array_equal(arrays[name][rows], getattr(one, name))


def test_on_level_ground_larger_people_stand_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [12.0, 16, 20, 24, 28, 32, 36]
    black(monkeypatch, sizes)
    lower = []
    for seed in range(12):
        made = scene.scene(np.random.default_rng(seed), bank(), 256, frozenset())
        lower.append(np.corrcoef(made.xyxy[:, 2] - made.xyxy[:, 0], made.xyxy[:, 1])[0, 1] if len(made.xyxy) > 3 else 0)
    assert 3 <= sum(way > 0.8 for way in lower) <= 9  # about every other crowd


def test_a_body_stands_in_its_heads_light(monkeypatch: pytest.MonkeyPatch) -> None:
    black(monkeypatch, [40.0])
    greys = []
    for flesh in (0.2, 0.5, 1.0):
        dressed = replace(bodies(), flesh=np.full(2, flesh, np.float32))
        given = banks.Banks(replace(heads(), face=np.full(4, 0.5, np.float32)), dressed, lookalike_bank(0, 12, 32), [])
        made = scene.scene(np.random.default_rng(1), given, 200, BARE | {"bodies"})
        x = int(made.keypoints[0, 2, 0])
        greys.append(int(made.picture[min(199, int(made.xyxy[0, 3]) + 25), x]))
    assert greys == [round(127 * 1.6), 127, round(127 * 0.6)]


def test_a_white_scene_asks_for_no_face(monkeypatch: pytest.MonkeyPatch) -> None:
    black(monkeypatch, [40.0])
    monkeypatch.setattr(camera, "degrade", lambda picture, rng, what: np.full(picture.shape, 250, np.uint8))
    made = scene.scene(np.random.default_rng(0), bank(), 128, BARE)
    assert made.ignore.tolist() == [1]


def test_on_a_body_a_head_ends_below_its_chin() -> None:
    alpha = np.ones((60, 40), np.float32)
    kept = scene._above_neck(alpha, np.array([10.0, 5, 30, 35]), np.array([20.0, 42]))
    assert (kept[:35] == 1).all()  # hair beside the face, too
    assert kept[36, 20] > 0.9 and kept[37, 2] == 0 and (kept[45:] == 0).all()


def test_lookalikes_are_turned_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    black(monkeypatch, [])
    turned: list[int] = []
    monkeypatch.setattr(negatives, "turned", lambda patch, rng: turned.append(1) or patch)
    for name, many in (("headless", 0), ("lookalikes", 1)):
        scene.scene(np.random.default_rng(0), bank(), 96, frozenset({name}))
        assert bool(turned) == bool(many)


def test_the_camera_is_part_of_the_ingredients() -> None:
    assert camera.INGREDIENTS < scene.INGREDIENTS and scene.CONTENT < scene.INGREDIENTS
