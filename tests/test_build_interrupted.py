"""Builds that are cancelled, killed, run out of disk, or meet: no half engine is ever accepted, old ones stay."""

from __future__ import annotations

import errno
import hashlib
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT
from fakes import passport

from edgeface import cli
from edgeface.build import engine
from edgeface.build.progress import Progress
from edgeface.build.workplace import alone_in
from edgeface.errors import DeviceError, EngineError
from edgeface.passport import passport_path, read_passport, write_engine

SMALL_DISK_MB = 10  # the engine has 7
NAME = "edgeface-landmarks-80x80-fp32.rtx.engine"
BUILD = ["build", "edgeface-landmarks", "--runtime", "tensorrt-rtx", "--precision", "fp32", "--engines"]


def accepted(path: Path) -> bytes | None:
    """The engine, if it has what makes the daemon take one: a passport that is its own."""
    try:
        says, data = read_passport(passport_path(path)), path.read_bytes()
    except (EngineError, FileNotFoundError):
        return None
    return data if says.engine_sha256 == hashlib.sha256(data).hexdigest() else None


def is_whole(data: bytes) -> bool:
    return len(data) == int.from_bytes(data[16:24], "little")  # as the header of an engine of TensorRT-RTX says


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


BOTH = {NAME, NAME.removesuffix(".engine") + ".json"}

# --- Ctrl-C


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of TensorRT's work."""

    class Interrupted(Progress):
        def step_complete(self, phase: str, step: int) -> bool:
            if phase == "Building engine" and step == 1:
                os.kill(os.getpid(), signal.SIGINT)
                ends_s = time.monotonic() + 30
                while not self.cancelled and time.monotonic() < ends_s:
                    time.sleep(0.001)
            return super().step_complete(phase, step)

    monkeypatch.setattr(engine, "Progress", Interrupted)


