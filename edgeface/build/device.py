"""The device that an engine is built on, for its passport: the GPU, the machine and its release."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path
from typing import NamedTuple

from edgeface.errors import DeviceError

_COMPUTE_CAPABILITY = (75, 76)  # CUdevice_attribute: major, minor


class Device(NamedTuple):
    """A GPU as its driver names it."""

    compute_capability: str  # "8.7"
    name: str


NO_DEVICE = Device("", "")


def current_device(driver: str = "libcuda.so.1") -> Device:
    """The first GPU, which TensorRT builds on. Raises DeviceError when there is none."""
    try:
        library = ctypes.CDLL(driver)
    except OSError as error:
        raise DeviceError(f"expected an NVIDIA GPU, found no driver for one: {error}") from error
    device, value, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)

    def call(function: str, *arguments: object) -> None:
        code = getattr(library, function)(*arguments)
        if code:
            raise DeviceError(f"expected an NVIDIA GPU, found none that answers: {function} gave CUDA error {code}")

    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDeviceGetName", name, len(name), device)
    numbers = []
    for attribute in _COMPUTE_CAPABILITY:
        call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        numbers.append(str(value.value))
    return Device(".".join(numbers), name.value.decode(errors="replace"))


def machine(release: Path = Path("/etc/nv_tegra_release")) -> str:
    """The machine and, on a Jetson, the release of its system: "aarch64, R36 (release), REVISION: 4.3"."""
    try:
        line = release.read_text(errors="replace").splitlines()[0]
    except (OSError, IndexError):
        return platform.machine()
    return ", ".join([platform.machine(), *(part.strip() for part in line.lstrip("# ").split(",")[:2])])
