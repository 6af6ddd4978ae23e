"""Networks on TensorRT, fed by the crop kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import pycuda.driver as cuda
import tensorrt as trt
from numpy.typing import NDArray

from edgeface.cuda.crop import FrameMemory, GpuGlimpse, Kernels
from edgeface.cuda.graph import GraphError
from edgeface.cuda.memory import Gpu, Shared
from edgeface.cuda.network import Network
from edgeface.cuda.plan import Plan, check_device, load_plan
from edgeface.errors import EngineError
from edgeface.model_card import Card
from edgeface.passport import Golden, Precision
from edgeface.values import F32, Frame

log = logging.getLogger(__name__)

T = TypeVar("T")


class TensorrtEngine:
    """A network on TensorRT, warmed up. The outputs of `infer` are valid until the next call.

    A call is one launch of the crop kernel, one of the network and one synchronisation for each batch of crops.
    """

    backend = "cuda"

    def __init__(
        self,
        gpu: Gpu,
        kernels: Kernels,
        frames: FrameMemory,
        plan: Plan,
        card: Card,
        *,
        graph: bool,
        dla_core: int | None,
        resources: ExitStack,
    ) -> None:
        """`graph`: replay a fixed batch from a CUDA graph. `resources` gives back what is taken.

        Only inside `with gpu:`. Raises EngineError, DeviceError, ConfigError.
        """
        self.input_size = plan.passport.input_size
        self.precision: str = plan.passport.precision
        self._gpu, self._frames, self._spec = gpu, frames, card.input
        self._seen: tuple[Frame, F32] | None = None  # of the last call
        width, height = self.input_size
        self._resources = resources
        self._network = Network(gpu, plan, (card.input.channels, height, width), dla_core, self._resources)
        self._crops = Shared(gpu, (self._network.batch, 4), np.float32, mapped=gpu.integrated)
        self._resources.callback(self._crops.free)
        self._launch = kernels.cropper(card.input, self.input_size, half=self._network.dtype == np.float16)
        self._warm_up(graph)
        self.outputs: Mapping[str, tuple[int, ...]] = {
            name: (len(shared.host) // self._network.batch, *shared.host.shape[1:])
            for name, shared in self._network.outputs.items()
        }

    def _warm_up(self, graph: bool) -> None:
        self._network.run(self._network.batch)
        if graph and self._network.fixed:
            try:
                self._network.capture()
            except GraphError as error:
                log.warning("no CUDA graph, layers are enqueued one by one: %s", error)
        blank = Frame(0, 0, 32, 32, "gray8", np.zeros((32, 32), np.uint8))
        self.infer(blank, np.array([[0, 0, 32, 32]], np.float32))  # the kernel is loaded by its first launch, too

    def infer(self, frame: Frame, crops: F32) -> Mapping[str, NDArray[Any]]:
        """Raw outputs for `crops` [n, 4] of the frame; see seams.Engine. Raises EngineError, DeviceLostError."""
        self._seen = frame, crops
        batch = self._network.batch
        with self._gpu:
            if 0 < len(crops) <= batch:
                self.crop(frame, crops)
                return self.run(len(crops))
            parts = []
            for start in range(0, len(crops), batch):
                part = crops[start : start + batch]
                self.crop(frame, part)
                parts.append({name: rows.copy() for name, rows in self.run(len(part)).items()})
        if not parts:
            return {name: shared.host[:0] for name, shared in self._network.outputs.items()}
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def crop(self, frame: Frame, crops: F32) -> None:
        """Enqueue the crop kernel, for no more crops than a batch."""
        picture = self._frames.picture(frame)
        part = self._crops.host[: len(crops)]
        part[:] = crops
        self._crops.to_gpu(part)
        self._launch(picture, frame, self._crops.address, self._network.tensor, len(crops))

    def run(self, count: int) -> Mapping[str, NDArray[Any]]:
        """The network alone, on what the crop kernel has made, and wait for both."""
        return self._network.run(count)

    def pictures(self) -> F32:
        """What the network saw at the last `infer`, cropped once more; see seams.Engine."""
        width, height = self.input_size
        tensors = [np.zeros((0, self._spec.channels, height, width), self._network.dtype)]
        if self._seen is not None:
            frame, crops = self._seen
            with self._gpu:
                for start in range(0, len(crops), self._network.batch):
                    part = crops[start : start + self._network.batch]
                    self.crop(frame, part)
                    self._gpu.synchronize()
                    tensors.append(np.empty((len(part), *tensors[0].shape[1:]), self._network.dtype))
                    cuda.memcpy_dtoh(tensors[-1], self._network.tensor)
        mean = np.array(self._spec.mean, np.float32)[:, None, None]
        tensor = np.concatenate(tensors).astype(np.float32)
        grey: F32 = (tensor / np.float32(self._spec.scale) + mean).mean(axis=1)
        return grey

    def close(self) -> None:
        self._seen = None
        with self._gpu:
            self._resources.close()


def open_engines(
    networks: Sequence[tuple[Card, tuple[int, int] | None]],
    stack: ExitStack,
    *,
    device: int,
    precisions: Sequence[Precision],
    dla_core: int | None,
    graph: bool,
    frame_memory: Literal["auto", "mapped", "device"],
    complaint: Callable[[Card, TensorrtEngine, Golden | None], str],
) -> tuple[list[TensorrtEngine], GpuGlimpse, int, dict[str, str]]:
    """Load each card's network for inputs of a size (width, height); `stack` closes all.

    Each network has the first of `precisions` with an engine that is there, that loads, and that there is no
    `complaint` of, by what its passport expects. Returns the engines, what makes glimpses, the stream (CUDA's handle)
    and what `status` says. All that can be checked without CUDA is checked before CUDA starts. Only detectors run on
    the DLA. Raises EngineError, DeviceError, ConfigError.
    """
    refusals: list[list[EngineError]] = [[] for _ in networks]
    choices: list[list[Plan]] = []
    for (card, size), refused in zip(networks, refusals, strict=True):
        dla = dla_core is not None and card.task == "detect"
        load = partial(load_plan, card, size, dla=dla, tensorrt_version=trt.__version__)
        choices.append(list(_passing([partial(load, precision=one) for one in dict.fromkeys(precisions)], refused)))
    gpu = Gpu(device)
    for plans, refused in zip(choices, refusals, strict=True):
        plans[:] = _passing([partial(_for_device, plan, gpu) for plan in plans], refused)
    mapped = gpu.integrated if frame_memory == "auto" else frame_memory == "mapped"
    gpu.open(stack)
    engines, fallbacks = [], []
    with gpu:
        kernels, frames = Kernels(gpu), FrameMemory(gpu, mapped=mapped)
        glimpse = GpuGlimpse(gpu, kernels, frames)
        for plans, (card, _), refused in zip(choices, networks, refusals, strict=True):
            core = dla_core if card.task == "detect" else None
            make = partial(TensorrtEngine, gpu, kernels, frames, card=card, graph=graph, dla_core=core)
            opens = [partial(_open_good, gpu, make, plan, card, complaint) for plan in plans]
            engines.append(next(_passing(opens, refused)))
            (width, height), found = engines[-1].input_size, engines[-1].precision
            if found != precisions[0]:
                fallbacks.append(f"{card.name} {width}x{height} {found} instead of {precisions[0]}")
                log.warning("%s: %s", fallbacks[-1], "; ".join(map(str, refused)))
    facts = {"gpu": gpu.name, "tensorrt": trt.__version__, "frame_memory": "mapped" if mapped else "device"}
    if fallbacks:
        facts["fallback"] = ", ".join(fallbacks)
    log.info("TensorRT %(tensorrt)s on %(gpu)s, kernels read frames in %(frame_memory)s memory", facts)
    return engines, glimpse, gpu.stream.handle, facts


def _passing(tries: Iterable[Callable[[], T]], refused: list[EngineError]) -> Iterator[T]:
    """The results of those tries that raise no EngineError; when all do, it is raised. Errors go to `refused`."""
    passed = False
    for attempt in tries:
        try:
            result = attempt()
        except EngineError as error:
            refused.append(error)
            continue
        passed = True
        yield result
    if not passed:
        raise refused[0] if len(refused) == 1 else EngineError("; ".join(map(str, refused)))


def _for_device(plan: Plan, gpu: Gpu) -> Plan:
    check_device(plan, gpu.compute_capability, gpu.name)
    return plan


def _open_good(
    gpu: Gpu,
    make: Callable[..., TensorrtEngine],
    plan: Plan,
    card: Card,
    complaint: Callable[[Card, TensorrtEngine, Golden | None], str],
) -> TensorrtEngine:
    """Load a plan, or raise EngineError if there is a complaint of what it computes."""
    resources = gpu.resources.enter_context(ExitStack())
    try:
        engine = make(plan, resources=resources)
        why = complaint(card, engine, plan.passport.golden)
        if why:
            raise EngineError(f"{plan.path}: {why}; build it anew: {plan.rebuild}")
    except EngineError:
        resources.close()  # the next one needs the memory
        raise
    return engine
