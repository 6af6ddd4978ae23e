"""ONNX files as they are quantised: read, told apart, and cleared of what nothing reads."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, version_converter
from onnx.external_data_helper import uses_external_data

from edgeface.errors import EngineError, one_line

_OPSET = 13  # from which on DequantizeLinear has an axis
_IR_VERSION = 4  # from which on initialisers need not be inputs


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


def with_outputs(model: ModelProto, names: Iterable[str]) -> ModelProto:
    """A copy of the network with these tensors as outputs, too."""
    result = ModelProto()
    result.CopyFrom(model)
    given = {one.name for one in (*model.graph.input, *model.graph.output)}
    result.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in given)
    return result


def drop_unused(graph: GraphProto) -> None:
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


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Constant tensors by the names under which nodes read them."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and [one.name for one in node.attribute] == ["value"]:
            tensor = TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            found[tensor.name] = tensor
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found
