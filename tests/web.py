"""An HTTP server on 127.0.0.1 that answers as a test wants it to, good or hostile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request, given to the test's function, which writes the answer."""

    answer: Answer  # set in a subclass, with `seen`
    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        self.seen.append({"path": self.path} | {key.lower(): value for key, value in self.headers.items()})
        self.close_connection = True
        with contextlib.suppress(OSError):  # whoever asked has hung up
            type(self).answer(self)

    def head(self, code: int, *lines: str) -> None:
        self.wfile.write("\r\n".join([f"HTTP/1.1 {code} whatever", *lines, "", ""]).encode("latin-1"))

    def log_message(self, *_: object) -> None:
        pass


class Server:
    """Where it listens, what was asked for, and what it answers: change `answer` at any time."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.seen = answer, list[dict[str, str]]()

        def current(request: Request) -> None:
            self.answer(request)

        handler = type("Handler", (Request,), {"answer": current, "seen": self.seen})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()


def file(body: bytes, *, etag: str = '"one"', at_most: int | None = None, headers: tuple[str, ...] = ()) -> Answer:
    """A good server's answer: it knows Range and If-Range. `at_most`: the connection breaks after so many bytes."""

    def answer(request: Request) -> None:
        tag = (f"ETag: {etag}",) if etag else ()
        asked, condition = request.headers.get("Range"), request.headers.get("If-Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and condition == etag else 0
        if start >= len(body) > 0:
            request.head(416, f"Content-Range: bytes */{len(body)}", "Content-Length: 0")
            return
        if start:
            where = f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}"
            request.head(206, where, f"Content-Length: {len(body) - start}", *tag, *headers)
        else:
            request.head(200, f"Content-Length: {len(body)}", *tag, *headers)
        request.wfile.write(body[start:][:at_most])

    return answer


def plain(code: int, *headers: str, body: bytes = b"") -> Answer:
    """Always this answer, whatever was asked."""

    def answer(request: Request) -> None:
        request.head(code, *headers)
        request.wfile.write(body)

    return answer
