"""Model cards: engines/<name>.toml says what a network is, so that it can never meet the wrong decoder."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgeface.errors import ConfigError, EngineError

Positive = Annotated[int, Meta(ge=1, le=8192)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Scrfd(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="scrfd"):
    """SCRFD heads: a score, four distances and maybe five points for each anchor of three or five levels."""

    strides: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (8, 16, 32)  # smallest first
    anchors: Positive = 2  # per cell
    keypoints: bool = True
    scores: Literal["auto", "probability", "logit"] = "auto"
    centre_offset: Annotated[float, Meta(ge=0, le=1)] = 0.0  # in cells: 0 = the cell's corner, 0.5 = its centre
    unit: Literal["stride", "pixel", "anchor"] = "stride"  # of distances and points
    anchor_sizes: tuple[float, ...] = (16, 32, 64, 128, 256, 512)  # pixels, level by level, for unit = "anchor"
    distance_bins: Annotated[int, Meta(ge=0, le=64)] = 0  # bins of a distance's distribution (GFL); 0 = plain

    def __post_init__(self) -> None:
        if list(self.strides) != sorted(set(self.strides)):
            raise ValueError(f"strides must rise, found {list(self.strides)}")
        if not all(0 < size < math.inf for size in self.anchor_sizes):
            raise ValueError("anchor_sizes must be above 0")
        if self.unit == "anchor" and len(self.anchor_sizes) != self.anchors * len(self.strides):
            raise ValueError(f"anchor_sizes needs {self.anchors * len(self.strides)} values, one an anchor and level")


class GridBox(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="gridbox"):
    """TAO DetectNet_v2 heads: a coverage map and four distances for each class."""

    stride: Positive = 16
    classes: tuple[str, ...] = ("face",)
    face_class: str = "face"
    bbox_scale: Annotated[float, Meta(gt=0)] = 35.0
    offset: Annotated[float, Meta(ge=0)] = 0.5  # pixels


class Fpenet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="fpenet"):
    """Facial landmarks: n points and their confidences on a face crop."""

    points: Annotated[int, Meta(ge=1, le=1000)] = 80  # more would not fit into a message of many faces
    crop_scale: Annotated[float, Meta(gt=0, le=4)] = 1.0  # side of the square crop / longer side of the box
    border: Literal["pad", "tao", "deepstream"] = "pad"  # what becomes of a crop at the frame's border: face_crops.py
    softargmax_beta: Annotated[float, Meta(gt=0, le=1000)] = 0.1  # of a network that gives raw heat maps


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the network eats: (value - mean) * scale of 8-bit pixel values, NCHW."""

    width: Positive
    height: Positive
    colour: Literal["rgb", "bgr", "luma", "luma3"] = "rgb"  # luma3: luma in three equal channels
    mean: tuple[float, ...] = (0.0,)  # one, or one a channel
    scale: float = 1.0
    resize: Literal["letterbox", "stretch"] = "letterbox"
    # outside the frame: a pixel value, before mean and scale, or the border's pixels repeated
    padding: Annotated[int, Meta(ge=0, le=255)] | Literal["edge"] = 0

    @property
    def channels(self) -> int:
        return 1 if self.colour == "luma" else 3

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.mean, self.scale))) or self.scale == 0:
            raise ValueError("mean and scale must be finite, scale not 0")
        if len(self.mean) not in (1, self.channels):
            raise ValueError(f"mean has {len(self.mean)} values for {self.channels} channels")


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The operating point; the config may set others."""

    score: Share = 0.5
    low_score: Share = 0.1  # down to here a detection keeps a known face alive; it never begins one
    nms_iou: Share = 0.4


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One network. `folders` is filled in by find_card: where its ONNX may lie, the card's own folder first."""

    name: str
    task: Literal["detect", "landmarks"]
    decoder: Scrfd | GridBox | Fpenet
    input: Input
    onnx: str
    licence: str
    allows: str  # what the licence allows, in a sentence
    source: str  # where the weights come from
    # whether the licence allows commercial use; "terms": on conditions, to be read before; "unknown": nobody has looked
    commercial: bool | Literal["terms", "unknown"] = "unknown"
    # a direct, lasting address of the ONNX, or of a zip archive with it: https://.../pack.zip#member.onnx; empty: none
    url: Annotated[str, Meta(pattern=r"\A(https?://[!-~]+)?\Z")] = ""
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""  # of the ONNX; empty: not known
    thresholds: Thresholds = Thresholds()
    near_look: Annotated[int, Meta(ge=0, le=8192)] = 0  # longer side of the input of a second look, for near faces
    folders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.task == "landmarks") != isinstance(self.decoder, Fpenet):
            raise ValueError(f"task {self.task!r} does not go with this decoder")
        if Path(self.onnx).name != self.onnx or self.onnx in ("", ".."):
            raise ValueError("onnx must be a plain file name, beside the card")
        if isinstance(self.decoder, GridBox) and self.decoder.face_class not in self.decoder.classes:
            raise ValueError(f"face_class {self.decoder.face_class!r} is not one of {list(self.decoder.classes)}")


