"""Forms and engines beside FP32: networks that always see the same, our own ones, the software GPU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from conftest import MakeOnnx, scrfd_outputs
from gpu_kit import write_soft_engine
from onnx import numpy_helper
from test_forms import network, node, saved

from edgeface.build import precision
from edgeface.build.accuracy import Gate, _Inputs
from edgeface.build.accuracy_report import Report
from edgeface.build.shown import Shown, find_shown
from edgeface.errors import EngineError
from edgeface.evaluate.labels import demo_labels
from edgeface.model_card import Card, find_card, load_card, onnx_path
from edgeface.passport import passport_path, read_passport, write_engine

PICTURES = 3


def seen(*faces: tuple[int, float], shift: float = 0.0) -> dict[str, np.ndarray]:
    """Outputs of an SCRFD network: faces of 32 pixels in the cells of stride 16, moved by `shift` strides."""
    outputs = scrfd_outputs()
    for cell, score in faces:
        outputs["score_16"][0, 2 * cell] = score
        outputs["bbox_16"][0, 2 * cell] = [1 - shift, 1, 1 + shift, 1]
        outputs["kps_16"][0, 2 * cell] = [shift - 0.5, 0, shift + 0.5, 0, shift, 0.5, shift, 0.7, shift, 0.7]
    return outputs


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(PICTURES):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((64, 64, 3), 60 * number, np.uint8))
    return find_shown(str(folder))


@pytest.fixture
def card(make_card: Callable[..., Path], make_onnx: MakeOnnx) -> Card:
    """Sees two faces on every picture."""
    make_onnx(seen((5, 0.9), (11, 0.8)))
    return load_card(make_card())


Try = Callable[..., Report]


@pytest.fixture
def tried(card: Card, shown: Shown, make_onnx: MakeOnnx) -> Try:
    """The report on a form with these outputs."""

    def run(outputs: dict[str, np.ndarray]) -> Report:
        return Gate(card, (64, 64), shown).of_form(make_onnx(outputs, name="form.onnx"), "int8")

    return run


def failed(report: Report) -> list[str]:
    assert report.passed == (not report.failures())
    return [limit.figure for limit, found in report.checks() if not limit.holds(found)]


def test_a_perfect_form(tried: Try) -> None:
    report = tried(seen((5, 0.9), (11, 0.8)))
    assert (report.pictures, report.unusable, report.figures.faces) == (PICTURES, 0, 2 * PICTURES)
    assert (report.figures.matched, report.figures.extra, report.figures.mean_iou) == (1, 0, pytest.approx(1))
    assert report.passed
    assert (report.form, report.runs_on.split()[0], report.kept, report.worst) == ("form.onnx", "onnxruntime", (), ())


def test_boxes_that_are_shifted(tried: Try) -> None:
    assert failed(tried(seen((5, 0.9), (11, 0.8), shift=0.1))) == []  # by 1.6 of 32 pixels: an IoU of 0.905
    report = tried(seen((5, 0.9), (11, 0.8), shift=0.12))
    assert failed(report) == ["matched"]
    assert report.failures() == ["FP32's faces found with an IoU of 0.9: 0.00%, expected at least 99.00%"]
    assert report.figures.keypoint_shift == pytest.approx(0.12)


def test_faces_that_are_lost_or_new(tried: Try) -> None:
    report = tried(seen((5, 0.9)))
    assert (failed(report), report.figures.matched) == (["matched"], 0.5)
    report = tried(seen((5, 0.9), (11, 0.8), (0, 0.7)))
    assert (failed(report), report.figures.extra) == (["extra"], 0.5)
    assert report.failures() == ["faces that FP32 does not see: 50.00%, expected at most 1.00%"]


def test_scores_that_have_changed(tried: Try) -> None:
    assert failed(tried(seen((5, 0.88), (11, 0.78)))) == []
    assert failed(tried(seen((5, 0.8), (11, 0.7)))) == ["score_change"]
    report = tried(seen((5, 0.9), (11, 0.45)))
    assert (report.figures.matched, report.figures.weak, failed(report)) == (0.5, 0.5, ["matched", "score_change"])


def test_a_network_that_gives_zeros_or_no_numbers(tried: Try) -> None:
    assert failed(tried(scrfd_outputs())) == ["matched"]
    nothing = {name: np.full_like(value, np.nan) for name, value in scrfd_outputs().items()}
    report = tried(nothing)
    assert (failed(report), report.unusable) == (["unusable", "matched"], PICTURES)
    assert report.failures()[0] == "pictures on which its numbers mean nothing: 3, expected at most 0"


def test_pictures_without_a_face_say_nothing(card: Card, shown: Shown, make_onnx: MakeOnnx) -> None:
    make_onnx(scrfd_outputs())
    report = Gate(card, (64, 64), shown).of_form(onnx_path(card), "fp16")
    assert failed(report) == ["faces", "matched"]
    assert report.failures()[0] == "faces that FP32 finds: 0, expected at least 1"


def test_fp32_itself_must_mean_something(card: Card, shown: Shown, make_onnx: MakeOnnx) -> None:
    make_onnx({name: np.full_like(value, np.nan) for name, value in scrfd_outputs().items()})
    with pytest.raises(EngineError, match="net: FP32's own numbers mean nothing on 3 pictures of .*/pictures"):
        Gate(card, (64, 64), shown)


def test_a_form_of_another_network(card: Card, shown: Shown, make_onnx: MakeOnnx) -> None:
    gate = Gate(card, (64, 64), shown)
    with pytest.raises(EngineError, match="expected"):
        gate.of_form(make_onnx({"x": np.zeros((1, 5, 7), np.float32)}, name="form.onnx"), "int8")


def test_distance_orders_forms(tried: Try) -> None:
    forms = [seen((5, 0.9), (11, 0.8)), seen((5, 0.89), (11, 0.8)), seen((5, 0.9), (11, 0.8), shift=0.1)]
    forms += [seen((5, 0.9)), scrfd_outputs()]
    distances = [tried(outputs).distance() for outputs in forms]
    assert distances == sorted(distances)
    assert distances[0] == pytest.approx(0, abs=1e-6)


DEMO = find_shown("demo:").every(15)  # four pictures


@pytest.fixture(scope="module")
def detection_gate() -> Gate:
    return Gate(find_card("edgeface-detector"), (320, 320), DEMO)


@pytest.fixture(scope="module")
def landmark_gate() -> Gate:
    return Gate(find_card("edgeface-landmarks"), (80, 80), DEMO)


def fp16(card: Card, folder: Path) -> Path:
    return precision.form(onnx_path(card), "fp16", strongly_typed=True, folder=folder, engines=folder)


def test_our_detector_in_fp16(detection_gate: Gate, tmp_path: Path) -> None:
    report = detection_gate.of_form(fp16(find_card("edgeface-detector"), tmp_path), "fp16")
    assert report.passed
    assert report.figures.faces > 8
    assert 0.9 < report.figures.mean_iou < 1
    assert 0 < report.figures.score_shift_p95 < 0.01
    assert report.figures.ap_fp32 == pytest.approx(report.figures.ap_form, abs=0.01)
    assert report.figures.ap_fp32 > 0.9
    assert len(report.worst) == 10
    assert 20 < report.worst[0].snr_db <= report.worst[9].snr_db < 60
    again = detection_gate.few().of_form(onnx_path(find_card("edgeface-detector")), "fp32", tensors=False)
    assert (again.distance(), again.worst, again.pictures) == (pytest.approx(0, abs=1e-3), (), 4)


def test_our_landmarks_in_fp16(landmark_gate: Gate, tmp_path: Path) -> None:
    report = landmark_gate.of_form(fp16(find_card("edgeface-landmarks"), tmp_path), "fp16")
    assert report.passed
    assert (report.figures.faces > 8, report.figures.placed) == (True, 1)
    assert 0 < report.figures.shift < report.figures.shift_p95 < 0.005
    assert 8 < report.figures.labelled <= report.figures.faces
    assert report.figures.nme_form == pytest.approx(report.figures.nme_fp32, rel=0.02)
    assert report.distance() == report.figures.shift
    assert len(landmark_gate.noise(onnx_path(find_card("edgeface-landmarks")))) == 0


def landmark_form(folder: Path, *, right: float = 0.0) -> Path:
    """Landmarks in fixed places of the crop, moved to the right by some of its 80 pixels."""
    points = np.random.default_rng(0).uniform(20, 60, (1, 80, 2)) + np.array([right, 0])
    nodes = [
        node("ReduceMean", "x", "mean", axes=[2, 3], keepdims=0),  # [n, 1]
        node("Mul", "mean none", "nothing"),
        node("Add", "nothing scores", "softargmax:1"),
        node("Unsqueeze", "nothing last", "deep"),
        node("Add", "deep points", "softargmax"),
    ]
    made = {"none": 0.0, "points": points, "scores": np.full((1, 80), 0.5)}
    model = network(*nodes, shape=["n", 1, 80, 80], outputs=("softargmax", "softargmax:1"), **made)
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "last"))
    return saved(model, folder)


def test_landmarks_that_are_shifted(landmark_gate: Gate, tmp_path: Path) -> None:
    report = landmark_gate.of_form(landmark_form(tmp_path), "int8")
    assert failed(report) == ["shift", "nme_rise"]
    assert report.failures()[0].startswith("mean shift of landmarks, of the eyes' distance: ")
    assert report.figures.placed == 1


def test_labels_with_other_points_say_nothing(landmark_gate: Gate, tmp_path: Path) -> None:
    pictures = demo_labels()[::75]
    odd = [type(one)(one.path, one.xy[:, :21], one.xyxy, None, one.frame) for one in pictures]
    gate = Gate(find_card("edgeface-landmarks"), (80, 80), Shown("odd", DEMO.frames, odd))
    report = gate.of_form(fp16(find_card("edgeface-landmarks"), tmp_path), "fp16", tensors=False)
    assert (report.passed, report.figures.nme_form, report.figures.labelled) == (True, None, 0)


def test_landmarks_that_are_lost(landmark_gate: Gate, tmp_path: Path) -> None:
    report = landmark_gate.of_form(landmark_form(tmp_path, right=500), "int8")
    assert (failed(report), report.figures.placed, report.figures.shift) == (["placed"], 0, None)


def test_inputs_are_spread_over_all_pictures() -> None:
    class Engine:
        def crop(self, frame: int, crops: np.ndarray) -> np.ndarray:
            return np.full((len(crops), 1, 2, 2), frame, np.float32)

    engine: Any = Engine()
    inputs = _Inputs(engine)
    for number in range(60):
        assert engine.crop(number, np.zeros((20, 4))).shape == (20, 1, 2, 2)
    assert [tensor.shape[0] for tensor in inputs.tensors] == [8] * len(inputs.tensors)
    found = [int(tensor.max()) for tensor in inputs.tensors]
    assert found == [0, 16, 32, 48]


def test_an_engine_on_the_gpu(gpu: Any, detection_gate: Gate, tmp_path: Path) -> None:
    card = find_card("edgeface-detector")
    path = write_soft_engine(tmp_path, card, (320, 320))
    report = detection_gate.of_engine(tmp_path, path.name, "fp16", None)
    assert report.passed
    assert (report.form, report.runs_on, report.pictures, report.worst) == (path.name, "cuda", 4, ())
    assert 0.9 < report.figures.mean_iou <= 1
    json.dumps(report.as_json())


def test_an_engine_that_sees_nobody(gpu: Any, detection_gate: Gate, tmp_path: Path, make_onnx: MakeOnnx) -> None:
    card = find_card("edgeface-detector")
    gpu.dla_cores = 1
    path = write_soft_engine(tmp_path, card, (320, 320), dla=True, precision="int8")
    assert detection_gate.of_engine(tmp_path, path.name, "int8", 0).passed
    blind = {}
    for kind, values in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            blind[f"{kind}_{stride}"] = np.zeros((1, (320 // stride) ** 2, values), np.float32)
    from plans import make_plan

    plan = make_plan(make_onnx(blind, [1, 1, 320, 320]), dla=True, precision="int8")
    passport = msgspec.structs.replace(
        read_passport(passport_path(path)), engine_sha256=hashlib.sha256(plan).hexdigest(), engine_bytes=len(plan)
    )
    write_engine(path, plan, passport)
    assert failed(detection_gate.of_engine(tmp_path, path.name, "int8", 0)) == ["matched", "ap_loss"]
