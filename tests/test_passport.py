"""Passports: written last, read back as they were, and refused in words when they are not one."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import passport
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import EngineError
from edgeface.passport import (
    Golden,
    Passport,
    Tensor,
    build_command,
    engine_name,
    passport_path,
    read_passport,
    write_engine,
)

NAME = "net-64x32-fp16.engine"


def test_names_say_what_is_inside() -> None:
    assert engine_name("net", (640, 384), "fp16", False) == "net-640x384-fp16.engine"
    assert engine_name("net", (80, 80), "int8", True) == "net-80x80-int8-dla.engine"
    assert passport_path(Path("/x/net-2.5g-80x80-int8-dla.engine")) == Path("/x/net-2.5g-80x80-int8-dla.json")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "edgeface build net --precision fp16"),
        ({"input_size": (640, 384)}, "edgeface build net --precision fp16 --input-size 640x384"),
        ({"dla_core": 0, "batch": 4}, "edgeface build net --precision fp16 --dla 0 --batch 4"),
        (
            {"engines": ["/a", "/my engines"]},
            "edgeface build net --precision fp16 --engines /a --engines '/my engines'",
        ),
    ],
)
def test_the_command_that_builds_it(options: dict[str, Any], text: str) -> None:
    assert build_command("net", "fp16", **options) == text


TENSORS = st.lists(
    st.builds(Tensor, name=st.text(), shape=st.lists(st.integers(-1, 9999)).map(tuple), dtype=st.text()), max_size=3
).map(tuple)


@given(card=st.text(), device=st.text(), inputs=TENSORS, outputs=TENSORS, core=st.none() | st.integers(0, 7))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, card: str, device: str, inputs: Any, outputs: Any, core: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / NAME
    written = msgspec.structs.replace(
        passport(b"plan"), card=card, device=device, inputs=inputs, outputs=outputs, dla_core=core
    )
    write_engine(path, b"plan", written)
    assert path.read_bytes() == b"plan"
    assert read_passport(passport_path(path)) == written


def test_anybody_may_read_what_was_written(tmp_path: Path) -> None:
    write_engine(tmp_path / NAME, b"plan", passport(b"plan"))
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o644, 0o644]


def fields(**changes: Any) -> bytes:
    """A passport's JSON with other values; a value ... leaves its key out."""
    values = msgspec.to_builtins(passport(b"plan")) | changes
    return json.dumps({key: value for key, value in values.items() if value is not ...}).encode()


GOLDEN = {"picture": "0" * 64, "faces": [[0.5, 1], [2, 3]], "score_tolerance": 0.1, "place_tolerance": 0.2}


def test_the_answer_to_the_golden_picture_may_be_there_or_not(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_bytes(fields(golden=...))  # as older ones are
    assert read_passport(path).golden is None
    path.write_bytes(fields(golden=GOLDEN))
    golden = Golden(picture="0" * 64, faces=((0.5, 1), (2, 3)), score_tolerance=0.1, place_tolerance=0.2)
    assert read_passport(path).golden == golden


def test_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_bytes(fields(calibration={"pictures": 100}))
    assert read_passport(path) == passport(b"plan")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not a passport of an engine: Input data was truncated"),
        (b"\xff\x00", "not a passport of an engine"),
        (b"[]", "Expected `object`, got `array`"),
        (b"[" * 100_000, "not a passport of an engine"),
        (fields(schema=2), "Invalid enum value 2 - at `$.schema`"),
        (fields(engine_sha256="00"), "at `$.engine_sha256`"),
        (fields(engine_sha256=...), "missing required field `engine_sha256`"),
        (fields(precision="fp8"), "Invalid enum value 'fp8' - at `$.precision`"),
        (fields(int8_source="guess"), "at `$.int8_source`"),
        (fields(plan_version=[10, 3]), "at `$.plan_version`"),
        (fields(compute_capability="87"), "at `$.compute_capability`"),
        (fields(batch=[1, 2]), "at `$.batch`"),
        (fields(golden={}), "missing required field `picture` - at `$.golden`"),
        (fields(golden=GOLDEN | {"faces": []}), "length >= 1 - at `$.golden.faces`"),
        (fields(golden=GOLDEN | {"faces": [[1], [2]]}), "length >= 2 - at `$.golden.faces[0]`"),
        (fields(golden=GOLDEN | {"faces": [[1, 2], [1, 2, 3]]}), "rows of one length - at `$.golden`"),
        (fields(golden=GOLDEN | {"score_tolerance": -0.1}), ">= 0.0 - at `$.golden.score_tolerance`"),
        (fields(inputs=[{"name": "x", "shape": ["n"], "dtype": "float32"}]), "at `$.inputs[0].shape[0]`"),
    ],
)
def test_what_is_no_passport_is_refused(tmp_path: Path, text: bytes, reason: str) -> None:
    path = tmp_path / "net.json"
    path.write_bytes(text)
    with pytest.raises(EngineError) as caught:
        read_passport(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_a_passport_that_is_not_there_or_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="passport is missing"):
        read_passport(tmp_path / "net.json")
    with pytest.raises(EngineError, match="passport cannot be read: Is a directory"):
        read_passport(tmp_path)


@given(st.binary(max_size=200) | st.text(max_size=50).map(lambda text: fields(card=text)[:-3]))
def test_nothing_else_than_a_passport_is_read(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_bytes(text)
    with pytest.raises(EngineError):
        read_passport(path)


# --- writing, with something in the way


def test_whoever_is_stopped_between_the_two_leaves_no_passport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, replaced = Path.replace, []

    def stop_at_the_second(source: Path, target: Path) -> None:
        replaced.append(target.name)
        if len(replaced) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(Path, "replace", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        write_engine(tmp_path / NAME, b"plan", passport(b"plan"))
    assert replaced == [NAME, passport_path(Path(NAME)).name]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"net-64x32-fp16.engine: cannot be written: No such file"):
        write_engine(tmp_path / "none" / NAME, b"plan", passport(b"plan"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(options, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def old_and_new(folder: Path) -> tuple[Passport, bytes]:
    """An engine in `folder`, its passport, and another that is larger."""
    old = passport(b"old")
    write_engine(folder / NAME, b"old", old)
    return old, b"new" * 100_000


def test_a_full_disk_leaves_what_was_there(small_disk: Path) -> None:
    old, new = old_and_new(small_disk)
    with pytest.raises(EngineError, match=f"cannot be written: {os.strerror(errno.ENOSPC)}"):
        write_engine(small_disk / NAME, new, passport(new))
    assert sorted(path.name for path in small_disk.iterdir()) == [NAME, "net-64x32-fp16.json"]
    assert (small_disk / NAME).read_bytes() == b"old"
    assert read_passport(small_disk / "net-64x32-fp16.json") == old


def test_a_file_that_may_not_grow_so_large_leaves_what_was_there(tmp_path: Path) -> None:
    old, new = old_and_new(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(EngineError, match=f"cannot be written: {os.strerror(errno.EFBIG)}"):
            write_engine(tmp_path / NAME, new, passport(new))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "net-64x32-fp16.json"]
    assert read_passport(tmp_path / "net-64x32-fp16.json") == old


def test_a_passport_that_is_a_pipe_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.json")
    with pytest.raises(EngineError, match="expected the engine's passport, found a pipe"):
        read_passport(tmp_path / "net.json")
