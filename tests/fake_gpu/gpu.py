"""A GPU in software, for tests: `gpu` is its state; what tensorrt, pycuda and cuda.bindings of this folder run on.

It computes what a real one would, and no earlier: see README.md for the rules that it holds callers to.
"""

from __future__ import annotations

import atexit
import collections
import json
import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from soft.errors import STICKY, Refused, RuleBroken
from soft.memory import Allocation, Memory
from soft.streams import Stream

ASYNCHRONOUS = {"launch", "execute_async_v3", "cuGraphLaunch"}  # what goes wrong there shows later


@dataclass(eq=False)
class Thing:
    """What has to be released: a stream, a module, an engine ... `facts` say what it depends on."""

    kind: str
    alive: bool = True
    facts: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return self.kind


@dataclass
class Fault:
    call: str
    at: int
    error: str
    times: int
    seen: int = 0


class Gpu:
    """One device, and all that one process has on it."""

    RuleBroken = RuleBroken

    def __init__(self) -> None:
        self.name, self.devices, self.dla_cores = "Orin", 1, 0
        self.integrated = True
        self.compute_capability = (8, 7)
        self.total_memory = 8 << 30
        self.driver_version = 12060
        self.tensorrt_version, self.tensorrt_build = "10.3.0", 30
        self.compute = True  # False: kernels and networks leave their outputs as they are
        self.broken: list[str] = []  # every rule that was broken, also where the error was swallowed
        self.log: list[tuple[str, dict[str, Any]]] = []  # every call: its name, and what is worth knowing
        self.copied: collections.Counter[str] = collections.Counter()  # bytes: htod, dtoh, dtod
        self.released: list[str] = []  # kinds of things, in the order in which they went
        self.lost = self.dying = ""  # a sticky error: what every call gives, or what the next synchronisation will
        self.initialised = False
        self.over = False  # what is collected later has no GPU to give anything back to
        self.retained = 0  # references to the primary context
        self.memory, self.things = Memory(), list[Thing]()
        self.lock = threading.RLock()
        self.null = Stream(self, 0)
        self.streams: dict[int, Stream] = {0: self.null}
        self._faults: list[Fault] = []
        self._local = threading.local()
        self._handles = 0x5000_0000_0000

    # --- what a test asks

    def count(self, call: str) -> int:
        """How many times it was called: "launch", "synchronize", "mem_alloc", ..."""
        return sum(name == call for name, _ in self.log)

    def calls(self, call: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.log if name == call]

    @property
    def alive(self) -> list[Any]:
        """What has not been released: memory and things."""
        return [*self.memory.allocations, *self.things]

    def take(self) -> list[str]:
        """The rules broken so far, and forget them."""
        taken, self.broken[:] = list(self.broken), []
        return taken

    def fail(self, call: str, *, at: int = 1, error: str = "CUDA_ERROR_OUT_OF_MEMORY", times: int = 1) -> None:
        """Let the `at`-th call from now on fail, and `times` - 1 after it.

        A sticky error of work on the GPU shows at the next synchronisation, and from then on in every call.
        """
        self._faults.append(Fault(call, at, error, times))

    def finish(self) -> None:
        """The end of the process, or of a test: everything must have been given back."""
        if self.lost:
            return  # nothing can be given back
        if self.contexts:
            self.fault(f"context stack not empty at the end of {threading.current_thread().name}")
            self.contexts.clear()
        if self.retained:
            self.fault(f"the primary context is still retained, {self.retained} times")
        if self.alive:
            self.fault(f"left at the end: {self.alive}")

    # --- what the modules of this folder ask

    def fault(self, text: str) -> None:
        """Note a broken rule, where hardware goes on."""
        self.broken.append(text)

    def rule(self, text: str) -> NoReturn:
        """A broken rule, after which hardware would not go on, or not as expected."""
        self.fault(text)
        raise RuleBroken(text)

    def call(self, name: str, /, *, context: bool = True, unsafe: bool = False, **facts: Any) -> None:
        """A call of the driver begins. `unsafe`: not permitted while a stream is captured. Raises Refused."""
        with self.lock:
            self.log.append((name, facts))
            self._inject(name)
            if self.lost:
                raise Refused(self.lost)
            if context and not self.contexts:
                self.fault(f"{name}: no context is current in {threading.current_thread().name}")
                raise Refused("CUDA_ERROR_INVALID_CONTEXT")
            for stream in self.streams.values():
                if unsafe and stream.capture is not None and stream.capture.forbids_unsafe_calls():
                    stream.capture.spoilt = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
                    self.fault(f"{name} while a stream is captured")
                    raise Refused("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

    def _inject(self, name: str) -> None:
        for fault in self._faults:
            if fault.call != name:
                continue
            fault.seen += 1
            if not fault.at <= fault.seen < fault.at + fault.times:
                continue
            if fault.error in STICKY and name in ASYNCHRONOUS:
                self.dying = fault.error
                continue
            if fault.error in STICKY:
                self.lost = fault.error
            raise Refused(fault.error)

    def surface(self) -> None:
        """Somebody waited: what went wrong on the GPU shows. Raises Refused."""
        if self.dying and not self.lost:
            self.lost = self.dying
        if self.lost:
            raise Refused(self.lost)

    @property
    def contexts(self) -> _Contexts:
        """This thread's stack."""
        if not hasattr(self._local, "stack"):
            self._local.stack = _Contexts(self)
        return self._local.stack

    def handle(self) -> int:
        self._handles += 0x100
        return self._handles

    @property
    def used(self) -> int:
        """Bytes of the GPU's memory: on a device that shares the host's, pinned memory too."""
        return sum(a.nbytes for a in self.memory.allocations if self.integrated or a.kind == "device")

    def allocate(self, kind: str, nbytes: int) -> Allocation:
        """Raises Refused."""
        if nbytes <= 0:
            raise Refused("CUDA_ERROR_INVALID_VALUE")
        if self.used + nbytes > self.total_memory:
            raise Refused("CUDA_ERROR_OUT_OF_MEMORY")
        return self.memory.allocate(kind, nbytes, same_address=self.integrated)

    def device_memory(self, address: int, nbytes: int, what: str) -> Allocation:
        """The live memory at an address that work on the GPU was given. Raises RuleBroken."""
        try:
            return self.memory.on_device(address, nbytes, what)
        except RuleBroken as error:
            self.fault(str(error))
            raise

    def add(self, kind: str, **facts: Any) -> Thing:
        self.things.append(Thing(kind, facts=facts))
        return self.things[-1]

    def release(self, thing: Thing | Allocation, quiet: bool = False) -> None:
        """`quiet`: by a destructor, which cannot raise; a broken rule is only noted. Raises RuleBroken."""
        with self.lock:
            complaint = self._complaint(thing)
            if isinstance(thing, Allocation):
                self.memory.free(thing)
            else:
                thing.alive = False
                self.things.remove(thing)
            self.released.append(thing.kind)
        if complaint and quiet:
            self.fault(complaint)
        elif complaint:
            self.rule(complaint)

    def _complaint(self, thing: Thing | Allocation) -> str:
        for stream in self.streams.values():
            work = stream.pending(thing)
            if work is not None:
                return f"{thing} released while queued work ({work.name}) uses it"
        for other in self.things:
            if other is not thing and thing in other.facts.get("uses", ()):
                return f"{thing} released before the {other} that uses it"
        for address in getattr(thing, "facts", {}).get("addresses", {}).values():
            if address and not any(a.on_device(address) for a in self.memory.allocations):
                return f"{thing} released after the memory at {address:#x} that it is bound to"
        return ""

    def map_host(self, nbytes: int) -> tuple[np.ndarray, int]:
        """Mapped host memory that is not PyCUDA's, such as a camera's: the host's bytes, and the GPU's address."""
        allocation = self.memory.allocate("mapped", nbytes, same_address=self.integrated)
        allocation.foreign = True
        return allocation.host, allocation.device_address

    def unmap(self, address: int) -> None:
        """Give back what map_host gave, by the GPU's address. Raises RuleBroken."""
        for allocation in self.memory.allocations:
            if allocation.device_address == address and allocation.kind == "mapped":
                return self.release(allocation)
        return self.rule(f"unmap: {address:#x} is not mapped")

    def left_when_destroyed(self) -> list[Any]:
        """What the primary context takes with it."""
        return [thing for thing in self.alive if not getattr(thing, "foreign", False)]


class _Contexts(list):
    """A thread's context stack; PyCUDA ends the process if it is not empty when the thread ends."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu, self._thread = gpu, threading.current_thread().name

    def __del__(self) -> None:
        if self and not (self._gpu.lost or self._gpu.over):
            self._gpu.fault(f"context stack not empty at the end of {self._thread}")


gpu = Gpu()


def __getattr__(name: str) -> Any:  # `import gpu` does as well as `from gpu import gpu`
    return getattr(gpu, name)


def _begin() -> None:
    """In a process of its own, settings come from the environment, and the end is the process's."""
    for name, value in json.loads(os.environ["FAKE_GPU"]).items():
        if name == "fail":
            for fault in value:
                gpu.fail(**fault)
        else:
            setattr(gpu, name, tuple(value) if isinstance(value, list) else value)
    atexit.register(_end)


def _end() -> None:
    aborts = bool(gpu.contexts)  # as PyCUDA does
    gpu.finish()
    if "FAKE_GPU_REPORT" in os.environ:
        report = {"broken": gpu.broken, "calls": collections.Counter(name for name, _ in gpu.log)}
        Path(os.environ["FAKE_GPU_REPORT"]).write_text(json.dumps(report))
    for text in gpu.broken:
        print("RuleBroken:", text, file=sys.stderr)
    if aborts:
        print("PyCUDA ERROR: The context stack was not empty upon module cleanup.", file=sys.stderr)
    if gpu.broken or aborts:
        sys.stderr.flush()
        os._exit(134)


if "FAKE_GPU" in os.environ:
    _begin()
