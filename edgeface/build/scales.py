"""Scales of INT8 activations, one a tensor: files of our own, and the calibration caches of TensorRT up to 10.

With a scale s a tensor's values are held as x_int8 = round(x / s), so that s = (largest |x| that is kept) / 127.

A calibration cache is text: `TRT-8601-EntropyCalibration2`, then a line `tensor name: hex` for each tensor, with the
bits of the scale, a float32, as a big-endian number. TAO leaves leading zeros out, names may have colons and blanks.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgeface.errors import ConfigError, EngineError
from edgeface.passport import Sha256, replace_files

LEVELS = 127  # of int8 above 0; -128 is not used
_SMALLEST, _LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # normal float32 numbers
_MOST_BYTES = 64 << 20

Method = Literal["minmax", "percentile", "entropy"]
Scale = Annotated[float, Meta(ge=_SMALLEST, le=_LARGEST)]


class ScaleFile(msgspec.Struct, frozen=True):
    """The scales of a network, measured on pictures; keys of a later version are passed over."""

    schema: Literal[1]
    card: str
    onnx_sha256: Sha256
    method: Method
    percentile: float  # of the values that are kept, for that method
    crops: int  # that the network was shown
    shown_sha256: Sha256  # of the pictures and of how crops are made from them
    date: str  # ISO 8601
    scales: dict[str, Scale]


@dataclass(frozen=True, slots=True)
class Cache:
    """A calibration cache as it was found."""

    version: str  # digits, of the TensorRT that wrote it
    algorithm: str  # EntropyCalibration2, MinMaxCalibration, ...
    scales: dict[str, float]  # each exactly a float32
    skipped: tuple[str, ...]  # what was not used, and why, one line each


def read_scales(path: Path) -> ScaleFile:
    """The scales at `path`. Raises EngineError with the path of a wrong key."""
    try:
        return msgspec.json.decode(_bytes(path), type=ScaleFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineError(f"{path}: not a file of scales: {error}") from error


def write_scales(path: Path, scales: ScaleFile) -> None:
    """Write them so that there is the old file or the new one, whole. Raises EngineError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"{path.parent}: cannot be made: {error.strerror}") from error
    replace_files({path: msgspec.json.format(msgspec.json.encode(scales), indent=1) + b"\n"})


def is_cache(path: Path) -> bool:
    """Whether the file begins as a calibration cache does."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"TRT-"
    except OSError:
        return False


def read_cache(path: Path) -> Cache:
    """The calibration cache at `path`, of any version and algorithm.

    A line that is none, and a scale that is no positive number, is skipped and said. Raises EngineError when it is no
    calibration cache or nothing of it can be used.
    """
    try:
        first, *lines = _bytes(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise EngineError(f"{path}: not a calibration cache: not a text") from error
    header = re.fullmatch(r"TRT-([0-9]{1,9})-(\w{1,80})", first.strip(), re.ASCII)
    if header is None:
        raise EngineError(f"{path}: expected a calibration cache that begins TRT-8601-..., found {first[:40]!r}")
    scales: dict[str, float] = {}
    skipped = []
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        name, _, digits = line.rpartition(":")
        scale = _float32(digits.strip())
        if not name or scale is None:
            skipped.append(f"line {number}: expected a name, a colon and up to 8 hexadecimal digits: {line[:60]!r}")
        elif not _SMALLEST <= scale <= _LARGEST:
            skipped.append(f"{name[:200]}: its scale is {scale:g}, not a positive number")
        elif scales.setdefault(name, scale) != scale:
            skipped.append(f"{name[:200]}: a second scale, {scale:g}; the first is {scales[name]:g}")
    if not scales:
        raise EngineError(f"{path}: no scale in it that can be used ({len(skipped)} lines)")
    return Cache(header[1], header[2], scales, tuple(skipped))


def cache_text(scales: Mapping[str, float], tensorrt: str) -> str:
    """A calibration cache for that version of TensorRT ("10.3.0"), up to 10. Raises ConfigError.

    Its IInt8EntropyCalibrator2 reads it. A tensor without a scale is computed in floats; DLA wants all of them.
    """
    header = f"TRT-{version_number(tensorrt)}-EntropyCalibration2\n"
    for name, scale in scales.items():
        if not name or "\n" in name or not _SMALLEST <= scale <= _LARGEST:
            raise ConfigError(f"a calibration cache cannot hold the tensor {name[:200]!r} with scale {scale:g}")
    return header + "".join(f"{name}: {struct.pack('>f', scale).hex()}\n" for name, scale in scales.items())


def write_cache(path: Path, scales: Mapping[str, float], tensorrt: str) -> None:
    """Write a calibration cache for that version of TensorRT. Raises ConfigError, EngineError."""
    replace_files({path: cache_text(scales, tensorrt).encode()})


def version_number(tensorrt: str) -> int:
    """NV_TENSORRT_VERSION, as its header puts it together: other digits from 10 on. Raises ConfigError."""
    match = re.match(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{1,2})(?![0-9])", tensorrt)
    if match is None or not 5 <= int(match[1]) <= 10:
        raise ConfigError(
            f"expected the version of a TensorRT that reads calibration caches (5.0.0 to 10.x), found {tensorrt!r}: "
            "name it with --cache-version"
        )
    major, minor, patch = map(int, match.groups())
    return (10000 if major >= 10 else 1000) * major + 100 * minor + patch


def _float32(digits: str) -> float | None:
    """The number with these bits; None: they are none."""
    if not re.fullmatch(r"[0-9a-fA-F]{1,8}", digits):
        return None
    value: float = struct.unpack(">f", bytes.fromhex(digits.zfill(8)))[0]
    return value


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise EngineError(f"{path}: expected scales, found a file of more than {_MOST_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror}") from error
