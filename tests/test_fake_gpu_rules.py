"""The software GPU's rules of kernels and memory: each is broken once, and caught."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_gpu_program import GRID, KERNELS, SIZE, Program, broken, running


@pytest.fixture
def program(gpu: Any) -> Iterator[Program]:
    yield from running(gpu)


def address(array: np.ndarray) -> int:
    return array.base.get_device_pointer()


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("plane: 72000 bytes at .* reach beyond", lambda p: {"plane": address(p.frame) + 1}),
        ("plane: 72600 bytes at .* reach beyond", lambda p: {"frame_height": 121}),
        ("plane: .* the host's address of .* is not one of the GPU's", lambda p: {"plane": p.frame.ctypes.data}),
        ("plane: .* the GPU sees no memory there", lambda p: {"plane": 4096}),
        ("crops: .* the host's address", lambda p: {"crops": p.crops.ctypes.data}),
        ("tensor: .* reach beyond", lambda p: {"tensor": int(p.tensors["input"]) + 4}),
        ("tensor: .* reach beyond", lambda p: {"order": 0}),
        ("tensor at .* not a multiple of 4", lambda p: {"tensor": int(p.tensors["input"]) + 2}),
        ("plane: rows of 600 bytes are 599 apart", lambda p: {"pitch": 599}),
        ("plane: rows of 800 bytes are 600 apart", lambda p: {"format": 3}),
        ("chroma: .* the GPU sees no memory there", lambda p: {"format": 5, "order": 0, "chroma_pitch": 200}),
        ("chroma: rows of 200 bytes are 9 apart", lambda p: {"format": 5, "order": 0, "chroma_pitch": 9}),
        ("format 7", lambda p: {"format": 7}),
        ("order -1", lambda p: {"order": -1}),
        ("half 2", lambda p: {"half": 2}),
        ("frame of 0 x 120", lambda p: {"frame_width": 0}),
        ("not finite", lambda p: {"scale": np.nan}),
    ],
)
def test_a_kernel_touches_only_live_memory_that_the_gpu_sees(
    gpu: Any, program: Program, text: str, change: Callable[[Program], dict[str, Any]]
) -> None:
    task = program.task(**change(program))
    with pytest.raises(gpu.RuleBroken, match=text):
        program.crop(task, stream=program.stream, **GRID)
    assert len(gpu.take()) == 1


@pytest.mark.parametrize(
    "size",
    [
        {"grid": (9, 24, 1), "block": (32, 8, 1)},
        {"grid": (10, 24, 1), "block": (16, 16, 1)},
        {"grid": (10, 25, 1), "block": (32, 8, 1)},
        {"grid": (10, 24), "block": (32, 4, 2)},
    ],
)
def test_a_launch_covers_the_tensor(gpu: Any, program: Program, size: dict[str, Any]) -> None:
    broken(gpu, "is not of a tensor 320 x 192", lambda: program.crop(program.task(), stream=program.stream, **size))


def test_one_glimpse_at_a_time(gpu: Any, program: Program) -> None:
    glimpse = program.module.get_function("glimpse")
    task = program.task(width=128, height=72)
    broken(gpu, "glimpse: grid", lambda: glimpse(task, stream=program.stream, grid=(4, 9, 2), block=(32, 8, 1)))
    glimpse(task, stream=program.stream, grid=(4, 9, 1), block=(32, 8, 1))
    program.stream.synchronize()


def test_more_crops_than_there_are(gpu: Any, program: Program) -> None:
    size = {**GRID, "grid": (*GRID["grid"][:2], 2)}
    broken(gpu, "crops: 32 bytes", lambda: program.crop(program.task(), stream=program.stream, **size))


def test_what_pycuda_itself_refuses_of_a_launch(gpu: Any, program: Program) -> None:
    task, stream = program.task(), program.stream
    with pytest.raises(TypeError, match="invalid type on parameter #0"):
        program.crop(task.tobytes(), stream=stream, **GRID)
    with pytest.raises(ValueError, match="must specify block size"):
        program.crop(task, grid=(1, 1), stream=stream)
    with pytest.raises(TypeError):
        program.crop(task, grid=(np.int64(10), 24, 1), block=(32, 8, 1), stream=stream)
    with pytest.raises(TypeError, match="pycuda::stream"):
        program.crop(task, stream=stream.handle, **GRID)
    with pytest.raises(program.cuda.LogicError, match="cuLaunchKernel failed: invalid argument"):
        program.crop(task, grid=(10, 24, 0), block=(32, 8, 1), stream=stream)
    broken(gpu, "expected a Task of 112 bytes, found 8", lambda: program.crop(np.int64(3), stream=stream, **GRID))


def test_a_prepared_launch_is_the_same(gpu: Any, program: Program) -> None:
    wanted = program.run()
    program.cuda.memset_d8(program.tensors["input"], 0, 4 * SIZE[0] * SIZE[1])
    program.cuda.Context.synchronize()
    crop = program.crop.prepare([program.task().dtype])
    crop.prepared_async_call(GRID["grid"], GRID["block"], program.stream, program.task())
    assert program.execution.execute_async_v3(program.stream.handle)
    program.cuda.memcpy_dtoh_async(program.host["bbox_8"], program.tensors["bbox_8"], program.stream)
    program.stream.synchronize()
    np.testing.assert_array_equal(program.host["bbox_8"], wanted["bbox_8"])
    with pytest.raises(TypeError, match="expected tuples of int"):
        program.crop.prepared_call([10, 24, 1], GRID["block"], program.task())


def test_use_after_free(gpu: Any, program: Program) -> None:
    memory, host = program.cuda.mem_alloc(64), program.cuda.pagelocked_empty(64, np.uint8)
    place = int(memory)
    memory.free()
    broken(gpu, "use after free", lambda: program.cuda.memcpy_dtoh_async(host, place, program.stream))
    broken(gpu, "use after free", lambda: program.cuda.memset_d8_async(place, 0, 4, program.stream))
    host.base.free()
    broken(
        gpu, "use after free", lambda: program.cuda.memcpy_htod_async(program.tensors["input"], host, program.stream)
    )
    with pytest.raises(program.cuda.LogicError, match="device_allocation::free failed: invalid resource handle"):
        memory.free()
    with pytest.raises(program.cuda.LogicError, match="pagelocked_host_allocation::free failed"):
        host.base.free()
    assert ["double free" in each for each in gpu.take()] == [True, True]


def test_freed_memory_holds_nothing(program: Program) -> None:
    host = program.cuda.pagelocked_zeros(8, np.uint8)
    host.base.free()
    assert (host == 0xDD).all()


def test_memory_freed_while_queued_work_uses_it(gpu: Any, program: Program) -> None:
    memory, host = program.cuda.mem_alloc(64), program.cuda.pagelocked_empty(64, np.uint8)
    program.cuda.memcpy_dtoh_async(host, memory, program.stream)
    broken(gpu, "released while queued work (memcpy_dtoh_async) uses it", memory.free)
    broken(gpu, "released while queued work", host.base.free)
    broken(gpu, "runs after 64 bytes of device memory", program.stream.synchronize)
    del memory
    memory = program.cuda.mem_alloc(64)
    program.cuda.memset_d8_async(memory, 0, 64, program.stream)
    del memory  # a destructor cannot raise
    assert "released while queued work (memset_d8_async)" in gpu.take()[0]
    broken(gpu, "memset_d8_async runs after", program.stream.synchronize)


def test_a_copy_stays_within_its_memory(gpu: Any, program: Program) -> None:
    memory, host = program.cuda.mem_alloc(64), np.zeros(65, np.uint8)
    broken(gpu, "65 bytes at", lambda: program.cuda.memcpy_htod(memory, host))
    broken(gpu, "65 bytes at", lambda: program.cuda.memcpy_dtod(memory, program.tensors["input"], 65))
    broken(gpu, "beyond", lambda: program.cuda.memset_d32(memory, 0, 17))
    broken(gpu, "not one of the GPU's", lambda: program.cuda.memcpy_dtoh(host, program.frame.ctypes.data))
    memory.free()


def test_pageable_memory_in_an_asynchronous_copy(gpu: Any, program: Program) -> None:
    host = np.ones(64, np.uint8)
    program.cuda.memcpy_htod_async(program.tensors["input"], host, program.stream)
    host[:] = 0
    program.cuda.memcpy_dtoh_async(host, program.tensors["input"], program.stream)
    assert (host == 1).all()  # it waited
    assert ["pageable" in each for each in gpu.take()] == [True, True]


def test_memory_that_is_not_mapped_has_no_device_pointer(program: Program) -> None:
    with pytest.raises(program.cuda.LogicError, match="cuMemHostGetDevicePointer failed: invalid argument"):
        next(iter(program.host.values())).base.get_device_pointer()


def test_numbers_of_numpy_are_none_to_pycuda(program: Program) -> None:
    for call in (
        lambda: program.cuda.mem_alloc(np.int64(4)),
        lambda: program.cuda.memcpy_dtoh(np.zeros(4), np.uint64(int(program.tensors["input"]))),
        lambda: program.cuda.pagelocked_empty((np.int64(4),), np.uint8),
        lambda: program.cuda.Device(0).get_attribute(18),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(program.cuda.LogicError, match="invalid argument"):
        program.cuda.mem_alloc(0)


def test_the_images_that_a_device_takes(gpu: Any, program: Program) -> None:
    cuda, (sm72, sm87, sm110) = (
        program.cuda,
        ((KERNELS / f"crop-{k}.cubin").read_bytes() for k in ("cu11-sm_72", "cu11-sm_87", "cu13-sm_110")),
    )
    ptx = (KERNELS / "crop-cu11-compute_72.ptx").read_bytes()
    none = "cuModuleLoadDataEx failed: no kernel image is available for execution on the device - "
    for capability, image, error, text in [
        ((8, 9), sm72, cuda.RuntimeError, none),
        ((8, 6), sm87, cuda.RuntimeError, none),
        ((7, 0), ptx, cuda.RuntimeError, none + "ptxas fatal"),
        ((8, 7), b"nonsense", cuda.LogicError, "cuModuleLoadDataEx failed: device kernel image is invalid - "),
        ((8, 7), sm87[:5000], cuda.LogicError, "device kernel image is invalid"),
        ((8, 7), ptx[:5000], cuda.LogicError, "a PTX JIT compilation failed"),
    ]:
        gpu.compute_capability = capability
        with pytest.raises(error, match=text):
            cuda.module_from_buffer(image)
    for capability, image in [((8, 9), sm87), ((7, 2), sm72), ((11, 0), sm110), ((9, 0), ptx)]:
        gpu.compute_capability = capability
        with pytest.raises(cuda.LogicError, match="cuModuleGetFunction failed: named symbol not found"):
            cuda.module_from_buffer(image).get_function("resize")
    gpu.driver_version = 11040  # JetPack 5
    with pytest.raises(cuda.LogicError, match="unsupported toolchain"):
        cuda.module_from_buffer(ptx)
