"""What TensorRT has measured of its tactics, kept from build to build: the timing cache beside the engines."""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

import msgspec

from edgeface.build.device import Device
from edgeface.errors import EngineError
from edgeface.passport import replace_files

log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 28


class _Label(msgspec.Struct, frozen=True):
    """The first line of the file, as JSON; the cache follows."""

    tensorrt: str
    compute_capability: str
    device: str
    sha256: str


def timings_path(folder: Path, tensorrt: str, device: Device) -> Path:
    """One file for a version of TensorRT and a device."""
    key = "-".join((tensorrt, device.compute_capability, device.name))
    return folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', key).strip('-')}.timing"


def read_timings(folder: Path, tensorrt: str, device: Device) -> bytes:
    """The cache of earlier builds; b"" when there is none, or it is damaged or another's."""
    path = timings_path(folder, tensorrt, device)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES >> 20} MB")
        line, _, cache = path.read_bytes().partition(b"\n")
        label = msgspec.json.decode(line, type=_Label)
    except FileNotFoundError:
        return b""
    except (OSError, ValueError, msgspec.DecodeError) as error:
        log.warning("%s: not used, it cannot be read: %s", path, error)
        return b""
    if label != _label(tensorrt, device, cache):
        log.warning("%s: not used, it is damaged, or of another device or TensorRT", path)
        return b""
    return cache


def write_timings(folder: Path, tensorrt: str, device: Device, cache: bytes) -> None:
    """Keep the cache. A build is good without: what goes wrong is only logged."""
    label = msgspec.json.encode(_label(tensorrt, device, cache))
    try:
        replace_files({timings_path(folder, tensorrt, device): label + b"\n" + cache})
    except EngineError as error:
        log.warning("the next build will measure all anew: %s", error)


def _label(tensorrt: str, device: Device, cache: bytes) -> _Label:
    return _Label(tensorrt, device.compute_capability, device.name, hashlib.sha256(cache).hexdigest())
