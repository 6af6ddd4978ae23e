"""Build a card's engine and its passport, ready for the daemon."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeface.build import precision, trt
from edgeface.build.device import NO_DEVICE, Device, current_device, machine
from edgeface.build.golden import expected_answer
from edgeface.build.memory import check_memory
from edgeface.build.progress import Progress
from edgeface.build.timings import read_timings, write_timings
from edgeface.build.trt import Network, Order
from edgeface.build.workplace import alone_in, scratch
from edgeface.cuda.plan import plan_version
from edgeface.decoders import make_decoder
from edgeface.errors import ConfigError, EngineError
from edgeface.landmarks import make_landmark_decoder
from edgeface.model_card import onnx_path
from edgeface.passport import Passport, Tensor, engine_name, passport_path, write_engine

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be built, understood and found good."""

    order: Order
    path: Path
    onnx_sha256: str
    built_from_sha256: str
    network: Network
    device: Device
    runtime: str
    module: Any  # the runtime's

    def __str__(self) -> str:
        """A few lines for whoever asked for it."""
        least, best, most = self.network.batch
        batch = f"{most}, fixed" if least == most else f"{least} to {most}, best at {best}"
        lines = [f"{self.path}, with its passport {passport_path(self.path).name}", _line("input", self.network.input)]
        lines += [_line("output", tensor) for tensor in self.network.outputs]
        return "\n  ".join([*lines, f"batch: {batch}"])


def draft(order: Order, *, folder: Path, runtime: str, form: Path | None = None) -> Draft:
    """The engine that is to be built into `folder` by `runtime` ("tensorrt", "tensorrt-rtx").

    `form`: the ONNX to build it from, if there is one already.

    Everything that takes no minutes is checked: device, ONNX, that its outputs are what the card's decoder reads.
    Raises EngineError, ConfigError, DeviceError.
    """
    if order.dla_core is not None and order.precision == "fp32":
        raise ConfigError("DLA computes in fp16 and int8, not in fp32")
    module = trt.load_trt(runtime)
    portable = runtime == "tensorrt-rtx"
    typed = trt.is_strongly_typed(module)
    if order.dla_core is not None and order.precision == "int8" and not typed:
        raise EngineError(f"TensorRT {module.__version__} takes no ONNX with Q/DQ nodes for DLA: use fp16")
    onnx = onnx_path(order.card)
    device = NO_DEVICE if portable else current_device()
    with scratch() as temporary:
        built_from = form or precision.form(
            onnx, order.precision, strongly_typed=typed, folder=temporary, engines=folder
        )
        network = trt.parse(module, built_from, order)
        built_from_sha256 = _sha256(built_from)
    _check_outputs(order, network)
    name = engine_name(order.card.name, order.input_size, order.precision, order.dla_core is not None)
    if portable:  # not a name that the daemon looks for
        name = name.removesuffix(".engine") + ".rtx.engine"
    return Draft(order, folder / name, _sha256(onnx), built_from_sha256, network, device, runtime, module)


def finish(one: Draft, accept: Callable[[bytes, Passport], Passport] | None = None) -> None:
    """Build the draft and write it, alone in its folder. Ctrl-C ends it. Raises EngineError, DeviceError.

    `accept` has the last word on plan and passport; it may refuse them.
    """
    with alone_in(one.path.parent):
        _finish(one, accept)


def _finish(one: Draft, accept: Callable[[bytes, Passport], Passport] | None) -> None:
    order, network, on_device = one.order, one.network, one.device is not NO_DEVICE
    check_memory(order.workspace_mb if on_device else 0)
    begun_s = time.monotonic()
    kept = one.path.parent, one.module.__version__, one.device
    golden = expected_answer(order.card, order.input_size, order.precision)
    built = trt.build(one.module, network, order, read_timings(*kept) if on_device else None, Progress())
    passport = Passport(
        schema=1,
        card=order.card.name,
        engine_sha256=hashlib.sha256(built.plan).hexdigest(),
        engine_bytes=len(built.plan),
        onnx_sha256=one.onnx_sha256,
        built_from_sha256=one.built_from_sha256,
        tensorrt=one.module.__version__,
        plan_version=plan_version(built.plan),
        compute_capability=one.device.compute_capability,
        device=one.device.name,
        platform=machine(),
        precision=order.precision,
        int8_source="qdq" if order.precision == "int8" else "",
        inputs=(network.input,),
        outputs=network.outputs,
        batch=network.batch,
        input_size=order.input_size,
        dla_core=order.dla_core,
        workspace_mb=order.workspace_mb,
        flags=built.flags,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        golden=golden,
    )
    if built.timing_cache:
        write_timings(*kept, built.timing_cache)
    write_engine(one.path, built.plan, passport if accept is None else accept(built.plan, passport))
    log.info("%s: built in %.0f s", one.path, time.monotonic() - begun_s)


def _check_outputs(order: Order, network: Network) -> None:
    """Refuse what the daemon would, minutes earlier. A free batch counts as one crop."""
    rows = network.batch[0]
    if not all(output.shape for output in network.outputs):
        raise EngineError(f"{order.card.onnx}: expected outputs with rows for each crop, found a single number")
    shapes = {one.name: (max(one.shape[0] // rows, 1), *one.shape[1:]) for one in network.outputs}
    make = make_decoder if order.card.task == "detect" else make_landmark_decoder
    make(order.card, shapes, order.input_size)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _line(what: str, tensor: Tensor) -> str:
    return f"{what}: {tensor.name} {list(tensor.shape)} {tensor.dtype}"
