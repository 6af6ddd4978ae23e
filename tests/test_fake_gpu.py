"""The software GPU computes what the CPU backend does, and only when somebody waits for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from fake_gpu.plans import make_plan
from fake_gpu.soft.host_kernels import TASK

from edgeface.boxes import letterbox
from edgeface.cpu.crop import Cropper
from edgeface.cpu.engine import open_engine
from edgeface.model_card import Input, load_card
from edgeface.values import Frame

KERNELS = ROOT / "edgeface" / "cuda" / "kernels"
CUBIN = (KERNELS / "crop-cu11-sm_87.cubin").read_bytes()
SIZE = 320, 192  # of the network's input


def picture(width: int = 200, height: int = 120) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.dstack([x, y, x + y]).astype(np.uint8)


def task(plane: int, crops: int, tensor: int, **changes: Any) -> np.void:
    """A Task: the luma of a bgr8 frame of 200 x 120."""
    made = np.zeros((), TASK)
    values = {"plane": plane, "crops": crops, "tensor": tensor, "pitch": 600, "frame_width": 200, "frame_height": 120}
    values |= {"format": 2, "width": SIZE[0], "height": SIZE[1], "order": 2, "scale": 1}
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
        self.module = cuda.module_from_buffer(CUBIN)
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
        return task(plane, crops, int(self.tensors["input"]), half=self.dtype == np.float16, **changes)

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


@pytest.fixture
def program(gpu: Any) -> Any:
    made = Program()
    yield made
    if gpu.contexts and not gpu.lost:
        made.close()


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("half_io", [False, True])
def test_a_program_that_keeps_the_rules_gets_the_cpu_backends_numbers(
    gpu: Any, integrated: bool, half_io: bool
) -> None:
    gpu.integrated = integrated
    program = Program(half_io=half_io)
    found = program.run()
    seen = np.zeros((1, 1, *SIZE[::-1]), program.dtype)
    program.cuda.memcpy_dtoh(seen, program.tensors["input"])
    cropper = Cropper(Input(*SIZE, colour="luma", padding=0), SIZE)
    cropped = cropper(Frame(0, 0, 200, 120, "bgr8", picture()), letterbox((200, 120), SIZE))
    np.testing.assert_allclose(seen, cropped, atol=1.5)  # it rounds to 8 bits at each step
    card = load_card(ROOT / "engines" / "edgeface-detector.toml")
    wanted = open_engine(card, SIZE, threads=1, spinning=False).run(seen.astype(np.float32))
    assert set(found) == set(wanted)
    for name, array in found.items():
        np.testing.assert_allclose(array, wanted[name].astype(program.dtype), rtol=2e-3 if half_io else 1e-5, atol=1e-4)
    for _ in range(3):
        program.run()
    used = len(gpu.alive)
    program.run()
    assert len(gpu.alive) == used
    assert gpu.count("launch") == gpu.count("execute_async_v3") == gpu.count("synchronize") == 5
    assert gpu.copied["dtoh"] == 5 * sum(array.nbytes for array in found.values()) + seen.nbytes
    program.close()
    assert gpu.alive == []
    kinds = list(dict.fromkeys(gpu.released))
    assert kinds == [
        "execution context",
        "engine",
        "runtime",
        "device",
        "mapped",
        "pinned",
        "stream",
        "module",
        "context",
    ]
