"""Face crops: the square about a face, and TAO's and DeepStream's at each border, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.boxes import crop_mapping
from edgeface.face_crops import RULES, deepstream, pad, tao, usable

FRAME = 640, 480
PLACES = st.floats(-2000, 2000, width=32)
SIZES = st.floats(1, 2000, width=32)
NO_FACES = np.array(
    [
        [np.nan, np.nan, np.nan, np.nan],
        [np.nan, 10, 50, 50],
        [10, 10, np.inf, 50],
        [-np.inf, 10, np.inf, 50],
        [np.inf, np.inf, np.inf, np.inf],
        [50, 50, 50, 50],
        [50, 10, 50, 90],
        [90, 10, 50, 50],
        [-3.4e38, -3.4e38, 3.4e38, 3.4e38],
        [3e38, 3e38, 3.4e38, 3.4e38],
        [1e6, 1e6, 1e6 + 64, 1e6 + 64],
        [-900, 100, -800, 200],
    ],
    np.float32,
)


def crop(rule: str, *box: float, crop_scale: float = 1.0) -> list[float]:
    found: list[float] = RULES[rule](np.array([box], np.float32), crop_scale, FRAME)[0].tolist()
    return found


@given(PLACES, PLACES, SIZES, SIZES, st.floats(0.5, 4))
def test_a_padded_crop_is_a_square_about_the_boxs_centre(
    left: float, top: float, width: float, height: float, crop_scale: float
) -> None:
    box = np.array([[left, top, left + width, top + height]], np.float32)
    crops = pad(box, crop_scale, FRAME)
    size = crops[0, 2:] - crops[0, :2]
    longer = np.max(box[0, 2:] - box[0, :2])
    np.testing.assert_allclose(size, longer * crop_scale, rtol=1e-5, atol=1e-3)
    # the middle of the network's input is the middle of the box
    scale, offset = crop_mapping(crops, (80, 80))
    middle = 40 * scale[0, :2] + offset[0, :2]
    np.testing.assert_allclose(middle, (box[0, :2] + box[0, 2:]) / 2, rtol=1e-5, atol=1e-3)


def test_a_padded_crop_is_neither_shrunk_nor_moved_at_a_border() -> None:
    assert crop("pad", -20, 100, 40, 200, crop_scale=1.5) == [-65, 75, 85, 225]
    assert crop("pad", 600, 400, 700, 480) == [600, 390, 700, 490]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((100.9, 50.9, 160.2, 140.8), [85, 50, 174, 139]),  # 100, 50, 59 x 89: 100 - 15 = 85
        ((100, 50, 160, 141), [84, 50, 175, 141]),  # 100 - 15.5 = 84.5, truncated
        ((5, 100, 45, 180), [0, 100, 80, 180]),  # from -15: pushed to 0, still 80 wide
        ((-30, 100, 50, 180), [0, 100, 80, 180]),
        ((100, -10, 180, 60), [100, 0, 180, 80]),
        ((580, 100, 620, 180), [560, 100, 640, 180]),  # it just fits
        ((590, 100, 630, 180), [570, 100, 640, 170]),  # 70 are left on the right
        ((100, 420, 180, 460), [100, 400, 180, 480]),
        ((100, 450, 180, 500), [100, 435, 145, 480]),  # 45 are left below
        ((600, 440, 700, 500), [600, 420, 640, 460]),  # 40 on the right, 60 below
        ((630, 100, 640, 180), [595, 100, 640, 145]),
    ],
)
def test_taos_crop_is_whole_pixels_and_shrinks_at_borders(box: tuple[float, ...], expected: list[float]) -> None:
    assert crop("tao", *box) == expected


def test_taos_crop_with_a_scale() -> None:
    # 41 x 81: side trunc(1.3 * 81 = 105.3); 100 - 32 = 68, 50 - 12 = 38
    assert crop("tao", 100, 50, 141, 131, crop_scale=1.3) == [68, 38, 173, 143]
    assert crop("tao", 100, 100, 160, 160, crop_scale=1.05) == [98, 98, 161, 161]  # 63, not 62.99999 as in float32


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((100.5, 50, 160.5, 140), [85.5, 50, 175.5, 140]),
        ((10, 100, 50, 180), [10, 100, 50, 180]),  # from -10: the box as it is
        ((20, 100, 60, 180), [0, 100, 80, 180]),  # it just fits
        ((-30, 100, 50, 180), [0, 100, 80, 180]),  # moved to the border
        ((-30, 100, 10, 180), [0, 100, 40, 180]),  # moved, and the square crosses
        ((100, 5, 180, 45), [100, 5, 180, 45]),
        ((100, -10, 140, 70), [80, 0, 160, 80]),
        ((580, 100, 620, 180), [560, 100, 640, 180]),
        ((590, 100, 630, 180), [590, 100, 630, 180]),
        ((600, 100, 700, 180), [600, 100, 700, 180]),
        ((100, 430, 180, 480), [100, 415, 180, 495]),  # below: still the square
        ((100, 470, 180, 550), [100, 470, 180, 550]),
        ((100, 479, 180, 1000), [100, 479, 180, 1000]),  # but the square begins left of the frame
        ((10, 200, 30, 1240), [10, 200, 30, 1240]),
    ],
)
def test_deepstreams_crop_is_the_box_itself_at_borders(box: tuple[float, ...], expected: list[float]) -> None:
    assert crop("deepstream", *box) == expected


@pytest.mark.parametrize("name", ["tao", "deepstream"])
@pytest.mark.parametrize(
    "box", [(-80, 100, 0, 180), (640, 100, 720, 180), (100, -80, 180, 0), (100, 480, 180, 560), (700, 500, 780, 580)]
)
def test_a_box_outside_the_frame_is_not_moved_into_it(name: str, box: tuple[float, ...]) -> None:
    assert np.isnan(crop(name, *box)).all()


def test_deepstreams_crop_with_a_scale() -> None:
    assert crop("deepstream", 100, 50, 140, 130, crop_scale=1.25) == [70, 40, 170, 140]
    assert crop("deepstream", 100, 5, 140, 85, crop_scale=1.25) == [100, 5, 140, 85]  # not enlarged either


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", RULES)
def test_boxes_that_are_no_faces_leave_the_others_alone(name: str) -> None:
    faces = np.array([[100, 50, 160, 140], [-20, 300, 60, 400], [600, 440, 660, 500]], np.float32)
    mixed = np.insert(NO_FACES, [0, 5, len(NO_FACES)], faces, axis=0)
    crops = RULES[name](mixed, 1.05, FRAME)
    assert (crops.dtype, crops.shape) == (np.float32, mixed.shape)
    is_face = np.isin(np.arange(len(mixed)), [0, 6, len(mixed) - 1])
    np.testing.assert_array_equal(crops[is_face], RULES[name](faces, 1.05, FRAME))
    assert np.isnan(crops[1:6]).all()
    assert np.isnan(crops[7:10]).all()
    good = usable(crops, FRAME)
    assert good[is_face].all()
    if name == "tao":
        is_face[10] = True  # so huge a box is cut to the frame
    assert not good[~is_face].any()


@pytest.mark.parametrize("name", RULES)
def test_no_boxes_no_crops(name: str) -> None:
    none = np.zeros((0, 4), np.float32)
    assert RULES[name](none, 1.0, FRAME).shape == (0, 4)
    assert usable(none, FRAME).shape == (0,)


@given(st.lists(st.tuples(*[st.floats(width=32) for _ in range(4)]), max_size=4), st.sampled_from(sorted(RULES)))
def test_any_boxes_at_all(rows: list[tuple[float, ...]], name: str) -> None:
    boxes = np.array(rows, np.float32).reshape(-1, 4)
    crops = RULES[name](boxes, 1.05, FRAME)
    good = usable(crops, FRAME)
    shown = crops[good]
    assert np.isfinite(shown).all()
    assert ((shown[:, 2:] - shown[:, :2]) > 1).all()
    for row, box in enumerate(boxes):
        np.testing.assert_array_equal(crops[row], RULES[name](box[None], 1.05, FRAME)[0])


@pytest.mark.parametrize(
    ("crops", "expected"),
    [
        ([0, 0, 80, 80], True),
        ([-40, -40, 40, 40], True),  # its middle is the corner of the frame
        ([-41, -40, 39, 40], False),
        ([600, 100, 680, 180], False),  # 640 is the first pixel that is not there
        ([599, 440, 679, 519], True),
        ([100, 440, 180, 520], False),
        ([10, 10, 11, 12], False),
        ([10, 10, 11.5, 11.5], True),
        ([-49000, -49000, 49200, 49200], True),
        ([-50100, -50100, 50100, 50100], False),
        ([80, 0, 0, 80], False),
        ([np.nan, 0, 80, 80], False),
        ([-np.inf, 0, np.inf, 80], False),
    ],
)
def test_what_is_usable(crops: list[float], expected: bool) -> None:
    assert usable(np.array([crops], np.float32), FRAME).tolist() == [expected]


def test_the_rules_by_name() -> None:
    assert dict(RULES) == {"pad": pad, "tao": tao, "deepstream": deepstream}
