"""The loop: read, step, send; its signals, its status messages, its word to the service manager."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from edgeface import message, service
from edgeface.config import Config
from edgeface.errors import EndOfStream
from edgeface.parts import build
from edgeface.pipeline import Pipeline
from edgeface.publisher import ZmqPublisher
from edgeface.seams import Publisher, Source

log = logging.getLogger(__name__)

_READ_TIMEOUT_S = 0.1  # how long the loop may wait for a frame before it looks at signals and subscribers
_STATUS_PERIOD_NS = 1_000_000_000
_RATE_WINDOW_NS = 2_000_000_000
_NOTIFY_PERIOD_NS = 2_000_000_000


class Stop:
    """Set by the first SIGTERM or SIGINT; a second one ends the process at once."""

    def __init__(self) -> None:
        self.reason = ""

    @contextmanager
    def on_signals(self) -> Iterator[Stop]:
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _: Any) -> None:
        self.reason = signal.Signals(number).name
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, signal.SIG_DFL)


def run(config: Config, max_frames: int = 0) -> None:
    """Run until a signal, the end of the file, or `max_frames` frames (0: no limit). Raises EdgefaceError."""
    with Stop().on_signals() as stop, build(config) as parts:
        runtime = os.environ.get("RUNTIME_DIRECTORY", "")
        endpoint = config.endpoint or message.default_endpoint(config.camera, runtime)
        with closing(ZmqPublisher(endpoint, config.camera, parts.source.expected_hz)) as publisher:
            networks = f"{parts.facts['detector']}, landmarks {parts.facts['landmarks']}"
            log.info("%s on %s, publishing at %s", networks, config.source, endpoint)
            health = Health(publisher, parts.source, parts.pipeline, parts.facts, config.camera_timeout_s)
            loop(parts.source, parts.pipeline, publisher, health, stop, max_frames)


def loop(source: Source, pipeline: Pipeline, publisher: Publisher, health: Health, stop: Stop, max_frames: int) -> None:
    """The straight loop. No frame, no watchdog tick, unless the source says that it is merely waiting."""
    frames, reason = 0, ""
    health.starting()
    try:
        while not stop.reason and not (max_frames and frames >= max_frames):
            publisher.serve()
            try:
                frame = source.read(_READ_TIMEOUT_S)
            except EndOfStream as end:
                reason = str(end)
                break
            if frame is not None:
                frames += 1
                begun_ns = frame.capture_ns if source.live else time.monotonic_ns()
                for topic, body in pipeline.step(frame):
                    sent_ns = publisher.send(topic, body)
                    if topic == "faces":
                        health.frame(sent_ns - begun_ns, body["dropped"], len(body["faces"]))
                pipeline.self_test()
            health.tick(got_frame=frame is not None)
        health.stopping(stop.reason or reason or f"{frames} frames done")
    except Exception as error:
        health.stopping(f"error: {error}")
        raise


class Health:
    """What the daemon knows of itself: state, rates and latencies, told on the bus and to the service manager."""

    def __init__(
        self, publisher: Publisher, source: Source, pipeline: Pipeline, facts: dict[str, str], camera_timeout_s: float
    ) -> None:
        self._publisher, self._source, self._pipeline, self._facts = publisher, source, pipeline, facts
        self._camera_timeout_ns = round(camera_timeout_s * 1e9)
        self._watchdog_ns = round(service.watchdog_period_s() * 1e9)
        self._state, self._reason = "starting", ""
        self._began_ns = self._frame_ns = time.monotonic_ns()
        self._status_ns = self._tick_ns = 0
        self._notify_ns = self._began_ns
        self._arrivals: deque[int] = deque(maxlen=1000)  # monotonic ns of the last two seconds' frames
        self._latencies: deque[int] = deque(maxlen=300)  # ns, capture to publish
        self._dropped_total = self._faces = 0

    def starting(self) -> None:
        """The engine is warm and the bus is bound: systemd may start what needs us, even while the camera is away."""
        service.notify("READY=1\nSTATUS=waiting for the first frame")
        self._send_status()

    def frame(self, latency_ns: int, dropped: int, faces: int) -> None:
        """One frame was published."""
        self._frame_ns = time.monotonic_ns()
        self._arrivals.append(self._frame_ns)
        self._latencies.append(latency_ns)
        self._dropped_total += dropped
        self._faces = faces

    def tick(self, *, got_frame: bool) -> None:
        """Once a loop: change state, publish status when it changed or a second has passed, pat the watchdog."""
        now_ns = time.monotonic_ns()
        state, reason = self._judge(now_ns)
        changed = (state, reason) != (self._state, self._reason)
        if state != self._state:
            self._announce(state, reason)
        self._state, self._reason = state, reason
        if changed or now_ns - self._status_ns >= _STATUS_PERIOD_NS:
            self._send_status()
        if self._watchdog_ns and now_ns - self._tick_ns >= self._watchdog_ns and (got_frame or self._source.waiting):
            service.notify("WATCHDOG=1")
            self._tick_ns = now_ns

    def stopping(self, reason: str) -> None:
        """Say goodbye: `stopping`, then `stopped`."""
        service.notify("STOPPING=1")
        log.info("stopping: %s", reason)
        for state in ("stopping", "stopped"):
            self._state, self._reason = state, reason
            self._send_status()

    def _judge(self, now_ns: int) -> tuple[str, str]:
        """The state now, and why. Before its first frame a camera has as long to come as between two."""
        if self._source.live and now_ns - self._frame_ns > self._camera_timeout_ns:
            return "camera_lost", self._source.problem or f"no frame for {self._camera_timeout_ns / 1e9:g} s"
        if not self._latencies:
            return "starting", ""
        if self._pipeline.problem:
            return "degraded", self._pipeline.problem
        return "ready", ""

    def _announce(self, state: str, reason: str) -> None:
        """Tell of a camera that went or came back."""
        if "camera_lost" not in (state, self._state):
            return
        event = "camera_lost" if state == "camera_lost" else "camera_back"
        log.warning("%s%s", event.replace("_", " "), f": {reason}" if reason else "")
        self._publisher.send("events", {"event": event, "capture_ns": time.monotonic_ns(), "reason": reason})

    def _send_status(self) -> None:
        now_ns = time.monotonic_ns()
        while self._arrivals and now_ns - self._arrivals[0] > _RATE_WINDOW_NS:
            self._arrivals.popleft()
        fps = (len(self._arrivals) - 1) / ((now_ns - self._arrivals[0]) / 1e9) if len(self._arrivals) > 1 else 0.0
        p50, p99 = np.percentile(list(self._latencies), (50, 99)) / 1e6 if self._latencies else (0.0, 0.0)
        self._status_ns = now_ns
        self._publisher.send(
            "status",
            {
                "state": self._state,
                "reason": self._reason,
                "fps": round(fps, 2),
                "expected_hz": self._source.expected_hz,
                "p50_ms": round(float(p50), 3),
                "p99_ms": round(float(p99), 3),
                "faces": self._faces,
                "dropped_total": self._dropped_total,
                "uptime_s": round((now_ns - self._began_ns) / 1e9, 1),
                **self._facts,
            },
        )
        if now_ns - self._notify_ns >= _NOTIFY_PERIOD_NS:
            self._notify_ns = now_ns
            why = f" ({self._reason})" if self._reason else ""
            service.notify(f"STATUS={self._state}{why}, {fps:.1f} fps, p99 {p99:.1f} ms, {self._faces} faces")
