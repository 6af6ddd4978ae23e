"""Crops of a host frame: alignment, padding, colour, scale; compared with a slow picture-by-picture reference."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import pytest
from conftest import ROOT
from fakes import frame
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeface.boxes import CropRule, letterbox, stretch
from edgeface.cpu.crop import Cropper, glimpse
from edgeface.errors import EngineError
from edgeface.model_card import Input, load_card
from edgeface.values import Frame


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth picture, so that a sampling error of a pixel shows and one of rounding does not."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(height // 16, 2), max(width // 16, 2), 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def reference(pixels: np.ndarray, crop: np.ndarray, size: tuple[int, int], padding: int | str) -> np.ndarray:
    """Bilinear sampling at the centre of each output pixel, in float64; padding outside the frame. [h, w, 3] BGR.

    Of blocks when the crop is not the whole frame and shrinks by 2 or more.
    """
    x1, y1, x2, y2 = crop.astype(np.float64)
    height, width = pixels.shape[:2]
    values = pixels.astype(np.float64)
    x = x1 + (np.arange(size[0]) + 0.5) * (x2 - x1) / size[0]
    y = y1 + (np.arange(size[1]) + 0.5) * (y2 - y1) / size[1]
    shrinks = min((x2 - x1) / size[0], (y2 - y1) / size[1])
    fitted = np.array([width * size[0] / x2, height * size[1] / y2])
    whole_frame = (x1, y1) == (0, 0) and x2 >= width and y2 >= height and np.allclose(fitted, fitted.round(), 0, 1e-3)
    block = 1 if whole_frame else max(m for m in (1, 2, 4, 8, 16) if m == 1 or m <= shrinks)
    values = np.pad(values, ((0, -height % block), (0, -width % block), (0, 0)), mode="edge")
    rows, columns = values.shape[0] // block, values.shape[1] // block
    if block > 1:
        quarter = block // 2
        middle = slice((quarter - 1) // 2, quarter // 2 + 1)  # the pixels that a sample at a quarter's centre looks at
        values = values.reshape(2 * rows, quarter, 2 * columns, quarter, 3)[:, middle][:, :, :, middle].mean(
            axis=(1, 3)
        )
        values = values.reshape(rows, 2, columns, 2, 3).mean(axis=(1, 3))
    u, v = np.clip(x / block - 0.5, 0, columns - 1), np.clip(y / block - 0.5, 0, rows - 1)
    u0, v0 = np.floor(u).astype(int), np.floor(v).astype(int)
    u1, v1 = np.minimum(u0 + 1, columns - 1), np.minimum(v0 + 1, rows - 1)
    fu, fv = (u - u0)[None, :, None], (v - v0)[:, None, None]
    top = values[v0][:, u0] * (1 - fu) + values[v0][:, u1] * fu
    bottom = values[v1][:, u0] * (1 - fu) + values[v1][:, u1] * fu
    sampled = top * (1 - fv) + bottom * fv
    if padding != "edge":
        sampled[(y < 0) | (y >= height)] = padding
        sampled[:, (x < 0) | (x >= width)] = padding
    return sampled


SCRFD = load_card(ROOT / "engines" / "scrfd-500m-kps.toml").input


def test_g7_the_scrfd_tensor_is_insightfaces_to_the_bit() -> None:
    pixels = picture(1280, 720)
    crops = letterbox((1280, 720), (640, 640))
    tensor = Cropper(SCRFD, (640, 640))(frame(0, 1280, 720, pixels), crops)
    canvas = np.zeros((640, 640, 3), np.uint8)
    canvas[:360] = cv2.resize(pixels, (640, 360))
    expected = cv2.dnn.blobFromImage(canvas, 1 / 128, (640, 640), (127.5, 127.5, 127.5), swapRB=True)
    np.testing.assert_array_equal(tensor, expected)
    assert tensor[0, 0, -1, -1] == -0.99609375


@pytest.mark.parametrize(("width", "height"), [(640, 360), (480, 270), (333, 500), (64, 48), (640, 640), (1, 7)])
@pytest.mark.parametrize("rule", [letterbox, stretch])
@pytest.mark.parametrize("padding", [0, 200, "edge"])
def test_whole_frames_as_the_reference_samples_them(
    width: int, height: int, rule: CropRule, padding: int | Literal["edge"]
) -> None:
    size = (128, 96)
    pixels = picture(width, height)
    spec = Input(128, 96, colour="bgr", padding=padding)
    tensor = Cropper(spec, size)(frame(0, width, height, pixels), rule((width, height), size))[0]
    expected = reference(pixels, rule((width, height), size)[0], size, padding)
    np.testing.assert_allclose(tensor, expected.transpose(2, 0, 1), atol=1.0)


@settings(max_examples=80)
@given(
    st.tuples(st.integers(20, 200), st.integers(20, 200)),
    st.tuples(st.floats(-80, 180), st.floats(-80, 180), st.floats(10, 250), st.floats(10, 250)),
    st.sampled_from([0, 127, 255, "edge"]),
)
@example((41, 37), (-10, -5, 170, 140), "edge")  # blocks that the border cuts
@example((200, 200), (-500, -500, 1500, 1500), 127)  # far more than the largest block
def test_any_crop_as_the_reference_samples_it(
    shape: tuple[int, int], place: tuple[float, float, float, float], padding: int | Literal["edge"]
) -> None:
    pixels = picture(*shape)
    crop = np.array([[place[0], place[1], place[0] + place[2], place[1] + place[3]]], np.float32)
    spec = Input(40, 32, colour="bgr", padding=padding)
    tensor = Cropper(spec, (40, 32))(frame(0, *shape, pixels), crop)[0]
    expected = reference(pixels, crop[0], (40, 32), padding).transpose(2, 0, 1)
    # OpenCV rounds places to 32nds of a pixel; the picture changes by up to 30 a pixel, between blocks by up to 255
    averaged = min(place[2] / 40, place[3] / 32) >= 1.99
    np.testing.assert_allclose(tensor, expected, atol=8 if averaged else 3)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ("rgb", [30, 20, 10]),
        ("bgr", [10, 20, 30]),
        ("luma", [round(0.299 * 30 + 0.587 * 20 + 0.114 * 10)]),
        ("luma3", [round(0.299 * 30 + 0.587 * 20 + 0.114 * 10)] * 3),
    ],
)
def test_colours(colour: str, expected: list[int]) -> None:
    pixels = np.full((32, 32, 3), (10, 20, 30), np.uint8)
    spec = Input(32, 32, colour=colour)
    tensor = Cropper(spec, (32, 32))(frame(0, 32, 32, pixels), stretch((32, 32), (32, 32)))
    assert tensor.shape == (1, len(expected), 32, 32)
    assert tensor[0, :, 16, 16].tolist() == expected


def test_mean_and_scale_of_each_channel() -> None:
    pixels = np.full((32, 32, 3), (10, 20, 30), np.uint8)
    spec = Input(32, 32, colour="rgb", mean=(1.0, 2.0, 3.0), scale=0.5, padding=100)
    cropper = Cropper(spec, (64, 32))
    tensor = cropper(frame(0, 32, 32, pixels), letterbox((32, 32), (64, 32)))
    np.testing.assert_allclose(tensor[0, :, 0, 0], [14.5, 9, 3.5])
    np.testing.assert_allclose(tensor[0, :, 0, 63], [49.5, 49, 48.5])


def test_padding_is_made_anew_when_the_frame_changes_its_shape() -> None:
    cropper = Cropper(Input(64, 64, colour="bgr"), (64, 64))
    white = np.full((64, 64, 3), 255, np.uint8)
    assert (cropper(frame(0, 64, 64, white), letterbox((64, 64), (64, 64))) == 255).all()
    tensor = cropper(frame(1, 64, 32, white[:32]), letterbox((64, 32), (64, 64)))
    assert (tensor[0, :, :32] == 255).all()
    assert (tensor[0, :, 32:] == 0).all()


def test_padding_is_made_anew_when_there_are_more_crops() -> None:
    cropper = Cropper(Input(64, 64, colour="bgr", padding=114), (64, 64))
    crops = np.repeat(letterbox((64, 32), (64, 64)), 3, axis=0)
    for count in (1, 3):
        tensor = cropper(frame(0, 64, 32, np.full((32, 64, 3), 255, np.uint8)), crops[:count])
        assert (tensor[:, :, :32] == 255).all()
        assert (tensor[:, :, 32:] == 114).all()


def test_several_crops_in_one_tensor() -> None:
    pixels = picture(200, 100)
    crops = np.array([[0, 0, 200, 100], [-20, 10, 60, 90], [150, 50, 230, 130]], np.float32)
    cropper = Cropper(Input(40, 40, colour="luma"), (40, 40))
    together = cropper(frame(0, 200, 100, pixels), crops).copy()
    for row, crop in enumerate(crops):
        alone = cropper(frame(0, 200, 100, pixels), crop[None])
        np.testing.assert_array_equal(together[row], alone[0])


@pytest.mark.parametrize("size", [(40, 40), (25, 70)])
@pytest.mark.parametrize("place", [(-30, -20, 30, 40), (150, 60, 228, 138), (-200, 30, -100, 60), (300, 200, 330, 230)])
def test_edge_padding_is_opencvs_repeated_border(size: tuple[int, int], place: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (100, 200, 3), np.uint8)
    around = cv2.copyMakeBorder(pixels, 300, 300, 300, 300, cv2.BORDER_REPLICATE)
    crop = np.array([place], np.float32)
    cropper = Cropper(Input(40, 40, colour="bgr", padding="edge"), size)
    tensor = cropper(frame(0, 200, 100, pixels), crop).copy()
    expected = cropper(frame(0, 800, 700, around), crop + 300)
    np.testing.assert_allclose(tensor, expected, atol=1)  # places are rounded otherwise


def test_a_letterbox_in_both_directions_is_filled_by_the_border() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    cropper = Cropper(Input(32, 32, colour="luma", padding="edge"), (32, 32))
    tensor = cropper(Frame(0, 0, 3, 2, "gray8", pixels), np.array([[0, 0, 32, 32]], np.float32))
    np.testing.assert_array_equal(tensor[0, 0], np.pad(pixels, ((0, 30), (0, 29)), mode="edge"))


@pytest.mark.parametrize("offset", [0, 0.4, 1])
@pytest.mark.parametrize(("shrinks", "even"), [(1.9, False), (2, True), (3.5, True), (4, True), (9, True), (33, True)])
def test_what_is_finer_than_a_shrunk_crop_becomes_its_mean(shrinks: float, even: bool, offset: float) -> None:
    board = np.indices((700, 700)).sum(axis=0) % 2
    pixels = np.repeat((board * 200).astype(np.uint8)[..., None], 3, axis=2)
    crop = np.array([[10, 20, 10 + 20 * shrinks, 20 + 20 * shrinks]], np.float32) + offset
    tensor = Cropper(Input(20, 20, colour="luma"), (20, 20))(frame(0, 700, 700, pixels), crop)
    assert (np.ptp(tensor) <= 1) == even
    assert not even or abs(tensor.mean() - 100) <= 1


@pytest.mark.parametrize(
    ("block", "looked_at"), [(2, [0, 1]), (4, [0, 1, 2, 3]), (8, [1, 2, 5, 6]), (16, [3, 4, 11, 12])]
)
def test_a_block_is_four_bilinear_samples(block: int, looked_at: list[int]) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (500, 400), np.uint8)
    crop = np.array([[3, 5, 23, 25]], np.float32) * block
    tensor = Cropper(Input(20, 20, colour="luma"), (20, 20))(Frame(0, 0, 400, 500, "gray8", pixels), crop)
    cut = pixels[5 * block : 25 * block, 3 * block : 23 * block].astype(np.float64).reshape(20, block, 20, block)
    expected = cut[:, looked_at][:, :, :, looked_at].mean(axis=(1, 3))
    np.testing.assert_allclose(tensor[0, 0], expected, atol=1)


def test_a_crop_that_is_squeezed_on_one_axis_only_is_not_averaged() -> None:
    pixels = np.tile(np.array([0, 200], np.uint8), (100, 50))
    cropper = Cropper(Input(20, 20, colour="luma"), (20, 20))
    tensor = cropper(Frame(0, 0, 100, 100, "gray8", pixels), np.array([[11.5, 10, 91.5, 30]], np.float32))
    assert (tensor == 200).all()  # every fourth column, as it is


def test_a_whole_frame_that_shrinks_is_not_averaged() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (480, 640, 3), np.uint8)
    tensor = Cropper(Input(64, 64, colour="bgr"), (64, 64))(frame(0, 640, 480, pixels), letterbox((640, 480), (64, 64)))
    np.testing.assert_array_equal(tensor[0, :, :48].transpose(1, 2, 0), cv2.resize(pixels, (64, 48)))


@pytest.mark.parametrize("colour", ["rgb", "bgr", "luma", "luma3"])
@pytest.mark.parametrize("crop", [[0, 0, 200, 100], [0, 0, 200, 200], [30.3, 20, 70.3, 60], [150, 50, 230, 130]])
def test_grey_frames_and_frames_with_alpha(colour: Literal["rgb", "bgr", "luma", "luma3"], crop: list[float]) -> None:
    crops, size = np.array([crop], np.float32), (40, 40)
    cropper = Cropper(Input(40, 40, colour=colour, padding=9), size)
    pixels = picture(200, 100)
    alpha = np.random.default_rng(3).integers(0, 256, (100, 200), np.uint8)
    plain = cropper(frame(0, 200, 100, pixels), crops).copy()
    with_alpha = cropper(Frame(0, 0, 200, 100, "bgra8", np.dstack([pixels, alpha])), crops)
    np.testing.assert_allclose(with_alpha, plain, atol=1)
    grey = pixels[..., 1]
    plain = cropper(frame(0, 200, 100, cv2.merge([grey, grey, grey])), crops).copy()
    np.testing.assert_allclose(cropper(Frame(0, 0, 200, 100, "gray8", grey), crops), plain, atol=1)


def test_other_pixel_formats_are_refused() -> None:
    cropper = Cropper(Input(32, 32), (32, 32))
    other = Frame(0, 0, 32, 32, "nv12", None)
    with pytest.raises(EngineError, match="expects frames of bgr8, bgra8, gray8, found nv12"):
        cropper(other, stretch((32, 32), (32, 32)))
    with pytest.raises(EngineError, match="found nv12"):
        glimpse(other)


@pytest.mark.parametrize("size", [(1920, 1080), (640, 360), (64, 36), (30, 50), (1, 1)])
def test_a_glimpse_is_a_small_grey_picture(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 200
    small = glimpse(frame(0, width, height, pixels))
    assert (small.shape, small.dtype) == ((72, 128), np.uint8)
    if width > 1:
        assert (small[:, :62] < 10).all()
        assert (small[:, 66:] > 190).all()


def test_a_glimpse_of_a_small_part_of_a_frame_from_a_view() -> None:
    pixels = picture(400, 300)[:, ::-1]  # not contiguous
    np.testing.assert_array_equal(glimpse(frame(0, 400, 300, pixels)), glimpse(frame(0, 400, 300, pixels.copy())))


def test_a_glimpse_of_a_grey_frame_and_of_one_with_alpha() -> None:
    grey = picture(400, 300)[..., 0]
    colour = cv2.merge([grey, grey, grey])
    expected = glimpse(frame(0, 400, 300, colour))
    np.testing.assert_allclose(glimpse(Frame(0, 0, 400, 300, "gray8", grey)), expected, atol=1)
    np.testing.assert_allclose(glimpse(Frame(0, 0, 400, 300, "bgra8", np.dstack([colour, grey]))), expected, atol=1)
