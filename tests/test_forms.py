"""Forms on ONNX Runtime with a device's rounding, and the noise of their tensors: networks of a few nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxconverter_common import float16

from edgeface.build.forms import TensorNoise, load_form, open_form, tensor_noise, worst_tensors
from edgeface.errors import EngineError
from edgeface.model_card import load_card

SHAPE = [1, 3, 4, 4]


def network(
    *nodes: NodeProto, shape: list[Any] = SHAPE, outputs: tuple[str, ...] = ("y",), **values: Any
) -> ModelProto:
    """Of the input x."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in values.items()],
    )
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )


def node(op_type: str, inputs: str, output: str, name: str = "", **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], name or f"make {output}", **attributes)


def saved(model: ModelProto, folder: Path, name: str = "form.onnx") -> Path:
    onnx.save(model, str(folder / name))
    return folder / name


def halved(model: ModelProto, **options: Any) -> ModelProto:
    return float16.convert_float_to_float16(model, keep_io_types=True, **options)


def outputs(path: Path, make_card: Any, pixels: np.ndarray) -> dict[str, np.ndarray]:
    engine = open_form(path, load_card(make_card(width=4, height=4)), (4, 4), 1)
    return engine.run(pixels.astype(np.float32))


LOUD = [node("Mul", "x a", "m"), node("Relu", "m", "r"), node("Mul", "r b", "y")]


def test_fp16_overflows_as_on_a_device(tmp_path: Path, make_card: Any) -> None:
    """ONNX Runtime alone would give 90: it computes in FP32."""
    model = network(*LOUD, a=9_000, b=1e-3)
    path = saved(halved(model), tmp_path)
    assert np.isinf(outputs(path, make_card, np.full(SHAPE, 10))["y"]).all()
    assert outputs(path, make_card, np.full(SHAPE, 1))["y"].max() == pytest.approx(9, rel=1e-3)
    (tmp_path / "mended").mkdir()
    mended = saved(halved(model, node_block_list=["make m", "make r", "make y"]), tmp_path / "mended")
    assert outputs(mended, make_card, np.full(SHAPE, 10))["y"].max() == pytest.approx(90)


def test_fp16_rounds_what_a_node_gives(tmp_path: Path, make_card: Any) -> None:
    constant = helper.make_node("Constant", [], ["a"], "c", value=numpy_helper.from_array(np.array(1 / 3, np.float32)))
    model = network(constant, *LOUD, b=1.0)
    pixels = np.arange(48).reshape(SHAPE)
    half = (pixels.astype(np.float16).astype(np.float32) * np.float32(np.float16(1 / 3))).astype(np.float16)
    found = outputs(saved(halved(model), tmp_path), make_card, pixels)["y"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, half.astype(np.float32))


def test_an_output_in_fp16_is_rounded_too(tmp_path: Path, make_card: Any) -> None:
    model = network(node("Cast", "x", "h", to=TensorProto.FLOAT16), node("Sqrt", "h", "y"))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    pixels = np.arange(48).reshape(SHAPE)
    found = outputs(saved(model, tmp_path), make_card, pixels)["y"]
    np.testing.assert_array_equal(found, np.sqrt(pixels.astype(np.float16)).astype(np.float32))


def test_what_is_no_form_is_said(tmp_path: Path, make_card: Any) -> None:
    (tmp_path / "form.onnx").write_bytes(b"no ONNX at all")
    with pytest.raises(EngineError, match=r"form.onnx: not an ONNX that can be checked: "):
        load_form(tmp_path / "form.onnx")
    with pytest.raises(EngineError, match="not an ONNX that can be checked"):
        load_form(tmp_path / "not there")
    riddle = helper.make_model(helper.make_graph([node("Riddle", "x", "y")], "g", [], []))
    with pytest.raises(EngineError, match="ONNX Runtime cannot load the form: "):
        open_form(saved(riddle, tmp_path), load_card(make_card()), (4, 4), 1)


def test_signal_to_noise_of_tensors(tmp_path: Path) -> None:
    """One weight is off by a tenth: 20 dB there and behind it, nothing before it."""
    nodes = [node("Mul", "x a", "m"), node("Mul", "m b", "n"), node("Add", "n c", "y")]
    full, form = (network(*nodes, a=2.0, b=b, c=0.0) for b in (1.0, 1.1))
    rng = np.random.default_rng(0)
    noise = tensor_noise(full, form, [rng.normal(size=SHAPE).astype(np.float32) for _ in range(2)])
    assert [(one.tensor, one.node, one.op_type) for one in noise] == [("n", "make n", "Mul"), ("y", "make y", "Add")]
    assert [one.snr_db for one in noise] == pytest.approx([20, 20], abs=1e-3)
    assert tensor_noise(full, full, [np.ones(SHAPE, np.float32)]) == []


def test_tensors_that_are_not_finite_or_should_be_zero(tmp_path: Path) -> None:
    full = network(*LOUD, node("Sub", "x x", "z"), outputs=("y", "z"), a=9_000, b=1e-3)
    form = load_form(saved(halved(full), tmp_path))
    form.graph.node.append(node("Mul", "x b", "moved"))  # a tensor that FP32 has not
    noise = {one.tensor: one for one in tensor_noise(full, form, [np.full(SHAPE, 10, np.float32)])}
    assert {name: one.snr_db for name, one in noise.items()} == {"m": None, "r": None, "y": None}
    wrong = network(*LOUD, node("Add", "x x", "z"), outputs=("y", "z"), a=9_000, b=1e-3)
    (one,) = tensor_noise(full, wrong, [np.full(SHAPE, 10, np.float32)])
    assert (one.tensor, one.snr_db) == ("z", -100.0)


def test_a_fixed_batch_is_filled_up() -> None:
    full, form = (network(*LOUD, shape=[4, 3, 4, 4], a=1.0, b=b) for b in (1.0, 1.1))
    (one,) = tensor_noise(full, form, [np.ones((1, 3, 4, 4), np.float32), np.ones((6, 3, 4, 4), np.float32)])
    assert one.snr_db == pytest.approx(20, abs=1e-3)


def test_an_input_that_the_network_does_not_take() -> None:
    full = network(*LOUD, a=1.0, b=1.0)
    with pytest.raises(EngineError, match="ONNX Runtime cannot run the form: "):
        tensor_noise(full, full, [np.ones((1, 3, 9, 9), np.float32)])


def test_the_noisiest_come_first() -> None:
    noise = [TensorNoise(str(snr), "n", "Conv", snr) for snr in (30.0, 5.0, None, 12.0)]
    assert [one.snr_db for one in worst_tensors(noise, 3)] == [None, 5.0, 12.0]
