"""Downloads: resumed, bounded, and not to be led astray by broken and hostile servers."""

from __future__ import annotations

import shutil
import time
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web import Answer, Request, Server, file, plain, serving

from edgeface.errors import EdgefaceError
from edgeface.models import download as module
from edgeface.models.download import Limits, download, forget

BODY = bytes(range(256)) * 1000
QUICK = Limits(most_bytes=1_000_000, timeout_s=0.4)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(file(BODY)) as one:
        yield one


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / ".net.onnx.partial"


def fetch(server: Server, partial: Path, limits: Limits = QUICK, path: str = "/net.onnx") -> list[tuple[int, object]]:
    shown: list[tuple[int, object]] = []
    download(server.url + path, partial, limits=limits, progress=lambda *how_far: shown.append(how_far))
    return shown


def refusal(server: Server, partial: Path, limits: Limits = QUICK) -> str:
    with pytest.raises(EdgefaceError) as caught:
        fetch(server, partial, limits)
    text = str(caught.value)
    assert text.isprintable()
    return text


def begin(server: Server, partial: Path, nbytes: int = 100_000) -> None:
    """Have a part of the file, as a broken connection leaves it."""
    good, server.answer = server.answer, file(BODY, at_most=nbytes)
    assert f"cut off after {nbytes} of {len(BODY)} bytes" in refusal(server, partial)
    assert partial.read_bytes() == BODY[:nbytes]
    server.answer = good
    server.seen.clear()


def test_a_file(server: Server, partial: Path) -> None:
    shown = fetch(server, partial)
    assert partial.read_bytes() == BODY
    assert shown[0] == (0, len(BODY))
    assert shown[-1] == (len(BODY), len(BODY))
    assert shown == sorted(shown)
    (asked,) = server.seen
    assert asked["accept-encoding"] == "identity"
    assert "range" not in asked


def test_a_part_is_gone_on_with(server: Server, partial: Path) -> None:
    begin(server, partial)
    shown = fetch(server, partial)
    assert partial.read_bytes() == BODY
    assert shown[0] == (100_000, len(BODY))
    (asked,) = server.seen
    assert (asked["range"], asked["if-range"]) == ("bytes=100000-", '"one"')


@given(cuts=st.lists(st.integers(1, 300), max_size=6))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wherever_it_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuts: list[int]) -> None:
    body, partial = BODY[:600], tmp_path / ".cut.partial"
    forget(partial)
    with serving(file(body)) as server:
        for cut in cuts:
            server.answer = file(body, at_most=cut)
            try:
                fetch(server, partial)
            except EdgefaceError as error:
                assert "cut off after" in str(error)
            assert body.startswith(partial.read_bytes())
        server.answer = file(body)
        fetch(server, partial)
    assert partial.read_bytes() == body


def test_a_whole_part_is_not_asked_for_again(server: Server, partial: Path) -> None:
    fetch(server, partial)
    server.seen.clear()
    assert fetch(server, partial) == []
    assert server.seen == []


def test_a_server_that_ignores_range(server: Server, partial: Path) -> None:
    begin(server, partial)
    server.answer = plain(200, f"Content-Length: {len(BODY)}", 'ETag: "one"', body=BODY)
    fetch(server, partial)
    assert partial.read_bytes() == BODY


def test_a_file_that_changed_between_two_attempts_begins_anew(server: Server, partial: Path) -> None:
    begin(server, partial)
    server.answer = file(BODY[::-1], etag='"two"')
    fetch(server, partial)
    assert partial.read_bytes() == BODY[::-1]


@pytest.mark.parametrize(
    "lines",
    [
        ('ETag: "two"', "Content-Range: bytes 100000-255999/256000"),
        ('ETag: "one"', "Content-Range: bytes 99999-255999/256000"),
        ('ETag: "one"', "Content-Range: nonsense"),
        ('ETag: "one"',),
    ],
)
def test_a_rest_of_another_file_begins_anew(server: Server, partial: Path, lines: tuple[str, ...]) -> None:
    begin(server, partial)

    def answer(request: Request) -> None:
        honest = file(BODY) if "Range" not in request.headers else plain(206, *lines, body=b"other" * 10)
        honest(request)

    server.answer = answer
    fetch(server, partial)
    assert partial.read_bytes() == BODY
    assert ["range" in asked for asked in server.seen] == [True, False]


def test_a_part_that_the_server_has_none_of_begins_anew(server: Server, partial: Path) -> None:
    begin(server, partial)
    server.answer = lambda request: (file(BODY) if "Range" not in request.headers else plain(416))(request)
    fetch(server, partial)
    assert partial.read_bytes() == BODY


def test_a_part_of_another_address_begins_anew(server: Server, partial: Path) -> None:
    begin(server, partial)
    fetch(server, partial, path="/other.onnx")
    assert partial.read_bytes() == BODY
    assert "range" not in server.seen[0]


