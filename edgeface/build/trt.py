"""TensorRT 8.6, 10 and 11, and TensorRT-RTX, which builds without a GPU: an ONNX parsed and built.

They differ in what a name does not say: up to 10 flags choose the precision (weak typing), later the ONNX does (strong
typing). What one of them lacks is asked for by its name; nothing goes by version numbers.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeface.build.progress import Progress, monitor_of, watched
from edgeface.cuda.trt_logging import reporting
from edgeface.errors import ConfigError, DeviceError, EngineError, one_line
from edgeface.model_card import Card
from edgeface.passport import Precision, Size, Tensor

log = logging.getLogger(__name__)

DEFAULT_RUNTIME = "tensorrt"
_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}
_INSTALL = {
    "tensorrt": "on a Jetson, apt-get install python3-libnvinfer and make the environment with --system-site-packages",
    "tensorrt-rtx": "pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs (x86-64)",
}
_MOST_CROPS = {"detect": 1, "landmarks": 32}  # at once, of a network with a free batch
_USUAL_CROPS = 8  # what such an engine is fastest at, if it takes as many
_DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}  # the others are called as in NumPy


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built."""

    card: Card
    input_size: Size
    precision: Precision
    batch: int | None  # the most crops at once; None: what the ONNX says, else 1 frame or 32 faces
    dla_core: int | None  # None: the GPU itself
    workspace_mb: int  # a Jetson's GPU memory is the machine's


@dataclass(frozen=True, slots=True)
class Network:
    """An ONNX as TensorRT has understood it, with the input sizes of the order."""

    input: Tensor
    outputs: tuple[Tensor, ...]
    batch: tuple[int, int, int]  # least, best, most
    definition: Any  # INetworkDefinition
    builder: Any
    parser: Any  # holds the weights that the definition points to


@dataclass(frozen=True, slots=True)
class Built:
    """An engine, and what made it."""

    plan: bytes
    flags: tuple[str, ...]  # all that were set, the default ones too
    timing_cache: bytes


def load_trt(runtime: str) -> Any:
    """The Python module of TensorRT ("tensorrt") or TensorRT-RTX ("tensorrt-rtx"). Raises ConfigError."""
    if runtime not in _MODULES:
        raise ConfigError(f"runtime: expected {' or '.join(_MODULES)}, found {runtime!r}")
    try:
        return importlib.import_module(_MODULES[runtime])
    except (ImportError, OSError) as error:  # not there, or its libraries are not
        raise ConfigError(f"{runtime} cannot be loaded ({one_line(error)}): {_INSTALL[runtime]}") from error


def is_strongly_typed(trt: Any) -> bool:
    """Whether the types in the ONNX are the precision, and flags for it do not exist."""
    return not hasattr(trt.BuilderFlag, "FP16")


def parse(trt: Any, onnx: Path, order: Order) -> Network:
    """Parse the ONNX at `onnx` and settle its input. Raises EngineError, DeviceError."""
    try:
        builder = trt.Builder(reporting(trt).logger)
    except TypeError as error:  # its factory gave nothing
        raise DeviceError("TensorRT cannot start on this machine's GPU: the log says why") from error
    if order.dla_core is not None and order.dla_core >= builder.num_DLA_cores:
        raise EngineError(f"expected DLA core {order.dla_core}, found {builder.num_DLA_cores} cores on this machine")
    creation = trt.NetworkDefinitionCreationFlag
    explicit_batch = 1 << int(creation.EXPLICIT_BATCH) if hasattr(creation, "EXPLICIT_BATCH") else 0  # 8 needs it
    definition = builder.create_network(explicit_batch)
    parser = trt.OnnxParser(definition, reporting(trt).logger)
    if not parser.parse_from_file(str(onnx)):  # this form finds weights beside the ONNX, too
        reasons = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise EngineError(
            f"{onnx.name}: TensorRT cannot parse it: {' '.join(reasons.split())[:300] or 'it says no more'}"
        )
    if order.precision == "int8" and not _is_quantised(trt, definition):
        raise EngineError(f"{onnx}: expected an ONNX with Q/DQ nodes, found none in it")
    batch = _settle_input(definition, onnx, order)
    try:
        outputs = tuple(_tensor(definition.get_output(index)) for index in range(definition.num_outputs))
    except (RuntimeError, ValueError) as error:  # its layers do not fit together
        size = "x".join(map(str, order.input_size))
        raise EngineError(f"{onnx.name}: expected a network for an input of {size}, found it takes none") from error
    return Network(_tensor(definition.get_input(0)), outputs, batch, definition, builder, parser)


