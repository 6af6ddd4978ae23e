"""What the GPU path costs by design, counted on the software GPU of the tests: copies, launches, waits, Python's time.

    python scripts/measure_gpu_path.py

Needs g++ and the packages of the tests, no GPU. The kernels and networks are not computed while time is taken, and what
the software GPU itself takes is in the figures: an upper bound for Python on the same machine.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parent.parent / "tests"
SIZE = 1280, 720
FACES = 6
FRAMES = 300


def main() -> None:
    """Print the tables."""
    sys.path[:0] = [str(TESTS), str(TESTS / "fake_gpu")]
    from gpu import gpu
    from gpu_kit import CAPTURES, captured, host_frame, opener, write_default_engines

    from edgeface.boxes import letterbox
    from edgeface.model_card import find_card

    detector, landmarks = find_card("edgeface-detector"), find_card("edgeface-landmarks")
    picture = np.random.default_rng(1).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    faces = np.random.default_rng(2).uniform(100, 500, (FACES, 2)).astype(np.float32)
    faces = np.hstack([faces, faces + 160])
    print(f"{SIZE[0]}x{SIZE[1]}, two looks of the detector, landmarks of {FACES} faces: bytes and calls a frame\n")
    print("| frame | memory | its bytes | copied to the GPU | copied on it | copied back | launches | graphs | waits |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_default_engines(Path(folder))
        for integrated in (True, False):
            gpu.integrated = integrated
            with ExitStack() as stack:
                open_engines = opener(Path(folder), stack)
                engines, *_ = open_engines((detector, None), (detector, (128, 128)), (landmarks, None))
                looks = [letterbox(SIZE, engine.input_size) for engine in engines[:2]]
                gpu.compute = False

                def step(frame: Any, engines: Any = engines, looks: Any = looks) -> None:
                    for engine, crops in zip(engines, [*looks, faces], strict=True):
                        engine.infer(frame, crops)

                frames = {form: captured(picture, form, gpu.map_host) for form in CAPTURES}
                frames["bgr8 of OpenCV"] = host_frame(picture)
                for form, frame in frames.items():
                    step(host_frame(picture, 9))  # the staging buffer has its size
                    gpu.log.clear()
                    gpu.copied.clear()
                    step(frame)
                    nbytes = getattr(frame.pixels, "nbytes", 0)
                    counts = [gpu.count(call) for call in ("launch", "cuGraphLaunch", "synchronize")]
                    memory = "shared" if integrated else "of its own"
                    copied = [gpu.copied[kind] for kind in ("htod", "dtod", "dtoh")]
                    print(f"| {form} | {memory} | {nbytes} | {' | '.join(map(str, [*copied, *counts]))} |")
                for form in CAPTURES:
                    gpu.unmap(frames[form].pixels.plane)
        print()
        gpu.integrated = True
        with ExitStack() as stack:
            engines, glimpse, *_ = opener(Path(folder), stack)((detector, None), (landmarks, None))
            frames_ = [captured(picture, "nv12", gpu.map_host, number) for number in range(2)]
            calls = {
                "a look": lambda frame: engines[0].infer(frame, looks[0]),
                f"landmarks of {FACES} faces": lambda frame: engines[1].infer(frame, faces),
                "a glimpse": glimpse,
            }
            for name, call in calls.items():
                took = []
                for number in range(FRAMES):
                    gpu.log.clear()
                    start = time.perf_counter_ns()
                    call(frames_[number % 2])
                    took.append((time.perf_counter_ns() - start) / 1e3)
                p50, p99 = statistics.median(took), np.percentile(took, 99)
                print(f"{name}: {p50:.0f} us of Python (p99 {p99:.0f})")
            for frame in frames_:
                gpu.unmap(frame.pixels.plane)
            gpu.compute = True
    assert gpu.broken == [], gpu.broken


if __name__ == "__main__":
    main()
