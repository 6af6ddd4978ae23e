"""`edgeface-bench`: the pipeline of `edgeface run`, its seams wrapped in stopwatches."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edgeface import __version__
from edgeface.arguments import add_pipeline_arguments, guarded, overrides, positive, write_texts
from edgeface.config import Config, load_config
from edgeface.errors import CameraError, ConfigError, EndOfStream
from edgeface.parts import build
from edgeface.pipeline import Pipeline
from edgeface.publisher import ZmqPublisher

IMPORTS = {  # by their names in the report: the bare package, the subscriber's part; and all that `run` loads
    "edgeface": "import edgeface",
    "edgeface.client": "import edgeface.client",
}
_DAEMON = "import edgeface.cli, edgeface.daemon, "  # and what the backend loads
IMPORTS_OF = {
    "cpu": {"daemon": _DAEMON + "edgeface.cpu.engine, edgeface.cpu.source"},
    "cuda": {"daemon": _DAEMON + "edgeface.cuda.engine, edgeface.cuda.source"},
    "scenario": {"daemon": _DAEMON + "edgeface.scenario.source"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The `edgeface-bench` program."""
    parser = argparse.ArgumentParser(prog="edgeface-bench", description="Time the pipeline, stage by stage.")
    add_pipeline_arguments(parser)
    parser.add_argument("--frames", type=positive, default=300, metavar="N", help="frames to measure (default 300)")
    parser.add_argument("--warm-up", type=positive, default=30, metavar="N", help="frames not measured (default 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.set_defaults(verb_function=_bench)
    return guarded(parser, arguments)


def _bench(arguments: argparse.Namespace) -> int:
    demo = {} if arguments.config else {"source": "demo:?loop=1&pace=0"}
    config = load_config(arguments.config, demo | overrides(arguments))
    report = measure(config, arguments.frames, arguments.warm_up)
    print(table(report))
    write_texts([(arguments.json, json.dumps(report, indent=1) + "\n")])
    return 0


class Stopwatch:
    """Wraps methods and sums the time spent in each during one frame."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int]] = {}  # ns, one entry a frame in which the stage ran
        self._now: dict[str, int] = {}

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        """Time `owner.name` as `stage`."""
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start_ns = time.perf_counter_ns()
            try:
                return inner(*args, **kwargs)
            finally:
                self._now[stage] = self._now.get(stage, 0) + time.perf_counter_ns() - start_ns

        setattr(owner, name, timed)

    def lap(self, keep: bool) -> dict[str, int]:
        """End a frame, forget it unless `keep`; what each stage spent in it, ns."""
        spent, self._now = self._now, {}
        if keep:
            for stage, spent_ns in spent.items():
                self.stages.setdefault(stage, []).append(spent_ns)
        return spent


def measure(config: Config, frames: int, warm_up: int) -> dict[str, Any]:
    """Run `warm_up + frames` frames and return the figures: per stage, capture to publish, rates, import, memory."""
    parts = build(config)
    source, pipeline, networks = parts.source, parts.pipeline, parts.networks
    watch = Stopwatch()
    watch.wrap(source, "read", "read")
    _wrap_pipeline(watch, pipeline)
    watch.wrap(pipeline, "step", "step")
    publish_ns: list[int] = []
    faces: list[int] = []
    with ExitStack() as stack:
        stack.enter_context(parts)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeface-bench-"))
        publisher = ZmqPublisher(f"ipc://{folder}/bench.ipc", config.camera, source.expected_hz)
        stack.callback(publisher.close)
        watch.wrap(publisher, "send", "publish")
        start_ns, start_cpu_ns = time.monotonic_ns(), time.process_time_ns()
        for number in range(warm_up + frames):
            try:
                frame = source.read(10.0)
            except EndOfStream:
                break
            if frame is None:
                raise CameraError(f"no frame for 10 s: {source.problem or 'the source is silent'}")
            begun_ns = frame.capture_ns if source.live else time.monotonic_ns()
            for topic, body in pipeline.step(frame):
                sent_ns = publisher.send(topic, body)
                if topic == "faces" and number >= warm_up:
                    publish_ns.append(sent_ns - begun_ns)
                    faces.append(len(body["faces"]))
            watch.lap(keep=number >= warm_up)
            if number == warm_up - 1:
                start_ns, start_cpu_ns = time.monotonic_ns(), time.process_time_ns()
        memory = resident_mb()
        wall_s = (time.monotonic_ns() - start_ns) / 1e9
        cpu_s = (time.process_time_ns() - start_cpu_ns) / 1e9
    if not publish_ns:
        raise ConfigError(f"the source ended before the {warm_up} frames of warm-up; use ?loop=1 or --warm-up")
    return {
        "edgeface": __version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "source": config.source,
        "backend": parts.facts["backend"],
        "detector": parts.facts["detector"],
        "landmarks": parts.facts["landmarks"],
        "precision": parts.facts["precision"],
        "gpu": networks.backend.facts if networks else {},
        "input_size": list(networks.backend.engines[0].input_size) if networks else None,  # None: nothing was inferred
        "keyframe_interval": config.tracker.keyframe_interval,
        "threads": config.cpu.threads if parts.facts["backend"] == "cpu" else None,
        "frames": len(publish_ns),
        "mean_faces": round(statistics.mean(faces), 2),
        "stages_ms": {stage: _spread(values) for stage, values in watch.stages.items()},
        "capture_to_publish_ms": _spread(publish_ns),
        "frames_per_second": round(len(publish_ns) / wall_s, 1),
        "cpu_ms_per_frame": round(cpu_s * 1e3 / len(publish_ns), 2),
        "import_ms": import_times(IMPORTS | IMPORTS_OF.get(parts.facts["backend"], {})),
        "resident_mb": memory,
    }


def _wrap_pipeline(watch: Stopwatch, pipeline: Pipeline) -> None:
    """Time the parts of the pipeline; what there is, and what a backend can tell apart."""
    detector, landmarker, tracker = pipeline.detector, pipeline.landmarker, pipeline.tracker
    stages: list[tuple[Any, str, str]] = [
        (detector, "detect", "detect"),
        (landmarker, "locate", "landmarks"),
        (tracker, "update", "track: update"),
        (tracker, "predict", "track: predict"),
        (tracker, "hold", "track: hold"),
        (pipeline.signals, "derive", "signals"),
    ]
    looks = [*getattr(detector, "looks", [detector]), *getattr(detector, "tiles", [])]
    for owners, prefix in ((looks, ""), ([landmarker], "landmarks: ")):
        stages += [(owner, name, prefix + name) for owner in owners for name in ("decode", "merge")]
        for engine in dict.fromkeys(getattr(owner, "engine", None) for owner in owners):
            names = (("infer", "infer"), ("crop", "infer: crop"), ("run", "infer: network"))
            stages += [(engine, name, prefix + stage) for name, stage in names]
    for owner, name, stage in stages:
        if hasattr(owner, name):
            watch.wrap(owner, name, stage)


def import_times(programs: dict[str, str]) -> dict[str, float]:
    """Milliseconds that each program takes, medians of 5 fresh interpreters."""
    code = "import time; t = time.perf_counter(); {}; print((time.perf_counter() - t) * 1e3)"

    def once(program: str) -> float:
        run = subprocess.run([sys.executable, "-c", code.format(program)], capture_output=True, check=True)
        return float(run.stdout)

    return {name: round(statistics.median(once(program) for _ in range(5)), 1) for name, program in programs.items()}


def _spread(values_ns: list[int]) -> dict[str, float]:
    p50, p99 = np.percentile(values_ns, (50, 99)) / 1e6
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "runs": len(values_ns)}


def resident_mb() -> dict[str, float]:
    """Resident memory now and at its highest, from /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: round(int(fields[key].split()[0]) / 1024, 1) for name, key in (("now", "VmRSS"), ("peak", "VmHWM"))}


