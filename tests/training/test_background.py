"""Backgrounds, painted lookalikes and patches: repeatable, in range, the hold-out kept out."""

from __future__ import annotations

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

from training.render import background  # noqa: E402
from training.render.lookalikes import LOOKALIKES  # noqa: E402
from training.render.patches import F32, bled, noise, paste, scaled  # noqa: E402


def hdri() -> dict[str, F32]:
    """18 panoramas whose left half is dark and whose right half is bright."""
    half = np.repeat(np.array([0.1, 1.0], np.float32), 32)
    return {str(k): np.broadcast_to(half[None, :, None], (32, 64, 3)).copy() for k in range(18)}


def test_three_panoramas_are_held_out_and_the_others_are_not() -> None:
    held = [panorama.name for panorama in background.panoramas(hdri(), held_out=True)]
    trained = [panorama.name for panorama in background.panoramas(hdri())]
    assert held == ["forest", "sky", "workshop"]
    assert len(trained) == 15 and not set(held) & set(trained)


def test_a_view_goes_on_over_the_panoramas_seam() -> None:
    panorama = background.Panorama("half", np.tile(np.linspace(0.2, 1.0, 64, dtype=np.float32), (32, 1)))
    seen = [background.view(panorama, np.random.default_rng(seed), 40, 60) for seed in range(30)]
    assert all(one.shape == (40, 60) and one.dtype == np.float32 for one in seen)
    # one seam at most: a column-to-column step of the whole range happens once in a row, the rest is smooth
    for one in seen:
        steps = np.abs(np.diff(one[20]))
        assert np.sort(steps)[-4] < 0.1


@pytest.mark.parametrize("size", [(48, 64), (96, 96)])
def test_the_same_seed_gives_the_same_background(size: tuple[int, int]) -> None:
    views = background.panoramas(hdri())
    everything = frozenset({"hdri", "collage", "clutter"})
    for seed in range(12):
        first, again = (background.background(np.random.default_rng(seed), views, *size, everything) for _ in range(2))
        assert first.shape == size and first.dtype == np.float32
        assert first.min() >= 0 and first.max() <= 1
        assert np.array_equal(first, again)


def test_ingredients_switch_views_and_clutter(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    view, clutter = background.view, background.clutter
    monkeypatch.setattr(background, "view", lambda *given: called.append("view") or view(*given))
    monkeypatch.setattr(background, "painted", lambda rng, h, w: np.full((h, w), 0.5, np.float32))
    monkeypatch.setattr(background, "clutter", lambda *given: called.append("clutter") or clutter(*given))
    views = background.panoramas(hdri())
    for seed in range(20):
        background.background(np.random.default_rng(seed), views, 32, 32, frozenset())
    assert not called
    for seed in range(20):
        background.background(np.random.default_rng(seed), views, 32, 32, frozenset({"hdri"}))
    assert set(called) == {"view"}
    for seed in range(20):
        background.background(np.random.default_rng(seed), views, 32, 32, frozenset({"clutter"}))
    assert set(called) == {"view", "clutter"}


@pytest.mark.parametrize("name", sorted(LOOKALIKES))
def test_each_lookalike_is_a_patch_with_something_on_it(name: str) -> None:
    for seed in range(4):
        luma, alpha = LOOKALIKES[name](np.random.default_rng(seed), 48)
        again, _ = LOOKALIKES[name](np.random.default_rng(seed), 48)
        assert luma.shape == alpha.shape == (48, 48)
        assert luma.min() >= 0 and luma.max() <= 1 and alpha.min() >= 0 and alpha.max() <= 1
        assert 0.1 < alpha.mean() < 0.98
        assert np.array_equal(luma, again)


def test_a_bank_holds_every_kind_of_lookalike_and_differs_by_seed() -> None:
    luma, alpha = background.lookalike_bank(1, 2 * len(LOOKALIKES), 32)
    assert luma.shape == alpha.shape == (2 * len(LOOKALIKES), 32, 32)
    assert not np.array_equal(luma, background.lookalike_bank(2, 2 * len(LOOKALIKES), 32)[0])


def test_noise_has_mean_0_and_deviation_1() -> None:
    field = noise(np.random.default_rng(0), 64, 80)
    assert field.shape == (64, 80) and abs(float(field.mean())) < 1e-4 and abs(float(field.std()) - 1) < 1e-3


@pytest.mark.parametrize(("left", "top", "covered"), [(2, 3, 16), (-2, -2, 4), (8, 8, 4), (-4, 0, 0), (0, 10, 0)])
def test_pasting_covers_only_what_lies_inside(left: int, top: int, covered: int) -> None:
    picture = np.zeros((10, 10), np.float32)
    where = paste(picture, np.ones((4, 4), np.float32), np.ones((4, 4), np.float32), left, top)
    assert (picture == 1).sum() == covered
    assert (where is None) == (covered == 0)


@pytest.mark.parametrize("size", [9, 16, 50])
def test_scaling_leaves_no_halo(size: int) -> None:
    """A bright disc stored on black: its rim is as bright as its middle at any size."""
    disc = np.zeros((32, 32), np.uint8)
    cv2.circle(disc, (16, 16), 10, 255, -1)
    grey = bled(np.where(disc > 0, 200, 0).astype(np.uint8), disc)
    luma, alpha = scaled(grey, disc, size, size)
    assert alpha.max() > 0.9
    assert np.abs(luma[alpha > 0.1] - 200 / 255).max() < 0.02


def test_a_clipping_is_a_part_of_a_photograph() -> None:
    gradient = np.tile(np.linspace(0, 255, 200, dtype=np.uint8), (150, 1))
    seen = [background.clipping(gradient, np.random.default_rng(seed), 40, 60) for seed in range(20)]
    assert all(one.shape == (40, 60) and one.min() >= 0 and one.max() <= 1 for one in seen)
    assert not np.array_equal(seen[0], seen[1])
    along = [abs(np.diff(one, axis=1).sum()) > abs(np.diff(one, axis=0).sum()) for one in seen]
    assert True in along and False in along  # some are turned


def test_photographs_are_shown_when_they_are_an_ingredient() -> None:
    chequers = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((20, 20))).astype(np.uint8) * 255
    given = frozenset({"photos"})

    def drawn(seed: int, photos: list[np.ndarray], what: frozenset[str]) -> np.ndarray:
        return background.background(np.random.default_rng(seed), [], 48, 48, what, photos)

    without = [drawn(seed, [], given) for seed in range(20)]
    switched_off = [drawn(seed, [chequers], frozenset()) for seed in range(20)]
    with_them = [drawn(seed, [chequers], given) for seed in range(20)]
    assert all(np.array_equal(a, b) for a, b in zip(without, switched_off, strict=True))
    changed = [not np.array_equal(a, b) for a, b in zip(without, with_them, strict=True)]
    assert sum(changed) > 2


def test_a_photograph_is_shown_as_often_as_it_is_large() -> None:
    dark, bright = np.zeros((300, 400), np.uint8), np.full((100, 400), 255, np.uint8)
    random = np.random.default_rng(3)
    shown = [background.chosen([dark, bright], random) is bright for _ in range(400)]
    assert 0.19 < np.mean(shown) < 0.31  # a quarter of the pixels
