"""Q/DQ nodes: what becomes INT8 and what does not, held against arithmetic, ONNX Runtime and TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgeface.build import calibrate, onnx_file, quantise
from edgeface.errors import EngineError
from edgeface.model_card import find_card, onnx_path

RNG = np.random.default_rng(0)
NETWORKS = ["edgeface-detector", "edgeface-landmarks", "scrfd-500m-kps", "scrfd-2.5g-kps"]


def model(
    nodes: list[NodeProto], weights: dict[str, np.ndarray], inputs: dict[str, list[int]], outputs: list[str]
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, 17) for domain in ("", "ours")])
    network.ir_version = 8
    network = onnx.shape_inference.infer_shapes(network)
    del network.graph.value_info[:]
    return network


def run(network: ModelProto, **feed: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def ops(network: ModelProto) -> list[str]:
    return [node.op_type for node in network.graph.node]


def fake(x: np.ndarray, scale: float) -> np.ndarray:
    """What INT8 keeps of x."""
    return (np.clip(np.rint(x / np.float32(scale)), -128, 127) * np.float32(scale)).astype(np.float32)


def two_layers() -> ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], "first"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["y"], "second"),
    ]
    weights = {"w1": f32(4, 3, 3, 3), "b1": f32(4), "w2": f32(2, 4, 1, 1)}
    return model(nodes, weights, {"x": [1, 3, 8, 8]}, ["y"])


@given(
    arrays(np.float32, array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.floats(-1e6, 1e6, width=32)),
    st.sampled_from([0, 1, None]),
)
def test_weights_are_held_to_half_a_step(weights: np.ndarray, axis: int | None) -> None:
    levels, scale = quantise.int8_weights(weights, axis)
    assert (levels.shape, levels.dtype, scale.dtype) == (weights.shape, np.int8, np.float32)
    assert scale.shape == (() if axis is None else (weights.shape[axis],))
    assert (scale > 0).all()
    assert np.abs(levels.astype(int)).max() <= 127
    step = scale if axis is None else scale.reshape([-1 if one == axis else 1 for one in range(weights.ndim)])
    assert (np.abs(levels * step - weights) <= step * 0.5001).all()
    if np.abs(weights).max() > 1e-30:  # the range is used
        assert np.abs(levels.astype(int)).max() == 127


@pytest.mark.parametrize("per_channel", [True, False])
def test_int8_gives_what_arithmetic_says(per_channel: bool) -> None:
    network, x = two_layers(), f32(1, 3, 8, 8)
    scales = {"x": 0.02, "r": 0.03}
    result, report = quantise.quantise(network, scales, per_channel=per_channel)
    assert ops(result) == [
        *("QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "Relu"),
        *("QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv"),
    ]
    weights = {one.name: numpy_helper.to_array(one) for one in network.graph.initializer}
    for name in ("w1", "w2"):
        levels, scale = quantise.int8_weights(weights[name], 0 if per_channel else None)
        weights[name] = levels * (scale.reshape(-1, 1, 1, 1) if per_channel else scale)
    (hidden,) = run(
        model([network.graph.node[0], network.graph.node[1]], weights, {"x": [1, 3, 8, 8]}, ["r"]), x=fake(x, 0.02)
    )
    expected = np.einsum("oc,nchw->nohw", weights["w2"][:, :, 0, 0], fake(hidden, 0.03))
    (found,) = run(result, x=x)
    np.testing.assert_allclose(found, expected, atol=0.3)  # sums in another order round to another level here and there
    assert np.isclose(found, expected, atol=1e-4).mean() > 0.9
    assert report.quantised == ("first", "second")
    assert str(report) == "2 of 2 convolutions and matrix products in INT8"
    held = {one.name: one for one in result.graph.initializer}
    assert "b1" in held and not {"w1", "w2"} & held.keys()
    assert {held[name].data_type for name in ("w1.0.int8", "w1.all.int8") if name in held} == {TensorProto.INT8}
    assert ops(network) == ["Conv", "Relu", "Conv"]  # what was given is as it was


def test_nodes_that_are_kept_and_nodes_without_a_scale_stay_float() -> None:
    network, x = two_layers(), f32(1, 3, 8, 8)
    result, report = quantise.quantise(network, {"x": 0.02, "r": 0.03}, keep={"first", "no such node"})
    assert (report.quantised, report.kept, report.unscaled) == (("second",), ("first",), ())
    assert "w1" in {one.name for one in result.graph.initializer}
    assert ops(result).count("QuantizeLinear") == 1
    result, report = quantise.quantise(network, {"x": 0.02, "c": 1.0, "gone": 1.0, "[Shuffle]": 2.0})
    assert (report.quantised, report.unscaled) == (("first",), (("second", "r"),))
    assert (report.spare, report.unknown) == (("c",), ("gone", "[Shuffle]"))
    assert str(report).splitlines() == [
        "1 of 2 convolutions and matrix products in INT8",
        "  without a scale for their input: second (r)",
        "  1 scales of tensors that stay float32",
        "  2 scales of tensors that the ONNX lacks: gone, [Shuffle]",
    ]
    everything, report = quantise.quantise(network, {"x": 0.02, "r": 0.03}, keep={"first", "second"})
    assert ops(everything) == ops(network)
    assert "left in float32: first, second" in str(report)
    np.testing.assert_array_equal(run(everything, x=x)[0], run(network, x=x)[0])


def test_long_lists_are_cut() -> None:
    _, report = quantise.quantise(two_layers(), {"x": 1.0, "r": 1.0} | {f"t{number}": 1.0 for number in range(11)})
    assert str(report).endswith("11 scales of tensors that the ONNX lacks: t0, t1, t2, t3, t4, t5, t6, t7 and 3 more")


def test_a_tensor_read_twice_has_one_pair_and_weights_used_twice_are_held_once() -> None:
    nodes = [
        helper.make_node("Identity", ["w"], ["same"], "copy"),  # as exporters write weights that are shared
        helper.make_node("Conv", ["x", "w"], ["a"], "one"),
        helper.make_node("Conv", ["x", "same"], ["b"], "two"),
        helper.make_node("Conv", ["a", "same"], ["c"], "three"),
        helper.make_node("Sum", ["b", "c"], ["y"], "sum"),
    ]
    network, x = model(nodes, {"w": f32(3, 3, 1, 1)}, {"x": [1, 3, 4, 4]}, ["y"]), f32(1, 3, 4, 4)
    result, report = quantise.quantise(network, {"x": 0.04, "a": 0.1})
    assert ops(result).count("QuantizeLinear") == 2
    assert ops(result).count("DequantizeLinear") == 3
    assert "Identity" not in ops(result)  # nothing reads it any more
    assert {one.name for one in result.graph.initializer if one.data_type == TensorProto.INT8 and one.dims} == {
        "w.0.int8",
        "w.0.zero",
    }
    assert len(report.quantised) == 3
    np.testing.assert_allclose(run(result, x=x)[0], run(network, x=x)[0], atol=0.5)
    kept, _ = quantise.quantise(network, {"x": 0.04, "a": 0.1}, keep={"two"})
    assert "w" in {one.name for one in kept.graph.initializer}
    assert ops(kept).count("Identity") == 1


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    ("node", "shape", "axis"),
    [
        (helper.make_node("Gemm", ["x", "w"], ["y"], "node"), (6, 5), 1),
        (helper.make_node("Gemm", ["x", "w"], ["y"], "node", transB=1), (5, 6), 0),
        (helper.make_node("MatMul", ["x", "w"], ["y"], "node"), (6, 5), 1),
        (helper.make_node("MatMul", ["x", "w"], ["y"], "node"), (1, 6, 5), None),
    ],
)
def test_matrix_products(node: NodeProto, shape: tuple[int, ...], axis: int | None, per_channel: bool) -> None:
    weights = f32(*shape) * np.logspace(-3, 0, 5).reshape(-1, *[1] * (axis is not None and 1 - axis)).astype(np.float32)
    network, x = model([node], {"w": weights}, {"x": [4, 6]}, ["y"]), f32(4, 6)
    assert quantise.targets(network) == [quantise.Target("node", "x", "w", axis)]
    result, _ = quantise.quantise(network, {"x": 4 / 127}, per_channel=per_channel)
    expected, found = run(network, x=x)[0], run(result, x=x)[0]
    np.testing.assert_allclose(found, expected, atol=0.2)
    if per_channel and axis is not None:  # each column to its own scale
        np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=1e-3)


def test_what_is_never_quantised() -> None:
    places = np.arange(6, dtype=np.float32).reshape(6, 1)
    constant = helper.make_node("Constant", [], ["held"], value=numpy_helper.from_array(f32(6, 6), "v"))
    nodes = [
        constant,
        helper.make_node("MatMul", ["x", "held"], ["a"], "constant node"),
        helper.make_node("MatMul", ["x", "a"], ["b"], "no weights"),
        helper.make_node("Softmax", ["b"], ["p"], "softmax"),
        helper.make_node("Identity", ["p"], ["q"], "copy"),
        helper.make_node("MatMul", ["q", "places"], ["y"], "mean of places"),
        helper.make_node("MatMul", ["held", "places"], ["z"], "constant product"),
        helper.make_node("Gemm", ["x", "halves"], ["h"], "no float32"),
        helper.make_node("Conv", ["x", "held"], ["o"], "another domain", domain="ours"),
        helper.make_node("Add", ["y", "z"], ["sum"], "add"),
    ]
    weights = {"places": places, "halves": f32(6, 6).astype(np.float16)}
    network = model(nodes, weights, {"x": [6, 6]}, ["sum"])
    assert [target.name for target in quantise.targets(network)] == ["constant node"]
    assert quantise.targets(network)[0].weights == "held"


def test_weights_from_a_constant_node() -> None:
    constant = helper.make_node("Constant", [], ["held"], value=numpy_helper.from_array(f32(6, 5), "v"))
    other = helper.make_node("Constant", [], ["one"], value_float=1.0)
    nodes = [
        constant,
        other,
        helper.make_node("Add", ["x", "one"], ["z"], "add"),
        helper.make_node("MatMul", ["z", "held"], ["y"], "product"),
    ]
    network, x = model(nodes, {}, {"x": [4, 6]}, ["y"]), f32(4, 6)
    result, _ = quantise.quantise(network, {"z": 5 / 127})
    assert ops(result) == ["Constant", "Add", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul"]
    np.testing.assert_allclose(run(result, x=x)[0], run(network, x=x)[0], atol=0.2)


def test_a_tensor_with_the_same_values_has_the_same_scale() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x:0"], ["pooled"], "pool", kernel_shape=[2, 2]),
        helper.make_node("Transpose", ["pooled"], ["turned"], "turn", perm=[0, 1, 3, 2]),
        helper.make_node("Conv", ["turned", "w"], ["y"], "conv"),
        helper.make_node("Conv", ["y", "w"], ["z"], "last"),
    ]
    network = model(nodes, {"w": f32(3, 3, 1, 1)}, {"x:0": [1, 3, 4, 4]}, ["z"])
    result, report = quantise.quantise(network, {"x": 0.5, "y:0": 0.25})  # TensorFlow's names, with and without :0
    held = {one.name: numpy_helper.to_array(one) for one in result.graph.initializer}
    assert (held["turned.scale"], held["y.scale"]) == (0.5, 0.25)
    assert report.unknown == ()


def test_what_a_graph_inside_reads_is_not_dropped() -> None:
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, 3, 4, 4])
    inside = helper.make_graph([helper.make_node("Mul", ["y", "factor"], ["inner"])], "then", [], [value])
    other = helper.make_graph([helper.make_node("Conv", ["y", "w"], ["inner2"])], "else", [], [value])
    other.output[0].name = "inner2"
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], "conv"),
        helper.make_node("If", ["which"], ["z"], "if", then_branch=inside, else_branch=other),
    ]
    weights = {"w": f32(3, 3, 1, 1), "factor": f32(1), "which": np.array(True)}
    network, x = model(nodes, weights, {"x": [1, 3, 4, 4]}, ["z"]), f32(1, 3, 4, 4)
    result, _ = quantise.quantise(network, {"x": 4 / 127})
    assert {"w", "factor", "which"} <= {one.name for one in result.graph.initializer}
    np.testing.assert_allclose(run(result, x=x)[0], run(network, x=x)[0], atol=0.2)


@pytest.mark.parametrize(
    ("scales", "why"),
    [
        ({}, r"found 0 of them among 0 \(, ...\)"),
        (
            {"conv1/convolution": 1.0},
            r"the 3 tensors that INT8 nodes read \(x, ...\), found 0 of them among 1 \(conv1/",
        ),
        ({"x": 1.0, "another": 1.0}, r"found 1 of them among 2 \(x, another, ...\): another network's, or"),
    ],
)
def test_scales_of_another_network_are_refused(scales: dict[str, float], why: str) -> None:
    nodes = [helper.make_node("Conv", [a, "w"], [b], b) for a, b in ("xa", "ab", "by")]
    with pytest.raises(EngineError, match=why):
        quantise.quantise(model(nodes, {"w": f32(3, 3, 1, 1)}, {"x": [1, 3, 4, 4]}, ["y"]), scales)


def test_a_network_without_convolutions_is_refused() -> None:
    network = model([helper.make_node("Relu", ["x"], ["y"], "r")], {}, {"x": [1]}, ["y"])
    with pytest.raises(
        EngineError, match="expected an ONNX with convolutions or matrix products in float32, found none"
    ):
        quantise.quantise(network, {"x": 1.0})


def test_a_result_that_is_not_valid_is_an_error() -> None:
    network = two_layers()
    network.graph.node[0].output[0] = network.graph.node[1].input[0] = "x.int8"
    with pytest.raises(EngineError, match="the quantised network is not valid: .*SSA"):
        quantise.quantise(network, {"x": 1.0, "r": 1.0})


def test_what_the_checker_refuses_beforehand_is_no_reason() -> None:
    network = two_layers()
    network.graph.output[0].type.tensor_type.ClearField("shape")
    assert len(quantise.quantise(network, {"x": 1.0, "r": 1.0})[1].quantised) == 2


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks(name: str, per_channel: bool, request: pytest.FixtureRequest) -> None:
    """All their convolutions, and nothing else; by ONNX Runtime's reading close to float32 on any pixels."""
    bundled = name.startswith("edgeface-")
    folder = ROOT / "engines" if bundled else request.getfixturevalue("data") / "networks"
    card = find_card(name, (str(folder),))
    network = onnx_file.load(onnx_path(card))
    size = (card.input.height, card.input.width) if card.task == "landmarks" else (640, 640)
    pixels = np.kron(RNG.random((1, card.input.channels, size[0] // 16, size[1] // 16)), np.ones((16, 16)))
    pixels = (pixels * 255 - card.input.mean[0]).astype(np.float32) * np.float32(card.input.scale)
    found, crops = calibrate.histograms(network, [pixels])
    result, report = quantise.quantise(network, calibrate.scales(found, "minmax"), per_channel=per_channel)
    assert crops == 1
    assert len(report.quantised) == ops(network).count("Conv")
    assert (report.kept, report.unscaled, report.unknown) == ((), (), ())
    assert len(result.SerializeToString()) < 0.36 * onnx_path(card).stat().st_size
    feed = {network.graph.input[0].name: pixels}
    for ours, theirs in zip(run(result, **feed), run(network, **feed), strict=True):
        assert (ours.dtype, ours.shape) == (np.float32, theirs.shape)
        assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.5 * np.sqrt(np.mean(theirs**2)) + 1e-3


# --- reading


def save(network: ModelProto, path: Path, **how: object) -> Path:
    onnx.save(network, str(path), **how)
    return path


def test_nodes_get_names_and_initialisers_are_no_inputs(tmp_path: Path) -> None:
    network = two_layers()
    for node in network.graph.node:
        node.name = "" if node.op_type == "Relu" else "same"
    network.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, [4, 3, 3, 3]))
    network.ir_version = 3
    loaded = onnx_file.load(save(network, tmp_path / "net.onnx"))
    assert [node.name for node in loaded.graph.node] == ["same", "Relu_r", "same_y"]
    assert [one.name for one in loaded.graph.input] == ["x"]
    assert loaded.ir_version == 4
    result, _ = quantise.quantise(loaded, {"x": 0.02, "r": 0.03})
    assert run(result, x=f32(1, 3, 8, 8))[0].shape == (1, 2, 6, 6)


def test_an_old_opset_is_raised(data: Path) -> None:
    path = data / "networks" / "scrfd_2.5g_kps_named.onnx"
    before, after = onnx.load(str(path)), onnx_file.load(path)
    assert (before.opset_import[0].version, after.opset_import[0].version) == (11, 13)
    names = {name for node in before.graph.node for name in node.output}
    assert names <= {name for node in after.graph.node for name in node.output}
    x = RNG.standard_normal((1, 3, 640, 640)).astype(np.float32)
    for old, new in zip(run(before, **{"input.1": x}), run(after, **{"input.1": x}), strict=True):
        np.testing.assert_array_equal(old, new)


def test_weights_beside_the_onnx(tmp_path: Path) -> None:
    network = two_layers()
    how = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    path = save(onnx.ModelProto.FromString(network.SerializeToString()), tmp_path / "net.onnx", **how)
    digest = onnx_file.sha256(path)
    result, _ = quantise.quantise(onnx_file.load(path), {"x": 0.04, "r": 0.2})
    x = f32(1, 3, 8, 8)
    np.testing.assert_allclose(run(result, x=x)[0], run(network, x=x)[0], atol=2.0)
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(data[:-1] + b"\1")
    assert onnx_file.sha256(path) != digest
    (tmp_path / "weights.bin").unlink()
    for read in (onnx_file.load, onnx_file.sha256):
        with pytest.raises(EngineError) as caught:
            read(path)
        assert "net.onnx" in str(caught.value) and "weights" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [onnx_file.load, onnx_file.sha256])
def test_what_is_no_onnx(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(EngineError, match="net.onnx: "):
        read(path)
    path.write_bytes(b"\x00\xff" * 500)
    with pytest.raises(EngineError, match="net.onnx: not an ONNX"):
        read(path)


def test_an_empty_or_quantised_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"")
    with pytest.raises(EngineError, match="it has no node"):
        onnx_file.load(path)
    save(quantise.quantise(two_layers(), {"x": 1.0, "r": 1.0})[0], path)
    with pytest.raises(EngineError, match="expected a network in float32, found one with Q/DQ nodes already"):
        onnx_file.load(path)
