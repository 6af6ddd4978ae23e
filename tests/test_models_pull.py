"""Weights are pulled: licence first, checksum before they get their name, from archives one file alone."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from web import Server, file, plain, serving

from edgeface.errors import ConfigError, EdgefaceError, EngineError
from edgeface.model_card import Card, load_card
from edgeface.models.download import Limits
from edgeface.models.pull import pull

WEIGHTS = b"weights" * 30_000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
QUICK = Limits(most_bytes=1_000_000, timeout_s=5)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(file(WEIGHTS)) as one:
        yield one


@pytest.fixture
def card(server: Server, make_card: Callable[..., Path]) -> Card:
    changes: dict[str, Any] = {"url": f"{server.url}/net.onnx", "sha256": SHA256, "commercial": True}
    return msgspec.structs.replace(load_card(make_card()), **changes)


def get(card: Card, engines: tuple[str, ...] = (), **options: Any) -> tuple[Path, bool]:
    return pull(card, engines, progress=options.pop("progress", lambda *_: None), limits=QUICK, **options)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".toml")


def archive(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as files:
        for name, content in members:
            files.writestr(name, content)
    return target.getvalue()


def packed(card: Card, server: Server, body: bytes, member: str = "net.onnx") -> Card:
    """The card with its weights in an archive."""
    server.answer = file(body)
    return msgspec.structs.replace(card, url=f"{server.url}/pack.zip#{member}")


def test_weights_are_put_beside_the_card(card: Card, tmp_path: Path) -> None:
    assert get(card) == (tmp_path / "net.onnx", True)
    assert (tmp_path / "net.onnx").read_bytes() == WEIGHTS
    assert left(tmp_path) == ["net.onnx"]


def test_weights_that_are_there_are_not_fetched_again(card: Card, tmp_path: Path, server: Server) -> None:
    get(card)
    assert get(card) == (tmp_path / "net.onnx", False)
    assert len(server.seen) == 1


def test_weights_go_into_an_engines_folder(card: Card, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert get(card, (str(tmp_path / "mine"),)) == (tmp_path / "mine" / "net.onnx", True)
    assert not (tmp_path / "net.onnx").exists()


def test_damaged_weights_are_replaced_where_they_lie(card: Card, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "net.onnx").write_bytes(b"damaged")
    assert get(card, (str(tmp_path / "mine"),)) == (tmp_path / "net.onnx", True)
    assert (tmp_path / "net.onnx").read_bytes() == WEIGHTS


def test_another_file_is_refused_and_what_was_there_stays(card: Card, tmp_path: Path, server: Server) -> None:
    (tmp_path / "net.onnx").write_bytes(b"older")
    server.answer = file(b"another file")
    with pytest.raises(EngineError, match=f"expected sha256 {SHA256[:16]}..., found .*: refused"):
        get(card)
    assert (tmp_path / "net.onnx").read_bytes() == b"older"
    assert left(tmp_path) == ["net.onnx"]
    server.answer = file(WEIGHTS)
    assert get(card)[1]
    assert "range" not in server.seen[-1]


def test_an_attempt_goes_on_with_the_last_one(card: Card, tmp_path: Path, server: Server) -> None:
    server.answer = file(WEIGHTS, at_most=70_000)
    with pytest.raises(EdgefaceError, match="cut off after 70000"):
        get(card)
    assert not (tmp_path / "net.onnx").exists()
    server.answer = file(WEIGHTS)
    assert get(card)[1]
    assert server.seen[-1]["range"] == "bytes=70000-"


def test_ctrl_c_keeps_what_has_come(card: Card, tmp_path: Path, server: Server) -> None:
    def stop(received: int, _: int | None) -> None:
        if received:
            raise KeyboardInterrupt

    with pytest.raises(EdgefaceError, match="net: stopped; the same command goes on"):
        get(card, progress=stop)
    assert left(tmp_path) == [".net.onnx.note.partial", ".net.onnx.partial"]
    assert get(card)[1]
    assert server.seen[-1]["range"] != "bytes=0-"
    assert left(tmp_path) == ["net.onnx"]


@pytest.mark.parametrize(("commercial", "why"), [(False, "is not allowed"), ("unknown", "does not say")])
def test_a_commercial_profile_refuses(card: Card, server: Server, commercial: object, why: str) -> None:
    closed = msgspec.structs.replace(card, commercial=commercial)
    with pytest.raises(ConfigError, match=f"net: refused under --profile commercial: .*{why}.*: Apache-2.0; any use"):
        get(closed, commercial=True)
    assert server.seen == []
    assert get(closed)[1]


@pytest.mark.parametrize("commercial", [True, "terms"])
def test_a_commercial_profile_allows(card: Card, commercial: object) -> None:
    assert get(msgspec.structs.replace(card, commercial=commercial), commercial=True)[1]


def test_without_an_address_it_says_where_to_get_it_by_hand(card: Card, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        get(msgspec.structs.replace(card, url=""))
    assert str(caught.value) == (
        "net: no address to download it from; get it from made by a test (licence: Apache-2.0; any use) "
        f"and put it into {tmp_path} as net.onnx"
    )
    with pytest.raises(ConfigError, match="put it into ~/mine as"):
        get(msgspec.structs.replace(card, url=""), ("~/mine",))


def test_nothing_comes_unchecked(card: Card, server: Server) -> None:
    unknown = msgspec.structs.replace(card, sha256="")
    with pytest.raises(ConfigError, match="has no sha256 to check it by"):
        get(unknown)
    with pytest.raises(ConfigError, match=f"--sha256 is not the card's, which is {SHA256}"):
        get(card, sha256="0" * 64)
    assert server.seen == []
    assert get(unknown, sha256=SHA256)[1]
    assert not get(unknown, sha256=SHA256)[1]
    assert not get(card, sha256=SHA256)[1]


def test_one_download_into_a_folder_at_a_time(card: Card, tmp_path: Path, server: Server) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(EdgefaceError, match="another download into it is under way"):
        get(card)
    os.close(descriptor)
    assert server.seen == []
    assert get(card)[1]


def test_a_second_download_meets_the_first(card: Card) -> None:
    def again(*_: object) -> None:
        with pytest.raises(EdgefaceError, match="another download"):
            get(card)

    assert get(card, progress=again)[1]


@pytest.mark.parametrize("engines", [(), ("no/such/folder",)])
def test_a_folder_that_takes_no_files(
    card: Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engines: tuple[str, ...]
) -> None:
    gone = msgspec.structs.replace(card, folders=(str(tmp_path / "gone"),))
    with pytest.raises(ConfigError, match="networks cannot be written there .*: name a folder with --engines DIR"):
        get(gone, engines)


def test_a_disk_that_fills_up(card: Card, tmp_path: Path) -> None:
    (tmp_path / ".net.onnx.partial").symlink_to("/dev/full")
    with pytest.raises(EdgefaceError, match="cannot be written: No space left on device"):
        get(card)
    assert not (tmp_path / "net.onnx").exists()


def test_a_name_that_is_taken_by_a_folder(card: Card, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").mkdir()
    with pytest.raises(EdgefaceError, match=r"net.onnx: cannot be written: Is a directory"):
        get(card)


@pytest.mark.parametrize("name", ["net.onnx", "pack/net.onnx", "../../net.onnx", "/etc/net.onnx", "a/../net.onnx"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_one_file_of_an_archive(card: Card, server: Server, tmp_path: Path, name: str, compression: int) -> None:
    before = sorted(tmp_path.parent.iterdir())
    body = archive([("other.onnx", b"other"), (name, WEIGHTS), ("../evil", b"evil")], compression)
    assert get(packed(card, server, body)) == (tmp_path / "net.onnx", True)
    assert (tmp_path / "net.onnx").read_bytes() == WEIGHTS
    assert left(tmp_path) == ["net.onnx"]
    assert sorted(tmp_path.parent.iterdir()) == before


def test_the_name_in_the_archive_may_be_another(card: Card, server: Server, tmp_path: Path) -> None:
    assert get(packed(card, server, archive([("det 1.onnx", WEIGHTS)]), "det%201.onnx"))[0].name == "net.onnx"


def link() -> bytes:
    """An archive whose file is a link."""
    target = io.BytesIO()
    info = zipfile.ZipInfo("net.onnx")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(target, "w") as files:
        files.writestr(info, "/etc/passwd")
    return target.getvalue()


GOOD = archive([("net.onnx", WEIGHTS)])


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"no archive at all", "no zip archive with net.onnx: File is not a zip file"),
        (GOOD[:-30], "no zip archive with net.onnx: File is not a zip file"),
        (GOOD[:60] + b"damage" + GOOD[66:], "no zip archive with net.onnx: "),
        (GOOD.replace(b"net.onnx", b"n\x1b[2Jnnx"), "expected one such file, stored or deflated, found 0"),
        (archive([]), "found 0"),
        (archive([("net.onnx/", b"")]), "found 0"),
        (archive([("net.onnx", WEIGHTS), ("a/net.onnx", WEIGHTS)]), "found 2"),
        (archive([("net.onnx", WEIGHTS), ("nut.onnx", WEIGHTS)]).replace(b"nut", b"net"), "found 2"),
        (archive([("net.onnx", WEIGHTS)], zipfile.ZIP_LZMA), "stored or deflated, found 1"),
        (archive([("net.onnx", bytes(1_000_001))]), "net.onnx has 1000001 bytes"),
        (archive([("net.onnx", b"another")]), f"expected sha256 {SHA256[:16]}"),
        (link(), f"expected sha256 {SHA256[:16]}"),
        (GOOD.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"), "encrypted"),
    ],
)
def test_an_archive_that_is_none_of_ours(
    card: Card, server: Server, tmp_path: Path, body: bytes, complaint: str
) -> None:
    with pytest.raises(EngineError) as caught:
        get(packed(card, server, body))
    assert complaint in str(caught.value)
    assert str(caught.value).isprintable()
    assert left(tmp_path) == []


def test_an_archive_that_lies_about_a_size(card: Card, server: Server, tmp_path: Path) -> None:
    real, said = len(WEIGHTS).to_bytes(4, "little"), (100).to_bytes(4, "little")
    with pytest.raises(EngineError, match="no zip archive with net.onnx: "):
        get(packed(card, server, GOOD.replace(real, said)))
    assert left(tmp_path) == []


def test_an_archive_stays_when_the_disk_is_full(card: Card, server: Server, tmp_path: Path) -> None:
    (tmp_path / ".net.onnx.unpacked.partial").symlink_to("/dev/full")
    with pytest.raises(EdgefaceError, match="cannot be written: No space left on device"):
        get(packed(card, server, GOOD))
    assert left(tmp_path) == [".net.onnx.note.partial", ".net.onnx.partial"]
    assert get(packed(card, server, GOOD))[1]
    assert len(server.seen) == 1


def test_a_server_that_says_no(card: Card, server: Server, tmp_path: Path) -> None:
    server.answer = plain(404)
    with pytest.raises(EdgefaceError, match="HTTP 404"):
        get(card)
    assert left(tmp_path) == []


def test_a_disk_without_room(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(EdgefaceError, match="0 MB are free, 16 MB are needed"):
        get(card)