def table(report: dict[str, Any]) -> str:
    """The figures as people read them."""
    stages = [*report["stages_ms"].items(), ("capture to publish", report["capture_to_publish_ms"])]
    who = f"{report['source']} without a network"
    if report["input_size"]:
        width, height = report["input_size"]
        network = f"{report['detector']} {report['precision']} on {report['backend']}"
        device = ", ".join(report["gpu"].values()) or f"{report['threads']} threads"
        who = f"{network}, input {width}x{height}, landmarks {report['landmarks']}, {device}"
    lines = [
        f"edgeface {report['edgeface']}: {who}, keyframe interval {report['keyframe_interval']} ({report['machine']})",
        f"{'stage':<26}{'p50 ms':>10}{'p99 ms':>10}{'runs':>8}",
        *(f"{name:<26}{row['p50']:>10.3f}{row['p99']:>10.3f}{row['runs']:>8}" for name, row in stages),
        f"{report['frames']} frames, {report['mean_faces']} faces a frame, {report['frames_per_second']} frames/s, "
        f"{report['cpu_ms_per_frame']} ms of CPU a frame",
        f"import: {', '.join(f'{name} {value} ms' for name, value in report['import_ms'].items())}; "
        f"resident {report['resident_mb']['now']} MB (peak {report['resident_mb']['peak']} MB)",
    ]
    return "\n".join(lines)
