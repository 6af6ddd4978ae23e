"""Facial landmarks: what a network's outputs mean, where the points lie in the frame, and faces that have none."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import pytest
from conftest import FOUR_FACES, ROOT, demo_picture
from fakes import FakeEngine, frame
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeface.config import load_config
from edgeface.cpu.engine import open_engine
from edgeface.errors import ConfigError, EngineError
from edgeface.face_crops import RULES
from edgeface.landmarks import FaceLandmarker, make_landmark_decoder, softargmax
from edgeface.model_card import Card, find_card, load_card
from edgeface.networks import make_landmarker
from edgeface.values import Frame

SIZE = (80, 80)

pytestmark = pytest.mark.filterwarnings(
    "error:(overflow|divide by zero|invalid value encountered in .*divide):RuntimeWarning"
)


def card(**decoder: object) -> Card:
    """An FPENet-compatible network."""
    tao = find_card("tao-fpenet-v3.0")
    return msgspec.structs.replace(tao, decoder=msgspec.structs.replace(tao.decoder, **decoder))


# --- raw outputs


@pytest.mark.parametrize(
    ("beta", "x", "y", "confidence"),
    [
        (0.1, 48.38210, 31.66450, 0.603010),
        (1.0, 50.0000454, 30.0, 0.9999546),
        (0.01, 39.505, 39.495, 0.000425),
    ],
)
def test_golden_softargmax(beta: float, x: float, y: float, confidence: float) -> None:
    heat = np.zeros((1, 1, 80, 80), np.float32)
    heat[0, 0, 30, 50:52] = 100, 90
    points, score = softargmax(heat, beta)
    np.testing.assert_allclose(points[0, 0], [x, y], atol=5e-4)
    assert score[0, 0] == pytest.approx(confidence, abs=5e-7)


@given(st.integers(0, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_each_map_has_its_own_softargmax(n: int, count: int, rows: int, columns: int, seed: int) -> None:
    heat = np.random.default_rng(seed).normal(0, 300, (n, count, rows, columns)).astype(np.float32)
    points, score = softargmax(heat, 0.1)
    assert (points.shape, score.shape) == ((n, count, 2), (n, count))
    assert points.dtype == score.dtype == np.float32
    for face, point in np.ndindex(n, count):
        weight = np.exp(0.1 * (heat[face, point].astype(np.float64) - heat[face, point].max()))
        weight /= weight.sum()
        expected = (weight * np.arange(columns)).sum(), (weight * np.arange(rows)[:, None]).sum()
        np.testing.assert_allclose(points[face, point], expected, atol=1e-3)
        assert score[face, point] == pytest.approx(weight.max(), rel=1e-3)


def raw_outputs(count: int, maps: tuple[int, int] = (80, 80)) -> dict[str, np.ndarray]:
    """Points at (1, 2), scores 0.3, and maps whose peaks are at half their width and a quarter of their height."""
    heat = np.zeros((1, count, *maps), np.float32)
    heat[:, :, maps[0] // 4, maps[1] // 2] = 1e4
    return {
        "points": np.tile(np.array([1, 2], np.float32), (1, count, 1)),
        "score": np.full((1, count), 0.3, np.float32),
        "maps": heat,
    }


def decoded(outputs: dict[str, np.ndarray], count: int, size: tuple[int, int] = SIZE) -> tuple[list[float], float]:
    """The first point and its score; all others are like it."""
    shapes = {name: value.shape for name, value in outputs.items()}
    points, score = make_landmark_decoder(card(points=count), shapes, size)(outputs)
    assert (points.shape, score.shape) == ((1, count, 2), (1, count))
    assert points.dtype == score.dtype == np.float32
    assert (points == points[:, :1]).all()
    assert (score == score[:, :1]).all()
    return points[0, 0].tolist(), float(score[0, 0])


@pytest.mark.parametrize("count", [2, 5, 68, 80, 104])
def test_outputs_are_known_by_their_shapes_in_any_order_under_any_name(count: int) -> None:
    given_outputs = raw_outputs(count)
    for order in itertools.permutations(given_outputs):
        names = dict(zip(order, ("softargmax", "softargmax:1", "conv_keypoints_m80"), strict=True))
        outputs = {names[kind]: given_outputs[kind] for kind in order}
        assert decoded(outputs, count) == ([1, 2], pytest.approx(0.3))


@pytest.mark.parametrize(
    ("kinds", "point", "score"),
    [
        (("points", "score"), [1, 2], 0.3),
        (("points", "maps"), [1, 2], 1.0),
        (("score", "maps"), [40, 20], 0.3),
        (("maps",), [40, 20], 1.0),
    ],
)
def test_heat_maps_stand_in_for_what_is_missing(kinds: tuple[str, ...], point: list[float], score: float) -> None:
    outputs = {kind: value for kind, value in raw_outputs(5).items() if kind in kinds}
    assert decoded(outputs, 5) == (point, pytest.approx(score))


def test_heat_maps_of_another_size_are_in_pixels_of_the_input() -> None:
    outputs = {"maps": raw_outputs(5, maps=(20, 40))["maps"]}  # peaks at column 20 and row 5
    assert decoded(outputs, 5, size=(80, 60))[0] == [40, 15]


def test_the_card_says_how_sharp_heat_maps_are() -> None:
    heat = np.zeros((1, 1, 80, 80), np.float32)
    heat[0, 0, 30, 50:52] = 100, 90
    for beta, x in ((0.1, 48.38210), (1.0, 50.0000454)):
        decode = make_landmark_decoder(card(points=1, softargmax_beta=beta), {"m": heat.shape}, SIZE)
        assert decode({"m": heat})[0][0, 0, 0] == pytest.approx(x, abs=5e-4)


def test_outputs_of_half_and_double_precision_are_float32() -> None:
    for kind in (np.float16, np.float64):
        outputs = {name: value.astype(kind) for name, value in raw_outputs(5).items()}
        assert decoded(outputs, 5)[0] == [1, 2]
        assert decoded({"maps": outputs["maps"]}, 5)[0] == [40, 20]


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"points": (1, 5, 2)},
        {"score": (1, 5)},
        {"points": (1, 6, 2), "score": (1, 6)},
        {"points": (1, 5, 2), "score": (1, 6)},
        {"maps": (1, 6, 80, 80)},
        {"maps": (1, 5, 80)},
        {"points": (1, 5, 2), "more": (1, 5, 2), "score": (1, 5)},
        {"points": (1, 5, 2), "score": (1, 5), "more": (1, 5)},
        {"maps": (1, 5, 80, 80), "more": (1, 5, 40, 40)},
        {"points": (2, 5, 2), "score": (2, 5)},
        {"maps": (2, 5, 80, 80)},
    ],
)
def test_a_network_that_is_not_what_the_card_says_is_refused(outputs: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(EngineError, match=r"for 5 points .* expected outputs \[1, 5, 2\] and \[1, 5\]") as caught:
        make_landmark_decoder(card(points=5), outputs, SIZE)
    for name, shape in outputs.items():
        assert f"{name} {list(shape)}" in str(caught.value)


def test_a_detector_places_no_landmarks() -> None:
    with pytest.raises(EngineError, match="edgeface-detector: expected a card with task landmarks, found detect"):
        make_landmark_decoder(find_card("edgeface-detector"), {}, SIZE)


# --- in the frame


class PointsEngine(FakeEngine):
    """Gives the same points for every crop, and `odd` ones instead for some rows; counts its calls."""

    def __init__(self, points: list[tuple[float, float]], size: tuple[int, int] = SIZE) -> None:
        self.xy = np.array(points, np.float32)[None]
        super().__init__({"points": self.xy, "score": np.full((1, len(points)), 0.5, np.float32)}, size)
        self.calls = 0
        self.odd: dict[int, tuple[float, float, float]] = {}  # row -> x, y, score of its last point

    def infer(self, frame: Frame, crops: np.ndarray) -> dict[str, np.ndarray]:
        self.calls += 1
        raw = {name: np.repeat(value, len(crops), axis=0) for name, value in super().infer(frame, crops).items()}
        for row, (x, y, score) in self.odd.items():
            raw["points"][row, -1], raw["score"][row, -1] = (x, y), score
        return raw


CORNERS = [(0.0, 0.0), (80.0, 0.0), (80.0, 60.0), (0.0, 60.0), (40.0, 30.0)]  # and the middle, of 80 x 60
FACE, OTHER = (100.0, 100.0, 160.0, 180.0), (300.0, 50.0, 400.0, 150.0)


def landmarker(engine: PointsEngine, border: str = "pad", scale: float = 1.0, pictures: bool = False) -> FaceLandmarker:
    count = engine.xy.shape[1]
    decode = make_landmark_decoder(card(points=count), engine.outputs, engine.input_size)
    return FaceLandmarker(engine, decode, RULES[border], crop_scale=scale, points=count, pictures=pictures)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.mark.parametrize("border", RULES)
@pytest.mark.parametrize(
    "box",
    [FACE, OTHER, (-20, 100, 60, 180), (600, 100, 660, 200), (200, -30, 300, 60), (200, 310, 260, 400), (1, 2, 30, 9)],
)
def test_corners_of_the_input_are_the_crops_corners(border: str, box: tuple[float, float, float, float]) -> None:
    engine = PointsEngine(CORNERS, (80, 60))
    found = landmarker(engine, border, scale=1.2).locate(frame(), boxes(box, FACE))
    crops = RULES[border](boxes(box, FACE), 1.2, (640, 360))
    np.testing.assert_array_equal(engine.crops, crops)
    for xy, (x1, y1, x2, y2) in zip(found.xy, crops.tolist(), strict=True):
        expected = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), ((x1 + x2) / 2, (y1 + y2) / 2)]
        np.testing.assert_allclose(xy, expected, atol=1e-3)
    np.testing.assert_array_equal(found.score, np.full((2, 5), 0.5))
    assert (found.invalid, found.grey) == (0, None)


def test_a_crop_that_is_no_square_maps_each_axis_by_itself() -> None:
    engine = PointsEngine([(0, 0), (80, 80), (20, 60)])
    xy = landmarker(engine, "deepstream").locate(frame(), boxes((580, 100, 630, 200))).xy
    np.testing.assert_allclose(xy[0], [(580, 100), (630, 200), (592.5, 175)], atol=1e-3)


def test_one_inference_a_frame_however_many_faces() -> None:
    engine = PointsEngine([(40, 40)])
    place = landmarker(engine)
    for count in (1, 2, 30):
        engine.calls = 0
        at = np.arange(count, dtype=np.float32)[:, None] * 10
        found = place.locate(frame(), at + boxes((0, 0, 50, 60)))
        assert engine.calls == 1
        np.testing.assert_allclose(found.xy[:, 0], np.hstack([at + 25, at + 30]))


def test_nobody_needs_no_inference() -> None:
    engine = PointsEngine(CORNERS, (80, 60))
    found = landmarker(engine).locate(frame(), boxes())
    assert engine.calls == 0
    assert (found.xy.shape, found.score.shape, found.invalid, found.grey) == ((0, 5, 2), (0, 5), 0, None)
    found = landmarker(engine, pictures=True).locate(frame(), boxes((np.nan, 0, 1, 1)))
    assert engine.calls == 0
    assert np.isnan(found.xy).all()
    assert found.grey is not None
    assert found.grey.shape == (1, 60, 80)


NO_FACE = {
    "outside": (700, 100, 760, 180),
    "its middle outside": (-70, 100, 50, 180),
    "of no width": (100, 100, 100, 180),
    "of no height": (100, 100, 160, 100),
    "inside out": (160, 180, 100, 100),
    "huge": (-1e6, -1e6, 1e6, 1e6),
    "as large as numbers go": (-3e38, -3e38, 3e38, 3e38),
    "NaN": (100, np.nan, 160, 180),
    "infinite": (100, 100, np.inf, 180),
    "from minus to plus infinity": (-np.inf, -np.inf, np.inf, np.inf),
}


@pytest.mark.parametrize("border", RULES)
def test_boxes_that_are_no_faces_have_no_landmarks(border: str) -> None:
    engine = PointsEngine(CORNERS, (80, 60))
    moved = ("its middle outside",) if border != "pad" else ()  # into the frame, see face_crops
    shrunk = ("huge", "as large as numbers go") if border == "tao" else ()
    odd = [box for name, box in NO_FACE.items() if name not in moved + shrunk]
    place = landmarker(engine, border)
    alone = [place.locate(frame(), boxes(box)).xy[0] for box in (FACE, OTHER)]
    found = place.locate(frame(), boxes(FACE, *odd, OTHER))
    assert len(engine.crops) == 2
    assert np.isnan(found.xy[1:-1]).all()
    assert np.isnan(found.score[1:-1]).all()
    np.testing.assert_array_equal(found.xy[[0, -1]], alone)
    np.testing.assert_array_equal(found.score[[0, -1]], np.full((2, 5), 0.5))
    assert found.invalid == 0  # the network did nothing wrong


@pytest.mark.parametrize(
    ("odd", "sound"),
    [
        ((40, 30, 0.5), True),
        ((-79.9, 30, 0.5), True),
        ((-80, 30, 0.5), False),
        ((159.9, 30, 0.5), True),
        ((160, 30, 0.5), False),
        ((40, -59.9, 0.5), True),
        ((40, -60, 0.5), False),
        ((40, 119.9, 0.5), True),
        ((40, 120, 0.5), False),
        ((np.nan, 30, 0.5), False),
        ((40, np.inf, 0.5), False),
        ((-np.inf, 30, 0.5), False),
        ((3e38, 30, 0.5), False),
        ((40, 30, np.nan), False),
        ((40, 30, np.inf), False),
    ],
)
def test_points_that_mean_nothing_are_counted_and_hurt_no_other_face(
    odd: tuple[float, float, float], sound: bool
) -> None:
    """The input is 80 x 60: points lie at most 1.5 sizes from its middle."""
    engine = PointsEngine(CORNERS, (80, 60))
    place = landmarker(engine)
    rows = boxes(FACE, (0, 0, 0, 0), OTHER, FACE)
    expected = place.locate(frame(), rows)
    engine.odd[1] = odd  # of the crops: OTHER
    found = place.locate(frame(), rows)
    assert found.invalid == (0 if sound else 1)
    assert np.isfinite(found.xy[2]).all() == np.isfinite(found.score[2]).all() == sound
    if not sound:
        assert np.isnan(found.xy[2]).all()
        assert np.isnan(found.score[2]).all()
    np.testing.assert_array_equal(found.xy[[0, 1, 3]], expected.xy[[0, 1, 3]])
    np.testing.assert_array_equal(found.score[[0, 1, 3]], expected.score[[0, 1, 3]])


def test_the_crops_are_kept_when_they_are_asked_for() -> None:
    engine = PointsEngine(CORNERS, (80, 60))
    found = landmarker(engine, pictures=True).locate(frame(), boxes(FACE, (0, 0, 0, 0), OTHER, FACE))
    assert found.grey is not None
    assert found.grey.shape == (4, 60, 80)
    assert found.grey[:, 0, 0].tolist() == [0, 0, 1, 2]  # as the fake engine has it; no crop, no picture


# --- networks


@pytest.fixture(scope="module")
def default() -> Iterator[FaceLandmarker]:
    config = load_config(None, {})
    network = find_card(config.landmarks.card)
    engine = open_engine(network, None, threads=1, spinning=False)
    yield make_landmarker(network, engine, config)
    engine.close()


@pytest.fixture(scope="module")
def scene() -> Frame:
    """A picture of the demo clip with faces at FACES."""
    return frame(0, 640, 360, demo_picture())


FACES = boxes((77, 45, 160, 145), (418, 102, 504, 207), (237, 107, 371, 274))


def test_the_default_network_places_points_on_faces(default: FaceLandmarker, scene: Frame) -> None:
    found = default.locate(scene, FACES)
    assert found.xy.shape == (3, 80, 2)
    low, high = np.split(FACES, 2, axis=1)
    slack = 0.1 * (high - low)
    inside = (found.xy > (low - slack)[:, None]) & (found.xy < (high + slack)[:, None])
    assert inside.all()
    spread = found.xy.max(axis=1) - found.xy.min(axis=1)
    assert (spread > 0.5 * (high - low)).all()
    right_eye, left_eye, mouth = found.xy[:, 36:42], found.xy[:, 42:48], found.xy[:, 48:68]
    assert (right_eye.mean(axis=1)[:, 0] < left_eye.mean(axis=1)[:, 0]).all()
    assert (mouth.mean(axis=1)[:, 1] > right_eye.mean(axis=1)[:, 1]).all()


def test_the_default_network_places_irises_and_ears(default: FaceLandmarker, scene: Frame) -> None:
    faces = json.loads((ROOT / "edgeface" / "demo" / "demo.json").read_text())["frames"][FOUR_FACES]
    known = {face["track_id"]: face for face in faces}
    truth = np.array([known[track_id]["irises_and_ears"] for track_id in (4, 2, 3)])  # as FACES are
    corners = np.array([[known[track_id]["landmarks"][k] for k in (36, 45)] for track_id in (4, 2, 3)])
    eyes = corners[:, 0] - corners[:, 1]
    found = default.locate(scene, FACES)
    error = np.linalg.norm(found.xy[:, 68:] - truth, axis=2) / np.hypot(*eyes.T)[:, None]
    assert error[:, :8].mean() < 0.05
    assert error[:, 8:].mean() < 0.3  # hair and headphones cover them
    assert ((found.score > 0) & (found.score < 1)).all()
    assert found.score[:, 27:48].mean() > 0.9  # noses and eyes are seen
    assert found.score[:, 76:].mean() < found.score[:, :68].mean()


def test_a_batch_of_thirty_is_each_face_alone(default: FaceLandmarker, scene: Frame) -> None:
    rows = np.concatenate([FACES + shift for shift in range(10)])
    together = default.locate(scene, rows)
    for row in range(30):
        alone = default.locate(scene, rows[row : row + 1])
        np.testing.assert_allclose(together.xy[row], alone.xy[0], atol=1e-3)
        np.testing.assert_allclose(together.score[row], alone.score[0], atol=1e-5)


def test_odd_boxes_beside_it_change_no_bit_of_a_face(default: FaceLandmarker, scene: Frame) -> None:
    alone = default.locate(scene, FACES)
    found = default.locate(scene, np.concatenate([boxes(*NO_FACE.values()), FACES]))
    np.testing.assert_array_equal(found.xy[-3:], alone.xy)
    np.testing.assert_array_equal(found.score[-3:], alone.score)
    assert np.isnan(found.xy[:-3]).all()


def test_a_face_at_the_border_has_landmarks(default: FaceLandmarker, scene: Frame) -> None:
    """The picture cut through a face: the crop reaches outside, its points stay about where they were."""
    whole = default.locate(scene, FACES[1:2])
    cut = default.locate(Frame(0, 0, 490, 360, "bgr8", scene.pixels[:, :490]), FACES[1:2])
    assert np.hypot(*(cut.xy - whole.xy)[0].T).mean() < 0.05 * 105


@pytest.mark.parametrize(
    ("form", "code", "tolerance"), [("bgra8", cv2.COLOR_BGR2BGRA, 1e-3), ("gray8", cv2.COLOR_BGR2GRAY, 0.5)]
)
def test_a_grey_or_four_channel_frame_gives_the_same_points(
    default: FaceLandmarker, scene: Frame, form: str, code: int, tolerance: float
) -> None:
    twin = Frame(0, 0, 640, 360, form, cv2.cvtColor(scene.pixels, code))
    np.testing.assert_allclose(default.locate(twin, FACES).xy, default.locate(scene, FACES).xy, atol=tolerance)


def test_a_frame_of_another_format_is_refused(default: FaceLandmarker, scene: Frame) -> None:
    with pytest.raises(EngineError, match="expects frames of bgr8, bgra8, gray8, found nv12"):
        default.locate(Frame(0, 0, 640, 360, "nv12", scene.pixels), FACES)


@pytest.mark.parametrize("batch", [1, 2, "n"])
def test_a_fixed_batch_gives_the_points_of_one_by_one(
    tmp_path: Path, make_card: Callable[..., Path], batch: int | str
) -> None:
    """Made networks whose points move with the crop's mean grey."""
    shapes = {"mean": [batch, 1], "points": [batch, 3, 2], "score": [batch, 3]}
    constants = {
        "scale": np.array(1 / 20, np.float32),
        "column": np.array([-1, 1, 1], np.int64),
        "base": np.array([[[1, 2], [3, 4], [5, 6]]], np.float32),
        "half": np.array([[0.5, 0.25, 0.125]], np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["grey"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["grey", "scale"], ["small"]),
        helper.make_node("Reshape", ["small", "column"], ["shift"]),
        helper.make_node("Add", ["shift", "base"], ["points"]),
        helper.make_node("ReduceMean", ["shift"], ["row"], axes=[2], keepdims=0),
        helper.make_node("Mul", ["row", "half"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "grey",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 16, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in ("score", "points")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "net.onnx"))
    head = 'type = "fpenet"\npoints = 3'
    network = load_card(make_card(head, task="landmarks", width=16, height=16, colour="luma"))
    engine = open_engine(network, None, threads=1, spinning=False)
    assert engine.outputs == {"points": (1, 3, 2), "score": (1, 3)}
    place = make_landmarker(network, engine, load_config(None, {}))
    grey = np.repeat(np.arange(0, 200, 40, dtype=np.uint8), 16)
    shown = frame(0, 80, 16, np.tile(grey[None, :, None], (16, 1, 3)))
    rows = boxes(*[(16 * i, 0, 16 * i + 16, 16) for i in range(5)])
    together = place.locate(shown, rows)
    for row in range(5):
        expected = constants["base"][0] + 2 * row + [16 * row, 0]
        np.testing.assert_allclose(together.xy[row], expected, atol=1e-3)
        np.testing.assert_allclose(together.score[row], 2 * row * constants["half"][0], atol=1e-3)
        np.testing.assert_array_equal(place.locate(shown, rows[row : row + 1]).xy[0], together.xy[row])


def test_the_card_and_the_settings_reach_the_landmarker() -> None:
    def made(settings: dict[str, object], **decoder: object) -> FaceLandmarker:
        network = card(points=5, **decoder)
        return make_landmarker(network, PointsEngine(CORNERS), load_config(None, {"landmarks": settings}))

    for border in RULES:
        place = made({}, border=border, crop_scale=1.25)
        place.locate(frame(), boxes((-20, 100, 60, 150)))
        crops = RULES[border](boxes((-20, 100, 60, 150)), 1.25, (640, 360))
        np.testing.assert_array_equal(place.engine.crops, crops)
        assert place.points == 5
    assert made({}).locate(frame(), boxes(FACE)).grey is None
    assert made({"quality": True}).locate(frame(), boxes(FACE)).grey is not None


@pytest.mark.parametrize("signal", ["pose", "eyes"])
def test_pose_and_eyes_need_points_whose_names_are_known(signal: str) -> None:
    config = load_config(None, {"landmarks": {signal: True}})
    with pytest.raises(ConfigError, match=r"tao-fpenet-v3.0: pose and eyes need \(68, 80, 104\) points, it has 5"):
        make_landmarker(card(points=5), PointsEngine(CORNERS), config)
    for count in (68, 80, 104):
        assert make_landmarker(card(points=count), PointsEngine([(1, 1)] * count), config).points == count
