"""Words to systemd, with and without systemd-python, and the unit file itself."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from edgeface import service

UNIT = ROOT / "systemd" / "edgeface@.service"


@pytest.fixture
def pure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without systemd-python."""
    monkeypatch.setattr(service, "_systemd_daemon", None)
    monkeypatch.setattr(service, "_systemd_journal", None)


@pytest.mark.usefixtures("pure")
@pytest.mark.parametrize("abstract", [False, True])
def test_notes_are_datagrams(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, abstract: bool) -> None:
    address = f"edgeface-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address if abstract else address)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + address if abstract else address)
        assert service.notify("READY=1\nSTATUS=fine")
        assert manager.recv(100) == b"READY=1\nSTATUS=fine"


@pytest.mark.usefixtures("pure")
def test_without_a_manager_notes_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not service.notify("READY=1")


@pytest.mark.usefixtures("pure")
def test_a_manager_that_has_gone_takes_nobody_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not service.notify("READY=1")


def test_systemd_python_is_used_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Daemon:
        notes: list[str] = []  # noqa: RUF012

        @classmethod
        def notify(cls, state: str) -> bool:
            cls.notes.append(state)
            return True

    monkeypatch.setattr(service, "_systemd_daemon", Daemon)
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    assert service.notify("WATCHDOG=1")
    assert Daemon.notes == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    ("usec", "pid", "period_s"),
    [("15000000", "", 7.5), ("15000000", str(os.getpid()), 7.5), ("15000000", "1", 0), ("", "", 0), ("x", "", 0)],
)
def test_the_watchdog_is_due_at_half_its_limit(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, period_s: float
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert service.watchdog_period_s() == period_s


@pytest.fixture
def logging_restored() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("pure", "logging_restored")
def test_log_lines_carry_their_priority_for_the_journal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    monkeypatch.setattr(sys, "stderr", os.fdopen(os.dup(2), "w"))  # pytest's own has no file behind it
    service.setup_logging(logging.DEBUG)
    for level in (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        logging.getLogger("x").log(level, "a\nb")
    lines = capfd.readouterr().err.splitlines()
    assert [line[:3] for line in lines] == ["<3>"] * 4 + ["<4>"] * 2 + ["<6>"] * 2 + ["<7>"] * 2


@pytest.mark.usefixtures("pure", "logging_restored")
@pytest.mark.parametrize("stream", ["", "8:1"])  # 8:1: inherited, but not our stderr
def test_log_lines_are_plain_by_hand(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], stream: str
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    monkeypatch.setattr(sys, "stderr", os.fdopen(os.dup(2), "w"))
    service.setup_logging(logging.INFO)
    logging.getLogger("x").warning("careful")
    logging.getLogger("x").debug("not shown")
    assert re.fullmatch(r"\d{4}-.* WARNING careful\n", capfd.readouterr().err)


# --- the unit file


def test_the_unit_keeps_what_a_jetson_needs() -> None:
    """Each of these settings stops the GPU or a CSI camera on some JetPack."""
    text = UNIT.read_text()
    for forbidden in ("PrivateDevices", "PrivateTmp", "ProtectClock", "DynamicUser", "ProcSubset", "MemoryDenyWrite"):
        assert not re.search(f"^{forbidden}", text, re.MULTILINE)
    for needed in ("Type=notify\n", "WatchdogSec=", "RuntimeDirectoryPreserve=yes", "RestartPreventExitStatus=2 70 78"):
        assert needed in text


@pytest.fixture
def runnable_unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here."""
    path = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert "ExecStart=/opt/edgeface/bin/edgeface run" in text
    path.write_text(text.replace("/opt/edgeface/bin/edgeface", "/bin/true"))
    return path


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_the_unit_is_clean(runnable_unit: Path) -> None:
    done = systemd_analyze("verify", str(runnable_unit))
    assert done.returncode == 0, done.stderr
    assert runnable_unit.name not in done.stderr


@pytest.mark.parametrize(("drop_in", "limit"), [("", 1.8), ("network.conf", 2.2)])
def test_the_units_exposure(runnable_unit: Path, drop_in: str, limit: float) -> None:
    if drop_in:
        runnable_unit.write_text(runnable_unit.read_text() + (ROOT / "systemd" / drop_in).read_text())
    done = systemd_analyze("security", "--offline=true", str(runnable_unit))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd has no `security --offline` (250 or newer)")
    exposure = float(re.search(r"exposure level for \S+: ([\d.]+)", done.stdout).group(1))
    assert exposure <= limit
