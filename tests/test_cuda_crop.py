"""The crop kernel, compiled as C++ and run over its grid on this machine; compared with its rule and with the CPU's."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import pytest
from fake_gpu.soft.host_kernels import SOURCE, TASK, library
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_crop import picture, reference

from edgeface.boxes import letterbox, stretch, tile
from edgeface.cpu.crop import Cropper, glimpse
from edgeface.model_card import Input
from edgeface.values import Frame

FORMATS = ["gray8", "rgb8", "bgr8", "rgba8", "bgra8", "nv12", "yuyv"]
COLOURS = ["rgb", "bgr", "luma", "luma3"]
SUBSAMPLED = ("nv12", "yuyv")
LUMA = np.array([0.114, 0.587, 0.299])  # of blue, green, red
Colour = Literal["rgb", "bgr", "luma", "luma3"]
Padding = int | Literal["edge"]
Crops = list[tuple[float, float, float, float]]


@pytest.fixture(scope="module")
def kernels() -> ctypes.CDLL:
    try:
        return library(checked=True)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def coefficients(red: float = 0.299, blue: float = 0.114, full: bool = False) -> np.ndarray:
    """A Task's `yuv`: red's and blue's weights in luma give the matrix (BT.601's by default); 8-bit ranges."""
    green, chroma = 1 - red - blue, 1.0 if full else 255 / 224
    r, b = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    return np.array([0 if full else 16, 1.0 if full else 255 / 219, r, -b * blue / green, -r * red / green, b])


@dataclass
class Captured:
    """A frame as a camera gives it."""

    format: str
    size: tuple[int, int]  # width, height
    planes: list[np.ndarray]  # [rows, bytes]: the pixels; of nv12 Y, then U and V
    yuv: np.ndarray

    def bgr(self) -> np.ndarray:
        """The frame [height, width, 3] as the kernel should convert it, float64."""
        width, height = self.size
        plane = self.planes[0].astype(np.float64)
        if self.format not in SUBSAMPLED:
            pixels = plane.reshape(height, width, -1)[..., :3]
            return pixels[..., ::-1] if self.format.startswith("rgb") else np.broadcast_to(pixels, (height, width, 3))
        u, v = (part - 128.0 for part in self._chroma())
        offset, gain, red_v, green_u, green_v, blue_u = self.yuv
        y = np.maximum(self.luma() - offset, 0) * gain
        return np.clip(np.dstack([y + blue_u * u, y + green_u * u + green_v * v, y + red_v * v]), 0, 255)

    def luma(self) -> np.ndarray:
        """Y [height, width] as captured, of nv12 and yuyv."""
        width = self.size[0]
        return self.planes[0].astype(np.float64)[:, :: 2 if self.format == "yuyv" else 1][:, :width]

    def grey(self) -> np.ndarray:
        """What a network of luma sees [height, width, 3]."""
        if self.format in SUBSAMPLED:
            plane = np.minimum(np.maximum(self.luma() - self.yuv[0], 0) * self.yuv[1], 255)
        else:
            plane = self.bgr() @ LUMA
        return np.repeat(plane[..., None], 3, axis=2)

    def opencv(self) -> np.ndarray:
        """The frame as OpenCV converts it, bgr8; even sizes; BT.601, limited range."""
        if self.format == "nv12":
            return cv2.cvtColor(np.vstack(self.planes), cv2.COLOR_YUV2BGR_NV12)
        pixels = self.planes[0].reshape(self.size[1], self.size[0], -1)
        if self.format == "yuyv":
            return cv2.cvtColor(pixels, cv2.COLOR_YUV2BGR_YUYV)
        code = {"gray8": cv2.COLOR_GRAY2BGR, "rgb8": cv2.COLOR_RGB2BGR, "rgba8": cv2.COLOR_RGBA2BGR}.get(self.format)
        return np.ascontiguousarray(pixels[..., :3]) if code is None else cv2.cvtColor(pixels, code)

    def _chroma(self) -> list[np.ndarray]:
        width, height = self.size
        if self.format == "nv12":
            pairs = self.planes[1].reshape(len(self.planes[1]), -1, 2).repeat(2, axis=0)[:height]
            return [pairs[..., k].repeat(2, axis=1)[:, :width] for k in (0, 1)]
        return [self.planes[0][:, k::4].repeat(2, axis=1)[:, :width] for k in (1, 3)]


def capture(form: str, size: tuple[int, int], noise: bool = False, seed: int = 0, full: bool = False) -> Captured:
    """A smooth picture, of colours that there are, or noise, in a format."""
    width, height = size
    padded = width + width % 2, height + height % 2
    rng = np.random.default_rng(seed)
    blue, green, red, alpha = (rng.integers(0, 256, padded[::-1], np.uint8) for _ in range(4))
    y, chroma = green, rng.integers(0, 256, (2, padded[1] // 2, padded[0] // 2), np.uint8)
    if not noise:
        pixels = (picture(*padded, seed) * 0.7 + 38).astype(np.uint8)  # nothing to cut
        blue, green, red = cv2.split(pixels)
        y, chroma = np.split(cv2.cvtColor(pixels, cv2.COLOR_BGR2YUV_I420), [padded[1]])
    u, v = chroma.reshape(2, padded[1] // 2, padded[0] // 2)
    if form == "nv12":
        planes = [y[:height], np.dstack([u, v]).reshape(padded[1] // 2, padded[0])]
    elif form == "yuyv":
        u, v = u.repeat(2, axis=0), v.repeat(2, axis=0)
        planes = [np.dstack([y[:, ::2], u, y[:, 1::2], v]).reshape(padded[1], -1)[:height]]
    else:
        colours = [red, green, blue] if form.startswith("rgb") else [blue, green, red]
        channels = [green] if form == "gray8" else [*colours, alpha] if "a" in form else colours
        planes = [np.dstack(channels)[:height, :width].reshape(height, -1)]
    return Captured(form, size, planes, coefficients(full=full))


def run(
    kernels: ctypes.CDLL,
    captured: Captured,
    crops: np.ndarray,
    spec: Input,
    *,
    half: bool = False,
    glimpses: bool = False,
) -> np.ndarray:
    """The tensor that the kernel makes; it must read the frame's pixels only and write the tensor only."""
    memory, readable = [], np.zeros((2, 4), np.int64)
    for index, plane in enumerate(captured.planes):
        rows, length = plane.shape
        room = np.zeros((rows, length + 13 + 8 * index), np.uint8)
        room[:, :length] = plane
        memory.append(room)
        readable[index] = room.ctypes.data, room.shape[1], length, rows
    readable[1] = readable[len(memory) - 1]
    crops = np.ascontiguousarray(crops, np.float32)
    shape = (len(crops), spec.channels, spec.height, spec.width)
    kind = np.uint8 if glimpses else np.float16 if half else np.float32
    room = np.full((3, *((72, 128) if glimpses else shape)), 9, kind)
    tensor = room[1]
    task = np.zeros((), TASK)
    task["plane"], task["chroma"] = readable[:, 0]
    task["crops"], task["tensor"] = crops.ctypes.data, tensor.ctypes.data
    task["pitch"], task["chroma_pitch"] = readable[:, 1]
    task["frame_width"], task["frame_height"] = captured.size
    task["format"], task["order"] = FORMATS.index(captured.format), COLOURS.index(spec.colour)
    task["height"], task["width"] = tensor.shape[-2:]
    task["half"], task["padding"] = half, -1 if spec.padding == "edge" else spec.padding
    task["scale"] = spec.scale
    task["shift"] = [-mean * spec.scale for mean in np.broadcast_to(spec.mean, 3)]
    task["yuv"] = captured.yuv
    arguments = [ctypes.c_void_p(array.ctypes.data) for array in (task, readable)]
    assert kernels.run(*arguments, 1 if glimpses else len(crops), glimpses) == 0
    assert (room[[0, 2]] == 9).all()
    return tensor


