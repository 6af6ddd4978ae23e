"""ONNX and scales -> the same network in INT8, as ONNX with QuantizeLinear and DequantizeLinear nodes.

Convolutions and matrix products get int8 inputs and int8 weights, both symmetric (zero point 0); TensorRT computes such a
node in INT8. Biases, sums, all else and what comes out stay float32. An input gets one Q/DQ pair, however many nodes
read it; weights have one scale, max |w| / 127, for each output channel or for the whole tensor.

ONNX's operators: QuantizeLinear rounds half to even and clips, DequantizeLinear multiplies.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter
from onnx.external_data_helper import uses_external_data

from edgeface.build.scales import LEVELS
from edgeface.errors import EngineError, one_line
from edgeface.values import F32

_OPSET = 13  # from which on DequantizeLinear has an axis
_IR_VERSION = 4  # from which on initialisers need not be inputs
_SAME_VALUES = ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Dropout")


@dataclass(frozen=True, slots=True)
class Target:
    """A node that can become INT8."""

    name: str
    input: str  # tensor
    weights: str  # tensor
    axis: int | None  # of the weights' output channels; None: one scale for all


@dataclass(frozen=True, slots=True)
class Report:
    """What has become of the nodes and of the scales."""

    quantised: tuple[str, ...]  # nodes
    kept: tuple[str, ...]  # nodes that were to be left in float32
    unscaled: tuple[tuple[str, str], ...]  # nodes left in float32, with the tensor that has no scale
    spare: tuple[str, ...]  # tensors whose scale no INT8 node needs: outputs, inputs of sums and the like
    unknown: tuple[str, ...]  # names that the ONNX lacks: fused away, an engine's own, or of another network

    def __str__(self) -> str:
        count = len(self.quantised) + len(self.kept) + len(self.unscaled)
        lines = [f"{len(self.quantised)} of {count} convolutions and matrix products in INT8"]
        if self.kept:
            lines.append(f"left in float32: {_list(self.kept)}")
        if self.unscaled:
            lines.append(f"without a scale for their input: {_list([f'{a} ({b})' for a, b in self.unscaled])}")
        if self.spare:
            lines.append(f"{len(self.spare)} scales of tensors that stay float32")
        if self.unknown:
            lines.append(f"{len(self.unknown)} scales of tensors that the ONNX lacks: {_list(self.unknown)}")
        return "\n  ".join(lines)


def load(path: Path) -> ModelProto:
    """The float32 ONNX at `path`, weights beside it included, at least of opset 13, its nodes with names of their own.

    Names of tensors stay. Raises EngineError.
    """
    try:
        model = onnx.load(str(path))
        ours = next((one for one in model.opset_import if one.domain in ("", "ai.onnx")), None)
        if ours is not None and ours.version < _OPSET:
            model = version_converter.convert_version(model, _OPSET)
    except FileNotFoundError as error:
        raise EngineError(f"{path}: not there, or its weights beside it are not: {one_line(error)[:300]}") from error
    except Exception as error:  # what is no ONNX raises protobuf's errors, and the converter all kinds
        raise EngineError(f"{path}: not an ONNX that can be quantised: {one_line(error)[:300]}") from error
    graph = model.graph
    if not graph.node:
        raise EngineError(f"{path}: not an ONNX that can be quantised: it has no node")
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        raise EngineError(f"{path}: expected a network in float32, found one with Q/DQ nodes already")
    model.ir_version = max(model.ir_version, _IR_VERSION)
    values = {tensor.name for tensor in graph.initializer}
    inputs = [one for one in graph.input if one.name not in values]
    del graph.input[:]
    graph.input.extend(inputs)
    seen: Counter[str] = Counter()
    for node in graph.node:
        seen[node.name] += 1
        if not node.name or seen[node.name] > 1:
            node.name = f"{node.name or node.op_type}_{node.output[0]}"
    return model


def sha256(path: Path) -> str:
    """Of an ONNX file, and of the files that hold its weights. Raises EngineError."""
    try:
        digest = hashlib.sha256(path.read_bytes())
        model = onnx.load(str(path), load_external_data=False)
        outside = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
        names = {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"}
        for name in sorted(names):
            digest.update((path.parent / name).read_bytes())
    except OSError as error:
        raise EngineError(f"{path}: it, or its weights beside it, cannot be read: {one_line(error)}") from error
    except Exception as error:  # protobuf's
        raise EngineError(f"{path}: not an ONNX: {one_line(error)[:300]}") from error
    return digest.hexdigest()


def targets(model: ModelProto) -> list[Target]:
    """The nodes that can become INT8: Conv, Gemm and MatMul of an activation with constant float32 weights.

    Not those that read a softmax: that is the mean of places, its "weights" are their coordinates.
    """
    weights, probabilities = _weights(model.graph), set()
    found = []
    for node in model.graph.node:
        if node.op_type == "Softmax" or (node.op_type in _SAME_VALUES and node.input[0] in probabilities):
            probabilities.add(node.output[0])
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.domain not in ("", "ai.onnx"):
            continue
        tensor = weights.get(node.input[1])
        known = tensor is not None and tensor.data_type == TensorProto.FLOAT and len(tensor.dims) >= 2
        if tensor is None or not known or node.input[0] in weights or node.input[0] in probabilities:
            continue
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        axis = 0 if node.op_type == "Conv" or transposed else 1
        plain = node.op_type == "Conv" or len(tensor.dims) == 2
        found.append(Target(node.name, node.input[0], tensor.name, axis if plain else None))
    return found


def quantise(
    model: ModelProto, scales: Mapping[str, float], *, keep: Collection[str] = (), per_channel: bool = True
) -> tuple[ModelProto, Report]:
    """The network of `load` in INT8, by the `scales` of activations; nodes named in `keep` stay float32.

    Raises EngineError when no scale is of a tensor that an INT8 node could read.
    """
    found = targets(model)
    if not found:
        raise EngineError("expected an ONNX with convolutions or matrix products in float32, found none in it")
    known = _scales(model.graph, scales)
    chosen = {one.name: one for one in found if one.name not in keep and one.input in known}
    if not any(one.input in known for one in found):
        names = ", ".join([*scales][:3])
        raise EngineError(
            f"expected scales of this network's tensors ({found[0].input}, ...), found none of them among "
            f"{len(scales)} ({names}, ...): they are another network's, or another export's"
        )
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    _insert(graph, chosen, known, per_channel)
    _drop_unused(graph)
    try:
        onnx.checker.check_model(result)
    except onnx.checker.ValidationError as error:
        raise EngineError(f"the quantised network is not valid: {one_line(error)[:300]}") from error
    tensors = {name for node in model.graph.node for name in (*node.input, *node.output)}
    read = {one.input for one in found}
    left = [name for name in scales if not {name, *_other_names(name)} & read]
    return result, Report(
        quantised=tuple(chosen),
        kept=tuple(one.name for one in found if one.name in keep),
        unscaled=tuple((one.name, one.input) for one in found if one.name not in keep and one.input not in known),
        spare=tuple(name for name in left if {name, *_other_names(name)} & tensors),
        unknown=tuple(name for name in left if not {name, *_other_names(name)} & tensors),
    )


def int8_weights(weights: F32, axis: int | None) -> tuple[NDArray[np.int8], F32]:
    """Weights as int8 of the same shape and their scales: [channels] along `axis`, or [] for one.

    A channel of zeros has scale 1: 0 would be none, and next to nothing vanishes in FP16.
    """
    others = tuple(number for number in range(weights.ndim) if number != axis)
    largest = np.max(np.abs(weights), axis=others, keepdims=True, initial=0)
    scale = np.where(largest > 0, np.maximum(largest / LEVELS, np.finfo(np.float32).tiny), 1).astype(np.float32)
    levels = np.clip(np.rint(weights / scale), -LEVELS, LEVELS).astype(np.int8)
    return levels, scale.reshape(() if axis is None else -1)


def _insert(graph: GraphProto, chosen: Mapping[str, Target], scales: Mapping[str, float], per_channel: bool) -> None:
    """Put Q/DQ nodes before the first of the `chosen` nodes that reads a tensor."""
    weights = _weights(graph)
    nodes: list[NodeProto] = []
    made: set[str] = set()

    def value(name: str, array: NDArray[np.int8] | F32) -> str:
        if name not in made:
            made.add(name)
            graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def add(op_type: str, inputs: list[str], output: str, **attributes: int) -> str:
        if output not in made:
            made.add(output)
            nodes.append(helper.make_node(op_type, inputs, [output], f"{output}.node", **attributes))
        return output

    for node in graph.node:
        target = chosen.get(node.name)
        if target is not None:
            name = target.input
            with_scale = [
                value(f"{name}.scale", np.array(scales[name], np.float32)),
                value("int8.zero", np.zeros((), np.int8)),
            ]
            held = add("QuantizeLinear", [name, *with_scale], f"{name}.int8")
            node.input[0] = add("DequantizeLinear", [held, *with_scale], f"{name}.float")
            axis = target.axis if per_channel else None
            name = f"{target.weights}.{'all' if axis is None else axis}"
            if f"{name}.float" not in made:
                levels, scale = int8_weights(numpy_helper.to_array(weights[target.weights]), axis)
                held, *with_scale = (
                    value(f"{name}.int8", levels),
                    value(f"{name}.scale", scale),
                    value(f"{name}.zero", np.zeros(scale.shape, np.int8)),
                )
                add("DequantizeLinear", [held, *with_scale], f"{name}.float", **({} if axis is None else {"axis": axis}))
            node.input[1] = f"{name}.float"
        nodes.append(node)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]  # they live in the list to be emptied
    del graph.node[:]
    graph.node.extend(copies)


def _drop_unused(graph: GraphProto) -> None:
    """Take away nodes and initialisers that nothing reads."""
    used = {one.name for one in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            used.update(_reads(node))
            nodes.append(NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    values = [TensorProto.FromString(one.SerializeToString()) for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(values)


def _reads(node: NodeProto) -> Iterator[str]:
    """The tensors that a node reads, those of graphs inside it too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (one.name for one in graph.output)
            for inner in graph.node:
                yield from _reads(inner)


def _weights(graph: GraphProto) -> dict[str, TensorProto]:
    """Constant tensors by the names under which nodes read them."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            found[tensor.name] = tensor
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _scales(graph: GraphProto, scales: Mapping[str, float]) -> dict[str, float]:
    """Scales by the ONNX's own names, also of tensors with the same values (or some of them) as one with a scale."""
    found = {}
    for name in [one.name for one in graph.input] + [name for node in graph.node for name in node.output]:
        for alias in (name, *_other_names(name)):
            if name not in found and alias in scales:
                found[name] = scales[alias]
    for node in graph.node:
        if node.op_type in _SAME_VALUES and node.output[0] not in found and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _other_names(name: str) -> tuple[str, ...]:
    """TensorFlow's tensor `x:0` is `x` in other exports of the same network."""
    return (name.removesuffix(":0"),) if name.endswith(":0") else (f"{name}:0",)


def _list(names: Collection[str]) -> str:
    shown = ", ".join([*names][:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
