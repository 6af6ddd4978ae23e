"""The timing cache beside the engines: kept for one TensorRT and one device, dropped when it is damaged or foreign."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeface.build import timings
from edgeface.build.device import Device
from edgeface.build.timings import read_timings, timings_path, write_timings

ORIN = "10.3.0", Device("8.7", "Orin (nvgpu)")
CACHE = b"measured\n\x00\xff" * 50


def test_what_was_measured_is_there_again_for_the_same_tensorrt_and_device(tmp_path: Path) -> None:
    assert read_timings(tmp_path, *ORIN) == b""
    write_timings(tmp_path, *ORIN, CACHE)
    assert [path.name for path in tmp_path.iterdir()] == ["10.3.0-8.7-Orin-nvgpu.timing"]
    assert read_timings(tmp_path, *ORIN) == CACHE
    write_timings(tmp_path, *ORIN, b"more")
    assert read_timings(tmp_path, *ORIN) == b"more"


@pytest.mark.parametrize(
    "other", [("10.3.1", ORIN[1]), ("10.3.0", Device("8.6", "Orin (nvgpu)")), ("10.3.0", Device("8.7", "Orin nvgpu"))]
)
def test_anothers_is_not_taken_whatever_its_name(
    tmp_path: Path, other: tuple[str, Device], caplog: pytest.LogCaptureFixture
) -> None:
    write_timings(tmp_path, *ORIN, CACHE)
    timings_path(tmp_path, *ORIN).rename(timings_path(tmp_path, *other))
    assert read_timings(tmp_path, *other) == b""
    assert "not used, it is damaged, or of another device or TensorRT" in caplog.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_one_is_never_taken(tmp_path: Path, data: st.DataObject) -> None:
    write_timings(tmp_path, *ORIN, CACHE)
    path = timings_path(tmp_path, *ORIN)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:at])
    else:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    assert read_timings(tmp_path, *ORIN) in (b"", CACHE)  # the same where only a blank of the first line has changed
    if at > whole.index(b"\n"):
        assert read_timings(tmp_path, *ORIN) == b""


def test_one_that_cannot_be_read_or_is_absurd_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    timings_path(tmp_path, *ORIN).mkdir()
    assert read_timings(tmp_path, *ORIN) == b""
    timings_path(tmp_path, *ORIN).rmdir()
    write_timings(tmp_path, *ORIN, CACHE)
    monkeypatch.setattr(timings, "_MOST_BYTES", 100)
    assert read_timings(tmp_path, *ORIN) == b""
    assert caplog.text.count("not used, it cannot be read: ") == 2


def test_one_that_cannot_be_kept_is_only_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_timings(tmp_path / "gone", *ORIN, CACHE)
    assert "the next build will measure all anew: " in caplog.text