def expected(captured: Captured, crops: np.ndarray, spec: Input) -> np.ndarray:
    """The tensor by the rule, in float64."""
    seen = captured.grey() if spec.colour.startswith("luma") else captured.bgr()
    order = {"rgb": [2, 1, 0], "bgr": [0, 1, 2], "luma": [0], "luma3": [0, 0, 0]}[spec.colour]
    size = spec.width, spec.height
    pictures = [reference(seen, crop, size, spec.padding)[..., order].transpose(2, 0, 1) for crop in crops]
    return (np.stack(pictures) - np.reshape(spec.mean, (-1, 1, 1))) * spec.scale


SIZE, INPUT = (157, 91), (40, 24)
PLACES: Crops = [
    (20, 10, 60, 34),  # pixel by pixel
    (30.3, 20.7, 70.9, 60.2),
    (60, 40, 65, 43),  # grows
    (10, 20, 90, 68),  # blocks of 2
    (-30, -20, 130, 76),  # of 4, across the left and upper border
    (-61.7, -100.3, 260, 100),  # of 8
    (-300, -150, 400, 250),  # of 16
    (140.2, 80.5, 180.2, 104.5),  # across the right and lower border
    (200, 20, 240, 44),  # outside
]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_colour_resize_and_padding_by_the_rule(kernels: ctypes.CDLL, form: str, colour: Colour) -> None:
    whole = [letterbox(SIZE, INPUT)[0], stretch(SIZE, INPUT)[0], letterbox(SIZE, (24, 40))[0] * 0.5]
    crops = np.array([*whole, *PLACES], np.float32)
    mean = (127.5,) if colour == "luma" else (127.5, 100.0, 60.0)
    for noise in (False, True):
        captured = capture(form, SIZE, noise)
        for padding in (0, 114, "edge"):
            spec = Input(*INPUT, colour=colour, mean=mean, scale=1 / 128, padding=padding)
            truth = expected(captured, crops, spec)
            tensor = run(kernels, captured, crops, spec)
            np.testing.assert_allclose(tensor, truth, rtol=0, atol=0.02 / 128)
            halves = run(kernels, captured, crops, spec, half=True)
            np.testing.assert_array_equal(halves, tensor.astype(np.float16))


