"""Several looks at one frame: one detection a face, whose turn it is, what the configuration makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import MakeOnnx, scrfd_outputs
from fakes import FakeDetector, FakeEngine, detections, frame, tracker
from hypothesis import given
from hypothesis import strategies as st

from edgeface.boxes import iou, letterbox, tile
from edgeface.config import load_config
from edgeface.cpu.engine import open_engine
from edgeface.detector import FaceDetector
from edgeface.errors import ConfigError, EngineError, OutputError
from edgeface.model_card import find_card
from edgeface.multiscale import MultiScaleDetector, join, uncut
from edgeface.networks import make_detector
from edgeface.parts import build
from edgeface.values import Detections

NOBODY = detections()
NEAR, TINY = (100, 20, 340, 340), (300, 100, 312, 115)  # in a frame of 640x360
LOOSE = (90, 0, 400, 360)  # on NEAR, IoU 0.69

Box = tuple[float, float, float, float]


class FakeLook(FakeDetector):
    """Sees what it was told to on its crop of a 640x360 frame, as if it were a FaceDetector."""

    def __init__(self, *answers: Detections | None, crop: Box = (0, 0, 640, 640), size: int = 640) -> None:
        super().__init__(*answers)
        self._crop = np.array([crop], np.float32)
        self._scale = size / (crop[2] - crop[0])

    def crop(self, frame: object) -> np.ndarray:
        return self._crop

    def input_scale(self, frame: object) -> float:
        return self._scale


def scored(*faces: tuple[Box, float]) -> Detections:
    found = detections(*(box for box, _ in faces))
    return Detections(found.xyxy, np.array([score for _, score in faces], np.float32), found.keypoints)


# --- one detection a face


@pytest.mark.parametrize(
    ("large", "small", "expected"),
    [(LOOSE, NEAR, NEAR), (TINY, (299, 99, 313, 116), TINY)],
    ids=["near: the small look's box", "tiny: the large look's box"],
)
def test_a_face_that_two_looks_see_is_one_detection(large: Box, small: Box, expected: Box) -> None:
    for score in (0.6, 0.9):  # whichever is surer
        merged = join([scored((large, 0.7)), scored((small, score))], [1.0, 0.2], 0.5)
        np.testing.assert_allclose(merged.xyxy, [expected])
        np.testing.assert_allclose(merged.keypoints[0, 0], expected[:2])


def test_a_sure_box_goes_before_one_that_fits_better() -> None:
    merged = join([scored((LOOSE, 0.5)), scored((NEAR, 0.49))], [1.0, 0.2], 0.5)
    assert (merged.xyxy.tolist(), merged.score.tolist()) == ([list(LOOSE)], [0.5])


def test_what_one_look_tells_apart_stays() -> None:
    one, other = (0, 0, 100, 100), (50, 0, 150, 100)  # IoU 1/3
    merged = join([scored((one, 0.6), (other, 0.8)), scored(((400, 0, 500, 100), 0.7))], [1.0, 0.2], 0.5)
    assert merged.xyxy[:, 0].tolist() == [50, 400, 0]
    np.testing.assert_allclose(merged.score, [0.8, 0.7, 0.6])


def test_boxes_that_touch_are_two_faces() -> None:
    merged = join([scored(((0, 0, 100, 100), 0.9)), scored(((60, 0, 160, 100), 0.8))], [1.0, 0.2], 0.5)  # IoU 0.25
    assert len(merged.score) == 2


@pytest.mark.parametrize("found", [[NOBODY, scored((NEAR, 0.3))], [scored((NEAR, 0.3)), NOBODY], [NOBODY, NOBODY]])
def test_where_only_one_look_sees_somebody_nothing_is_merged(found: list[Detections]) -> None:
    merged = join(found, [1.0, 0.2], 0.5)
    assert len(merged.score) == max(len(one.score) for one in found)
    assert merged.keypoints.shape == (len(merged.score), 5, 2)


FACES = st.lists(
    st.tuples(
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(61, 130), st.integers(61, 130)),
        st.floats(0, 1, width=32),
    ),
    max_size=6,
)


@given(st.lists(FACES, min_size=2, max_size=3))
def test_what_is_left_out_lies_on_what_another_look_saw(looks: list[list[tuple[Box, float]]]) -> None:
    found = [scored(*sorted(faces, key=lambda face: -face[1])) for faces in looks]  # best first, as detectors give
    merged = join(found, [1.0, 0.3, 2.0][: len(found)], 0.5)
    assert (np.diff(merged.score) <= 0).all()
    whose = [{(*box, score) for box, score in faces} for faces in looks]
    kept = [(*box, score) for box, score in zip(merged.xyxy.tolist(), merged.score.tolist(), strict=True)]
    for number, mine in enumerate(whose):
        others = [face[:4] for face in kept if any(face in other for other in whose[:number] + whose[number + 1 :])]
        for face in mine - set(kept):
            assert iou(np.array([face[:4]], np.float32), np.array(others, np.float32).reshape(-1, 4)).max() > 0.3


# --- tiles


@given(st.integers(64, 4000), st.integers(64, 4000), st.integers(1, 4), st.integers(1, 4))
def test_tiles_cover_the_frame_and_overlap_by_a_fifth(width: int, height: int, columns: int, rows: int) -> None:
    def stretched(index: int) -> np.ndarray:
        return tile((width, height), (640, 640), fit=region, grid=(columns, rows), index=index)[0]

    def region(size: tuple[int, int], input_size: tuple[int, int]) -> np.ndarray:
        return np.array([[0, 0, *size]], np.float32)

    first, last = stretched(0), stretched(columns * rows - 1)
    assert first[:2].tolist() == [0, 0]
    np.testing.assert_allclose(last[2:], (width, height), atol=1.01)
    assert (last[2:] >= np.array([width, height]) - 0.01).all()
    if columns > 1:
        right = stretched(1)
        np.testing.assert_allclose((first[2] - right[0]) / (first[2] - first[0]), 0.2, atol=0.1)
        assert right[1] == 0
    if rows > 1:
        below = stretched(columns)
        assert first[3] > below[1] > first[1]
        assert below[0] == 0


def test_a_tile_keeps_its_proportions_as_the_frame_does() -> None:
    crop = tile((1920, 1080), (640, 640), fit=letterbox, grid=(3, 2), index=4)  # the middle one below
    np.testing.assert_allclose(crop, [[590.77, 480, 1329.77, 1219]], atol=1.5)
    np.testing.assert_allclose(
        tile((1920, 1080), (640, 640), fit=letterbox, grid=(1, 1), index=0), letterbox((1920, 1080), (640, 640))
    )


@pytest.mark.parametrize(
    ("face", "shown"),
    [
        ((10, 10, 40, 40), False),  # at the left border, which lies inside the frame
        ((105, -5, 130, 20), True),  # at the upper one, which is the frame's own
        ((105, 5, 130, 30), True),
        ((280, 5, 299, 30), False),
        ((280, 5, 295, 30), True),
        ((150, 180, 170, 199), False),
        ((150, 50, 181, 60), False),  # more than a fifth of the tile's shorter side
        ((150, 50, 160, 81), False),
        ((150, 50, 180, 80), True),
    ],
)
def test_a_tile_shows_the_faces_that_it_does_not_cut(face: Box, shown: bool) -> None:
    crop = np.array([100, 0, 300, 150 if face[3] < 150 else 200], np.float32)
    assert len(uncut(detections(face), crop, (640, 360), 4.0).score) == int(shown)


def test_the_frames_own_borders_cut_nothing() -> None:
    found = detections((600, 300, 650, 370))
    assert len(uncut(found, np.array([320, 40, 700, 420], np.float32), (640, 360), 4.0).score) == 1


# --- whose turn it is


def turns(whole: Sequence[Detections], tiles: Sequence[Sequence[Detections]], frames: int, in_a_row: int = 2) -> str:
    """Which tile was looked at, frame by frame."""
    crops = [(x, 0, x + 400, 400) for x in (0, 120, 240)]
    looks = [FakeLook(*answers, crop=crop) for answers, crop in zip(tiles, crops, strict=True)]
    detector = MultiScaleDetector([FakeLook(*whole)], looks, sure_score=0.5, in_a_row=in_a_row)
    for number in range(frames):
        detector.detect(frame(number))
    order = {number: str(index) for index, look in enumerate(looks) for number in look.looks}
    return "".join(order[number] for number in range(frames))


FACE = detections((260, 100, 275, 115))
ELSEWHERE = detections((280, 200, 295, 215))
EMPTY = [NOBODY]


def test_tiles_take_turns() -> None:
    assert turns(EMPTY, [EMPTY, EMPTY, EMPTY], 7) == "0120120"


def test_a_tile_with_a_new_face_is_looked_at_until_the_face_can_be_confirmed() -> None:
    assert turns(EMPTY, [EMPTY, [FACE], EMPTY], 8) == "01120120"
    assert turns(EMPTY, [EMPTY, [FACE], EMPTY], 8, in_a_row=3) == "01112012"
    assert turns(EMPTY, [EMPTY, [FACE], EMPTY], 8, in_a_row=1) == "01201201"


def test_a_tile_never_keeps_the_others_waiting() -> None:
    restless = [FACE, ELSEWHERE] * 9
    assert turns(EMPTY, [restless, EMPTY, EMPTY], 9) == "001200120"


def test_a_face_that_moved_on_is_a_new_one() -> None:
    assert turns(EMPTY, [[FACE, FACE, ELSEWHERE], EMPTY, EMPTY], 8) == "00120012"


def test_a_face_that_the_whole_frame_shows_is_not_new() -> None:
    assert turns([FACE], [EMPTY, [FACE], EMPTY], 6) == "012012"
    unsure = Detections(FACE.xyxy, FACE.score * 0.5, FACE.keypoints)
    assert turns([unsure], [EMPTY, [FACE], EMPTY], 6) == "011201"


def test_an_unsure_face_is_no_reason_to_stay() -> None:
    assert turns(EMPTY, [EMPTY, [Detections(FACE.xyxy, FACE.score * 0.5, FACE.keypoints)], EMPTY], 6) == "012012"


def test_a_cut_face_is_no_face_of_this_tile() -> None:
    assert turns(EMPTY, [[detections((390, 100, 405, 115))], EMPTY, EMPTY], 6) == "012012"


def test_a_tiny_face_gets_its_id_and_stays_published() -> None:
    tiles = [FakeLook(NOBODY), FakeLook(FACE), FakeLook(NOBODY), FakeLook(NOBODY)]
    detector = MultiScaleDetector([FakeLook(NOBODY)], tiles, sure_score=0.5, in_a_row=2)
    follows, published = tracker(), []
    follows.clear((640, 360))
    for number in range(0, 40, 2):  # every second of 30 frames a second is looked at
        published.append(follows.update(detector.detect(frame(number)), frame(number).capture_ns).track_id.tolist())
    assert published == [[]] * 2 + [[1]] * 18


def test_numbers_that_mean_nothing_in_any_look_are_no_look() -> None:
    for looks, tiles in (
        ([FakeLook(FACE), FakeLook(None)], []),
        ([FakeLook(FACE)], [FakeLook(None)]),
    ):
        with pytest.raises(OutputError):
            MultiScaleDetector(looks, tiles, sure_score=0.5, in_a_row=2).detect(frame())


# --- what the configuration makes of it


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    """Engines that were opened in place of ONNX Runtime's."""
    engines: list[FakeEngine] = []

    def open_fake(card: object, size: tuple[int, int], **options: object) -> FakeEngine:
        outputs = {
            f"{kind}_{stride}": np.zeros((1, (size[0] // stride) * (size[1] // stride), values), np.float32)
            for kind, values in [("score", 1), ("bbox", 4), ("kps", 10)]
            for stride in (8, 16, 32)
        }
        engines.append(FakeEngine(outputs, size))
        return engines[-1]

    monkeypatch.setattr("edgeface.cpu.engine.open_engine", open_fake)
    return engines


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({}, [(640, 640), (128, 128)]),  # the card of the default network asks for a second look
        ({"input_size": [640, 384]}, [(640, 384), (128, 96)]),
        ({"input_size": [128, 128]}, [(128, 128)]),
        ({"scales": [640]}, [(640, 640)]),
        ({"scales": [640, 160, 320]}, [(640, 640), (160, 160), (320, 320)]),
        ({"scales": [960, 128], "input_size": [640, 384]}, [(960, 576), (128, 96)]),
        ({"scales": [100]}, [(128, 128)]),
    ],
)
def test_scales_are_longer_sides(
    opened: list[FakeEngine], settings: dict[str, Any], sizes: list[tuple[int, int]]
) -> None:
    parts = build(load_config(None, {"detector": settings, "landmarks": {"card": "none"}}))
    assert [engine.input_size for engine in parts.networks.backend.engines] == sizes
    assert isinstance(parts.pipeline.detector, FaceDetector) == (len(sizes) == 1)
    parts.pipeline.detector.detect(frame())
    assert all(engine.crops.shape == (1, 4) for engine in opened)
    parts.close()
    assert all(engine.closed for engine in opened)


def test_tiles_are_looked_at_with_the_first_engine(opened: list[FakeEngine]) -> None:
    settings: dict[str, Any] = {"detector": {"scales": [640], "tiles": [2, 1]}, "tracker": {"min_hits": 3}}
    settings["landmarks"] = {"card": "none"}
    detector = build(load_config(None, settings)).pipeline.detector
    crops: list[list[float]] = []
    infer = opened[0].infer
    opened[0].infer = lambda frame, crops_: crops.append(crops_[0].round().tolist()) or infer(frame, crops_)
    for number in range(3):
        detector.detect(frame(number, 1920, 1080))
    assert crops[::2] == [[0, 0, 1920, 1920]] * 3
    assert [crop[0] for crop in crops[1::2]] == [0, 853, 0]
    assert (detector._in_a_row, detector._sure_score) == (3, find_card("edgeface-detector").thresholds.score)


def test_a_network_of_fixed_size_has_one_scale(make_onnx: MakeOnnx, make_card: Callable[..., Path]) -> None:
    make_onnx(scrfd_outputs(64))
    settings = {"card": str(make_card()), "tiles": [2, 1]}
    build(load_config(None, {"detector": settings, "landmarks": {"card": "none"}})).close()
    with pytest.raises(EngineError, match=r"expected an input of \[3, 32, 32\]"):
        build(load_config(None, {"detector": settings | {"scales": [64, 32]}}))


@pytest.mark.parametrize("settings", [{"scales": []}, {"scales": [16]}, {"tiles": [0, 1]}, {"tiles": [3]}])
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"detector.{next(iter(settings))}"):
        load_config(None, {"detector": settings})


