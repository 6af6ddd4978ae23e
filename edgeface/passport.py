"""Passports: what lies beside a built engine as JSON and says what it was built from, by what and for which device."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgeface.errors import EngineError

Precision = Literal["fp32", "fp16", "int8"]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Size = tuple[int, int]  # width, height


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of the engine."""

    name: str
    shape: tuple[int, ...]  # -1: free, as far as the batch profile says
    dtype: str  # as NumPy calls it: float32


class Golden(msgspec.Struct, frozen=True):
    """What is to be found in the golden picture, in its pixels; see edgeface.self_test."""

    picture: Sha256  # of the picture's file
    # a row a face. A detector's: score, box, keypoints. Landmarks: the points of the faces whose boxes are in the file
    faces: Annotated[tuple[Annotated[tuple[float, ...], Meta(min_length=2)], ...], Meta(min_length=1)]
    score_tolerance: Annotated[float, Meta(ge=0)]
    place_tolerance: Annotated[float, Meta(ge=0)]  # in sizes of the face: the square root of its box's area

    def __post_init__(self) -> None:
        if len({len(row) for row in self.faces}) != 1:
            raise ValueError("golden.faces must have rows of one length")


class Passport(msgspec.Struct, frozen=True):
    """Keys are only ever added, with a default; keys of a later version are passed over when one is read."""

    schema: Literal[1]
    card: str
    engine_sha256: Sha256
    engine_bytes: Annotated[int, Meta(ge=1)]
    onnx_sha256: Sha256  # of the card's ONNX file
    built_from_sha256: Sha256  # of the ONNX that was parsed: the same, or its FP16 or INT8 form
    tensorrt: str  # the version as TensorRT's Python module says it
    plan_version: tuple[int, int, int, int] | None  # as the engine's first bytes say it; None: they do not
    compute_capability: Annotated[str, Meta(pattern=r"\A(\d+\.\d+)?\Z")]  # "8.7"; empty: built for no device
    device: str  # the GPU's name
    platform: str  # machine and system release
    precision: Precision
    int8_source: Literal["", "calib_cache", "qdq"]  # where the INT8 scales came from
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batch: tuple[int, int, int]  # least, best, most; a fixed batch is all three
    input_size: Size
    dla_core: int | None  # None: the GPU itself
    workspace_mb: int
    flags: tuple[str, ...]  # the builder's
    date: str  # ISO 8601
    golden: Golden | None = None  # None: the engine is not tested
    accuracy: dict[str, Any] | None = None  # main figures against FP32, as build.accuracy_report says them


def engine_name(card_name: str, input_size: Size, precision: Precision, dla: bool) -> str:
    """The file name of a card's engine for an input of (width, height)."""
    return f"{card_name}-{input_size[0]}x{input_size[1]}-{precision}{'-dla' if dla else ''}.engine"


def passport_path(engine: Path) -> Path:
    """Where the passport of the engine at this path lies."""
    return engine.with_name(engine.name.removesuffix(".engine") + ".json")


def build_command(
    card_name: str,
    precision: Precision,
    *,
    input_size: Size | None = None,
    dla_core: int | None = None,
    batch: int | None = None,
    engines: Sequence[str] = (),
) -> str:
    """The command that builds an engine. None, and no `engines` folders: as it is by default."""
    parts = ["edgeface", "build", card_name, "--precision", precision]
    if input_size is not None:
        parts += ["--input-size", f"{input_size[0]}x{input_size[1]}"]
    if dla_core is not None:
        parts += ["--dla", str(dla_core)]
    if batch is not None:
        parts += ["--batch", str(batch)]
    for folder in engines:
        parts += ["--engines", folder]
    return shlex.join(parts)


def read_passport(path: Path) -> Passport:
    """The passport at `path`. Raises EngineError with the path of a wrong key."""
    try:
        if path.is_fifo():  # to read it would wait for ever
            raise EngineError(f"{path}: expected the engine's passport, found a pipe")
        return msgspec.json.decode(path.read_bytes(), type=Passport)
    except FileNotFoundError as error:
        raise EngineError(f"{path}: the engine's passport is missing") from error
    except OSError as error:
        raise EngineError(f"{path}: the engine's passport cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineError(f"{path}: not a passport of an engine: {error}") from error


def write_engine(path: Path, data: bytes, passport: Passport) -> None:
    """Write an engine and its passport, the passport last: an engine without one is not loaded. Raises EngineError.

    What lies there already stays until both are on the disk, whole.
    """
    text = msgspec.json.format(msgspec.json.encode(passport), indent=2) + b"\n"
    replace_files({path: data, passport_path(path): text})


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """Write files, all of them before the first gets its name: when the disk is full, the old ones stay.

    Whenever the process or the power goes, each is the old one or the new one, whole. Raises EngineError.
    """
    written: list[tuple[str, Path]] = []
    path = Path()
    try:
        for path, data in contents.items():
            descriptor, partial = tempfile.mkstemp(".partial", f".{path.name}.", dir=path.parent)
            written.append((partial, path))
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), 0o644)
        for partial, path in written:
            Path(partial).replace(path)
    except OSError as error:
        raise EngineError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        for partial, _ in written:
            with contextlib.suppress(OSError):  # it has its name by now, or takes none up
                Path(partial).unlink()