def frame_of(captured: Captured) -> Frame:
    """What the CPU backend gets of it."""
    return Frame(0, 0, *captured.size, "bgr8", captured.opencv())


# OpenCV 4 rounds places to 32nds of a pixel, the CPU rounds each step to 8 bits: the rule lies in between
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("form", FORMATS)
def test_equal_to_the_cpu_backend(kernels: ctypes.CDLL, form: str, colour: Colour) -> None:
    size = 320, 180
    rng = np.random.default_rng(3)
    middle, side = rng.uniform((0, 0), size, (24, 2)), rng.uniform(16, 480, (24, 1))
    free = np.hstack([middle - side / 2, middle + side / 2]).astype(np.float32)
    whole = np.vstack([letterbox(size, (48, 48)), stretch(size, (48, 48))])
    for padding in (0, 114, "edge"):
        spec = Input(48, 48, colour=colour, padding=padding)
        cropper = Cropper(spec, (48, 48))
        for noise in (False, True):
            if noise and form in SUBSAMPLED and "luma" in colour:
                continue  # of colours that there are not: Y is not the luma of what is left of them
            captured = capture(form, size, noise)
            frame = frame_of(captured)
            fits = np.abs(run(kernels, captured, whole, spec) - cropper(frame, whole))
            assert np.max(fits) < 1.5
            assert np.mean(fits) < 0.5
            cuts = np.abs(run(kernels, captured, free, spec) - cropper(frame, free))
            assert np.max(cuts) < (10 if noise else 6)
            assert np.mean(cuts) < (1 if noise else 0.5)


@pytest.mark.parametrize("size", [(640, 640), (320, 240), (64, 48)])
@pytest.mark.parametrize("frame_size", [(640, 480), (1280, 720), (333, 500), (1, 7)])
def test_a_letterbox_is_opencvs_resize_and_padding_begins_where_it_ends(
    kernels: ctypes.CDLL, frame_size: tuple[int, int], size: tuple[int, int]
) -> None:
    captured = capture("bgr8", frame_size, noise=True)
    crops = letterbox(frame_size, size)
    spec = Input(*size, colour="bgr", padding=200)
    tensor = run(kernels, captured, crops, spec)[0].transpose(1, 2, 0)
    width, height = (round(frame_size[k] * size[k] / float(crops[0, 2 + k])) for k in (0, 1))
    resized = cv2.resize(captured.planes[0].reshape(frame_size[1], frame_size[0], 3), (width, height))
    np.testing.assert_allclose(tensor[:height, :width], resized, rtol=0, atol=1)
    assert (tensor[height:] == 200).all()
    assert (tensor[:, width:] == 200).all()


