"""The memory check before a build."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeface.build.memory import check_memory
from edgeface.errors import DeviceError


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of four programs, this one, and one that has just ended."""
    for number, (name, pages) in enumerate([("small", 10), ("gnome-shell", 100_000), ("edgeface", 80_000), ("x", 999)]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "comm").write_text(f"{name}\n")
        (tmp_path / str(number) / "statm").write_text(f"900000 {pages} 1 1 0 1 0\n")
    own = tmp_path / str(os.getpid())
    own.mkdir()
    (own / "comm").write_text("python3\n")
    (own / "statm").write_text("900000 999999 1 1 0 1 0\n")
    (tmp_path / "77777777").mkdir()
    return tmp_path


def free(proc: Path, megabytes: int) -> Path:
    (proc / "meminfo").write_text(f"MemTotal: 9999999 kB\nMemFree: 1 kB\nMemAvailable:   {megabytes << 10} kB\n")
    return proc


LARGEST = f"gnome-shell ({100_000 * os.sysconf('SC_PAGE_SIZE') >> 20} MB), edgeface ("


def test_enough_is_enough(proc: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_memory(1024, free(proc, 1624))
    assert not caplog.messages


def test_what_may_not_do_is_a_warning_that_names_the_remedy(proc: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_memory(1024, free(proc, 1623))
    assert caplog.messages[0].startswith("1623 MB of memory are free, a build may take 1624 MB: should it be killed, ")
    assert f"close programs, the largest are {LARGEST}" in caplog.messages[0]
    assert caplog.messages[0].endswith(", or build with --workspace-mb 1023")
    check_memory(1024, free(proc, 600))
    assert caplog.messages[1].endswith("--workspace-mb 1")


def test_what_will_not_do_is_an_error(proc: Path) -> None:
    with pytest.raises(
        DeviceError, match="expected 600 MB of free memory for a build, found 599 MB: close programs"
    ) as e:
        check_memory(0, free(proc, 599))
    assert LARGEST in str(e.value)
    assert "small" not in str(e.value)


@pytest.mark.parametrize("text", ["", "MemAvailable:", "MemAvailable: many kB", None])
def test_a_kernel_that_does_not_say_is_no_hindrance(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    check_memory(1 << 30, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ([] if text is None else ["meminfo"])


def test_no_programs_are_named_where_none_are_seen(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="the largest are unknown"):
        check_memory(0, free(tmp_path, 1))
