"""Engine files: whatever cannot be the right one is refused before CUDA starts, with the command that mends it."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import passport
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeface.cuda.plan import Plan, check_device, load_plan, plan_version, version_numbers
from edgeface.errors import EngineError
from edgeface.model_card import Card, bundled_engines, find_card, load_card
from edgeface.passport import Passport, passport_path, write_engine

NAME = "net-64x64-fp16.engine"


def plan_file(magic: bytes = b"ftrt", serialization: int = 0, version: tuple[int, ...] = (10, 3, 0, 30)) -> bytes:
    """What is known of a plan's first bytes, then others."""
    return magic + serialization.to_bytes(4, "little") + bytes(16) + bytes(version) + b"layers and weights" * 10


GOOD = plan_file()


@pytest.fixture
def card(make_card: Callable[..., Path]) -> Card:
    return load_card(make_card())


def load(card: Card, size: tuple[int, int] | None = None, version: str = "10.3.0", **changes: Any) -> Plan:
    return load_plan(card, size, **({"precision": "fp16", "dla": False, "tensorrt_version": version} | changes))


def put(card: Card, /, data: bytes = GOOD, name: str = NAME, **changes: Any) -> Path:
    """Write an engine and its passport beside the card."""
    path = Path(card.folders[0]) / name
    write_engine(path, data or b"x", passport(data or b"x", **changes))
    path.write_bytes(data)
    return path


def refusal(card: Card, size: tuple[int, int] | None = None, version: str = "10.3.0", **changes: Any) -> str:
    with pytest.raises(EngineError) as caught:
        load(card, size, version, **changes)
    text = str(caught.value)
    assert "; build it: edgeface build net --precision " in text
    assert "\n" not in text
    return text


# --- what is taken


@pytest.mark.parametrize("version", ["10.3.0", "10.3.0.30", "10.3", "10.3.0.30+cuda12.6"])
def test_an_engine_with_its_passport(card: Card, version: str) -> None:
    path = put(card)
    plan = load(card, version=version)
    assert (plan.path, plan.data, plan.passport) == (path, GOOD, passport(GOOD))
    assert plan.rebuild == f"edgeface build net --precision fp16 --engines {card.folders[0]}"
    assert "layers" not in repr(plan)
    with pytest.raises(FrozenInstanceError):
        plan.data = b""  # type: ignore[misc]


def test_other_sizes_and_dla_have_files_of_their_own(card: Card) -> None:
    put(card, name="net-64x64-int8-dla.engine", precision="int8", dla_core=1)
    put(card, name="net-128x96-fp16.engine", input_size=(128, 96))
    assert load(card, precision="int8", dla=True).rebuild.startswith("edgeface build net --precision int8 --dla 0 ")
    assert load(card, (128, 96)).rebuild.startswith("edgeface build net --precision fp16 --input-size 128x96 ")


