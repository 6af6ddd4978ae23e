"""Where a build works: alone in a folder, and what killed builds have left is swept away."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

_SCRATCH = "edgeface-build-"
_UNFINISHED = (".*.engine.*.partial", ".*.json.*.partial", ".*.timing.*.partial")  # of replace_files


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One build at a time writes into a folder: a second one waits, and says so. The lock ends with its process.

    It lies on the folder itself, so that no file of it is left. Two builds at once would also spoil each other's
    timings, and need twice the memory.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _locked(descriptor, folder):
            _sweep(folder)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int, folder: Path) -> bool:
    """Whether the folder is ours now: some network file systems lock none."""
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s: another build writes there, waiting for its end", folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        log.warning("%s: cannot be locked (%s): let no other build write there now", folder, error.strerror)
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove files that were not finished: nobody else writes here now."""
    for kind in _UNFINISHED:
        for path in folder.glob(kind):
            with contextlib.suppress(OSError):
                path.unlink()
                log.info("%s: removed, a build that was killed had left it", path)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what a build needs only for a while. Those of builds that were killed are removed.

    Each is held as long as its process lives: what can be had is nobody's.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        descriptor = _hold(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if descriptor is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(descriptor)
    while True:
        path = Path(tempfile.mkdtemp(prefix=_SCRATCH))
        descriptor = _hold(path, fcntl.LOCK_EX)
        if path.is_dir():
            break
        if descriptor is not None:  # another build has taken it for a dead one's before we held it
            os.close(descriptor)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _hold(folder: Path, how: int) -> int | None:
    """A descriptor that holds the folder until it is closed; None when it cannot be had."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