def bundled_engines() -> Path:
    """The folder of the networks that come with the package."""
    inside = Path(__file__).parent / "engines"  # an installed wheel
    return inside if inside.is_dir() else Path(__file__).parent.parent / "engines"  # a checkout


def load_card(path: Path) -> Card:
    """The card at `path`. Raises EngineError with the path of a wrong key."""
    try:
        card = msgspec.toml.decode(path.read_bytes(), type=Card)
    except OSError as error:
        raise EngineError(f"{path}: cannot read the card: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineError(f"{path}: not a model card: {error}") from error
    if card.folders:
        raise EngineError(f"{path}: not a model card: Object contains unknown field `folders`")
    return msgspec.structs.replace(card, folders=(str(path.parent),))


def find_card(name: str, folders: tuple[str, ...] = ()) -> Card:
    """The card called `name` in `folders` or among the bundled ones; a name with a slash or .toml is a path."""
    places = [Path(folder).expanduser() for folder in folders]
    for folder in places:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: the engines folder does not exist")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise ConfigError(f"{folder}: the engines folder cannot be read")
    places.append(bundled_engines())
    if "/" in name or name.endswith(".toml"):
        path = Path(name).expanduser()
    else:
        found = [folder / f"{name}.toml" for folder in places if (folder / f"{name}.toml").is_file()]
        if not found:
            known = sorted({path.stem for folder in places for path in folder.glob("*.toml")})
            raise ConfigError(f"no network called {name!r}; there are: {', '.join(known)}")
        path = found[0]
    card = load_card(path)
    return msgspec.structs.replace(card, folders=(*card.folders, *map(str, places)))


def target_folder(card: Card, engines: Sequence[str]) -> Path:
    """Where networks are written: the first of the `engines` folders, else beside the card. Raises ConfigError."""
    folder = Path(engines[0]).expanduser() if engines else Path(card.folders[0])
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ConfigError(
            f"{folder}: networks cannot be written there ({error.strerror}): "
            "name a folder with --engines DIR, here and to edgeface run"
        ) from error


def input_sizes(
    card: Card, size: tuple[int, int] | None = None, scales: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """Of each look at the whole frame (width, height), the main one first; `size` instead of the card's.

    A scale is the longer side; the proportions stay, to multiples of 32, the largest stride there is.
    """
    width, height = size or (card.input.width, card.input.height)
    longer = max(width, height)

    def scaled(scale: int) -> tuple[int, int]:
        return -(-width * scale // (longer * 32)) * 32, -(-height * scale // (longer * 32)) * 32

    if scales is not None:
        return [scaled(scale) for scale in scales]
    return [(width, height), *([scaled(card.near_look)] if 0 < card.near_look < longer else [])]


def find_onnx(card: Card) -> Path | None:
    """Where the card's ONNX file lies, beside it or in an engines folder; None: nowhere."""
    paths = [Path(folder) / card.onnx for folder in card.folders]
    return next((path for path in paths if path.is_file()), None)


def onnx_path(card: Card) -> Path:
    """The card's ONNX file, checked against its sha256. Raises EngineError."""
    path = find_onnx(card)
    if path is None:
        raise EngineError(
            f"{card.name}: its weights {card.onnx} are not in {' or '.join(dict.fromkeys(card.folders))}; "
            f"get them from {card.source} (licence: {card.licence}; {card.allows})"
        )
    if card.sha256:
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise EngineError(f"{path}: cannot be read: {error.strerror}") from error
        if found != card.sha256:
            raise EngineError(
                f"{path}: expected sha256 {card.sha256[:16]}..., found {found[:16]}...: damaged or another file"
            )
    return path
