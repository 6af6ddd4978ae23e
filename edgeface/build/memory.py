"""Whether there is memory for a build: on a Jetson the GPU's is the machine's, and what is too much gets killed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from edgeface.errors import DeviceError

log = logging.getLogger(__name__)

_BUILDER_MB = 600  # CUDA, TensorRT's libraries and the network: an estimate; TensorRT-RTX takes 270 without a GPU
_LARGEST = 3  # programs that are named


def check_memory(workspace_mb: int, proc: Path = Path("/proc")) -> None:
    """Warn when the builder and its workspace may not fit, refuse when the builder alone does not: DeviceError.

    `workspace_mb` is a limit, and tactics that need more are passed over; so there may be less.
    """
    free_mb = _free_mb(proc)
    if free_mb is None or free_mb >= _BUILDER_MB + workspace_mb:
        return
    close = f"close programs, the largest are {_largest(proc)}"
    if free_mb < _BUILDER_MB:
        raise DeviceError(f"expected {_BUILDER_MB} MB of free memory for a build, found {free_mb} MB: {close}")
    log.warning(
        "%d MB of memory are free, a build may take %d MB: should it be killed, %s, or build with --workspace-mb %d",
        free_mb,
        _BUILDER_MB + workspace_mb,
        close,
        max(free_mb - _BUILDER_MB, 1),
    )


def _free_mb(proc: Path) -> int | None:
    """What can be had without swapping; None where the kernel does not say."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _largest(proc: Path) -> str:
    """The programs that hold most memory: "gnome-shell (612 MB), python3 (500 MB)"."""
    found: list[tuple[int, str]] = []
    for folder in proc.glob("[0-9]*"):
        try:
            pages, name = int((folder / "statm").read_text().split()[1]), (folder / "comm").read_text().strip()
        except (OSError, ValueError, IndexError):  # it has ended
            continue
        if folder.name != str(os.getpid()):
            found.append((pages * os.sysconf("SC_PAGE_SIZE") >> 20, name))
    return ", ".join(f"{name} ({size} MB)" for size, name in sorted(found, reverse=True)[:_LARGEST]) or "unknown"
