"""How far a download is: one line that is written over on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from edgeface.models.download import Progress


@contextmanager
def shown(name: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """A function that shows the bytes of `name` that are there, of how many; a terminal's line is ended at the end."""
    terminal = stream.isatty()
    pause_s = 0.2 if terminal else 10.0
    last: list[tuple[float, int]] = []  # when something was shown, and the bytes then

    def show(received: int, total: int | None) -> None:
        now = clock()
        ready = received == total
        if last and not ready and now - last[-1][0] < pause_s:
            return
        share = f" of {total / 1e6:.1f} MB, {received * 100 // max(total, 1)} %" if total is not None else " MB"
        speed = (
            f", {(received - last[-1][1]) / 1e6 / (now - last[-1][0]):.1f} MB/s" if last and now > last[-1][0] else ""
        )
        line = f"{name}: {received / 1e6:.1f}{share}{speed}"
        print(f"\r{line:<78}" if terminal else line, end="" if terminal else "\n", file=stream, flush=True)
        last[:] = [(now, received)]

    try:
        yield show
    finally:
        if terminal and last:
            print(file=stream, flush=True)
