"""How the form of a network for a precision is made, with some of its layers left in FP32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx
from onnx import ModelProto, helper

from edgeface.build import onnx_file, precision, trt
from edgeface.build.restore import quantised_layers, restored
from edgeface.errors import EngineError, one_line
from edgeface.model_card import Card, onnx_path
from edgeface.passport import Precision, replace_files

_KEPT = "edgeface.fp32_layers"  # what a form of ours says of itself, a name a line
_COMPUTES_NOTHING = ("Constant", "Identity", "Shape", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze")


def _store_nothing(_: Path) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Maker:
    """How a form is made, and kept."""

    make: Callable[[frozenset[str]], Path]  # with these layers in FP32; raises EngineError, ConfigError
    layers: tuple[str, ...] = ()  # which of them can be: names of nodes
    kept: frozenset[str] = frozenset()  # those that are so in the form that is there
    store: Callable[[Path], None] = _store_nothing  # keeps a form for later builds; raises EngineError


def maker(card: Card, kind: Precision, runtime: str, *, engines: Path, scratch: Path) -> Maker:
    """For `edgeface build` into `engines`; forms that are made lie in `scratch`. Raises ConfigError, EngineError."""
    source = onnx_path(card)
    typed = trt.is_strongly_typed(trt.load_trt(runtime))
    make = partial(_converted, source, kind, typed, scratch, engines)
    if kind == "int8":
        return _of_quantised(source, make(frozenset()), scratch, engines)
    if kind == "fp16" and typed:
        nodes = _read(source).graph.node
        return Maker(make, tuple(node.name for node in nodes if node.name and node.op_type not in _COMPUTES_NOTHING))
    return Maker(make)  # the ONNX itself


def _converted(source: Path, kind: Precision, typed: bool, scratch: Path, engines: Path, kept: frozenset[str]) -> Path:
    return precision.form(source, kind, strongly_typed=typed, folder=scratch, engines=engines, kept=kept)


def _of_quantised(source: Path, form: Path, scratch: Path, engines: Path) -> Maker:
    """Of a Q/DQ ONNX that is there."""
    full, quantised = onnx_file.load(source), _read(form)
    said = {entry.key: entry.value for entry in quantised.metadata_props}
    before = frozenset(filter(None, said.get(_KEPT, "").split("\n")))

    def make(kept: frozenset[str]) -> Path:
        if kept <= before:
            return form
        path = scratch / precision.int8_name(source)
        result = restored(full, quantised, kept)
        helper.set_model_props(result, said | {_KEPT: "\n".join(sorted(kept | before))})
        replace_files({path: result.SerializeToString()})
        return path

    def store(path: Path) -> None:
        replace_files({engines / precision.int8_name(source): path.read_bytes()})

    return Maker(make, quantised_layers(full, quantised), before, store)


def _read(path: Path) -> ModelProto:
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's, and weights beside it that are not there
        raise EngineError(f"{path}: not an ONNX that can be read: {one_line(error)[:300]}") from error
