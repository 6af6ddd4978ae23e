"""The software GPU's rules of contexts, threads and release: each is broken once, and caught."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_gpu_program import GRID, Program, broken, running


@pytest.fixture
def program(gpu: Any) -> Iterator[Program]:
    yield from running(gpu)


def in_a_thread(act: Callable[[], Any]) -> Any:
    """What it gives or raises."""
    found = []

    def run() -> None:
        try:
            found.append(act())
        except Exception as error:  # noqa: BLE001
            found.append(error.with_traceback(None))

    thread = threading.Thread(target=run, name="worker")
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize(
    ("routine", "call"),
    [
        ("cuMemAlloc", lambda p: p.cuda.mem_alloc(4)),
        ("cuMemHostAlloc", lambda p: p.cuda.pagelocked_empty(4, np.uint8)),
        ("cuMemcpyHtoDAsync", lambda p: p.cuda.memcpy_htod_async(p.tensors["input"], p.frame, p.stream)),
        ("cuMemsetD8", lambda p: p.cuda.memset_d8(p.tensors["input"], 0, 1)),
        ("cuLaunchKernel", lambda p: p.crop(p.task(), stream=p.stream, **GRID)),
        ("cuStreamSynchronize", lambda p: p.stream.synchronize()),
        ("cuModuleGetFunction", lambda p: p.module.get_function("crop")),
        ("cuMemGetInfo", lambda p: p.cuda.mem_get_info()),
    ],
)
def test_a_call_needs_a_context_in_its_thread(
    gpu: Any, program: Program, routine: str, call: Callable[[Program], Any]
) -> None:
    task = program.task()
    program.task = lambda: task
    error = in_a_thread(lambda: call(program))
    assert isinstance(error, program.cuda.LogicError)
    assert str(error) == f"{routine} failed: invalid device context"
    assert "no context is current in worker" in gpu.take()[0]

    def pushed() -> None:
        program.context.push()
        call(program)
        program.cuda.Context.synchronize()
        program.context.pop()

    assert in_a_thread(pushed) is None
    gc.collect()


def test_a_stream_needs_a_context_too(gpu: Any, program: Program) -> None:
    error = in_a_thread(program.cuda.Stream)
    assert str(error) == "explicit_context_dependent failed: invalid device context - no currently active context?"
    assert gpu.take() == ["no context is current in worker"]


def test_tensorrt_needs_a_context(gpu: Any, program: Program) -> None:
    for act in (
        lambda: program.execution.execute_async_v3(program.stream.handle),
        program.engine.create_execution_context,
        lambda: program.runtime.deserialize_cuda_engine(b""),
    ):
        assert isinstance(in_a_thread(act), gpu.RuleBroken)
    assert len(gpu.take()) == 3
    program.context.pop()
    del program.execution
    assert gpu.take() == ["execution context destroyed where no context is current"]
    program.context.push()
    program.execution = None


def test_a_thread_ends_with_an_empty_stack(gpu: Any, program: Program) -> None:
    in_a_thread(program.context.push)
    gc.collect()
    assert gpu.take() == ["context stack not empty at the end of worker"]


def test_the_stack_is_a_stack(gpu: Any) -> None:
    import pycuda.driver as cuda

    with pytest.raises(cuda.LogicError, match="cuDeviceGet failed: initialization error"):
        cuda.Device(0)
    cuda.init()
    with pytest.raises(cuda.LogicError, match="cuDeviceGet failed: invalid device ordinal"):
        cuda.Device(1)
    with pytest.raises(cuda.LogicError, match="context::pop failed: .* cannot pop non-current context"):
        cuda.Context.pop()
    assert gpu.take() == ["pop of an empty context stack"]
    context = cuda.Device(0).retain_primary_context()
    assert cuda.Context.get_current() is None  # retaining makes nothing current
    context.push()
    context.push()
    assert cuda.Context.get_current() is context
    assert cuda.Context.get_device() == cuda.Device(0)
    context.pop()
    cuda.Context.pop()
    context.detach()
    with pytest.raises(cuda.LogicError, match="cannot detach from invalid context"):
        context.detach()
    assert gpu.take() == ["a context is detached twice"]


def test_contexts_that_are_given_back_wrongly(gpu: Any) -> None:
    import pycuda.driver as cuda

    cuda.init()
    first, second, third = (cuda.Device(0).retain_primary_context() for _ in range(3))
    first.push()
    memory = cuda.mem_alloc(4)
    first.detach()
    assert gpu.take() == ["a context is detached while it is current: pop it first"]
    assert cuda.Context.get_current() is None
    in_a_thread(second.detach)
    assert "another thread" in gpu.take()[0]
    gpu.retained -= 1  # what has leaked
    del third
    assert gpu.take() == [
        "a context was never detached",
        f"the context is destroyed before [{gpu.memory.allocations[0]}]",
    ]
    memory.free()  # gone with its context: says nothing, frees nothing
    gpu.memory.free(gpu.memory.allocations[0])


@pytest.mark.parametrize("kind", ["memory", "pinned", "stream", "module"])
def test_what_is_collected_where_its_context_is_not_current_leaks(gpu: Any, program: Program, kind: str) -> None:
    cuda = program.cuda
    things = {
        "memory": lambda: cuda.mem_alloc(4),
        "pinned": lambda: cuda.pagelocked_empty(4, np.uint8),
        "stream": cuda.Stream,
        "module": lambda: cuda.module_from_buffer(program.image),
    }
    held = [things[kind]()]
    count = len(gpu.alive)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        in_a_thread(held.clear)
    assert "in out-of-thread context could not be cleaned up" in str(seen[0].message)
    assert "it leaks" in gpu.take()[0]
    assert len(gpu.alive) == count
    gpu.release(gpu.memory.allocations[-1] if kind in ("memory", "pinned") else gpu.things[-1])


def test_another_thread_gives_back_what_it_has_the_context_of(gpu: Any, program: Program) -> None:
    memory, count = program.cuda.mem_alloc(4), len(gpu.alive)

    def act() -> None:
        program.context.push()
        memory.free()
        program.context.pop()

    assert in_a_thread(act) is None
    assert len(gpu.alive) == count - 1


def test_the_owners_thread_gives_back_without_a_current_context(gpu: Any, program: Program) -> None:
    memory = program.cuda.mem_alloc(4)
    program.context.pop()
    memory.free()
    assert gpu.released[-1] == "device"
    program.context.push()


def test_memory_outlives_the_networks_that_are_bound_to_it(gpu: Any) -> None:
    program = Program()
    program.tensors.pop("score_8").free()
    program.close()
    assert "execution context released after the memory at" in gpu.take()[0]


@pytest.mark.parametrize("thing", ["stream", "module", "execution"])
def test_queued_work_outlives_nothing_that_it_needs(gpu: Any, program: Program, thing: str) -> None:
    program.enqueue()
    if thing == "module":
        del program.crop
    setattr(program, thing, None)
    found = gpu.take()
    wanted = {
        "stream": ["a stream is destroyed with crop queued", "stream released before the execution context"],
        "module": ["module released while queued work (crop) uses it"],
        "execution": ["execution context released while queued work (network) uses it"],
    }[thing]
    assert len(found) == len(wanted)
    assert all(text in each for text, each in zip(wanted, found, strict=True))
    program.crop = None
    if program.stream is not None:
        text = f"{'crop' if thing == 'module' else 'network'} runs after"
        broken(gpu, text, program.stream.synchronize)
        program.cuda.Context.synchronize()


def test_everything_is_given_back_at_the_end(gpu: Any) -> None:
    program = Program()
    gpu.finish()
    stack, retained, left = gpu.take()
    assert stack == "context stack not empty at the end of MainThread"
    assert retained == "the primary context is still retained, 1 times"
    assert left.startswith("left at the end: [")
    program.context.push()
    program.close()


def test_a_camera_may_outlive_the_context_that_others_retained(gpu: Any) -> None:
    _, place = gpu.map_host(64)
    Program().close()
    gpu.unmap(place)
    broken(gpu, "is not mapped", lambda: gpu.unmap(place))
