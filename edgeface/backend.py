"""What runs networks and captures frames: the one place that knows of both backends, and imports only one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from edgeface.config import Config
from edgeface.errors import ConfigError, DeviceError, one_line
from edgeface.model_card import Card
from edgeface.passport import Golden
from edgeface.seams import Engine, Glimpse, Source
from edgeface.self_test import Check, make_check
from edgeface.source_uri import SourceUri

log = logging.getLogger(__name__)

Wanted = Sequence[tuple[Card, tuple[int, int] | None]]  # a network, and the size of its input instead of the card's


@dataclass(frozen=True, slots=True)
class Backend:
    """Loaded networks, and what shares their device. Close it after use, after the sources."""

    engines: tuple[Engine, ...]  # one for each network that was wanted
    glimpse: Glimpse
    open_source: Callable[[SourceUri], Source]  # raises ConfigError, SourceError
    facts: dict[str, str]  # what more `status` says
    close: Callable[[], None]
    checks: tuple[Check | None, ...] = ()  # of each engine, where it can be tested; none on the CPU
    self_test_s: float = 0.0  # how often they are made again; 0: never


def open_backend(networks: Wanted, config: Config) -> Backend:
    """Load the networks on the configured backend. Raises ConfigError, EngineError, DeviceError.

    "auto" is the GPU where TensorRT and PyCUDA are installed, else the CPU.
    """
    on_gpu = all(map(_installed, ("tensorrt", "pycuda"))) if config.backend == "auto" else config.backend == "cuda"
    with ExitStack() as stack:
        return _open_gpu(networks, config, stack) if on_gpu else _open_cpu(networks, config, stack)


def _open_cpu(networks: Wanted, config: Config, stack: ExitStack) -> Backend:
    try:
        from edgeface.cpu.crop import glimpse
        from edgeface.cpu.engine import open_engine
        from edgeface.cpu.source import open_source
    except ImportError as error:
        raise ConfigError(f"the cpu backend lacks {error.name or error}: pip install 'edgeface[cpu]'") from error
    engines = []
    for card, size in networks:
        engines.append(open_engine(card, size, threads=config.cpu.threads, spinning=config.cpu.spinning))
        stack.callback(engines[-1].close)
    return Backend(tuple(engines), glimpse, open_source, {}, stack.pop_all().close)


def _open_gpu(networks: Wanted, config: Config, stack: ExitStack) -> Backend:
    try:
        from edgeface.cuda.engine import open_engines
    except ImportError as error:
        if "libcuda" in str(error):
            why = f"no NVIDIA driver on this machine ({one_line(error)}); backend = 'cpu' does without"
            raise DeviceError(why) from error
        what = error.name if isinstance(error, ModuleNotFoundError) else one_line(error)
        how = "pip install 'edgeface[cuda]'; TensorRT comes with JetPack: docs/jetson.md"
        raise ConfigError(f"the cuda backend lacks {what}: {how}") from error
    cuda, capture = config.cuda, config.cuda.capture
    if cuda.device and capture == "jetson-utils":
        raise ConfigError(f"cuda.device = {cuda.device}: jetson-utils captures on GPU 0; set cuda.capture = 'opencv'")
    if cuda.device and capture == "auto":
        capture = "opencv"
    checks: list[Check | None] = []

    def complaint(card: Card, engine: Engine, golden: Golden | None) -> str:
        check = make_check(card, engine, golden)
        why = check() if check is not None else ""
        if not why:
            checks.append(check)
        return why

    engines, glimpse, stream, facts = open_engines(
        networks,
        stack,
        device=cuda.device,
        precisions=(cuda.precision,) if isinstance(cuda.precision, str) else cuda.precision,
        complaint=complaint,
        dla_core=cuda.dla_core,
        graph=cuda.graph,
        frame_memory=cuda.frame_memory,
    )
    opens = partial(_open_source, capture=capture, stream=stream)
    close, period_s = stack.pop_all().close, cuda.self_test_minutes * 60
    return Backend(tuple(engines), glimpse, opens, facts, close, tuple(checks), period_s)


def _open_source(uri: SourceUri, *, capture: str, stream: int) -> Source:
    """Through jetson-utils, or through OpenCV: "auto" is the former for all that is live and that it can open."""
    if capture == "jetson-utils" or (capture == "auto" and _can_capture(uri)):
        from edgeface.cuda.source import open_source as open_capture

        return open_capture(uri, stream=stream)
    try:
        from edgeface.cpu.source import open_source
    except ImportError as error:
        raise ConfigError(f"{uri.target} needs OpenCV ({one_line(error)}): apt-get install python3-opencv") from error
    return open_source(uri)


def _can_capture(uri: SourceUri) -> bool:
    """Whether jetson-utils is there and can open it; of films it drops frames."""
    from edgeface.cuda import jetson

    if not uri.live or jetson.refusal(uri):
        return False
    try:
        jetson.find_jetson_utils()
    except ConfigError as error:
        log.warning("frames come through OpenCV: %s", error)
        return False
    return True


def _installed(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a folder of type stubs has none