def test_the_first_folder_that_has_it(card: Card, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    path = put(card)
    card = msgspec.structs.replace(card, folders=(str(other), *card.folders))
    assert load(card).path == path
    shutil.copy(path, other)
    shutil.copy(passport_path(path), other)
    assert load(card).path == other / NAME


def test_the_version_stands_where_trtexec_reads_it() -> None:
    assert plan_version(GOOD) == (10, 3, 0, 30)
    assert plan_version(bytes.fromhex("76747274000000000200000000000000ac401b000000000001070174")) == (1, 7, 1, 116)
    assert plan_version(plan_file(serialization=1)) is None
    assert plan_version(GOOD[:27]) is None


def test_an_engine_that_does_not_say_its_version_is_left_to_tensorrt(card: Card) -> None:
    data = plan_file(serialization=1)
    put(card, data, plan_version=None)
    assert load(card, version="99.0").data == data


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("10.3.0", (10, 3, 0)),
        ("8.6.2.3", (8, 6, 2, 3)),
        ("11.4.1.106.9", (11, 4, 1, 106)),
        ("10.3rc1", (10, 3)),
        ("", ()),
    ],
)
def test_the_numbers_of_a_version(text: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(text) == numbers


def test_no_more_is_asked_of_an_engine_than_its_first_bytes(card: Card) -> None:
    put(card, GOOD[:28])
    assert load(card).data == GOOD[:28]


# --- what is refused


def test_no_engine_names_the_file_the_folders_and_the_command(tmp_path: Path) -> None:
    card = find_card("edgeface-landmarks", (str(tmp_path),))
    with pytest.raises(EngineError) as caught:
        load(card)
    assert str(caught.value) == (
        f"expected the engine edgeface-landmarks-80x80-fp16.engine in {bundled_engines()} or {tmp_path}, found no such "
        f"file; build it: edgeface build edgeface-landmarks --precision fp16 --engines {tmp_path}"
    )


def test_a_folder_is_no_engine(card: Card) -> None:
    (Path(card.folders[0]) / NAME).mkdir()
    assert "found no such file" in refusal(card)


def test_a_name_that_no_file_can_have(card: Card) -> None:
    card = msgspec.structs.replace(card, name="net" * 100)
    with pytest.raises(
        EngineError, match="netnet-64x64-fp16.engine: cannot be read: File name too long; build it: edgeface"
    ):
        load(card)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "expected an engine, found an empty file"),
        (b"ft", "expected an engine, found 2 bytes of one"),
        (GOOD[:27], "expected an engine, found 27 bytes of one"),
        (b"\x7fELF" + bytes(40), r"expected an engine of TensorRT, found a file that begins with b'\x7fELF'"),
        (plan_file(b"vtrt"), "found one of TensorRT-RTX, which is for checks only"),
        (plan_file(version=(10, 13, 3, 9)), "expected an engine of TensorRT 10.3.0, found one of 10.13.3.9"),
    ],
)
def test_a_file_that_is_no_engine_of_this_tensorrt(card: Card, data: bytes, reason: str) -> None:
    path = put(card, data)
    text = refusal(card)
    assert text.startswith(f"{path}: ")
    assert reason in text


def test_the_build_number_counts_where_it_is_known(card: Card) -> None:
    put(card)
    assert "expected an engine of TensorRT 10.3.0.26, found one of 10.3.0.30" in refusal(card, version="10.3.0.26")


def test_an_absurdly_large_file_is_not_even_read(card: Card) -> None:
    path = put(card)
    os.truncate(path, 1 << 40)  # takes no place on the disk
    assert "expected an engine of at most 1024 MB, found 1048576 MB" in refusal(card)


def test_an_engine_that_cannot_be_read(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = put(card)

    def broken(path: Path) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", broken)
    assert refusal(card).startswith(f"{wrong}: cannot be read: Input/output error; build it")


def test_an_engine_without_its_passport(card: Card) -> None:
    path = passport_path(put(card))
    path.unlink()
    assert refusal(card).startswith(f"{path}: the engine's passport is missing")
    path.write_text("{}")
    assert "missing required field `schema`" in refusal(card)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"engine_bytes": 300}, f"expected 300 bytes as its passport says, found {len(GOOD)}"),
        ({"engine_sha256": "a" * 64}, "expected sha256 aaaaaaaaaaaaaaaa... as its passport says, found "),
        ({"plan_version": (10, 3, 0, 31)}, "its passport says TensorRT (10, 3, 0, 31), the file itself (10, 3, 0, 30)"),
        ({"plan_version": None}, "its passport says TensorRT None, the file itself (10, 3, 0, 30)"),
        ({"tensorrt": "10.13.3"}, "expected an engine of TensorRT 10.13.3, found one of 10.3.0.30"),
        ({"card": "another"}, "expected card net, found another in its passport"),
        ({"input_size": (64, 32)}, "expected input size (64, 64), found (64, 32) in its passport"),
        ({"precision": "int8"}, "expected precision fp16, found int8 in its passport"),
        ({"dla_core": 0}, "expected DLA False, found True in its passport"),
    ],
)
def test_a_passport_of_another_engine(card: Card, changes: dict[str, Any], reason: str) -> None:
    path = put(card, **changes)
    text = refusal(card)
    assert text.startswith(f"{path}: ")
    assert reason in text


