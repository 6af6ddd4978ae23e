"""FP16 and INT8 forms of a network on ONNX Runtime's CPU, with the rounding that a device would do; and its noise.

ONNX Runtime computes most of an FP16 network in FP32 and drops the casts between, so that nothing overflows. Here every
value that the form holds in FP16 is rounded to it. Q/DQ nodes are computed as they stand, in floats: ONNX Runtime's own
INT8 kernels clip sums on some processors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgeface.build.onnx_file import with_outputs
from edgeface.cpu.engine import OnnxEngine
from edgeface.errors import EngineError, one_line
from edgeface.model_card import Card
from edgeface.passport import Size
from edgeface.values import F32

_LEAST_DB = -100.0  # of a tensor that should be all zeros and is not
# what comes out of these went in: it is rounded already
_MOVES = {"Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
_NOTHING_NEW = {"Constant", "Dropout", "MaxPool", "Relu"} | _MOVES


@dataclass(frozen=True, slots=True)
class TensorNoise:
    """A tensor of the form beside FP32's."""

    tensor: str
    node: str  # that makes it
    op_type: str
    snr_db: float | None  # signal to noise; None: its numbers are not finite


def load_form(path: Path) -> ModelProto:
    """The form at `path`, to be computed in FP32 with the rounding of the device. Raises EngineError."""
    try:
        model = onnx.load(str(path))
        typed = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # protobuf's, and those of the inference
        raise EngineError(f"{path}: not an ONNX that can be checked: {one_line(error)[:300]}") from error
    values = (*typed.graph.value_info, *typed.graph.output)
    half = {one.name for one in values if one.type.tensor_type.elem_type == TensorProto.FLOAT16}
    if half:
        _round_to_half(model, half)
    return model


def open_form(path: Path, card: Card, input_size: Size, threads: int) -> OnnxEngine:
    """The form as an engine. Raises EngineError."""
    return OnnxEngine(_session(load_form(path), threads), card, input_size)


def tensor_noise(full: ModelProto, form: ModelProto, inputs: Iterable[F32]) -> list[TensorNoise]:
    """All tensors of both networks that differ, in the graph's order; `inputs` [n, c, h, w]. Raises EngineError."""
    made = {name: node for node in full.graph.node for name in node.output if name}
    theirs = {name for node in form.graph.node for name in node.output}
    names = [name for name in made if name in theirs and made[name].op_type != "Constant"]
    signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    sessions = [_session(with_outputs(model, names), 0) for model in (full, form)]
    for tensor in inputs:
        ours, others = (_run(session, tensor) for session in sessions)
        for name in names:
            before = np.asarray(ours[name], np.float64)
            if ours[name].dtype.kind == "f" and before.shape == np.shape(others[name]):
                signal[name] += float(np.square(before).sum())
                with np.errstate(invalid="ignore", over="ignore"):
                    noise[name] += float(np.square(np.asarray(others[name], np.float64) - before).sum())
    return [
        TensorNoise(name, made[name].name, made[name].op_type, _decibels(signal[name], noise[name]))
        for name in names
        if noise[name] != 0
    ]


def worst_tensors(noise: Sequence[TensorNoise], count: int = 10) -> tuple[TensorNoise, ...]:
    """Those with the least signal to noise, worst first."""
    return tuple(sorted(noise, key=lambda one: -np.inf if one.snr_db is None else one.snr_db)[:count])


def _decibels(signal: float, noise: float) -> float | None:
    if not np.isfinite(noise):
        return None
    return max(float(10 * np.log10(signal / noise)), _LEAST_DB) if signal else _LEAST_DB


def _session(model: ModelProto, threads: int) -> ort.InferenceSession:
    """`threads` 0: as many as there are cores."""
    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no narrower base that Python sees
        raise EngineError(f"ONNX Runtime cannot load the form: {one_line(error)[:300]}") from error


def _run(session: ort.InferenceSession, tensor: F32) -> dict[str, NDArray[Any]]:
    feed = session.get_inputs()[0]
    if isinstance(feed.shape[0], int):  # a full batch, the last crop repeated
        tensor = np.concatenate([tensor, np.repeat(tensor[-1:], feed.shape[0], axis=0)])[: feed.shape[0]]
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, {feed.name: tensor}), strict=True))
    except Exception as error:
        raise EngineError(f"ONNX Runtime cannot run the form: {one_line(error)[:300]}") from error


def _round_to_half(model: ModelProto, half: set[str]) -> None:
    """Make the FP16 tensors of the network FP32 ones that are rounded to FP16 by a pair of casts."""
    graph = model.graph
    for value in graph.initializer:
        _widen(value)
    nodes: list[NodeProto] = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
        mine = NodeProto()
        mine.CopyFrom(node)
        nodes.append(mine)
        if node.op_type in _NOTHING_NEW:
            continue
        to_half = node.op_type == "Cast"  # itself the first of the pair
        for index, name in enumerate(node.output):
            if name in half:
                mine.output[index] = f"{name}.{'half' if to_half else 'exact'}"
                if not to_half:
                    nodes.append(helper.make_node("Cast", [f"{name}.exact"], [f"{name}.half"], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for output in graph.output:
        if output.name in half:
            output.type.tensor_type.elem_type = TensorProto.FLOAT
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
