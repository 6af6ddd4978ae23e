"""Download one file over HTTP: it goes on where it was cut off, and trusts nothing that the server says."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import msgspec

from edgeface.errors import EdgefaceError, one_line

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all if the server says so

_CHUNK_BYTES = 1 << 16
_SPARE_BYTES = 16 << 20  # of the disk, that a download leaves


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server may ask of us."""

    most_bytes: int = 1 << 30  # archives of face networks have 300 MB
    timeout_s: float = 30.0  # without a byte; and the time over which the speed is looked at
    least_bytes_s: float = 1000.0


class _Note(msgspec.Struct, frozen=True):
    """Beside a partial file: what it is a part of."""

    url: str
    validator: str  # a strong ETag or a date, for If-Range: RFC 9110, 13.1.5; empty: it cannot be gone on with
    total: int | None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to HTTP and HTTPS alone, and never from HTTPS down to HTTP."""

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 has none

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old, new) == ("https", "http"):
            raise EdgefaceError(f"{req.full_url}: refused to be sent on from {old} to {newurl!a}")
        return super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)


def download(url: str, partial: Path, *, limits: Limits, progress: Progress) -> None:
    """Bring the file at `url` into `partial`, or the rest of it. Raises EdgefaceError; what has come by then stays.

    A rest is asked for by If-Range, so that a file that has changed begins anew. Whether it is the right file is for
    the caller to check.
    """
    note = _read_note(partial)
    kept = partial.stat().st_size if note.url == url and note.validator and partial.is_file() else 0
    if kept and kept == note.total:
        return
    answer = _ask(url, kept, note.validator, limits)
    if kept and (answer is None or (answer.status == 206 and not _goes_on(answer, kept, note))):
        if answer is not None:
            answer.close()
        kept, answer = 0, _ask(url, 0, "", limits)
    if answer is None:  # not even the whole of it
        raise EdgefaceError(f"{url}: HTTP 416")
    with answer:
        if answer.status == 200:
            kept = 0
        elif answer.status != 206 or not kept:
            raise EdgefaceError(f"{url}: expected HTTP 200, found {answer.status}")
        coding = answer.headers.get("Content-Encoding", "identity")
        if coding.lower() != "identity":
            raise EdgefaceError(f"{url}: expected the file as it is, found it encoded: {coding!a}")
        total = None if answer.length is None else kept + answer.length
        _check_room(url, partial, (total or 0) - kept, total or 0, limits)
        try:
            if not kept:
                partial.write_bytes(b"")
                _note_path(partial).write_bytes(msgspec.json.encode(_Note(url, _validator(answer), total)))
            received = _receive(answer, url, partial, (kept, total), limits, progress)
        except OSError as error:
            raise EdgefaceError(f"{partial}: cannot be written: {error.strerror}; what has come stays") from error
    if total is not None and received < total:
        raise EdgefaceError(f"{url}: cut off after {received} of {total} bytes; the same command goes on from there")


def forget(partial: Path) -> None:
    """Take away a partial file and what is noted of it."""
    partial.unlink(missing_ok=True)
    _note_path(partial).unlink(missing_ok=True)


def _ask(url: str, start: int, validator: str, limits: Limits) -> http.client.HTTPResponse | None:
    """The server's answer for the bytes from `start` on; None: it has none there. Raises EdgefaceError."""
    headers = {"User-Agent": "edgeface", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    try:
        request = urllib.request.Request(url, headers=headers)
        answer = urllib.request.build_opener(_Redirects).open(request, timeout=limits.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            return None
        why = " (sent on in a circle, or to what is no web page)" if 300 <= error.code < 400 else ""
        raise EdgefaceError(f"{url}: HTTP {error.code}{why}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        raise _failure(url, error) from error
    assert isinstance(answer, http.client.HTTPResponse)  # the handler of http and https has no other
    return answer


def _receive(
    answer: http.client.HTTPResponse,
    url: str,
    partial: Path,
    done: tuple[int, int | None],
    limits: Limits,
    progress: Progress,
) -> int:
    """Append the answer's body to `partial`; `done`: bytes before it and in all. Returns the bytes that are there."""
    received, total = done
    progress(received, total)
    since, before = time.monotonic(), received
    with partial.open("ab") as file:
        for chunk in _chunks(answer, url):
            received += len(chunk)
            if received > limits.most_bytes:
                forget(partial)
                raise EdgefaceError(f"{url}: more than {limits.most_bytes} bytes")
            file.write(chunk)
            progress(received, total)
            seconds = time.monotonic() - since
            if seconds >= limits.timeout_s:
                if received - before < limits.least_bytes_s * seconds:
                    raise EdgefaceError(f"{url}: too slow: {received - before} bytes in {seconds:.0f} s")
                since, before = time.monotonic(), received
        file.flush()
        os.fsync(file.fileno())
    return received


def _chunks(answer: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    try:
        while chunk := answer.read1(_CHUNK_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failure(url, error) from error


def _failure(url: str, error: Exception) -> EdgefaceError:
    """An error of the network in one line, without what a server may have put into it for a terminal."""
    reason = getattr(error, "reason", error)  # URLError's own
    return EdgefaceError(f"{url}: {ascii(one_line(reason) if isinstance(reason, Exception) else str(reason))[1:-1]}")


def _goes_on(answer: http.client.HTTPResponse, kept: int, note: _Note) -> bool:
    """Whether a partial answer begins where our part ends, and is of the same file."""
    match = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""), re.ASCII)
    return match is not None and int(match[1]) == kept and _validator(answer) in ("", note.validator)


def _validator(answer: http.client.HTTPResponse) -> str:
    """What tells this file from a later one: a strong ETag, else its date, else nothing."""
    tag = answer.headers.get("ETag", "")
    if re.fullmatch(r'"[!#-~]*"', tag):
        return tag
    date = answer.headers.get("Last-Modified", "")
    return date if re.fullmatch(r"[ -~]+", date) else ""


def _check_room(url: str, partial: Path, rest: int, total: int, limits: Limits) -> None:
    """Refuse what is too large for us or for the disk, before the first byte."""
    if total > limits.most_bytes:
        raise EdgefaceError(f"{url}: {total} bytes, more than {limits.most_bytes}")
    free = shutil.disk_usage(partial.parent).free
    if free < rest + _SPARE_BYTES:
        raise EdgefaceError(f"{partial.parent}: {free >> 20} MB are free, {rest + _SPARE_BYTES >> 20} MB are needed")


def _note_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name.removesuffix('.partial')}.note.partial")


def _read_note(partial: Path) -> _Note:
    try:
        return msgspec.json.decode(_note_path(partial).read_bytes(), type=_Note)
    except (OSError, msgspec.DecodeError):
        return _Note("", "", None)