def test_an_engine_that_was_cut_off(card: Card) -> None:
    path = put(card)
    os.truncate(path, 100)
    assert f"expected {len(GOOD)} bytes as its passport says, found 100" in refusal(card)


def test_an_engine_with_a_wrong_bit(card: Card) -> None:
    path = put(card)
    path.write_bytes(GOOD[:-1] + b"?")
    assert "damaged, or its passport is another's" in refusal(card)


def test_an_engine_that_was_replaced_without_its_passport(card: Card) -> None:
    path = put(card)
    text = passport_path(path).read_bytes()
    put(card, plan_file(version=(10, 3, 0, 30)) + b"newer")
    passport_path(path).write_bytes(text)
    assert "as its passport says" in refusal(card)


def test_a_network_that_has_changed_since(card: Card, make_card: Callable[..., Path]) -> None:
    put(card)
    (Path(card.folders[0]) / "net.onnx").write_bytes(b"another")
    assert "expected to be built from net.onnx with sha256 " in refusal(card)
    assert "found 0000000000000000... in its passport: the network has changed" in refusal(card)
    put(card, onnx_sha256=hashlib.sha256(b"another").hexdigest())
    assert load(card).data == GOOD
    pinned = msgspec.structs.replace(card, sha256="b" * 64)
    assert "net.onnx with sha256 bbbbbbbbbbbbbbbb..., found " in refusal(pinned)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | st.integers(0, len(GOOD) - 1).map(lambda end: GOOD[:end]))
def test_no_other_bytes_are_taken_for_the_engine(card: Card, data: bytes) -> None:
    path = put(card)
    path.write_bytes(data)
    refusal(card)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60).map(lambda rest: b"ftrt" + bytes(4) + rest), changes=st.data())
def test_a_plausible_engine_with_any_passport_is_taken_or_refused(card: Card, data: bytes, changes: Any) -> None:
    keys = st.sampled_from([field.name for field in msgspec.structs.fields(Passport)])
    values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.lists(st.integers())
    wrong = changes.draw(st.dictionaries(keys, values, max_size=2))
    path = put(card, data)
    written = msgspec.to_builtins(passport(data, plan_version=plan_version(data))) | wrong
    passport_path(path).write_bytes(msgspec.json.encode(written))
    version = ".".join(map(str, plan_version(data) or (10, 3, 0)))
    try:
        assert load(card, version=version).data == data
    except EngineError as error:
        assert "; build it: edgeface build net" in str(error)


# --- the device


def test_an_engine_for_another_architecture_is_refused(card: Card) -> None:
    path = put(card)
    plan = load(card)
    check_device(plan, (8, 7), "Orin")
    with pytest.raises(EngineError) as caught:
        check_device(plan, (7, 2), "Xavier")
    assert str(caught.value) == (
        f"{path}: expected an engine for compute capability 7.2 (Xavier), found one for 8.7 (Orin); "
        f"build it: edgeface build net --precision fp16 --engines {card.folders[0]}"
    )


def test_an_engine_for_no_device_is_refused(card: Card) -> None:
    put(card, compute_capability="", device="")
    with pytest.raises(EngineError, match=r"8.7 \(Orin\), found one for no device"):
        check_device(load(card), (8, 7), "Orin")


def test_an_engine_of_another_model_is_taken_and_said_to_be_slower(
    card: Card, caplog: pytest.LogCaptureFixture
) -> None:
    put(card)
    with caplog.at_level(logging.WARNING, "edgeface.cuda.plan"):
        check_device(load(card), (8, 7), "Orin")
        assert not caplog.messages
        check_device(load(card), (8, 7), "Orin Nano")
    (line,) = caplog.messages
    for part in ("was built on Orin and runs on Orin Nano", "build it: edgeface build net"):
        assert part in line