def test_ctrl_c_ends_a_build_and_leaves_nothing(
    rtx: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], interrupted: None
) -> None:
    assert cli.main([*BUILD, str(tmp_path)]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "edgeface: cancelled: what was not built yet is as it was before"
    assert not names(tmp_path)


def test_an_engine_that_was_there_is_the_same_after_ctrl_c(
    rtx: ModuleType, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert cli.main([*BUILD, str(tmp_path)]) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    request.getfixturevalue("interrupted")
    assert cli.main([*BUILD, str(tmp_path)]) == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert accepted(tmp_path / NAME)


def test_on_a_terminal_there_is_a_bar_and_ctrl_c_is_a_key(rtx: ModuleType, tmp_path: Path) -> None:
    """The program itself, on a terminal of its own; its build waits in a phase until it is cancelled."""
    program = (
        "import fcntl, sys, termios, time; from edgeface import cli; from edgeface.build import engine, progress\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"  # Ctrl-C is a key of this terminal
        "class Slow(progress.Progress):\n"
        "    def step_complete(self, phase, step):\n"
        "        while phase == 'Timing graph nodes' and not self.cancelled: time.sleep(0.01)\n"
        "        return super().step_complete(phase, step)\n"
        "engine.Progress = Slow\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    master, slave = pty.openpty()
    environment = os.environ | {"COLUMNS": "200"}
    build = subprocess.Popen(
        [sys.executable, "-c", program, *BUILD, str(tmp_path)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    while b"Timing graph nodes 0/" not in shown:
        shown += os.read(master, 4096)
    os.write(master, b"\x03")
    while build.poll() is None or b"cancelled:" not in shown:
        try:
            shown += os.read(master, 4096)
        except OSError:  # the other side has closed
            break
    os.close(master)
    assert build.wait(30) == 1
    text = shown.decode()
    assert re.search(r"edgeface-landmarks 80x80 fp32 0:\d\d \[\.{24}\] Timing graph nodes 0/\d+", text), text
    assert text.rstrip().endswith("edgeface: cancelled: what was not built yet is as it was before"), text
    assert not names(tmp_path)


# --- SIGKILL


BUILDING = """
import sys
from pathlib import Path
from edgeface.build import engine, trt
from edgeface.model_card import find_card
card, folder = find_card("edgeface-landmarks"), Path(sys.argv[1])
drafts = [
    engine.draft(trt.Order(card, (80, 80), "fp32", batch, None, 64), folder=folder, runtime="tensorrt-rtx")
    for batch in (1, 2)
]
print("ready", flush=True)
while True:
    for draft in drafts:
        engine.finish(draft)
        print("built", flush=True)
"""


def test_builds_that_are_killed_leave_nothing_that_is_accepted_and_half(rtx: ModuleType, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", BUILDING, str(tmp_path)], stdout=subprocess.PIPE) as build:
            assert build.stdout is not None
            assert build.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0, 0.5))
            build.kill()
        data = accepted(tmp_path / NAME)
        assert data is None or is_whole(data), seed
        assert all(name in BOTH or name.endswith(".partial") for name in names(tmp_path)), seed
    (tmp_path / f".{NAME}.sure.partial").touch()
    assert cli.main([*BUILD, str(tmp_path)]) == 0
    assert names(tmp_path) == BOTH
    assert is_whole(accepted(tmp_path / NAME) or b"")


OLD, NEW = b"old" * 500, b"new" * 1000


def killed_at_every_moment(folder: Path) -> None:
    """Write an engine over another in children that are killed at their first, second, ... step; say what is left."""
    path = folder / "net-64x64-fp16.engine"
    for moment in range(100):
        write_engine(path, OLD, passport(OLD))
        child = os.fork()
        if not child:
            steps = iter(range(moment))

            def hook(event: str, _: object, steps: Iterator[int] = steps) -> None:
                if event in ("open", "fsync", "os.rename", "os.remove") and next(steps, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)

            os.fsync = lambda _: sys.audit("fsync")
            sys.addaudithook(hook)
            write_engine(path, NEW, passport(NEW))
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        with alone_in(folder):
            left = {OLD: "old", NEW: "new", None: "none"}[accepted(path)]
            print(left if names(folder) == {path.name, passport_path(path).name} else names(folder), flush=True)
        if not killed:
            return


def test_a_build_that_is_killed_while_it_writes_leaves_the_old_engine_the_new_or_a_refused_one(tmp_path: Path) -> None:
    program = "import sys, pathlib, test_build_interrupted as t; t.killed_at_every_moment(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'scripts'}"}
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert re.fullmatch(r"(old\n){6,}none\n(new\n){3,}", said), said  # none: between the names of engine and passport


# --- too little memory


def test_without_memory_nothing_is_built(
    rtx: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def short(workspace_mb: int) -> None:
        asked.append(workspace_mb)
        raise DeviceError("expected 600 MB of free memory for a build, found 5 MB")

    monkeypatch.setattr(engine, "check_memory", short)
    assert cli.main([*BUILD, str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith("edgeface: expected 600 MB of free memory for a build, found 5 MB\n")
    assert asked == [0]  # without a device there is no workspace
    assert not names(tmp_path)


# --- a full disk


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for one engine, not for two."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = shutil.which("mount") or "mount"
    command = [mount, "-t", "tmpfs", "-o", f"size={SMALL_DISK_MB}m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_in_mid_build_leaves_the_old_engine(
    rtx: ModuleType, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*BUILD, str(tiny)]) == 0
    before = {path: path.read_bytes() for path in tiny.iterdir()}
    for _ in range(2):
        assert cli.main([*BUILD, str(tiny)]) == 70
        *_, last = capsys.readouterr().err.splitlines()
        assert last == f"edgeface: {tiny}/{NAME}: cannot be written: No space left on device"
        assert {path: path.read_bytes() for path in tiny.iterdir()} == before


@pytest.mark.parametrize("full_at", [1, 2])
def test_neither_the_engine_nor_its_passport_is_replaced_unless_both_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    path = tmp_path / "net-64x64-fp16.engine"
    write_engine(path, OLD, passport(OLD))
    calls = iter(range(1, 10))

    def fsync(_: int) -> None:
        if next(calls) == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    which = path if full_at == 1 else passport_path(path)
    with pytest.raises(EngineError, match=f"{which.name}: cannot be written: No space left on device"):
        write_engine(path, NEW, passport(NEW))
    assert accepted(path) == OLD
    assert len(names(tmp_path)) == 2


# --- two at once


def test_of_two_builds_at_once_the_second_waits_for_the_first(rtx: ModuleType, tmp_path: Path) -> None:
    program = "import sys; from edgeface.cli import main; sys.exit(main(sys.argv[1:]))"
    builds = []
    with alone_in(tmp_path):
        for _ in range(2):
            command = [sys.executable, "-c", program, *BUILD, str(tmp_path)]
            builds.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        for build in builds:
            assert build.stderr is not None
            assert f"{tmp_path}: another build writes there, waiting for its end" in build.stderr.readline()
        assert not names(tmp_path)
    said = [build.communicate(timeout=120)[1] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], said
    assert is_whole(accepted(tmp_path / NAME) or b"")
    assert names(tmp_path) == BOTH
