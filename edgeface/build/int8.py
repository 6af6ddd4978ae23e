"""The INT8 form of a card's network, NAME.int8.onnx: from pictures, a calibration cache or a file of scales."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edgeface.build.precision import int8_name, int8_path
from edgeface.build.ranges import PERCENTILE
from edgeface.build.scales import (
    Method,
    ScaleFile,
    is_cache,
    read_cache,
    read_scales,
    version_number,
    write_cache,
    write_scales,
)
from edgeface.errors import ConfigError, EngineError, one_line
from edgeface.model_card import Card, bundled_engines, find_card, input_sizes, onnx_path
from edgeface.passport import replace_files

try:
    import onnx
    from onnx import ModelProto, helper

    from edgeface.build import calibrate, onnx_file, pictures, quantise
except ImportError as missing:
    raise ConfigError(f"for INT8, {missing.name or missing} is missing: pip install 'edgeface[build,cpu]'") from missing

log = logging.getLogger(__name__)

PICTURES = "pictures.txt"  # in a card's folder of calib/: what it is calibrated on unless told
_SHA256, _SCALES = "edgeface.onnx_sha256", "edgeface.scales"  # what a form of ours says of itself


@dataclass(frozen=True, slots=True)
class Wish:
    """How the form is to be made. All None and False: as it is, if it is there."""

    calib: str | None = None  # pictures, a film, a calibration cache or a file of scales; None: the card's pictures.txt
    method: Method | None = None  # None: percentile
    percentile: float | None = None  # of the values that are kept; None: 99.99
    every: int | None = None  # every which picture or frame
    per_tensor: bool = False  # one scale for all weights of a node instead of one a channel
    cache: tuple[Path, str] | None = None  # write a calibration cache there, for that version of TensorRT


@dataclass(frozen=True, slots=True)
class Scales:
    """Scales, and where they are from."""

    values: dict[str, float]
    origin: str
    notes: tuple[str, ...] = ()


def prepare(card: Card, wish: Wish, *, folder: Path, engines: Sequence[str], dry_run: bool) -> tuple[str, bool]:
    """Make the form of the card's network in `folder`, or find the one there is.

    What was done, in a few lines, and whether the form is there: a dry run makes none. Raises ConfigError, EngineError,
    SourceError.
    """
    source = onnx_path(card)
    own = onnx_file.sha256(source)
    if wish.cache is not None:
        version_number(wish.cache[1])  # before the minutes
    there = int8_path(source, folder)
    home = calib_folder(folder) / card.name
    if wish == Wish() and there.is_file():
        return f"{there}: {_check(there, own)}", True
    calib = wish.calib or (str(home / PICTURES) if (home / PICTURES).is_file() else None)
    if calib is None:
        raise ConfigError(
            f"expected {folder / int8_name(source)}, or something to make it from: --calib with pictures, a film or a "
            f"calibration cache, or a list of pictures {home / PICTURES}"
        )
    model, target = onnx_file.load(source), folder / int8_name(source)
    scales = _scales(card, wish, calib, own=own, home=home, model=model, engines=engines, dry_run=dry_run)
    if scales is None:
        return f"{target}: would be made from {calib}, after calibration", False
    form, report = quantise.quantise(model, scales.values, per_channel=not wish.per_tensor)
    weights = "one scale for all weights of a node" if wish.per_tensor else "one scale for each channel of weights"
    text = "\n  ".join([f"{target}: scales from {scales.origin}; {weights}", str(report), *scales.notes])
    if dry_run:
        return text, False
    known = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(form, known | {_SHA256: own, _SCALES: scales.origin})
    replace_files({target: form.SerializeToString()})
    if wish.cache is not None:
        write_cache(wish.cache[0], scales.values, wish.cache[1])
        text += f"\n  calibration cache: {wish.cache[0]}, {len(scales.values)} tensors"
    return text, True


def calib_folder(engines: Path) -> Path:
    """Where files of scales and lists of pictures lie, one folder a card: beside a checkout's engines, else in them."""
    beside = engines.parent / "calib"
    return beside if engines.resolve() == bundled_engines().resolve() and beside.is_dir() else engines / "calib"


def _check(form: Path, own: str) -> str:
    """What a form says of its scales. Raises EngineError when it was made from another ONNX."""
    try:
        said = {entry.key: entry.value for entry in onnx.load(str(form), load_external_data=False).metadata_props}
    except Exception as error:  # protobuf's
        raise EngineError(f"{form}: not an ONNX: {one_line(error)[:300]}") from error
    if said.get(_SHA256, own) != own:
        raise EngineError(f"{form}: made from another ONNX than the one that is there now: make it anew with --calib")
    return f"scales from {said[_SCALES]}" if _SCALES in said else "not made by edgeface, taken as it is"


def _scales(
    card: Card,
    wish: Wish,
    calib: str,
    *,
    own: str,
    home: Path,
    model: ModelProto,
    engines: Sequence[str],
    dry_run: bool,
) -> Scales | None:
    """From what `calib` names; None: a dry run would have to calibrate."""
    path = Path(calib).expanduser()
    if is_cache(path):
        cache = read_cache(path)
        notes = [f"{len(cache.skipped)} lines not used: {'; '.join(cache.skipped[:5])}"] if cache.skipped else []
        return Scales(cache.scales, f"{path} (TRT-{cache.version}-{cache.algorithm})", tuple(notes))
    if path.suffix.lower() == ".json":
        given = read_scales(path)
        if given.onnx_sha256 != own:
            raise EngineError(f"{path}: scales of another ONNX than the one that is there now")
        return Scales(given.scales, f"{path} ({_says(given)})")
    shown = pictures.find_pictures(calib, wish.every)
    method, percentile = wish.method or "percentile", wish.percentile or PERCENTILE
    shown_sha256 = hashlib.sha256(f"{shown.sha256()} {_crops_key(card, engines)}".encode()).hexdigest()
    path = home / f"{method}.json"
    if path.is_file():
        old = read_scales(path)
        key = old.onnx_sha256, old.shown_sha256, old.method, old.percentile
        if key == (own, shown_sha256, method, percentile):
            return Scales(old.scales, f"{path} ({_says(old)})", ("network and pictures are as they were: re-used",))
    if dry_run:
        return None
    found, crops = calibrate.histograms(model, calibrate.pipeline_crops(card, shown.frames(), engines))
    new = ScaleFile(
        schema=1,
        card=card.name,
        onnx_sha256=own,
        method=method,
        percentile=percentile,
        crops=crops,
        shown_sha256=shown_sha256,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        scales=calibrate.scales(found, method, percentile),
    )
    write_scales(path, new)
    return Scales(new.scales, f"{path} ({_says(new)})")


def _crops_key(card: Card, engines: Sequence[str]) -> str:
    """What, beside the pictures, decides what the network is shown."""
    finder = find_card(calibrate.FINDER, tuple(engines)) if card.task == "landmarks" else None
    return repr((card.input, card.decoder, input_sizes(card), finder and (finder.sha256, finder.thresholds)))


def _says(scales: ScaleFile) -> str:
    method = f"percentile {scales.percentile:g}" if scales.method == "percentile" else scales.method
    return f"{method} of {scales.crops} crops"