@pytest.mark.parametrize("note", [b"", b"{}", b"\xff", b'{"url": 1, "validator": "", "total": null}'])
def test_a_part_of_which_nothing_is_known_begins_anew(server: Server, partial: Path, note: bytes) -> None:
    begin(server, partial)
    partial.with_name(".net.onnx.note.partial").write_bytes(note)
    fetch(server, partial)
    assert partial.read_bytes() == BODY
    assert "range" not in server.seen[0]


@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        (('ETag: W/"weak"', "Last-Modified: Sat, 21 Nov 2026 10:00:00 GMT"), "Sat, 21 Nov 2026 10:00:00 GMT"),
        (("Last-Modified: Sat, 21 Nov 2026 10:00:00 GMT",), "Sat, 21 Nov 2026 10:00:00 GMT"),
        (('ETag: W/"weak"',), None),
        (("ETag: no quotes",), None),
        ((), None),
    ],
)
def test_only_what_names_one_file_goes_on(
    server: Server, partial: Path, headers: tuple[str, ...], condition: str | None
) -> None:
    server.answer = plain(200, f"Content-Length: {len(BODY)}", *headers, body=BODY[:1000])
    assert "cut off" in refusal(server, partial)
    server.answer = file(BODY)
    server.seen.clear()
    fetch(server, partial)
    assert partial.read_bytes() == BODY
    assert server.seen[0].get("if-range") == condition


def test_a_length_that_is_too_small_ends_the_file_there(server: Server, partial: Path) -> None:
    server.answer = plain(200, "Content-Length: 1000", body=BODY)
    fetch(server, partial)
    assert partial.read_bytes() == BODY[:1000]  # its checksum is wrong


@pytest.mark.parametrize("length", ["-5", "many", ""])
def test_a_length_that_is_none(server: Server, partial: Path, length: str) -> None:
    server.answer = plain(200, f"Content-Length: {length}", body=BODY)
    assert fetch(server, partial)[-1] == (len(BODY), None)
    assert partial.read_bytes() == BODY


def test_no_length_at_all(server: Server, partial: Path) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:70_000], BODY[70_000:])) + b"0\r\n\r\n"
    server.answer = plain(200, "Transfer-Encoding: chunked", body=chunks)
    fetch(server, partial)
    assert partial.read_bytes() == BODY
    server.answer = plain(200, "Transfer-Encoding: chunked", body=chunks[:-50])
    forget(partial)
    assert "IncompleteRead" in refusal(server, partial)


def endless(request: Request) -> None:
    request.head(200, 'ETag: "one"')
    while True:
        request.wfile.write(BODY)


def test_an_endless_file(server: Server, partial: Path) -> None:
    server.answer = endless
    assert "more than 1000000 bytes" in refusal(server, partial)
    assert not partial.exists()


def test_a_file_that_says_it_is_too_large(server: Server, partial: Path) -> None:
    server.answer = plain(200, "Content-Length: 1000001", body=BODY)
    assert "1000001 bytes, more than 1000000" in refusal(server, partial)
    assert not partial.exists()


def test_a_disk_without_room(server: Server, partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=16 << 20))
    assert "16 MB are free" in refusal(server, partial)
    assert not partial.exists()


def test_a_disk_that_fills_up(server: Server, partial: Path) -> None:
    partial.symlink_to("/dev/full")
    assert "cannot be written: No space left on device; what has come stays" in refusal(server, partial)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 429, 500, 503])
def test_an_error_of_the_server(server: Server, partial: Path, code: int) -> None:
    server.answer = plain(code, "Content-Length: 5", body=b"sorry")
    assert f"/net.onnx: HTTP {code}" in refusal(server, partial)
    assert not partial.exists()


@pytest.mark.parametrize("code", [204, 206])
def test_success_without_a_file(server: Server, partial: Path, code: int) -> None:
    server.answer = plain(code, "Content-Length: 0")
    assert f"expected HTTP 200, found {code}" in refusal(server, partial)


def test_416_for_a_whole_file(server: Server, partial: Path) -> None:
    server.answer = plain(416)
    assert "HTTP 416" in refusal(server, partial)


def redirect(where: str, code: int = 302) -> Answer:
    return plain(code, f"Location: {where}", "Content-Length: 0")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_it_is_sent_on_and_goes_on_there(server: Server, partial: Path, code: int) -> None:
    begin(server, partial)

    def answer(request: Request) -> None:
        (file(BODY) if request.path == "/there" else redirect("/there", code))(request)

    server.answer = answer
    fetch(server, partial)
    assert partial.read_bytes() == BODY
    assert [(asked["path"], asked["range"]) for asked in server.seen] == [
        ("/net.onnx", "bytes=100000-"),
        ("/there", "bytes=100000-"),
    ]


def test_circles_of_addresses(server: Server, partial: Path) -> None:
    server.answer = redirect("/net.onnx")
    assert "HTTP 302 (sent on in a circle" in refusal(server, partial)
    server.answer = lambda request: redirect(f"{request.path}0")(request)
    assert "HTTP 302 (sent on in a circle" in refusal(server, partial)


