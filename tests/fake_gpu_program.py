"""A straight program on the software GPU: crop and network as a backend runs them, by the rules."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from fake_gpu.plans import make_plan
from fake_gpu.soft.host_kernels import TASK

from edgeface.boxes import letterbox

KERNELS = ROOT / "edgeface" / "cuda" / "kernels"
CUBIN = (KERNELS / "crop-cu11-sm_87.cubin").read_bytes()
SIZE = 320, 192  # of the network's input


def picture(width: int = 200, height: int = 120) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.dstack([x, y, x + y]).astype(np.uint8)


def task(**changes: Any) -> np.void:
    """A Task: the luma of a bgr8 frame of 200 x 120."""
    made = np.zeros((), TASK)
    values = {
        "pitch": 600,
        "frame_width": 200,
        "frame_height": 120,
        "format": 2,
        "width": SIZE[0],
        "height": SIZE[1],
        "order": 2,
        "scale": 1,
    }
    for name, value in {**values, **changes}.items():
        made[name] = value
    return made[()]


GRID = {"grid": (SIZE[0] // 32, SIZE[1] // 8, 1), "block": (32, 8, 1)}


class Program:
    """Crop and network as a backend runs them, and released by the rules."""

    def __init__(self, card: str = "edgeface-detector", half_io: bool = False) -> None:
        import pycuda.driver as cuda
        import tensorrt as trt

        self.cuda = cuda
        cuda.init()
        self.context = cuda.Device(0).retain_primary_context()
        self.context.push()
        self.logger = trt.Logger(trt.Logger.ERROR)
        self.runtime = trt.Runtime(self.logger)
        plan = make_plan(ROOT / "engines" / f"{card}.onnx", shapes={"input": (1, 1, SIZE[1], SIZE[0])}, half_io=half_io)
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        self.execution = self.engine.create_execution_context()
        self.image = CUBIN
        self.module = cuda.module_from_buffer(self.image)
        self.crop = self.module.get_function("crop")
        self.stream = cuda.Stream(1)
        self.dtype = trt.nptype(self.engine.get_tensor_dtype("input"))
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        self.outputs = {n: tuple(self.engine.get_tensor_shape(n)) for n in names if n != "input"}
        self.frame = cuda.pagelocked_empty((120, 200, 3), np.uint8, mem_flags=cuda.host_alloc_flags.DEVICEMAP)
        self.crops = cuda.pagelocked_empty((1, 4), np.float32, mem_flags=cuda.host_alloc_flags.DEVICEMAP)
        self.host = {name: cuda.pagelocked_empty(shape, self.dtype) for name, shape in self.outputs.items()}
        size = np.dtype(self.dtype).itemsize
        self.tensors = {name: cuda.mem_alloc(int(np.prod(shape)) * size) for name, shape in self.outputs.items()}
        self.tensors["input"] = cuda.mem_alloc(SIZE[0] * SIZE[1] * size)
        for name, memory in self.tensors.items():
            assert self.execution.set_tensor_address(name, int(memory))

    def task(self, **changes: Any) -> np.void:
        plane, crops = (int(array.base.get_device_pointer()) for array in (self.frame, self.crops))
        given = {"plane": plane, "crops": crops, "tensor": int(self.tensors["input"]), "half": self.dtype == np.float16}
        return task(**{**given, **changes})

    def enqueue(self) -> None:
        self.frame[:], self.crops[:] = picture(), letterbox((200, 120), SIZE)
        self.crop(self.task(), stream=self.stream, **GRID)
        assert self.execution.execute_async_v3(self.stream.handle)
        for name, array in self.host.items():
            self.cuda.memcpy_dtoh_async(array, self.tensors[name], self.stream)

    def run(self) -> dict[str, np.ndarray]:
        self.enqueue()
        self.stream.synchronize()
        return {name: array.copy() for name, array in self.host.items()}

    def close(self) -> None:
        del self.execution, self.engine, self.runtime
        for memory in self.tensors.values():
            memory.free()
        for array in (self.frame, self.crops, *self.host.values()):
            array.base.free()
        del self.stream, self.crop, self.module
        self.context.pop()
        self.context.detach()


def running(gpu: Any) -> Iterator[Program]:
    """For a fixture: a program on a discrete GPU, whose addresses of mapped memory differ from the host's."""
    gpu.integrated = False
    made = Program()
    yield made
    gc.collect()  # errors that a test has caught keep what their frames name
    if not gpu.lost:
        made.close()


def broken(gpu: Any, text: str, act: Callable[[], Any]) -> None:
    """It raises, and is on record."""
    with pytest.raises(gpu.RuleBroken, match=re.escape(text)):
        act()
    assert any(text in each for each in gpu.take())
