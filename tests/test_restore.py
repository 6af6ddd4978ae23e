"""Layers of a Q/DQ ONNX back in FP32, ours and those of ONNX Runtime's quantiser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from test_forms import network, node, saved

from edgeface.build import quantise
from edgeface.build.restore import quantised_layers, restored

RNG = np.random.default_rng(0)
WEIGHTS = {name: RNG.normal(size=(3, 3, 3, 3)) for name in ("w", "v")}
NODES = [
    node("Conv", "x w bias", "c", "first", pads=[1] * 4),
    node("Relu", "c", "r"),
    node("Conv", "r v", "d", "second", pads=[1] * 4),
    node("Conv", "r v", "e", "third", pads=[1] * 4),
    node("Add", "d e", "y", "sum"),
]
PIXELS = RNG.normal(size=(1, 3, 4, 4)).astype(np.float32)


class Once:
    """A CalibrationDataReader of one input."""

    def __init__(self) -> None:
        self._inputs = iter([{"x": PIXELS}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)


@pytest.fixture
def full() -> ModelProto:
    return network(*NODES, bias=[1.0, 2.0, 3.0], **WEIGHTS)


@pytest.fixture(params=["ours", "onnxruntime", "onnxruntime, uint8 with biases"])
def form(request: pytest.FixtureRequest, full: ModelProto, tmp_path: Path) -> ModelProto:
    if request.param == "ours":
        made, _ = quantise.quantise(full, {"x": 0.05, "r": 0.2})
        return made
    symmetric = request.param == "onnxruntime"
    kind = QuantType.QInt8 if symmetric else QuantType.QUInt8
    quantize_static(
        str(saved(full, tmp_path, "full.onnx")),
        str(tmp_path / "form.onnx"),
        Once(),
        quant_format=QuantFormat.QDQ,
        activation_type=kind,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
        extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": not symmetric},
    )
    return onnx.load(str(tmp_path / "form.onnx"))


def run(model: ModelProto) -> np.ndarray:
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(["y"], {"x": PIXELS})[0]
    return result


def test_the_layers_that_are_quantised(full: ModelProto, form: ModelProto) -> None:
    named = [one.name for one in full.graph.node if one.op_type == "Conv"]
    assert [name for name in quantised_layers(full, form) if name in named] == ["first", "second", "third"]
    assert quantised_layers(full, full) == ()


def test_some_layers_are_fp32_again(full: ModelProto, form: ModelProto) -> None:
    before = form.SerializeToString()
    part = restored(full, form, {"first", "second"})
    assert form.SerializeToString() == before
    assert set(quantised_layers(full, part)) == set(quantised_layers(full, form)) - {"first", "second"}
    distance = [np.abs(run(one) - run(full)).max() for one in (form, part)]
    assert 0 < distance[1] < distance[0]


def test_with_all_layers_it_is_fp32(full: ModelProto, form: ModelProto) -> None:
    whole = restored(full, form, quantised_layers(full, form))
    assert quantised_layers(full, whole) == ()
    left = {one.output[0] for one in whole.graph.node if one.op_type == "DequantizeLinear"}
    assert left <= {"y"}  # ONNX Runtime's quantiser may round what comes out, which no layer reads
    np.testing.assert_allclose(run(whole), run(full), rtol=1e-5, atol=0.3 if left else 1e-5)


def test_names_that_are_no_layers_change_nothing(full: ModelProto, form: ModelProto) -> None:
    assert len(restored(full, form, {"nobody"}).graph.node) == len(form.graph.node)
