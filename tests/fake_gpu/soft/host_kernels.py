"""edgeface/cuda/crop.cu, compiled as C++ for this machine: once, and kept in the folder for temporary files."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[2]
SOURCE = TESTS.parent / "edgeface" / "cuda" / "crop.cu"
HOST = TESTS / "host.hpp"
HARNESS = f"""
#include "{HOST}"
#include "{SOURCE}"
struct Size {{ unsigned x, y, z; }};
extern "C" void launch(const Task* task, const Size* grid, const Size* block, int glimpses)
{{
    blockDim = {{block->x, block->y, block->z}};
    for (blockIdx.z = 0; blockIdx.z < grid->z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid->y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid->x; ++blockIdx.x)
                for (threadIdx.y = 0; threadIdx.y < block->y; ++threadIdx.y)
                    for (threadIdx.x = 0; threadIdx.x < block->x; ++threadIdx.x)
                        glimpses ? glimpse(*task) : crop(*task);
}}
extern "C" long run(const Task* task, const Plane* planes, int crops, int glimpses)
{{
    readable[0] = planes[0], readable[1] = planes[1], read_outside = 0;
    const Size block = {{32, 8, 1}};
    const Size grid = {{(task->width + 31u) / 32, (task->height + 7u) / 8, (unsigned)crops}};
    launch(task, &grid, &block, glimpses);
    return read_outside;
}}
extern "C" unsigned short to_half(float value) {{ return half_bits(value); }}
"""
OPTIONS = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC"]
TASK = np.dtype(
    [(name, np.uint64) for name in ("plane", "chroma", "crops", "tensor")]
    + [(name, np.int32) for name in ("pitch", "chroma_pitch", "frame_width", "frame_height")]
    + [(name, np.int32) for name in ("format", "width", "height", "order", "half")]
    + [("padding", np.float32), ("scale", np.float32), ("shift", np.float32, 3), ("yuv", np.float32, 6)]
)


@cache
def library(checked: bool) -> ctypes.CDLL:
    """`run` counts what is read outside the planes if `checked`; without, `launch` is fast. Needs g++."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise FileNotFoundError("g++ is missing: apt-get install g++")
    options = [*OPTIONS, *([] if checked else ["-DUNCHECKED"])]
    text = "\0".join([HARNESS, HOST.read_text(), SOURCE.read_text(), *options])
    folder = Path(tempfile.gettempdir()) / f"edgeface-kernels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            source, built = Path(scratch) / "harness.cpp", Path(scratch) / "kernels.so"
            source.write_text(HARNESS)
            subprocess.run([compiler, *options, "-o", built, source], check=True)
            built.replace(path)
    loaded = ctypes.CDLL(str(path))
    loaded.run.restype = ctypes.c_long
    loaded.to_half.argtypes, loaded.to_half.restype = [ctypes.c_float], ctypes.c_uint16
    return loaded
