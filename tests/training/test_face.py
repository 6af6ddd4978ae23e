"""Rendered faces: deterministic, labels that fit the picture, ingredients that can be left out."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="training's extra is not installed: pip install -e .[train]")

from edgeface import head_pose
from edgeface.point_sets import flip_map
from training import assets
from training.render import bank, draw, face, light, markup, skin
from training.render import head as heads
from training.render.person import Shot, expression, look, person, shot

try:
    FOLDER = assets.folder()
except FileNotFoundError as missing:
    pytest.skip(f"no assets to render from: {missing}", allow_module_level=True)
PLAIN = face.INGREDIENTS - {"glasses", "hats", "masks", "front", "infrared", "profiles"}


@pytest.fixture(scope="module")
def head():
    return heads.load(FOLDER)


def posed(head, yaw=0.0, pitch=0.0, roll=0.0, weights=None, ingredients=PLAIN, seed=1):
    weights = np.zeros(53, np.float32) if weights is None else weights
    somebody = person(np.random.default_rng(seed), FOLDER, ingredients - {"hair"})
    return somebody, draw.pose(head, somebody, Shot(weights, *np.radians([yaw, pitch, roll]), 0.0))


def view(size=100):
    return draw.View(120.0, size / 24, np.array([size / 2, size / 2]))


def test_the_same_seed_gives_the_same_face_and_another_seed_another():
    one, again, other = (face.render(np.random.default_rng([3, i]), FOLDER) for i in (5, 5, 6))
    assert np.array_equal(one.picture, again.picture) and np.array_equal(one.landmarks, again.landmarks)
    assert not np.array_equal(one.picture, other.picture)


def test_a_face_has_all_its_labels():
    made = face.render(np.random.default_rng(8), FOLDER)
    side = face.CROP + 2 * face.MARGIN
    assert made.picture.shape == (side, side) and made.picture.dtype == np.uint8
    assert made.landmarks.shape == (80, 2) and np.isfinite(made.landmarks).all()
    assert set(np.unique(made.visible)) <= {0, 1} and made.visible.shape == (80,)
    assert (made.eyes >= 0).all() and (made.eyes <= 1).all()


def test_leaving_an_ingredient_out_changes_nothing_else():
    whole, clean = (
        face.render(np.random.default_rng([1, 4]), FOLDER, face.INGREDIENTS - left)
        for left in (set(), {"jpeg", "noise"})
    )
    assert np.array_equal(whole.landmarks, clean.landmarks) and np.array_equal(whole.visible, clean.visible)


@pytest.mark.parametrize("ingredient", ["identity", "hair", "beard", "skin", "glasses", "hats", "masks"])
def test_who_is_seen_stays_the_same_without_an_ingredient(ingredient):
    for seed in range(30):
        one, other = (
            person(np.random.default_rng(seed), FOLDER, face.INGREDIENTS - left) for left in (set(), {ingredient})
        )
        assert (one.iris_size, one.collar, one.gloss) == (other.iris_size, other.collar, other.gloss)
        kept = {"glasses": ("hat", "mask"), "hats": ("glasses", "sunglasses", "mask")}.get(ingredient, ("glasses",))
        assert [o for o in one.worn if o[0] in kept] == [o for o in other.worn if o[0] in kept]
        assert ingredient not in ("hats", "masks") or not any(kind == ingredient[:-1] for kind, _ in other.worn)


@pytest.mark.parametrize("ingredient", ["expression", "front"])
def test_what_is_done_stays_the_same_without_an_ingredient(head, ingredient):
    for seed in range(30):
        one, other = (
            shot(np.random.default_rng(seed), head, face.INGREDIENTS - left) for left in (set(), {ingredient})
        )
        assert (one.yaw, one.pitch, one.roll, one.body_yaw) == (other.yaw, other.pitch, other.roll, other.body_yaw)
        assert ingredient == "front" or not other.expression.any()
        assert ingredient == "expression" or not other.held


@pytest.mark.parametrize(
    "ingredient", ["identity", "expression", "skin", "hair", "shadow", "background", "perspective"]
)
def test_every_ingredient_matters(ingredient):
    seeds = range(12)
    with_it = [face.render(np.random.default_rng([2, i]), FOLDER).picture for i in seeds]
    without = [
        face.render(np.random.default_rng([2, i]), FOLDER, face.INGREDIENTS - {ingredient}).picture for i in seeds
    ]
    assert any(not np.array_equal(a, b) for a, b in zip(with_it, without, strict=True))


def test_the_mark_up_is_symmetric_and_stands_where_it_should(head):
    known = [i for i in range(80) if head.points[i] >= 0]
    places = head.base[head.points[known]]
    mirrored = head.base[head.points[flip_map(80)[known]]] * [-1, 1, 1]
    assert np.abs(places - mirrored).max() < 0.35
    points = head.base[head.points[:68]]
    assert points[8, 1] < points[57, 1] < points[33, 1] < points[27, 1] < points[19, 1]  # chin, lip, nose, bridge, brow
    steps = np.hypot(*np.diff(points[:17, :2], axis=0).T)
    assert steps.max() < 1.35 * steps.min()  # the jaw in equal steps
    assert abs(points[0, 1] - points[36:48, 1].mean()) < 0.6  # from the level of the eyes


def test_the_jaw_follows_the_outline_of_a_turned_head(head):
    _, turned = posed(head, yaw=40)
    followed = draw.landmarks(head, turned, view())
    fixed = draw.landmarks(head, turned, view(), follow=False)
    screen = view().project(turned.vertices)
    contour = screen[markup.follow_contour(screen[:, :2], head.points, head.strips, turned.roll)]
    assert np.isclose(contour[14, 0], screen[head.strips[14][0], 0].max())
    assert contour[2, 0] == pytest.approx(screen[head.strips[2][0], 0].min())
    assert np.allclose(followed[[0, 8, 16]], contour[[0, 8, 16]], atol=1e-4)
    assert np.array_equal(followed[17:], fixed[17:]) and not np.array_equal(followed[:17], fixed[:17])


def test_each_half_of_the_jaw_goes_in_equal_steps():
    contour = np.zeros((17, 3), np.float32)
    contour[:9, 0] = [0, 1, 2, 3, 4, 5, 6, 7, 16]  # straight, uneven
    contour[8:, 0], contour[8:, 1] = 16, [0, 3, 4, 5, 6, 7, 8, 9, 32]
    contour[:, 2] = np.arange(17)
    found = markup.equal_steps(contour)
    assert np.allclose(found[:9, :2], np.stack([np.arange(9) * 2, np.zeros(9)], 1))
    assert np.allclose(found[8:, :2], np.stack([np.full(9, 16), np.arange(9) * 4], 1))
    assert found[1, 2] == 2 and found[8, 2] == 8  # depth goes along


def test_the_jaw_follows_the_same_outline_when_the_picture_turns(head):
    far = draw.View(1e5, 4.0, np.zeros(2))
    chosen = []
    for roll in (0, 40):
        _, turned = posed(head, yaw=30, roll=roll)
        screen = far.project(turned.vertices)
        chosen.append(markup.follow_contour(screen[:, :2], head.points, head.strips, turned.roll))
    upright = far.project(posed(head, yaw=30)[1].vertices)
    assert np.abs(upright[chosen[0], :2] - upright[chosen[1], :2]).max() < 0.6 * far.scale  # the neck's roll is less


@pytest.mark.parametrize(("yaw", "pitch"), [(30, 0), (-30, 0), (0, 20), (0, -20)])
def test_turning_moves_the_nose_the_way_it_is_named(head, yaw, pitch):
    _, straight = posed(head)
    _, turned = posed(head, yaw=yaw, pitch=pitch)
    eyes = slice(36, 48)

    def nose(p):
        points = draw.landmarks(head, p, view())
        return points[30, :2] - points[eyes, :2].mean(0)

    moved = nose(turned) - nose(straight)
    axis = 0 if yaw else 1  # yaw to the picture's right; the renderer's pitch down
    assert np.sign(moved[axis]) == np.sign(yaw or pitch)


def test_gaze_and_lids_are_what_the_eyes_do(head):
    weights = np.zeros(53, np.float32)
    look(weights, head, 0.8, 0.0)
    _, right = posed(head, weights=weights)
    assert right.gaze[0] > 10 and abs(right.gaze[1]) < 8
    weights = np.zeros(53, np.float32)
    look(weights, head, 0.0, 0.8)
    _, up = posed(head, weights=weights)
    assert up.gaze[1] > 5
    closed = np.zeros(53, np.float32)
    closed[[head.expression["eyeBlink_L"], head.expression["eyeBlink_R"]]] = 1
    assert (posed(head, weights=closed)[1].eyes < 0.35).all()
    assert (posed(head)[1].eyes > 0.95).all()
    wink = np.zeros(53, np.float32)
    wink[head.expression["eyeBlink_L"]] = 1  # the person's left: on the picture's right
    eyes = posed(head, weights=wink)[1].eyes
    assert eyes[0] > 0.9 and eyes[1] < 0.4


def test_closed_lids_hide_the_iris():
    shut = []
    for seed in range(60):
        made = face.render(np.random.default_rng([11, seed]), FOLDER, PLAIN)
        for eye, iris in enumerate((slice(68, 72), slice(72, 76))):
            if made.eyes[eye] <= face.CLOSED:
                shut.append(made.visible[iris].any())
    assert shut and not any(shut)


def test_irises_lie_between_the_lids_corners(head):
    points = draw.landmarks(head, posed(head)[1], view())
    for first, corners in ((68, (36, 39)), (72, (42, 45))):
        iris = points[first : first + 4, :2]
        assert points[corners[0], 0] < iris[0, 0] < iris[2, 0] < points[corners[1], 0]
        assert iris[1, 1] < iris[:, 1].mean() < iris[3, 1]


@pytest.mark.parametrize("yaw", [65, -65])
def test_what_the_head_itself_hides_is_not_seen(head, yaw):
    somebody, turned = posed(head, yaw=yaw)
    wide = draw.View(120.0, 6.0, np.array([150.0, 150.0]))
    even = light.Light(np.ones((9, 3), np.float32), ())
    seen = draw.picture(np.random.default_rng(0), head, somebody, turned, wide, even, (300, 300))
    visible = draw.visible(seen, draw.landmarks(head, turned, wide, follow=False))
    near, far = ((36, 48, 76), (45, 54, 78)) if yaw > 0 else ((45, 54, 78), (36, 48, 76))  # eye, mouth, ear
    assert visible[list(near)].all() and visible[30]
    assert not visible[far[2]] and not visible[far[0]]


def test_skin_has_all_tones_and_a_canvas_repeats():
    tones = np.array([skin.albedo(d) for d in np.linspace(0, 1, 9)])
    assert (np.diff(tones, axis=0) < 0).all() and tones[0].min() > 0.3 and tones[-1].max() < 0.1
    one = skin.canvas(FOLDER, 3, True)
    skin.canvas.cache_clear()
    assert np.array_equal(one, skin.canvas(FOLDER, 3, True))
    assert one[..., skin.BEARD].max() > 0.05 and skin.canvas(FOLDER, 3, False)[..., skin.BEARD].max() == 0


def test_expressions_stay_within_the_models_range(head):
    found = np.array([expression(np.random.default_rng(i), head) for i in range(300)])
    assert found.min() >= 0 and found.max() <= 1.1
    blinks = found[:, head.expression["eyeBlink_L"]]
    assert 0.05 < (blinks > 0.5).mean() < 0.3


def test_a_heads_box_holds_its_inner_points():
    rng = np.random.default_rng(2)
    for _ in range(6):
        made = bank.render(rng, FOLDER, face.INGREDIENTS)
        assert made.picture.shape == made.alpha.shape == (bank.SIZE, bank.SIZE)
        if made.kind == bank.FACE:
            left, top, right, bottom = made.xyxy
            inside = (made.keypoints > [left, top]) & (made.keypoints < [right, bottom])
            assert inside.all()
        if made.kind == bank.BACK:
            assert not made.xyxy.any()


def test_irises_are_not_vertices():
    assert (heads.load(FOLDER).points[markup.IRISES] == -1).all()


@pytest.mark.parametrize("turned", [(30, 20, 25), (-50, 10, -20), (15, -25, 40)])
def test_the_poses_label_is_what_the_runtime_finds_from_the_points(head, turned):
    _, somebody = posed(head, *turned)
    distance, scale, middle = 120.0, 8.0, 200.0
    points = draw.landmarks(head, somebody, draw.View(distance, scale, np.full(2, middle)))
    camera = head_pose.Camera(scale * distance, scale * distance, middle, middle)
    found = head_pose.head_poses(points[None, :68, :2], camera).angles[0]
    assert np.abs(heads.angles(somebody.rotation) - found).max() < 8  # a person is not the generic head


@given(st.floats(-179, 179), st.floats(-85, 85), st.floats(-179, 179))
def test_angles_are_the_buses(yaw, pitch, roll):
    # R = Ry(-yaw) Rx(-pitch) Rz(roll) where y is down and z forward
    about_y, about_x = heads.rotation(-np.radians(yaw), 0, 0), heads.rotation(0, -np.radians(pitch), 0)
    flip = np.diag(np.float32([1, -1, -1]))
    turn = flip @ about_y @ about_x @ heads.rotation(0, 0, np.radians(roll)) @ flip
    assert np.abs((heads.angles(turn) - [yaw, pitch, roll] + 180) % 360 - 180).max() < 0.05


@pytest.mark.parametrize("size", [0.43, 0.52])
def test_the_irises_points_follow_the_irises_size(head, size):
    axis = heads.iris_points(head, head.base, size)[1]
    edge = heads.iris_points(head, head.base, size)[0].reshape(2, 4, 3)
    wide = np.linalg.norm(edge[:, 2] - edge[:, 0], axis=1)
    least = heads.iris_points(head, head.base, 0.4)[0].reshape(2, 4, 3)
    assert np.allclose(wide / np.linalg.norm(least[:, 2] - least[:, 0], axis=1), size / 0.4, atol=1e-3)
    assert np.allclose(np.linalg.norm(axis, axis=1), 1)


def test_the_config_tells_the_crop_that_is_rendered():
    config = Path(__file__).parents[2] / "training" / "configs" / "landmarks.toml"
    assert f"{face.FRAME} x the longer side" in msgspec.toml.decode(config.read_bytes())["export"]["crop"]
