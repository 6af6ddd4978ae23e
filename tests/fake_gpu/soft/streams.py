"""Streams: work that was asked for and has not run yet, in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import Refused
from .memory import Allocation

if TYPE_CHECKING:
    from gpu import Gpu

NON_BLOCKING = 1  # a stream's flag: it does not wait for the null stream, nor the null stream for it
GLOBAL, THREAD_LOCAL, RELAXED = range(3)  # capture modes


@dataclass(eq=False)
class Work:
    """One piece of work on a stream."""

    name: str
    run: Callable[[], None]
    uses: tuple[Allocation, ...] = ()
    needs: tuple[Any, ...] = ()  # modules and execution contexts: alive until it has run
    facts: dict[str, Any] = field(default_factory=dict)
    done: bool = False


@dataclass(eq=False)
class Capture:
    """Work of a stream that is written down instead of run."""

    mode: int
    thread: int
    work: list[Work] = field(default_factory=list)
    spoilt: str = ""  # why it will fail at its end

    def forbids_unsafe_calls(self) -> bool:
        return self.mode == GLOBAL or (self.mode == THREAD_LOCAL and self.thread == threading.get_ident())


class Stream:
    """Nothing runs before somebody waits for it."""

    def __init__(self, gpu: Gpu, handle: int, flags: int = 0) -> None:
        self.gpu, self.handle, self.flags = gpu, handle, flags
        self.alive = True
        self.queue: deque[Work] = deque()
        self.capture: Capture | None = None

    @property
    def _with_null(self) -> bool:
        return self.handle != 0 and not self.flags & NON_BLOCKING

    def enqueue(self, work: Work) -> None:
        gpu = self.gpu
        if not self.alive:
            gpu.rule(f"{work.name} on a destroyed stream")
        with gpu.lock:
            if self.capture is not None:
                self.capture.work.append(work)
                return
            others = [s for s in gpu.streams.values() if s._with_null] if self.handle == 0 else []
            for stream in others:
                if stream.capture is not None:
                    stream.capture.spoilt = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
                    gpu.fault(f"{work.name} on the null stream while a blocking stream is captured")
                    raise Refused("CUDA_ERROR_STREAM_CAPTURE_IMPLICIT")
                self._wait_for(stream)
            if self._with_null:
                self._wait_for(gpu.null)
            self.queue.append(work)

    def _wait_for(self, other: Stream) -> None:
        if other.queue:
            self.queue.append(other.waiting_for(other.queue[-1]))

    def waiting_for(self, work: Work) -> Work:
        """Work, for another stream, that is done when this stream has done `work`."""
        return Work("wait", lambda: None if work.done else self.run(work))

    def run(self, last: Work | None = None) -> None:
        """Do what is queued, up to `last`."""
        gpu = self.gpu
        with gpu.lock:
            while self.queue:
                work = self.queue.popleft()
                self._do(work)
                if work is last:
                    break
            gpu.surface()

    def _do(self, work: Work) -> None:
        work.done = True
        for thing in (*work.uses, *work.needs):
            if not thing.alive:
                self.gpu.rule(f"{work.name} runs after {thing} was released")
        if self.gpu.lost or self.gpu.dying:
            return
        work.run()

    def step(self) -> bool:
        """Is all done? Each question lets the GPU do one more piece of work."""
        with self.gpu.lock:
            if not self.queue:
                return True
            self.run(self.queue[0])
            return False

    def pending(self, thing: Any) -> Work | None:
        """The queued work that uses this memory, module or execution context."""
        queue = [*self.queue, *(self.capture.work if self.capture else [])]
        return next((work for work in queue if thing in work.uses or thing in work.needs), None)