def build(trt: Any, network: Network, order: Order, timing_cache: bytes | None, progress: Progress) -> Built:
    """Build a parsed network: seconds on a PC, minutes on a Jetson; Ctrl-C ends it. Raises EngineError.

    `timing_cache`: what an earlier build on the same device has measured, b"" for nothing; None: measure nothing.
    """
    config = configure(trt, network, order)
    cache = _timing_cache(config, timing_cache) if timing_cache is not None else None  # lives until the build returns
    monitor = monitor_of(progress, trt)
    if monitor is not None:
        config.progress_monitor = monitor
    recorder = reporting(trt).recorder()
    network.builder.error_recorder = recorder  # before the network was parsed it would crash at exit
    title = f"{order.card.name} {order.input_size[0]}x{order.input_size[1]} {order.precision}"
    plan = watched(
        lambda: network.builder.build_serialized_network(network.definition, config),
        progress,
        title,
        cancellable=monitor is not None,
    )
    if plan is None:
        reasons = recorder.reasons() or "it says no more"
        raise EngineError(f"{order.card.name}: TensorRT cannot build it: {reasons[:500]}")
    flags = tuple(name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag))
    measured = bytes(config.get_timing_cache().serialize()) if cache is not None else b""
    return Built(bytes(plan), flags, measured)


def _timing_cache(config: Any, known: bytes) -> Any:
    """A timing cache that begins with what is `known`, or, if TensorRT refuses that, with nothing."""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):  # not one of another device
        log.warning("TensorRT refuses what earlier builds have measured: all is measured anew")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def configure(trt: Any, network: Network, order: Order) -> Any:
    """The IBuilderConfig for a parsed network."""
    config = network.builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace_mb << 20)
    config.max_aux_streams = 0  # all work on the one stream that the engine is given
    for name in builder_flags(trt, order):
        config.set_flag(getattr(trt.BuilderFlag, name))
    if order.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # 10 bits of mantissa are not what was asked for
    if order.dla_core is not None:
        config.default_device_type, config.DLA_core = trt.DeviceType.DLA, order.dla_core
    if len(set(network.batch)) > 1:
        profile = network.builder.create_optimization_profile()
        profile.set_shape(network.input.name, *((rows, *network.input.shape[1:]) for rows in network.batch))
        config.add_optimization_profile(profile)
    return config


def builder_flags(trt: Any, order: Order) -> tuple[str, ...]:
    """The names of the BuilderFlags that the order asks for, as far as this TensorRT has them."""
    wanted = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}[order.precision]  # what is not INT8: FP16
    known = [name for name in wanted if hasattr(trt.BuilderFlag, name)]
    return (*known, *(["GPU_FALLBACK"] if order.dla_core is not None else []))


def _settle_input(definition: Any, onnx: Path, order: Order) -> tuple[int, int, int]:
    """Fix what the ONNX leaves free of its input, but for a batch of more than one; that batch (least, best, most)."""
    found = [_tensor(definition.get_input(index)) for index in range(definition.num_inputs)]
    if len(found) != 1 or len(found[0].shape) != 4 or found[0].dtype != "float32":
        texts = ", ".join(f"{one.name} {list(one.shape)} {one.dtype}" for one in found)
        raise EngineError(f"{onnx.name}: expected one float32 input [n, c, h, w], found {texts or 'none'}")
    rows, *have = found[0].shape
    wanted = (order.card.input.channels, order.input_size[1], order.input_size[0])
    if any(there not in (-1, want) for there, want in zip(have, wanted, strict=True)):
        raise EngineError(
            f"{onnx.name}: expected an input of {list(wanted)} (channels, height, width), found {have}: "
            "the card or the input size is wrong"
        )
    if rows != -1:
        if order.batch not in (None, rows):
            raise EngineError(
                f"{onnx.name}: expected a free batch or one of {order.batch}, found a fixed one of {rows}"
            )
        most, least = rows, rows
    elif order.dla_core is not None:  # DLA takes no free shapes
        most = least = order.batch or 1
    else:
        most, least = order.batch or _MOST_CROPS[order.card.task], 1
    definition.get_input(0).shape = (most if least == most else -1, *wanted)
    return least, max(least, min(_USUAL_CROPS, most)), most


def _is_quantised(trt: Any, definition: Any) -> bool:
    return any(definition.get_layer(index).type == trt.LayerType.QUANTIZE for index in range(definition.num_layers))


def _tensor(tensor: Any) -> Tensor:
    name = tensor.dtype.name
    return Tensor(tensor.name, tuple(tensor.shape), _DTYPES.get(name, name.lower()))
