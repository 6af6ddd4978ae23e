"""What is worn and held: fitted to the head at hand, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeface.values import F32, F64
from training.render import hands, headwear, mesh, props, reach, wear

SEEDS = range(40)
WIDTH = 15.2
SKIN = np.array([0.5, 0.33, 0.26], dtype=np.float32)

# a plausible face's 68 points: the jaw, then brows, nose, eyes and mouth by their mirrored halves
JAW = [(-7.4, 3.7, 3.0), (-7.3, 1.5, 3.2), (-6.9, -0.5, 3.6), (-6.5, -2.4, 4.4), (-5.7, -4.5, 5.6), (-4.3, -6.2, 7.0),
       (-3.0, -6.9, 8.4), (-1.5, -7.3, 9.6), (0.0, -7.6, 9.9)]  # fmt: skip
BROW = [(-5.8, 5.2, 7.9), (-4.9, 6.0, 9.0), (-3.8, 6.3, 9.8), (-2.4, 6.2, 10.4), (-1.2, 5.9, 10.7)]
NOSE = [(0, 3.7, 10.7), (0, 2.6, 11.5), (0, 1.6, 12.3), (0, 0.4, 13.0)]
BASE = [(-1.2, -1.1, 10.9), (-0.6, -1.1, 11.4), (0, -1.2, 11.6)]
EYE = [(-4.5, 3.4, 8.6), (-3.9, 3.9, 9.4), (-2.8, 3.9, 9.5), (-1.8, 3.2, 9.2), (-2.7, 3.1, 9.4), (-3.9, 3.1, 9.2)]
LIPS = [(-2.5, -3.5, 10.2), (-1.7, -2.8, 10.9), (-0.7, -2.4, 11.2), (0, -2.5, 11.3)]
LOWER = [(0, -4.4, 11.0), (-1.0, -4.3, 10.9), (-1.8, -4.1, 10.6)]
INNER = [(-2.2, -3.5, 10.1), (-1.0, -3.3, 10.8), (0, -3.3, 11.0)]


def mirrored(points: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    return [(-x, y, z) for x, y, z in points]


def face() -> F32:
    right_eye = mirrored(EYE)
    eyes = EYE + [right_eye[k] for k in (3, 2, 1, 0, 5, 4)]
    mouth = LIPS + mirrored(LIPS)[2::-1] + mirrored(LOWER)[:0:-1] + LOWER
    inner = INNER + mirrored(INNER)[1::-1] + [(1, -3.4, 10.8), (0, -3.4, 11.0), (-1, -3.4, 10.8)]
    points = JAW + mirrored(JAW)[7::-1] + BROW + mirrored(BROW)[::-1] + NOSE + BASE + mirrored(BASE)[1::-1] + eyes
    return np.array(points + mouth + inner, dtype=np.float32)


def head() -> tuple[F32, mesh.I32]:
    """An egg through the face's points, 15 wide and 22 tall, on a neck, with its front triangles."""
    up, around = np.linspace(-np.pi / 2, np.pi / 2, 60), np.linspace(0, 2 * np.pi, 90, endpoint=False)
    egg = np.stack([7.6 * np.outer(np.cos(up), np.sin(around)), np.outer(11.0 * np.sin(up), 0 * around + 1) + 3.4,
                    10.6 * np.outer(np.cos(up), np.cos(around)) + 0.8], -1)  # fmt: skip
    neck = np.stack([5.5 * np.outer(np.ones(20), np.sin(around)), np.outer(np.linspace(-18, -5, 20), 0 * around + 1),
                     5.5 * np.outer(np.ones(20), np.cos(around))], -1)  # fmt: skip
    vertices = np.concatenate([neck.reshape(-1, 3), egg.reshape(-1, 3)]).astype(np.float32)
    faces = (mesh.lattice(60, 90, True) + np.int32(neck.size // 3)).astype(np.int32)
    return vertices, faces[(vertices[faces][..., 2] > 2).all(axis=1)]


VERTICES, FACE_FACES = head()
LANDMARKS = face()
MAKERS: dict[str, Callable[[np.random.Generator], mesh.Mesh]] = {
    "glasses": lambda rng: wear.glasses(rng, LANDMARKS, WIDTH),
    "sunglasses": lambda rng: wear.sunglasses(rng, LANDMARKS, WIDTH),
    "hat": lambda rng: wear.hat(rng, VERTICES, LANDMARKS),
    "mask": lambda rng: wear.mask(rng, VERTICES, FACE_FACES, LANDMARKS),
    "hand": lambda rng: hands.hand(rng, LANDMARKS, SKIN),
    "thing": lambda rng: props.thing(rng, LANDMARKS),
    "thing in a hand": lambda rng: props.thing(rng, LANDMARKS, SKIN),
}
MOST = {"glasses": 1500, "sunglasses": 1500, "hat": 2000, "mask": 1500, "hand": 1500, "thing": 1500}


@pytest.mark.parametrize("name", MAKERS)
def test_a_mesh_is_whole(name: str) -> None:
    for seed in SEEDS:
        made = MAKERS[name](np.random.default_rng(seed))
        assert (made.vertices.dtype, made.faces.dtype) == (np.float32, np.int32)
        assert (made.albedo.dtype, made.opacity.dtype) == (np.float32, np.float32)
        assert made.albedo.shape == made.vertices.shape and made.opacity.shape == (len(made.faces),)
        assert np.isfinite(made.vertices).all() and np.abs(made.vertices).max() < 120
        assert made.faces.min() == 0 and made.faces.max() == len(made.vertices) - 1
        assert made.albedo.min() >= 0 and made.albedo.max() <= 1
        assert made.opacity.min() > 0 and made.opacity.max() <= 1
        assert 0 <= made.gloss <= 1
        assert len(made.faces) < MOST.get(name, 2500)


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_seed_makes_the_same_mesh_and_another_seed_another(name: str) -> None:
    first, again, other = (MAKERS[name](np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.vertices, again.vertices)
    np.testing.assert_array_equal(first.faces, again.faces)
    np.testing.assert_array_equal(first.albedo, again.albedo)
    assert first.vertices.shape != other.vertices.shape or not np.array_equal(first.vertices, other.vertices)


@pytest.mark.parametrize(("maker", "low", "high"), [("glasses", 0.03, 0.15), ("sunglasses", 0.7, 1.0)])
def test_lenses_stand_before_the_eyes(maker: str, low: float, high: float) -> None:
    eyes = np.stack([LANDMARKS[36:42].mean(0), LANDMARKS[42:48].mean(0)])
    for seed in SEEDS:
        made = MAKERS[maker](np.random.default_rng(seed))
        # the two lenses are the last parts: three rings of points each
        glass = made.opacity[-8 * wear.POINTS :]
        assert glass.min() >= np.float32(low) and glass.max() <= high
        for lens, eye in zip(made.vertices[-6 * wear.POINTS :].reshape(2, -1, 3), eyes, strict=True):
            assert (lens[:, 2] > eye[2]).all()
            assert (lens[:, :2].min(0) < eye[:2]).all() and (lens[:, :2].max(0) > eye[:2]).all()


def test_glasses_are_as_wide_as_the_head_and_rest_at_the_ears() -> None:
    made = wear.glasses(np.random.default_rng(1), LANDMARKS, WIDTH)
    behind = made.vertices[made.vertices[:, 2] < 2]
    assert abs(behind[:, 0].min() + WIDTH / 2) < 1.2 and abs(behind[:, 0].max() - WIDTH / 2) < 1.2


def test_a_hat_leaves_the_brows_free_unless_worn_low() -> None:
    brow, low = LANDMARKS[17:27, 1].max(), 0
    for seed in range(120):
        made = wear.hat(np.random.default_rng(seed), VERTICES, LANDMARKS)
        x, y, z = made.vertices.T
        on_face = (np.abs(x) < 4) & (z > 9) & (z < 12) & (y > LANDMARKS[30, 1])  # a shawl lies lower
        low += bool(on_face.any() and y[on_face].min() < brow)
    assert low < 120 * 0.2


@pytest.mark.parametrize(("kind", "rows"), [("_cap", 8), ("_brimmed", 10), ("_beanie", 10), ("_hard_hat", 8)])
def test_the_skull_does_not_show_through_a_hat(kind: str, rows: int) -> None:
    for seed in range(12):
        made = getattr(headwear, kind)(
            np.random.default_rng(seed), VERTICES.astype(np.float64), LANDMARKS.astype(np.float64)
        )
        corners = made.vertices[made.faces[: 2 * headwear.COLUMNS * (rows - 1)]].astype(np.float64)
        shares = np.random.default_rng(0).dirichlet(np.ones(3), 40)
        crown = np.einsum("sc,fcx->fsx", shares, corners).reshape(-1, 3)
        top = VERTICES[VERTICES[:, 1] > 12]
        assert made.vertices[:, 1].max() > VERTICES[:, 1].max()
        outer = reach.around_point(crown - [0, 6, 0.8])
        inner = top - np.array([0, 6, 0.8])
        level = np.hypot(inner[:, 0], inner[:, 2])
        covered = outer.at(np.arctan2(inner[:, 1], level), np.arctan2(inner[:, 0], inner[:, 2]))
        assert (covered > np.linalg.norm(inner, axis=1) - 0.35).mean() > 0.97


def test_a_mask_lies_before_the_mouth_unless_worn_under_it() -> None:
    covered = 0
    for seed in range(60):
        cloth = MAKERS["mask"](np.random.default_rng(seed)).vertices
        hides = []
        for mark in LANDMARKS[[48, 51, 54, 57]]:
            near = np.linalg.norm(cloth[:, :2] - mark[:2], axis=1) < 1.2
            hides.append(
                near.any() and cloth[near, 2].max() > VERTICES[np.argmin(np.linalg.norm(VERTICES - mark, axis=1)), 2]
            )
        covered += all(hides)
    assert covered >= 42


def test_a_hand_has_four_fingers_and_a_thumb() -> None:
    straight = hands.fingers(np.random.default_rng(0), SKIN.astype(np.float64), hands.FLAT, 0.0, 12.0)
    x, y, _ = straight.vertices.T
    ends = straight.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    across = ends[(y[ends[:, 0]] > 12.5) != (y[ends[:, 1]] > 12.5)]  # edges cut by the plane through the fingers
    share = (12.5 - y[across[:, 0]]) / (y[across[:, 1]] - y[across[:, 0]])
    cut = np.sort(x[across[:, 0]] * (1 - share) + x[across[:, 1]] * share)
    assert (np.diff(cut) > 0.7).sum() == 3  # gaps between four fingers
    assert x.min() < -6  # the thumb, stretched away
    fist = hands.fingers(np.random.default_rng(0), SKIN.astype(np.float64), hands.FIST, 1.0, 0.0)
    assert fist.vertices[:, 1].max() < 12 < y.max()


def test_every_hand_pose_stays_about_the_head_and_both_hands_come() -> None:
    sides = set()
    for seed in SEEDS:
        made = hands.hand(np.random.default_rng(seed), LANDMARKS, SKIN)
        assert np.linalg.norm(made.vertices - LANDMARKS[30], axis=1).min() < 22
        sides.add(bool(made.vertices[:, 0].mean() > 0))
    assert sides == {False, True}


def test_a_held_thing_is_near_the_hand_that_holds_it() -> None:
    seeds = [s for s in SEEDS if len(MAKERS["thing in a hand"](np.random.default_rng(s)).faces) > 1100]
    assert len(seeds) > 15
    for seed in seeds:
        alone = MAKERS["thing"](np.random.default_rng(seed)).vertices
        both = MAKERS["thing in a hand"](np.random.default_rng(seed)).vertices
        np.testing.assert_array_equal(both[: len(alone)], alone)
        gap = np.linalg.norm(both[len(alone) :, None] - alone[None], axis=-1).min()
        assert gap < 3


def signed_volume(shape: mesh.Mesh) -> float:
    a, b, c = (shape.vertices[shape.faces[:, k]].astype(np.float64) for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def test_solids_face_outwards_also_mirrored() -> None:
    cube = mesh.box([2, 3, 4], [0.5, 0.5, 0.5])
    assert signed_volume(cube) == pytest.approx(24)
    rod = mesh.tube([[0, 0, 0], [0, 5, 0], [0, 10, 0]], 1.0, [0, 0, 0], sides=24, rounded=True)
    assert signed_volume(rod) == pytest.approx(np.pi * 10, rel=0.15)
    ball = mesh.lathe(np.cos(np.linspace(-1.57, 1.57, 24)), np.sin(np.linspace(-1.57, 1.57, 24)), [0, 0, 0], 24)
    assert signed_volume(ball) == pytest.approx(4 / 3 * np.pi, rel=0.05)
    assert signed_volume(mesh.placed(cube, mesh.turn(20, 30, 40), [1, 2, 3], mirror=True)) == pytest.approx(
        24, rel=1e-4
    )


def test_reach_finds_a_balls_radius_in_every_direction() -> None:
    rng = np.random.default_rng(0)
    points: F64 = rng.normal(size=(20000, 3))
    points *= 5 / np.linalg.norm(points, axis=1, keepdims=True)
    ball = reach.around_point(points)
    assert np.abs(ball.at(rng.uniform(-1.4, 1.4, 100), rng.uniform(-7, 7, 100)) - 5).max() < 0.01


def test_stretched_cloth_bridges_a_hollow_and_keeps_its_edges() -> None:
    ground = np.full((9, 9), 2.0)
    ground[4, 4] = 0.0
    cloth = reach.stretched(ground, 20)
    assert cloth[4, 4] == pytest.approx(2.0) and (cloth >= ground).all()
    ground[0, 0] = 7.0
    assert reach.stretched(ground, 20)[0, 0] == 7.0
