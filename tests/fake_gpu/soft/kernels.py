"""Modules: which images the device takes; launches of `crop` and `glimpse`, checked against their Task."""

from __future__ import annotations

import ctypes
import re
import struct
from typing import TYPE_CHECKING

import numpy as np

from .errors import Refused
from .host_kernels import TASK, library
from .streams import Stream, Work

if TYPE_CHECKING:
    from gpu import Gpu, Thing

GRAY8, RGB8, BGR8, RGBA8, BGRA8, NV12, YUYV = range(7)
RGB, BGR, LUMA, LUMA3 = range(4)
Size = tuple[int, int, int]


def load(gpu: Gpu, image: bytes) -> Thing:
    """A module, if the device takes the image. Raises Refused."""
    gpu.call("module_from_buffer", unsafe=True, nbytes=len(image))
    if image[:4] == b"\x7fELF":
        names = _cubin(gpu, image)
    elif b".version" in image and b".target" in image:
        names = _ptx(gpu, image.rstrip(b"\0").decode())
    else:
        raise Refused("CUDA_ERROR_INVALID_IMAGE")
    return gpu.add("module", names=names)


def _cubin(gpu: Gpu, image: bytes) -> set[str]:
    if len(image) < 64 or struct.unpack_from("<H", image, 18)[0] != 190:
        raise Refused("CUDA_ERROR_INVALID_IMAGE")
    sections, entry, count = *struct.unpack_from("<Q", image, 40), *struct.unpack_from("<HH", image, 58)
    if sections + entry * count > len(image):
        raise Refused("CUDA_ERROR_INVALID_IMAGE")
    flags = struct.unpack_from("<I", image, 48)[0]
    sm = flags & 0xFF if image[8] < 8 else flags >> 8 & 0xFF  # CUDA 13 moved it
    major, minor = gpu.compute_capability
    if sm // 10 != major or sm % 10 > minor:
        raise Refused("CUDA_ERROR_NO_BINARY_FOR_GPU")
    return {name.decode() for name in re.findall(rb"\0\.text\.(\w+)(?=\0)", image)}


def _ptx(gpu: Gpu, text: str) -> set[str]:
    version, target = re.search(r"\.version (\d+\.\d+)", text), re.search(r"\.target sm_(\d+)", text)
    if version is None or target is None or not text.rstrip().endswith("}"):
        raise Refused("CUDA_ERROR_INVALID_PTX", "ptxas fatal   : Ptx assembly aborted due to errors")
    major, minor = map(int, version[1].split("."))
    if (
        major + 4
    ) * 1000 + minor * 10 > gpu.driver_version:  # PTX 7.8 came with CUDA 11.8, 8.0 with 12.0, 9.0 with 13.0
        raise Refused("CUDA_ERROR_UNSUPPORTED_PTX_VERSION")
    if int(target[1]) > gpu.compute_capability[0] * 10 + gpu.compute_capability[1]:
        log = "ptxas fatal   : SM version specified by .target is higher than default SM version assumed"
        raise Refused("CUDA_ERROR_NO_BINARY_FOR_GPU", log)
    return set(re.findall(r"\.visible \.entry (\w+)\(", text))


def launch(gpu: Gpu, module: Thing, name: str, parameters: bytes, grid: Size, block: Size, stream: Stream) -> None:
    """Queue a kernel. Raises Refused, and RuleBroken for a Task that would make it read or write what it must not."""
    gpu.call("launch", kernel=name, grid=grid, block=block, stream=stream.handle)
    if min(*grid, *block) < 1 or np.prod(block) > 1024 or max(grid[1:]) > 65535:
        raise Refused("CUDA_ERROR_INVALID_VALUE")
    if len(parameters) != TASK.itemsize:
        gpu.rule(f"{name}: expected a Task of {TASK.itemsize} bytes, found {len(parameters)}")
    task = np.frombuffer(parameters, TASK)[0]
    _check_sizes(gpu, name, task, grid, block)
    uses = [
        gpu.device_memory(address, nbytes, f"{name}: {what}")
        for what, address, nbytes in _ranges(gpu, name, task, grid)
    ]

    def run() -> None:
        if gpu.compute:
            sizes = [(ctypes.c_uint * 3)(*size) for size in (grid, block)]
            library(checked=False).launch(parameters, *sizes, name == "glimpse")

    stream.enqueue(Work(name, run, tuple(uses), (module,)))


def _check_sizes(gpu: Gpu, name: str, task: np.void, grid: Size, block: Size) -> None:
    wanted = -(-int(task["width"]) // 32), -(-int(task["height"]) // 8)
    if block != (32, 8, 1) or grid[:2] != wanted or (name == "glimpse" and grid[2] != 1):
        gpu.rule(f"{name}: grid {grid} of blocks {block} is not of a tensor {task['width']} x {task['height']}")
    for field, limit in (("format", 7), ("order", 4), ("half", 2)):
        if not 0 <= task[field] < limit:
            gpu.rule(f"{name}: {field} {task[field]}")
    if min(task["frame_width"], task["frame_height"]) < 1:
        gpu.rule(f"{name}: frame of {task['frame_width']} x {task['frame_height']}")
    numbers = [task["padding"], task["scale"], *task["shift"], *task["yuv"]]
    if name == "crop" and not np.isfinite(numbers).all():
        gpu.rule(f"{name}: a coefficient is not finite: {numbers}")


def _ranges(gpu: Gpu, name: str, task: np.void, grid: Size) -> list[tuple[str, int, int]]:
    """What the kernel touches: what it is, address, bytes."""
    form, order = int(task["format"]), int(task["order"])
    width, height = int(task["frame_width"]), int(task["frame_height"])
    pairs = (width + 1) // 2
    row = {GRAY8: width, RGB8: 3 * width, BGR8: 3 * width, NV12: width, YUYV: 4 * pairs}.get(form, 4 * width)
    planes = [("plane", row, height, int(task["pitch"]))]
    if form == NV12 and name == "crop" and order in (RGB, BGR):
        planes.append(("chroma", 2 * pairs, (height + 1) // 2, int(task["chroma_pitch"])))
    for what, length, _, pitch in planes:
        if pitch < length:
            gpu.rule(f"{name}: {what}: rows of {length} bytes are {pitch} apart")
    ranges = [(what, int(task[what]), (rows - 1) * pitch + length) for what, length, rows, pitch in planes]
    pixels = int(task["width"]) * int(task["height"])
    if name == "glimpse":
        return [*ranges, ("tensor", int(task["tensor"]), pixels)]
    width_of_value = 2 if task["half"] else 4
    ranges.append(("crops", int(task["crops"]), 16 * grid[2]))
    ranges.append(("tensor", int(task["tensor"]), grid[2] * (1 if order == LUMA else 3) * pixels * width_of_value))
    for what, alignment in (("crops", 4), ("tensor", width_of_value)):
        if int(task[what]) % alignment:
            gpu.rule(f"{name}: {what} at {int(task[what]):#x}, not a multiple of {alignment}")
    return ranges