def test_a_frame_of_the_inputs_size_stays_as_it_is(kernels: ctypes.CDLL) -> None:
    captured = capture("bgr8", (64, 48), noise=True)
    tensor = run(kernels, captured, stretch((64, 48), (64, 48)), Input(64, 48, colour="bgr"))
    np.testing.assert_array_equal(tensor[0].transpose(1, 2, 0), captured.bgr())


@settings(max_examples=150)
@given(
    st.sampled_from(FORMATS),
    st.sampled_from(COLOURS),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(1, 45), st.integers(1, 45)),
    st.tuples(*[st.floats(-300, 300, width=32)] * 2, *[st.floats(0.5, 1500, width=32)] * 2),
    st.sampled_from([0, 255, "edge"]),
)
@example("bgr8", "bgr", (90, 60), (40, 24), (0.1, 0.1, 80.0, 48.0), 0)  # a rounding below twice the input: no blocks
@example("bgr8", "bgr", (90, 60), (40, 24), (0.0, 0.0, 80.0, 48.0), 0)
@example("nv12", "rgb", (1, 1), (3, 3), (-1.0, -1.0, 3.0, 3.0), "edge")
@example("yuyv", "luma", (35, 33), (2, 2), (-9.0, -9.0, 64.0, 64.0), "edge")  # blocks that the border cuts
def test_any_geometry_by_the_rule(
    kernels: ctypes.CDLL,
    form: str,
    colour: Colour,
    frame_size: tuple[int, int],
    size: tuple[int, int],
    place: tuple[float, float, float, float],
    padding: Padding,
) -> None:
    x, y, width, height = place
    crops = np.array([[x, y, x + width, y + height], [0, 0, width, height]], np.float32)
    captured = capture(form, frame_size, noise=True, full=padding == 255)
    spec = Input(*size, colour=colour, padding=padding)
    with np.errstate(divide="ignore"):
        difference = run(kernels, captured, crops, spec) - expected(captured, crops, spec)
    for row, (x1, y1, x2, y2) in zip(difference, crops.astype(np.float64), strict=True):
        across = x1 + (np.arange(size[0]) + 0.5) * (x2 - x1) / size[0]
        down = y1 + (np.arange(size[1]) + 0.5) * (y2 - y1) / size[1]
        for axis, places, length in ((2, across, frame_size[0]), (1, down, frame_size[1])):
            on_border = (np.abs(places) < 1e-3) | (np.abs(places - length) < 1e-3)  # in or out, as rounding has it
            row[(slice(None),) * axis + (on_border,)] = 0
    np.testing.assert_allclose(difference, 0, atol=0.15)


def test_a_tile_of_a_wide_frame(kernels: ctypes.CDLL) -> None:
    captured = capture("gray8", (8192, 40), noise=True)
    crops = np.vstack(
        [tile((8192, 40), (96, 48), fit=letterbox, grid=(40, 1), index=39), [[8092.3, 0.2, 8190.9, 40.4]]]
    ).astype(np.float32)
    spec = Input(96, 48, colour="luma")
    np.testing.assert_allclose(run(kernels, captured, crops, spec), expected(captured, crops, spec), rtol=0, atol=0.5)


@pytest.mark.parametrize("padding", [7, "edge"])
def test_crops_of_nothing_are_padding(kernels: ctypes.CDLL, padding: Padding) -> None:
    lost: Crops = [(np.nan,) * 4, (0, 0, np.nan, 9), (-np.inf, 0, np.inf, 9), (0, 0, np.inf, 9), (1e30, 0, 2e30, 1)]
    crops, spec = np.array([*lost, (-1e9, -1e9, 1e9, 1e9)], np.float32), Input(*INPUT, padding=padding)
    tensor = run(kernels, capture("bgr8", SIZE), crops, spec)
    assert ((tensor >= 0) & (tensor <= 255)).all()
    assert padding == "edge" or (tensor[: len(lost)] == 7).all()


