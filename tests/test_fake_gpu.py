"""The software GPU computes what the CPU backend does, and only when somebody waits for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from fake_gpu_fixture import FOLDER, software_gpu
from fake_gpu_program import SIZE, Program, picture, running

from edgeface.boxes import letterbox
from edgeface.cpu.crop import Cropper
from edgeface.cpu.engine import open_engine
from edgeface.model_card import Input, load_card
from edgeface.values import Frame


@pytest.fixture
def program(gpu: Any) -> Iterator[Program]:
    yield from running(gpu)


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


def test_nothing_runs_before_somebody_waits(gpu: Any, program: Program) -> None:
    program.enqueue()
    assert all((array.view(np.uint8) == 0xA5).all() for array in program.host.values())
    assert not program.stream.is_done()
    program.stream.synchronize()
    assert program.stream.is_done()
    first = {name: array.copy() for name, array in program.host.items()}
    program.enqueue()
    program.frame[:] = 0  # too early: the crop has not read it yet
    program.stream.synchronize()
    assert any((program.host[name] != first[name]).any() for name in first)


def test_polling_lets_the_gpu_go_on(program: Program) -> None:
    event = program.cuda.Event()
    assert event.query()
    program.enqueue()
    event.record(program.stream)
    questions = 0
    while not program.stream.is_done():
        questions += 1
    assert event.query()
    assert questions == 2 + len(program.host) + 1
    assert event.synchronize().time_since(event) == 0


@pytest.mark.parametrize("flags", [0, 1])
def test_a_copy_without_a_stream_waits_for_the_null_stream_and_blocking_ones_only(program: Program, flags: int) -> None:
    cuda = program.cuda
    stream, memory, host = cuda.Stream(flags), cuda.mem_alloc(8), np.zeros(2, np.uint32)
    cuda.memcpy_htod(memory, host)
    cuda.memset_d32_async(memory, 7, 2, stream)
    cuda.memcpy_dtoh(host, memory)
    assert (host == (0 if flags else 7)).all()
    cuda.memset_d32(int(memory) + 4, 9, 1)
    stream.synchronize()
    cuda.memcpy_dtoh(host, int(memory))
    assert host.tolist() == [7, 9]
    memory.free()


def test_streams_wait_for_events(program: Program) -> None:
    cuda = program.cuda
    first, second = cuda.Stream(1), cuda.Stream(1)
    memory, out = cuda.mem_alloc(16), cuda.pagelocked_zeros(8, np.uint8)
    cuda.memset_d8_async(memory, 1, 16, first)
    event = cuda.Event().record(first)
    cuda.memset_d8_async(memory, 2, 8, first)
    assert not event.query()
    second.wait_for_event(event)
    cuda.memcpy_dtod_async(int(memory) + 8, int(memory), 8, second)
    cuda.memcpy_dtoh_async(out, int(memory) + 8, second)
    second.synchronize()
    assert (out == 1).all()
    cuda.Context.synchronize()
    cuda.memcpy_dtoh(out, memory)
    assert (out == 2).all()
    memory.free()
    out.base.free()


def test_without_computing_outputs_stay_as_they_are(gpu: Any, program: Program) -> None:
    gpu.compute = False
    assert all((array.view(np.uint8) == 0xA5).all() for array in program.run().values())
    assert gpu.copied["dtoh"] > 0


@pytest.mark.parametrize("integrated", [True, False])
def test_mapped_memory_is_one_under_two_addresses_on_a_discrete_gpu(gpu: Any, integrated: bool) -> None:
    gpu.integrated = integrated
    program = Program()
    address = program.frame.base.get_device_pointer()
    assert (address == program.frame.ctypes.data) is integrated
    program.frame[:] = 5
    out = np.zeros(9, np.uint8)
    program.cuda.memcpy_dtoh(out, address)
    assert (out == 5).all()
    camera, place = gpu.map_host(6)
    camera[:] = range(6)
    program.cuda.memcpy_dtoh(out[:6], place)
    assert out[:6].tolist() == list(range(6))
    program.close()
    gpu.unmap(place)


def test_what_a_frame_holds_depends_on_what_was_allocated(gpu: Any, program: Program) -> None:
    free, total = program.cuda.mem_get_info()
    memory = program.cuda.mem_alloc(1 << 20)
    assert program.cuda.mem_get_info() == (free - (1 << 20), total)
    memory.free()
    with pytest.raises(program.cuda.MemoryError, match="cuMemAlloc failed: out of memory"):
        program.cuda.mem_alloc(total)


def test_the_fixture_leaves_no_trace() -> None:
    sys.modules["edgeface.cuda.of_a_test"] = part = ModuleType("edgeface.cuda.of_a_test")
    path, names = list(sys.path), set(sys.modules)
    try:
        with software_gpu() as gpu:
            assert "edgeface.cuda.of_a_test" not in sys.modules
            import gpu as module
            import pycuda.driver
            import tensorrt

            assert module.broken is gpu.broken
            assert all(FOLDER in each.__file__ for each in (tensorrt, pycuda.driver))
        assert sys.path == path
        assert not {"gpu", "pycuda.driver", "tensorrt"} & (set(sys.modules) - names)
        assert sys.modules["edgeface.cuda.of_a_test"] is part
    finally:
        del sys.modules["edgeface.cuda.of_a_test"]


def test_the_fixture_tells_of_a_broken_rule_whose_error_was_swallowed() -> None:
    with pytest.raises(AssertionError, match="mem_alloc"), software_gpu() as gpu:
        import pycuda.driver as cuda

        with pytest.raises(cuda.LogicError):
            cuda.mem_alloc(4)
        assert gpu.lost == ""


@pytest.mark.parametrize("clean", [True, False])
def test_a_process_of_its_own_ends_as_pycudas_would(tmp_path: Path, clean: bool) -> None:
    script = "import pycuda.driver as cuda; cuda.init(); c = cuda.Device(0).retain_primary_context(); c.push()"
    environment = {
        **os.environ,
        "PYTHONPATH": FOLDER,
        "FAKE_GPU": json.dumps({"compute_capability": [11, 0], "fail": [{"call": "mem_alloc"}]}),
        "FAKE_GPU_REPORT": str(tmp_path / "report.json"),
    }
    if clean:
        script += "; assert cuda.Device(0).compute_capability() == (11, 0)"
        script += "\ntry: cuda.mem_alloc(1)\nexcept cuda.MemoryError: c.pop(); c.detach()"
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["calls"]["push"] == 1
    if clean:
        assert (ended.returncode, ended.stderr, report["broken"]) == (0, "", [])
    else:
        assert ended.returncode == 134
        assert "RuleBroken: context stack not empty at the end of MainThread" in ended.stderr
