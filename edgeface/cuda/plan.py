"""Engine files and their passports: found, and checked as far as that goes before CUDA starts."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeface.errors import EngineError
from edgeface.model_card import Card, bundled_engines
from edgeface.passport import Passport, Precision, Size, build_command, engine_name, passport_path, read_passport

log = logging.getLogger(__name__)

HEADER_BYTES = 28  # what is known of them: NVIDIA/TensorRT samples/common/sampleEngines.cpp, printPlanVersion
_MOST_BYTES = 1 << 30  # the largest engines of face networks have 100 MB


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine file as it was read, once, and its passport. The two belong together, and to the card."""

    path: Path
    data: bytes = field(repr=False)  # immutable: TensorRT before 10.13 reads it while other threads run
    passport: Passport
    rebuild: str  # the command that builds it again


def load_plan(card: Card, input_size: Size | None, *, precision: Precision, dla: bool, tensorrt_version: str) -> Plan:
    """Read the card's engine for an input of (width, height), None for the card's own size.

    `tensorrt_version`: the running one, with as many numbers as are known. Raises EngineError: what was expected, what
    was found, and the command that builds it.
    """
    own = (card.input.width, card.input.height)
    size = input_size or own
    folders = list(dict.fromkeys(card.folders))
    rebuild = build_command(
        card.name,
        precision,
        input_size=size if size != own else None,
        dla_core=0 if dla else None,
        engines=[folder for folder in folders if folder != str(bundled_engines())],
    )
    name = engine_name(card.name, size, precision, dla)
    try:
        path = _find(name, folders)
        data = _read(path)
        _check_form(path, data)
        _check_version(path, plan_version(data), tensorrt_version)
        passport = read_passport(passport_path(path))
        _check_passport(path, passport, data)
        _check_purpose(path, passport, card, (size, precision, dla))
    except EngineError as error:
        raise EngineError(f"{error}; build it: {rebuild}") from error
    except OSError as error:
        raise EngineError(f"{error.filename}: cannot be read: {error.strerror}; build it: {rebuild}") from error
    return Plan(path, data, passport, rebuild)


def check_device(plan: Plan, compute_capability: tuple[int, int], device_name: str) -> None:
    """Refuse a plan that was built for another architecture than the running device has. Raises EngineError.

    Of another model with the same architecture, TensorRT takes it and says it may be slower: that is logged.
    """
    wanted, running = plan.passport.compute_capability, ".".join(map(str, compute_capability))
    if wanted != running:
        found = f"{wanted} ({plan.passport.device})" if wanted else "no device"
        raise EngineError(
            f"{plan.path}: expected an engine for compute capability {running} ({device_name}), "
            f"found one for {found}; build it: {plan.rebuild}"
        )
    if plan.passport.device != device_name:
        log.warning(
            "%s was built on %s and runs on %s, maybe slower; build it: %s",
            plan.path,
            plan.passport.device,
            device_name,
            plan.rebuild,
        )


def plan_version(data: bytes) -> tuple[int, int, int, int] | None:
    """The version of TensorRT, or TensorRT-RTX, that built the plan `data`; None where no known place says it."""
    if len(data) < HEADER_BYTES or data[4:8] != bytes(4):  # another layout, maybe of a later TensorRT
        return None
    return data[24], data[25], data[26], data[27]


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version: "10.3.0.26+cuda12" -> (10, 3, 0, 26), no more than four."""
    match = re.match(r"\d+(\.\d+){0,3}", version, re.ASCII)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def _find(name: str, folders: Sequence[str]) -> Path:
    for folder in folders:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise EngineError(f"expected the engine {name} in {' or '.join(folders)}, found no such file")


def _read(path: Path) -> bytes:
    nbytes = path.stat().st_size
    if nbytes > _MOST_BYTES:
        raise EngineError(f"{path}: expected an engine of at most {_MOST_BYTES >> 20} MB, found {nbytes >> 20} MB")
    return path.read_bytes()


def _check_form(path: Path, data: bytes) -> None:
    """Refuse what is no plan of TensorRT's."""
    if not data:
        raise EngineError(f"{path}: expected an engine, found an empty file")
    if data[:4] == b"vtrt":
        raise EngineError(
            f"{path}: expected an engine of TensorRT, found one of TensorRT-RTX, which is for checks only"
        )
    if data[:4] != b"ftrt"[: len(data)]:
        raise EngineError(f"{path}: expected an engine of TensorRT, found a file that begins with {data[:4]!r}")
    if len(data) < HEADER_BYTES:
        raise EngineError(f"{path}: expected an engine, found {len(data)} bytes of one")


def _check_version(path: Path, found: tuple[int, ...] | None, running: str) -> None:
    """A plan of another version, down to the build number, is refused: TensorRT itself would, with fewer words."""
    wanted = version_numbers(running)
    if found is not None and found[: len(wanted)] != wanted:
        raise EngineError(f"{path}: expected an engine of TensorRT {running}, found one of {'.'.join(map(str, found))}")


def _check_passport(path: Path, passport: Passport, data: bytes) -> None:
    """Refuse a passport that is not this engine's."""
    if passport.engine_bytes != len(data):
        raise EngineError(f"{path}: expected {passport.engine_bytes} bytes as its passport says, found {len(data)}")
    found = hashlib.sha256(data).hexdigest()
    if passport.engine_sha256 != found:
        raise EngineError(
            f"{path}: expected sha256 {passport.engine_sha256[:16]}... as its passport says, found {found[:16]}...: "
            "damaged, or its passport is another's"
        )
    version = plan_version(data)
    if passport.plan_version != version:
        raise EngineError(f"{path}: its passport says TensorRT {passport.plan_version}, the file itself {version}")
    _check_version(path, version, passport.tensorrt)


def _check_purpose(path: Path, passport: Passport, card: Card, wanted: tuple[Size, Precision, bool]) -> None:
    """Refuse an engine that was built from or for something else than what is wanted: input size, precision, DLA."""
    size, precision, dla = wanted
    expected: dict[str, object] = {"card": card.name, "input size": size, "precision": precision, "DLA": dla}
    found = {
        "card": passport.card,
        "input size": passport.input_size,
        "precision": passport.precision,
        "DLA": passport.dla_core is not None,
    }
    for what, value in expected.items():
        if found[what] != value:
            raise EngineError(f"{path}: expected {what} {value}, found {found[what]} in its passport")
    onnx = card.sha256 or _onnx_sha256(card)
    if onnx and passport.onnx_sha256 != onnx:
        raise EngineError(
            f"{path}: expected to be built from {card.onnx} with sha256 {onnx[:16]}..., "
            f"found {passport.onnx_sha256[:16]}... in its passport: the network has changed"
        )


def _onnx_sha256(card: Card) -> str:
    """Of the ONNX file beside the engine; empty where there is none: engines run without."""
    for folder in card.folders:
        path = Path(folder) / card.onnx
        if path.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest()
    return ""