def test_a_centre_on_the_left_border_is_inside_and_one_on_the_right_is_not(kernels: ctypes.CDLL) -> None:
    captured = capture("gray8", (8, 8))
    tensor = run(kernels, captured, np.array([[-1.5, -1.5, 14.5, 14.5]]), Input(16, 16, colour="luma", padding=0))
    inside = np.zeros((16, 16), bool)
    inside[1:9, 1:9] = True
    np.testing.assert_array_equal(tensor[0, 0] > 0, inside)


@pytest.mark.parametrize(
    "crop", [(0, 0, 80, 48), (0, 0, 160, 48), (0, 1, 160, 97), (0, 0, 160.04, 96), (1, 0, 161, 96), (0, 0, 160, 95)]
)
def test_only_the_whole_frame_fitted_in_whole_pixels_has_no_blocks(kernels: ctypes.CDLL, crop: tuple[float]) -> None:
    captured, spec = capture("bgr8", (160, 96), noise=True), Input(*INPUT)
    for crops in (np.array([crop], np.float32), letterbox((160, 96), INPUT), stretch((160, 96), INPUT)):
        found = run(kernels, captured, crops, spec)
        np.testing.assert_allclose(found, expected(captured, crops, spec), rtol=0, atol=0.02)


def test_halves_are_numpys(kernels: ctypes.CDLL) -> None:
    halves = np.arange(0, 1 << 16, 5, dtype=np.uint16).view(np.float16).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        between = halves + np.spacing(halves.astype(np.float16)).astype(np.float32) / 2  # ties
        values = np.concatenate([halves, between, np.nextafter(between, 0), [65519.99, 65520, 1e9, 3e-8, 2.9e-8, -0.0]])
        values = values.astype(np.float32)
        wanted = values.astype(np.float16)
    found = np.array([kernels.to_half(float(value)) for value in values], np.uint16).view(np.float16)
    np.testing.assert_array_equal(found, wanted)  # NaN is NaN
    np.testing.assert_array_equal(np.signbit(found)[values == 0], np.signbit(wanted)[values == 0])


@pytest.mark.parametrize("size", [(1920, 1080), (640, 360), (400, 300), (200, 150), (64, 36), (2, 2)])
@pytest.mark.parametrize("form", FORMATS)
def test_a_glimpse_is_the_cpu_backends(kernels: ctypes.CDLL, form: str, size: tuple[int, int]) -> None:
    captured = capture(form, size, seed=2)
    small = run(kernels, captured, np.zeros((1, 4)), Input(128, 72), glimpses=True)
    # the CPU rounds colours first; OpenCV rounds what it converts
    np.testing.assert_allclose(small, glimpse(frame_of(captured)).astype(float), rtol=0, atol=2)
    step = max(min(size[0] // 256, size[1] // 144), 1)
    part = np.ascontiguousarray(captured.grey()[::step, ::step, 0], np.float32)
    np.testing.assert_allclose(small, cv2.resize(part, (128, 72), interpolation=cv2.INTER_AREA), rtol=0, atol=0.51)


def test_the_matrices_that_the_kernels_head_comment_names() -> None:
    weights = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}
    rows = re.findall(r"//   BT\.(\d+) (limited|full).*?  +(.+)", SOURCE.read_text())
    assert len(rows) == 4
    for matrix, extent, numbers in rows:
        named = [float(first) / float(second or 1) for first, second in re.findall(r"(-?[\d.]+)(?:/(\d+))?", numbers)]
        np.testing.assert_allclose(named, coefficients(*weights[matrix], full=extent == "full"), atol=1e-6)


def test_the_bt709_matrix_and_full_range_are_used(kernels: ctypes.CDLL) -> None:
    captured = capture("nv12", SIZE, noise=True)
    captured.yuv = coefficients(0.2126, 0.0722, full=True)
    crops, spec = stretch(SIZE, INPUT), Input(*INPUT)
    np.testing.assert_allclose(run(kernels, captured, crops, spec), expected(captured, crops, spec), rtol=0, atol=0.01)
    grey = Input(*INPUT, colour="luma")
    plane = cv2.resize(captured.luma().astype(np.float32), INPUT)
    np.testing.assert_allclose(run(kernels, captured, crops, grey)[0, 0], plane, rtol=0, atol=0.01)
