"""A Q/DQ ONNX with some of its layers back in FP32: whoever has quantised it, and without its pictures or scales."""

from __future__ import annotations

from collections.abc import Collection

from onnx import ModelProto, NodeProto

from edgeface.build.onnx_file import constants, drop_unused


def quantised_layers(full: ModelProto, form: ModelProto) -> tuple[str, ...]:
    """The nodes of FP32's network that read what comes out of DequantizeLinear in the form, by name."""
    makers = _makers(form)
    own = {node.name: node.op_type for node in full.graph.node}
    return tuple(
        node.name
        for node in form.graph.node
        if own.get(node.name) == node.op_type and any(_is_dequantised(makers, name) for name in node.input)
    )


def restored(full: ModelProto, form: ModelProto, layers: Collection[str]) -> ModelProto:
    """The form, in which these of its `quantised_layers` read what they do in FP32's network."""
    result = ModelProto()
    result.CopyFrom(form)
    makers, weights = _makers(result), constants(full.graph)
    own = {node.name: node for node in full.graph.node}
    have = {tensor.name for tensor in result.graph.initializer}
    for node in result.graph.node:
        if node.name not in layers:
            continue
        for index, name in enumerate(node.input):
            if not _is_dequantised(makers, name):
                continue
            quantiser = makers.get(makers[name].input[0])
            if quantiser is not None and quantiser.op_type == "QuantizeLinear":
                node.input[index] = quantiser.input[0]
                continue
            tensor = weights[own[node.name].input[index]]
            node.input[index] = f"{tensor.name}.fp32"  # what is rounded may be called as it was before
            if node.input[index] not in have:
                have.add(node.input[index])
                result.graph.initializer.append(tensor)
                result.graph.initializer[-1].name = node.input[index]
    drop_unused(result.graph)
    return result


def _makers(model: ModelProto) -> dict[str, NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def _is_dequantised(makers: dict[str, NodeProto], name: str) -> bool:
    return name in makers and makers[name].op_type == "DequantizeLinear"
