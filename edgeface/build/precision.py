"""The form of a card's network that gives a precision: the ONNX itself, converted to FP16, or quantised beforehand."""

from __future__ import annotations

import warnings
from pathlib import Path

from edgeface.errors import ConfigError, EngineError, one_line
from edgeface.passport import Precision


def form(
    onnx: Path,
    precision: Precision,
    *,
    strongly_typed: bool,
    folder: Path,
    engines: Path,
    kept: frozenset[str] = frozenset(),
) -> Path:
    """The ONNX to parse for `precision`; a converted one is written into `folder`. Raises EngineError, ConfigError.

    The quantised one lies in `engines`, or beside the ONNX. The nodes `kept` stay FP32 in an FP16 one.

    A weakly typed TensorRT (up to 10) makes FP16 itself of the ONNX that the card names. A strongly typed one (from 11
    on, and TensorRT-RTX) takes the types as they stand in the ONNX.
    """
    if precision == "int8":
        path = int8_path(onnx, engines)
        if not path.is_file():
            raise EngineError(
                f"{path}: expected the quantised form of {onnx.name} (ONNX with Q/DQ nodes), found no file"
            )
        return path
    if precision == "fp16" and strongly_typed:
        return _fp16_form(onnx, folder, kept)
    return onnx


def int8_path(onnx: Path, engines: Path) -> Path:
    """Where the form of a network with INT8 scales, as Q/DQ nodes, lies: in `engines`, else beside the ONNX."""
    made = engines / int8_name(onnx)
    return made if made.is_file() else onnx.with_name(int8_name(onnx))


def int8_name(onnx: Path) -> str:
    """What it is called."""
    return f"{onnx.stem}.int8.onnx"


def _fp16_form(onnx: Path, folder: Path, kept: frozenset[str]) -> Path:
    """Weights and arithmetic in FP16; inputs and outputs stay FP32.

    Of the ONNX as it came: after shape inference or a change of opset the converter leaves Resize nodes that ONNX
    Runtime refuses.
    """
    try:
        import onnx as onnx_package
        from onnxconverter_common import float16
    except ImportError as error:
        raise ConfigError(f"for FP16, {error.name or error} is missing: pip install 'edgeface[build]'") from error
    path = folder / f"{onnx.stem}.fp16.onnx"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a line for every weight below 1e-7
            network = float16.convert_float_to_float16(
                onnx_package.load(str(onnx)), keep_io_types=True, node_block_list=sorted(kept)
            )
        onnx_package.save(network, str(path))
    except Exception as error:  # what is no ONNX raises protobuf's errors, what cannot be converted all kinds
        raise EngineError(f"{onnx}: cannot be converted to FP16: {one_line(error)[:300]}") from error
    return path
