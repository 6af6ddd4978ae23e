"""ONNX and scales -> the same network in INT8, as ONNX with QuantizeLinear and DequantizeLinear nodes.

Convolutions and matrix products get int8 inputs and int8 weights, both symmetric (zero point 0); TensorRT computes such
a node in INT8. Biases, sums, all else and what comes out stay float32. An input gets one Q/DQ pair, however many nodes
read it; weights have one scale, max |w| / 127, for each output channel or for the whole tensor.

ONNX's operators: QuantizeLinear rounds half to even and clips, DequantizeLinear multiplies.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgeface.build.onnx_file import constants, drop_unused
from edgeface.build.scales import LEVELS
from edgeface.errors import EngineError, one_line
from edgeface.values import F32

_NO_ATTRIBUTES: Mapping[str, Any] = {}
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


def targets(model: ModelProto) -> list[Target]:
    """The nodes that can become INT8: Conv, Gemm and MatMul of an activation with constant float32 weights.

    Not those that read a softmax: that is the mean of places, its "weights" are their coordinates.
    """
    weights, probabilities = constants(model.graph), set()
    found = []
    for node in model.graph.node:
        if node.op_type == "Softmax" or (node.op_type in _SAME_VALUES and node.input[0] in probabilities):
            probabilities.add(node.output[0])
        known_kind = node.op_type in ("Conv", "Gemm", "MatMul") and node.domain in ("", "ai.onnx")
        if not known_kind or len(node.input) < 2:
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

    Raises EngineError when most of what INT8 nodes would read has no scale: exports name tensors alike, so that another
    network's scales fit here and there.
    """
    found = targets(model)
    if not found:
        raise EngineError("expected an ONNX with convolutions or matrix products in float32, found none in it")
    known = _scales(model.graph, scales)
    chosen = {one.name: one for one in found if one.name not in keep and one.input in known}
    fitting = sum(one.input in known for one in found)
    if 2 * fitting < len(found):
        raise EngineError(
            f"expected scales of the {len(found)} tensors that INT8 nodes read ({found[0].input}, ...), found {fitting}"
            f" of them among {len(scales)} ({', '.join([*scales][:3])}, ...): another network's, or another export's"
        )
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    _insert(graph, chosen, known, per_channel)
    drop_unused(graph)
    problem = _problem(result)
    if problem and not _problem(model):
        raise EngineError(f"the quantised network is not valid: {problem}")
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
    weights = constants(graph)
    nodes: list[NodeProto] = []
    made: set[str] = set()

    def value(name: str, array: NDArray[np.int8] | F32) -> str:
        if name not in made:
            made.add(name)
            graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def add(op_type: str, inputs: list[str], output: str, attributes: Mapping[str, Any] = _NO_ATTRIBUTES) -> str:
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
                along = {} if axis is None else {"axis": axis}
                add("DequantizeLinear", [held, *with_scale], f"{name}.float", along)
            node.input[1] = f"{name}.float"
        nodes.append(node)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]  # they live in the list to be emptied
    del graph.node[:]
    graph.node.extend(copies)


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


def _problem(model: ModelProto) -> str:
    """What ONNX's checker says against it; runtimes take some of what it refuses."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        return one_line(error)[:300]
    return ""


def _list(names: Collection[str]) -> str:
    shown = ", ".join([*names][:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
