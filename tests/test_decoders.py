"""Decoders: golden vectors, every layout of outputs, and numbers that mean nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeface.decoders import make_decoder
from edgeface.errors import EngineError
from edgeface.model_card import Card, GridBox, Scrfd, load_card
from edgeface.values import Candidates

SCRFD = load_card(ROOT / "engines" / "scrfd-500m-kps.toml")
GRIDBOX = load_card(ROOT / "engines" / "tao-facedetect.toml")


def with_head(card: Card, **changes: object) -> Card:
    return msgspec.structs.replace(card, decoder=msgspec.structs.replace(card.decoder, **changes))


def decode(card: Card, outputs: dict[str, np.ndarray], size: tuple[int, int], threshold: float = 0.5) -> Candidates:
    shapes = {name: value.shape for name, value in outputs.items()}
    return make_decoder(card, shapes, size)(outputs, threshold)


def empty_scrfd(head: Scrfd, size: tuple[int, int], batch: int | None = 1) -> dict[str, np.ndarray]:
    widths = {"score": 1, "bbox": 4 * max(head.distance_bins, 1)} | ({"kps": 10} if head.keypoints else {})
    lead = () if batch is None else (batch,)
    return {
        f"{kind}_{stride}": np.zeros(
            (*lead, (size[0] // stride) * (size[1] // stride) * head.anchors, values), np.float32
        )
        for kind, values in widths.items()
        for stride in head.strides
    }


# --- SCRFD


def test_g7_rows_and_anchor_centres_at_640() -> None:
    outputs = empty_scrfd(SCRFD.decoder, (640, 640))
    assert [outputs[f"score_{stride}"].shape[1] for stride in (8, 16, 32)] == [12800, 3200, 800]
    outputs["score_8"][0, 3] = 0.9  # row 0, column 1, anchor 1: centre (8, 0)
    outputs["bbox_8"][0, 3] = [1, 2, 3, 4]
    outputs["kps_8"][0, 3] = np.arange(10)
    found = decode(SCRFD, outputs, (640, 640))
    np.testing.assert_allclose(found.xyxy, [[8 - 8, 0 - 16, 8 + 24, 0 + 32]])
    np.testing.assert_allclose(found.keypoints[0], np.arange(10).reshape(5, 2) * 8 + [8, 0])
    np.testing.assert_allclose(found.score, [0.9])


@pytest.mark.parametrize("keypoints", [True, False])
@pytest.mark.parametrize(("strides", "anchors"), [((8, 16, 32), 2), ((8, 16, 32, 64, 128), 1), ((8, 16, 32), 1)])
@pytest.mark.parametrize("layout", ["batched", "unbatched", "maps"])
def test_every_layout_gives_the_same_boxes(
    keypoints: bool, strides: tuple[int, ...], anchors: int, layout: str
) -> None:
    """6, 9, 10 and 15 outputs, named and ordered at random, with and without batch axis, flat and as maps."""
    size = (256, 128)
    card = with_head(SCRFD, strides=strides, anchors=anchors, keypoints=keypoints)
    rng = np.random.default_rng(0)
    outputs = empty_scrfd(card.decoder, size)
    assert len(outputs) == len(strides) * (3 if keypoints else 2)
    expected = []
    for stride in strides:
        columns = size[0] // stride
        row = int(rng.integers(outputs[f"score_{stride}"].shape[1]))
        cell = row // anchors
        centre = np.array([cell % columns, cell // columns]) * stride
        ltrb = rng.uniform(0.5, 2, 4).astype(np.float32)
        outputs[f"score_{stride}"][0, row] = 0.8
        outputs[f"bbox_{stride}"][0, row] = ltrb
        expected.append([*(centre - ltrb[:2] * stride), *(centre + ltrb[2:] * stride)])
    if layout == "unbatched":
        outputs = {name: value[0] for name, value in outputs.items()}
    elif layout == "maps":
        for name, value in outputs.items():
            stride = int(name.split("_")[1])
            grid = value.reshape(1, size[1] // stride, size[0] // stride, -1)
            outputs[name] = np.ascontiguousarray(grid.transpose(0, 3, 1, 2))
    names = rng.permutation(list(outputs))
    shuffled = {f"out{number}": outputs[name] for number, name in enumerate(names)}
    found = decode(card, shuffled, size)
    order = np.lexsort(found.xyxy.T)
    np.testing.assert_allclose(found.xyxy[order], np.array(expected)[np.lexsort(np.array(expected).T)], rtol=1e-5)
    assert found.keypoints.shape == (len(strides), 5 if keypoints else 0, 2)


def test_a_batch_says_which_crop_a_box_is_in() -> None:
    outputs = empty_scrfd(SCRFD.decoder, (64, 64), batch=3)
    outputs["bbox_16"][:] = 1
    outputs["score_16"][2, 5] = 0.7
    outputs["score_16"][0, 1] = 0.6
    found = decode(SCRFD, outputs, (64, 64))
    assert found.crop.tolist() == [0, 2]
    np.testing.assert_allclose(found.score, [0.6, 0.7])


def test_logits_are_recognised_and_can_be_declared() -> None:
    outputs = empty_scrfd(SCRFD.decoder, (64, 64))
    for stride in (8, 16, 32):
        outputs[f"score_{stride}"][:] = -8
        outputs[f"bbox_{stride}"][:] = 1
    outputs["score_8"][0, 7] = 2.0
    found = decode(SCRFD, outputs, (64, 64))
    np.testing.assert_allclose(found.score, [1 / (1 + np.exp(-2.0))], rtol=1e-6)
    outputs["score_8"][:] = 0.2  # all between 0 and 1: only the card can know
    assert len(decode(SCRFD, outputs, (64, 64)).score) == 0
    assert len(decode(with_head(SCRFD, scores="logit"), outputs, (64, 64)).score) == 128
    assert len(decode(with_head(SCRFD, scores="probability"), outputs, (64, 64)).score) == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"centre_offset": 0.5}, [12 - 8, 4 - 8, 12 + 8, 4 + 8]),
        ({"unit": "pixel"}, [8 - 1, 0 - 1, 8 + 1, 0 + 1]),
        ({"unit": "anchor"}, [8 - 32, 0 - 32, 8 + 32, 0 + 32]),
    ],
)
def test_variants_of_the_facedet_card(changes: dict[str, object], expected: list[float]) -> None:
    outputs = empty_scrfd(SCRFD.decoder, (64, 64))
    outputs["score_8"][0, 3] = 0.9  # column 1, anchor 1 (size 32)
    outputs["bbox_8"][0, 3] = 1
    np.testing.assert_allclose(decode(with_head(SCRFD, **changes), outputs, (64, 64)).xyxy, [expected])


def test_distance_bins_are_the_mean_of_their_distribution() -> None:
    card = with_head(SCRFD, distance_bins=8, keypoints=False)
    outputs = empty_scrfd(card.decoder, (64, 64))
    outputs["score_8"][0, 3] = 0.9
    bins = np.full((4, 8), -50, np.float32)
    bins[0, 2] = bins[1, 0] = bins[2, 3] = bins[3, 5] = 50
    bins[3, 6] = 50  # two equal bins: the mean is 5.5
    outputs["bbox_8"][0, 3] = bins.reshape(-1)
    np.testing.assert_allclose(decode(card, outputs, (64, 64)).xyxy, [[8 - 16, 0, 8 + 24, 44]], atol=1e-4)


def test_inside_out_boxes_are_dropped() -> None:
    outputs = empty_scrfd(SCRFD.decoder, (64, 64))
    outputs["score_8"][0, :2] = 0.9
    outputs["bbox_8"][0, 0] = [-3, 1, 1, 1]
    outputs["bbox_8"][0, 1] = [1, 1, 1, 1]
    assert len(decode(SCRFD, outputs, (64, 64)).score) == 1


@pytest.mark.parametrize(
    ("card", "size"),
    [
        (with_head(SCRFD, anchors=1), (64, 64)),
        (with_head(SCRFD, keypoints=False), (64, 64)),
        (with_head(SCRFD, strides=(8, 16, 32, 64, 128)), (128, 128)),
        (SCRFD, (128, 64)),
        (SCRFD, (72, 64)),
    ],
)
def test_a_card_that_does_not_fit_is_refused(card: Card, size: tuple[int, int]) -> None:
    outputs = empty_scrfd(SCRFD.decoder, (64, 64))
    with pytest.raises(EngineError, match="scrfd: .*(expected|multiple)"):
        decode(card, outputs, size)


# --- GridBox


def empty_gridbox(size: tuple[int, int] = (736, 416), classes: int = 1, batch: int = 1) -> dict[str, np.ndarray]:
    grid = size[1] // 16, size[0] // 16
    return {
        "output_bbox/BiasAdd": np.zeros((batch, 4 * classes, *grid), np.float32),
        "output_cov/Sigmoid": np.zeros((batch, classes, *grid), np.float32),
    }


def test_g1_one_cell() -> None:
    outputs = empty_gridbox()
    assert outputs["output_bbox/BiasAdd"].shape == (1, 4, 26, 46)
    outputs["output_cov/Sigmoid"][0, 0, 5, 7] = 0.8
    outputs["output_bbox/BiasAdd"][0, :, 5, 7] = [0.1, 0.2, 0.3, 0.4]
    found = decode(GRIDBOX, outputs, (736, 416), 0.2)
    np.testing.assert_allclose(found.xyxy, [[109.0, 73.5, 123.0, 94.5]], atol=1e-4)
    assert found.keypoints.shape == (1, 0, 2)


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("size", [(736, 416), (384, 240), (960, 544)])
def test_gridbox_at_any_size_in_any_order(names: tuple[str, str], size: tuple[int, int]) -> None:
    bbox, cov = empty_gridbox(size).values()
    cov[0, 0, -1, -1] = 0.3
    bbox[0, :, -1, -1] = 1
    outputs = dict(sorted({names[0]: bbox, names[1]: cov}.items()))
    found = decode(GRIDBOX, outputs, size, 0.2)
    cx, cy = size[0] - 16 + 0.5, size[1] - 16 + 0.5
    np.testing.assert_allclose(found.xyxy, [[cx - 35, cy - 35, cx + 35, cy + 35]])


def test_gridbox_takes_its_class_of_several() -> None:
    card = with_head(GRIDBOX, classes=("person", "bag", "face"), face_class="face")
    outputs = empty_gridbox(classes=3, batch=2)
    outputs["output_cov/Sigmoid"][1, :, 2, 3] = [0.9, 0.8, 0.7]
    outputs["output_bbox/BiasAdd"][1, :, 2, 3] = np.repeat([1, 2, 3], 4)
    found = decode(card, outputs, (736, 416), 0.5)
    np.testing.assert_allclose(found.score, [0.7])
    np.testing.assert_allclose(found.xyxy, [[48.5 - 105, 32.5 - 105, 48.5 + 105, 32.5 + 105]])
    assert found.crop.tolist() == [1]


def test_gridbox_without_a_batch_axis() -> None:
    outputs = {name: value[0] for name, value in empty_gridbox().items()}
    outputs["output_cov/Sigmoid"][0, 0, 0] = 1
    outputs["output_bbox/BiasAdd"][:, 0, 0] = 1
    assert len(decode(GRIDBOX, outputs, (736, 416)).score) == 1


def test_gridbox_refuses_scrfd_outputs_and_odd_sizes() -> None:
    with pytest.raises(EngineError, match="gridbox: expected outputs .* found .*wrong decoder"):
        decode(GRIDBOX, empty_scrfd(SCRFD.decoder, (64, 64)), (64, 64))
    with pytest.raises(EngineError, match="multiple of the stride"):
        decode(GRIDBOX, empty_gridbox(), (730, 416))


def test_a_landmarks_card_cannot_detect() -> None:
    card = load_card(ROOT / "engines" / "edgeface-landmarks.toml")
    with pytest.raises(EngineError, match="cannot detect"):
        make_decoder(card, {"softargmax": (1, 68, 2)}, (80, 80))


# --- numbers that mean nothing

ANY = st.floats(allow_nan=True, allow_infinity=True, width=32)


@settings(max_examples=60)
@given(st.data(), st.sampled_from(["auto", "probability", "logit"]), st.sampled_from([0, 4]), st.floats(0, 1))
def test_scrfd_never_raises(data: st.DataObject, scores: str, bins: int, threshold: float) -> None:
    card = with_head(SCRFD, scores=scores, distance_bins=bins)
    outputs = {
        name: data.draw(hnp.arrays(np.float32, value.shape, elements=ANY, fill=ANY))
        for name, value in empty_scrfd(card.decoder, (32, 32)).items()
    }
    found = decode(card, outputs, (32, 32), threshold)
    assert np.isfinite(found.xyxy).all()
    assert np.isfinite(found.keypoints).all()
    assert np.isfinite(found.score).all()


@settings(max_examples=60)
@given(st.data(), st.floats(0, 1))
def test_gridbox_never_raises(data: st.DataObject, threshold: float) -> None:
    outputs = {
        name: data.draw(hnp.arrays(np.float32, value.shape, elements=ANY, fill=ANY))
        for name, value in empty_gridbox((64, 32)).items()
    }
    found = decode(GRIDBOX, outputs, (64, 32), threshold)
    assert np.isfinite(found.xyxy).all()
    assert np.isfinite(found.score).all()


@pytest.mark.parametrize(("card", "make"), [(SCRFD, empty_scrfd), (GRIDBOX, None)])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_mean_nothing_are_counted(card: Card, make: object, number: float) -> None:
    size = (64, 64)
    outputs = empty_scrfd(card.decoder, size) if make else empty_gridbox(size)
    assert decode(card, outputs, size).invalid == 0
    score = next(name for name in outputs if "score" in name or "cov" in name)
    outputs[score].flat[3:5] = number
    assert decode(card, outputs, size).invalid >= 2


def test_nothing_but_inside_out_or_absurd_boxes_is_no_empty_room() -> None:
    for distance in (-1.0, 1e30):
        outputs = empty_scrfd(SCRFD.decoder, (64, 64))
        outputs["score_8"][0, :10] = 0.9
        outputs["bbox_8"][:] = distance
        found = decode(SCRFD, outputs, (64, 64))
        assert (found.invalid, len(found.score)) == (10, 0)


def test_weak_inside_out_boxes_are_an_empty_room() -> None:
    outputs = empty_gridbox()
    outputs["output_cov/Sigmoid"][0, 0, :3] = 0.02
    outputs["output_bbox/BiasAdd"][:] = -1
    found = decode(GRIDBOX, outputs, (736, 416), 0.005)
    assert (found.invalid, len(found.score)) == (0, 0)
    outputs["output_cov/Sigmoid"][0, 0, 0, :2] = 0.2  # these mean it
    assert decode(GRIDBOX, outputs, (736, 416), 0.005).invalid == 2
    outputs["output_bbox/BiasAdd"][0, :, 2] = 1  # weak and upright: no proof of health
    assert decode(GRIDBOX, outputs, (736, 416), 0.005).invalid == 2


def test_an_invalid_box_under_a_good_score_is_counted_and_dropped() -> None:
    outputs = empty_scrfd(SCRFD.decoder, (64, 64))
    outputs["score_8"][0, 0] = 0.9
    outputs["bbox_8"][0, 0, 2] = np.nan
    found = decode(SCRFD, outputs, (64, 64))
    assert (found.invalid, len(found.score)) == (1, 0)


def test_huge_finite_scores_are_not_invalid() -> None:
    outputs = empty_scrfd(SCRFD.decoder, (64, 64))
    outputs["score_8"][:] = 3e38  # their sum overflows
    outputs["bbox_8"][:] = 1
    assert decode(SCRFD, outputs, (64, 64)).invalid == 0


def test_every_shipped_detector_card_has_a_decoder() -> None:
    cards = [load_card(path) for path in sorted(Path(ROOT / "engines").glob("*.toml"))]
    detectors = [card for card in cards if card.task == "detect"]
    assert len(detectors) >= 8
    for card in detectors:
        size = card.input.width, card.input.height
        outputs = empty_gridbox(size) if isinstance(card.decoder, GridBox) else empty_scrfd(card.decoder, size)
        assert len(decode(card, outputs, size).score) == 0
