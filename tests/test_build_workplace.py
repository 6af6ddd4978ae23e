"""Where a build works: one at a time, and nothing left of those that were killed."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from edgeface.build import workplace
from edgeface.build.workplace import alone_in, scratch

HOLDER = """
import sys
from pathlib import Path
from edgeface.build.workplace import alone_in, scratch
with (alone_in(Path(sys.argv[1])) if sys.argv[1] else scratch()) as path:
    print(path, flush=True)
    sys.stdin.readline()
"""


def holder(folder: str, **environment: str) -> subprocess.Popen[str]:
    """A process that holds a folder, or a scratch folder of its own, until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    return process


def test_a_second_build_waits_for_the_first_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = holder(str(tmp_path))
    assert first.stdout is not None and first.stdin is not None
    first.stdout.readline()
    with pytest.MonkeyPatch.context() as patch:
        locks: list[int] = []
        lock = fcntl.flock

        def flock(descriptor: int, how: int) -> None:
            locks.append(how)
            if how == fcntl.LOCK_EX:  # now it waits
                assert caplog.messages == [f"{tmp_path}: another build writes there, waiting for its end"]
                first.communicate("go on\n")
            lock(descriptor, how)

        patch.setattr(fcntl, "flock", flock)
        with alone_in(tmp_path):
            assert locks == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX]
            assert first.poll() == 0
    assert not list(tmp_path.iterdir())


def test_the_lock_ends_with_its_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = holder(str(tmp_path))
    assert first.stdout is not None
    first.stdout.readline()
    first.kill()
    first.communicate()
    with alone_in(tmp_path):
        assert caplog.messages == []


def test_what_a_killed_build_has_left_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    left = [".net-64x64-fp16.engine.x_1.partial", ".net-64x64-fp16.json.ab.partial", ".10.3-Orin.timing.12.partial"]
    others = ["net.engine", "net.json", ".net.onnx.partial", "a.engine.partial", ".net.engine"]
    for name in (*left, *others):
        (tmp_path / name).touch()
    with alone_in(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == set(others)


def test_a_folder_that_cannot_be_locked_is_used_with_a_warning_and_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    partial = tmp_path / ".net.engine.1.partial"
    partial.touch()
    with alone_in(tmp_path):
        assert partial.exists()
    assert "cannot be locked (No locks available): let no other build write there now" in caplog.text
    with scratch() as path:
        assert path.is_dir()
    assert not path.exists()


# --- scratch


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_scratch_folder_goes_when_it_is_done_with(temporary: Path) -> None:
    with pytest.raises(OSError, match="mine"), scratch() as path:
        (path / "file").touch()
        assert path.parent == temporary
        raise OSError("mine")
    assert not list(temporary.iterdir())


def test_that_of_a_killed_build_is_removed_by_the_next_and_that_of_a_live_one_is_not(temporary: Path) -> None:
    alive, killed = (holder("", TMPDIR=str(temporary)) for _ in range(2))
    assert alive.stdout is not None and killed.stdout is not None
    kept, left = (Path(process.stdout.readline().strip()) for process in (alive, killed) if process.stdout)
    killed.kill()
    killed.communicate()
    (left / "net.fp16.onnx").touch()
    (temporary / "edgeface-build-file").touch()  # no folder: not ours
    with scratch() as path:
        assert {one.name for one in temporary.iterdir()} == {kept.name, path.name, "edgeface-build-file"}
    alive.communicate("go on\n")
    assert [one.name for one in temporary.iterdir()] == ["edgeface-build-file"]


def test_a_scratch_folder_that_another_build_removes_before_it_is_held_is_made_anew(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, held = workplace._hold, []

    def late(folder: Path, how: int) -> int | None:
        held.append(folder)
        if len(held) == 1:  # before it is opened
            shutil.rmtree(folder)
        descriptor = hold(folder, how)
        if len(held) == 2:  # before it is locked
            shutil.rmtree(folder)
        return descriptor

    monkeypatch.setattr(workplace, "_hold", late)
    with scratch() as path:
        assert path == held[2]
        assert path.is_dir()
    assert not list(temporary.iterdir())