@pytest.mark.parametrize("where", ["file:///etc/passwd", "data:,x", "javascript:1", "ftp://127.0.0.1/x", "\x1b[2Jx:y"])
def test_it_is_sent_on_to_what_is_no_web_page(server: Server, partial: Path, where: str) -> None:
    server.answer = redirect(where)
    assert "sent on" in refusal(server, partial)
    assert not partial.exists()


@pytest.mark.parametrize(
    ("old", "new", "allowed"), [("https", "http", False), ("https", "https", True), ("http", "https", True)]
)
def test_it_is_never_sent_from_https_down_to_http(old: str, new: str, allowed: bool) -> None:
    def follow() -> urllib.request.Request | None:
        request = urllib.request.Request(f"{old}://a/net.onnx")
        return module._Redirects().redirect_request(request, None, 302, "", request.headers, f"{new}://b/")

    if allowed:
        assert follow().full_url == f"{new}://b/"
    else:
        with pytest.raises(EdgefaceError, match="refused to be sent on from https"):
            follow()


def silent(request: Request) -> None:
    time.sleep(2)


def stops(request: Request) -> None:
    request.head(200, f"Content-Length: {len(BODY)}", 'ETag: "one"')
    request.wfile.write(BODY[:5000])
    time.sleep(2)


def drips(request: Request) -> None:
    request.head(200, f"Content-Length: {len(BODY)}", 'ETag: "one"')
    for byte in BODY[:200]:
        request.wfile.write(bytes([byte]))
        time.sleep(0.02)


@pytest.mark.parametrize(("answer", "complaint"), [(silent, "timed out"), (stops, "timed out"), (drips, "too slow: ")])
def test_a_server_that_takes_its_time(server: Server, partial: Path, answer: Answer, complaint: str) -> None:
    server.answer = answer
    assert complaint in refusal(server, partial)
    server.answer = file(BODY)
    fetch(server, partial)
    assert partial.read_bytes() == BODY


@pytest.mark.parametrize(("least_bytes_s", "enough"), [(1000.0, True), (1e6, False)])
def test_the_speed_is_looked_at_again_and_again(
    server: Server, partial: Path, monkeypatch: pytest.MonkeyPatch, least_bytes_s: float, enough: bool
) -> None:
    seconds = count(step=0.3)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    limits = Limits(timeout_s=1.0, least_bytes_s=least_bytes_s)
    if enough:
        fetch(server, partial, limits)
        assert partial.read_bytes() == BODY
    else:
        assert "too slow: " in refusal(server, partial, limits)


@pytest.mark.parametrize("coding", ["gzip", "br", "x\x1b[2J"])
def test_a_file_that_comes_encoded(server: Server, partial: Path, coding: str) -> None:
    server.answer = plain(200, f"Content-Encoding: {coding}", f"Content-Length: {len(BODY)}", body=BODY)
    assert "expected the file as it is, found it encoded: " in refusal(server, partial)


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: request.wfile.write(b"SSH-2.0-OpenSSH\r\n\x1b[2J"),
        lambda request: request.wfile.write(b"HTTP/1.1 two hundred\r\n\r\n"),
        lambda request: request.wfile.write(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000),
        lambda request: request.head(200, *(f"H{number}: x" for number in range(200))),
        lambda request: request.head(200, "Transfer-Encoding: chunked", "", "nonsense"),
        lambda request: None,
    ],
)
def test_what_is_no_http(server: Server, partial: Path, answer: Answer) -> None:
    server.answer = answer
    assert "/net.onnx: " in refusal(server, partial)


def test_nobody_listens(server: Server, partial: Path) -> None:
    server.close()
    assert "Connection refused" in refusal(server, partial)


@pytest.mark.parametrize("url", ["http://", "http://[", "http://a b/", "http://127.0.0.1:port/", "http://" + "a" * 70])
def test_an_address_that_is_none(partial: Path, url: str) -> None:
    with pytest.raises(EdgefaceError, match="^http://"):
        download(url, partial, limits=QUICK, progress=lambda *_: None)


def test_a_folder_that_cannot_be_written_into(server: Server, tmp_path: Path) -> None:
    partial = tmp_path / ".net.onnx.partial"
    partial.mkdir()
    assert "cannot be written: Is a directory" in refusal(server, partial)


def test_a_name_that_the_server_gives_means_nothing(server: Server, partial: Path, tmp_path: Path) -> None:
    server.answer = file(BODY, headers=('Content-Disposition: attachment; filename="../../evil"',))
    fetch(server, partial, path="/../../%2e%2e/evil")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".net.onnx.note.partial", ".net.onnx.partial"]


def test_whoever_stops_keeps_what_has_come(server: Server, partial: Path) -> None:
    def stop(received: int, _: int | None) -> None:
        if received > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(f"{server.url}/net.onnx", partial, limits=QUICK, progress=stop)
    kept = partial.stat().st_size
    assert kept > 100_000
    fetch(server, partial)
    assert partial.read_bytes() == BODY
    assert server.seen[-1]["range"] == f"bytes={kept}-"


def test_forgetting(server: Server, partial: Path, tmp_path: Path) -> None:
    fetch(server, partial)
    forget(partial)
    forget(partial)
    assert list(tmp_path.iterdir()) == []