# --- the real thing

NEWTON = (336.4, 89.5, 438.5, 231.4)  # what SCRFD-2.5G finds on newton.png


@pytest.mark.parametrize("size", [(960, 720), (720, 720)])
def test_a_near_face_that_one_look_misses_is_found_by_two(data: Path, size: tuple[int, int]) -> None:
    picture = cv2.imread(str(data / "pictures" / "newton.png"))
    x1, y1, x2, y2 = NEWTON
    scale = 1.1 * size[1] / (y2 - y1)  # larger than the frame
    corner = np.array([(x1 + x2) / 2, (y1 + y2) / 2]) - np.array(size) / 2 / scale
    matrix = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
    near = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    truth = (np.array([NEWTON]) - np.tile(corner, 2)) * scale

    def overlap(scales: list[int]) -> float:
        parts = build(load_config(None, {"detector": {"scales": scales}}))
        found = parts.pipeline.detector.detect(frame(0, *size, near))
        parts.close()
        return float(np.max(iou(truth, found.xyxy[found.score >= 0.5].astype(np.float64)), initial=0))

    assert overlap([640]) < 0.5
    assert overlap([640, 128]) > 0.7


def test_tiny_faces_that_one_look_misses_are_found_in_tiles(data: Path) -> None:
    card = find_card("scrfd-500m-kps", (str(data / "networks"),))
    engine = open_engine(card, None, threads=2, spinning=False)
    one = make_detector(card, engine, load_config(None, {"tracker": {"low_score_threshold": 0.5}}))
    picture = cv2.imread(str(data / "landmarks" / "2008_001322.jpg"))
    truth = one.detect(frame(0, picture.shape[1], picture.shape[0], picture)).xyxy
    shrink = 20 / float(np.median(truth[:, 3] - truth[:, 1]))
    small = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    large = np.full((1080, 1920, 3), 96, np.uint8)
    large[300 : 300 + small.shape[0], 200 : 200 + small.shape[1]] = small
    truth = truth * np.float32(shrink) + np.array([200, 300, 200, 300], np.float32)
    tiles = [
        one.with_crop(
            lambda frame_size, size, index=index: tile(frame_size, size, fit=letterbox, grid=(3, 2), index=index)
        )
        for index in range(6)
    ]
    both = MultiScaleDetector([one], tiles, sure_score=0.5, in_a_row=1)
    still = frame(0, 1920, 1080, large)
    assert len(one.detect(still).score) == 0
    assert (np.max(iou(truth, both.detect(still).xyxy), axis=1, initial=0) > 0.5).all()
