"""What a camera does to a picture: repeatable, switched by name, and it moves nothing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed")

from training.render import camera

ALWAYS = tuple((name, 1.0, effect) for name, _, effect in camera.EFFECTS)


def picture(size: int = 96) -> camera.F32:
    """A bright square on grey with a soft slope: edges, flat parts and something to compress."""
    shades = np.tile(np.linspace(0.2, 0.5, size, dtype=np.float32), (size, 1))
    shades[size // 3 : -size // 3, size // 3 : -size // 3] = 0.9
    return shades


@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_same_seed_gives_the_same_bytes(channels: tuple[int, ...]) -> None:
    seen = np.broadcast_to(picture().reshape(96, 96, *[1] * len(channels)), (96, 96, *channels)).copy()
    first, again, other = (camera.degrade(seen, np.random.default_rng(seed), camera.INGREDIENTS) for seed in (3, 3, 4))
    assert first.dtype == np.uint8 and first.shape == seen.shape
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_ingredients_a_camera_is_perfect() -> None:
    seen = camera.degrade(picture(), np.random.default_rng(0), frozenset())
    assert np.array_equal(seen, np.round(picture() * 255).astype(np.uint8))


@pytest.mark.parametrize("name", sorted(camera.INGREDIENTS))
def test_each_ingredient_can_be_switched_on_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "EFFECTS", ALWAYS)
    monkeypatch.setattr(camera, "JPEG_PROBABILITY", 1.0)
    clean = camera.degrade(picture(), np.random.default_rng(5), frozenset())
    assert not np.array_equal(camera.degrade(picture(), np.random.default_rng(5), frozenset({name})), clean)


def test_leaving_one_ingredient_out_changes_nothing_in_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "EFFECTS", tuple((n, float(n == "noise"), e) for n, _, e in camera.EFFECTS))
    monkeypatch.setattr(camera, "JPEG_PROBABILITY", 0.0)
    all_allowed = camera.degrade(picture(), np.random.default_rng(5), camera.INGREDIENTS)
    without = camera.degrade(picture(), np.random.default_rng(5), camera.INGREDIENTS - {"infrared", "blur"})
    assert np.array_equal(all_allowed, without)


@pytest.mark.parametrize("name", ["resample", "blur", "motion", "interlace"])
def test_what_moves_pixels_moves_them_to_both_sides(name: str) -> None:
    effect = next(effect for named, _, effect in camera.EFFECTS if named == name)
    spot = np.zeros((97, 97), np.float32)
    spot[40:57, 40:57] = 1  # its centre is the picture's
    for seed in range(8):
        seen = np.clip(effect(spot, np.random.default_rng(seed)), 0, None)
        weight = seen / seen.sum()
        x, y = (weight.sum(0) * np.arange(97)).sum(), (weight.sum(1) * np.arange(97)).sum()
        assert abs(x - 48) < 0.35 and abs(y - 48) < 0.35  # nearest-neighbour enlargement rounds


def test_low_light_is_darker_and_noisier() -> None:
    flat = np.full((96, 96), 0.5, np.float32)
    seen = [camera.low_light(flat, np.random.default_rng(seed)) for seed in range(20)]
    assert np.mean([s.mean() for s in seen]) < 0.45
    assert min(float(s.std()) for s in seen) > 0.003


def test_infrared_has_one_channel_and_a_hot_centre() -> None:
    colour = np.full((96, 96, 3), 0.5, np.float32) * np.array([1, 0.5, 0.2], np.float32)
    seen = np.mean([camera.infrared(colour, np.random.default_rng(seed)) for seed in range(20)], axis=0)
    assert np.allclose(seen.mean((0, 1)), seen.mean(), atol=0.01)
    assert seen[40:56, 40:56].mean() > 1.2 * seen[:12, :12].mean()
