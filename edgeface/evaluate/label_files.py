"""Files with labelled landmarks: TAO's JSON, dlib's XML, iBUG's .pts -> the faces of each picture they name.

Labels name pixels, so that a whole number is the middle of one; here the corner of the top-left pixel is (0, 0) as
everywhere. So half a pixel is added to TAO's and dlib's points, which count from 0, and taken off iBUG's, which count
from 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from edgeface.errors import ConfigError

_FROM_0, _FROM_1 = 0.5, -0.5  # from a pixel's number to its middle
_MOST_POINTS = 1000  # of a face
_FAR = 100_000.0  # pixels; nothing lies further out

Box = tuple[float, float, float, float]  # xyxy
_NO_BOX: Box = (np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True, slots=True)
class LabelledFace:
    """One face of a label file, in pixels of its picture."""

    where: str  # for messages
    xy: list[tuple[float, float]]  # [N]
    xyxy: Box = _NO_BOX  # NaN: the label has no box
    occluded: tuple[bool, ...] | None = None  # [N]; None: the label does not say


Faces = dict[str, list[LabelledFace]]  # by the picture's name, as the file has it


def read_pts(path: Path) -> Faces:
    """iBUG's .pts: one face; the name is that of its picture, without the suffix. Raises ConfigError."""
    match = re.fullmatch(r"\s*version:\s*1\s+n_points:\s*([0-9]{1,4})\s*\{([^{}]*)\}\s*", _text(path))
    if match is None:
        raise ConfigError(f"{path}: expected 'version: 1', 'n_points: N' and N lines of x and y in braces")
    fields = match[2].split()
    if not 0 < int(match[1]) <= _MOST_POINTS or len(fields) != 2 * int(match[1]):
        raise ConfigError(f"{path}: n_points is {match[1]}, but there are {len(fields)} coordinates, not two a point")
    numbers = [_coordinate(field, str(path)) + _FROM_1 for field in fields]
    return {path.stem: [LabelledFace(str(path), list(zip(numbers[::2], numbers[1::2], strict=True)))]}


def read_tao(path: Path) -> Faces:
    """TAO's JSON: a list of pictures, whose annotations hold FiducialPoints for each face and maybe its FaceBbox.

    Raises ConfigError.
    """
    try:
        pictures = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    found: Faces = {}
    for number, picture in enumerate(_objects(pictures, str(path)), 1):
        name = picture.get("filename")
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{path}, picture {number}: expected a filename, found {str(name)[:40]!r}")
        where = f"{path}, picture {number} ({name[:80]})"
        chunks = _objects(picture.get("annotations"), f"{where}, annotations")
        faces = [_tao_face(chunk, where) for chunk in chunks if _is_class(chunk, "fiducialpoints")]
        boxes = [_tao_box(chunk, where) for chunk in chunks if _is_class(chunk, "facebbox")]
        if faces and len(boxes) not in (0, len(faces)):
            raise ConfigError(f"{where}: {len(faces)} FiducialPoints, but {len(boxes)} FaceBbox")
        if boxes:
            faces = [replace(face, xyxy=box) for face, box in zip(faces, boxes, strict=False)]
        if faces:
            found.setdefault(name, []).extend(faces)
    return found


def read_dlib(path: Path) -> Faces:
    """dlib's XML: <image file><box top left width height><part name x y>. Raises ConfigError.

    Boxes marked `ignore`, and boxes without any part, are left out.
    """
    found: Faces = {}
    image, box = "", _NO_BOX
    parts: dict[int, tuple[float, float]] | None = None  # None: outside of a box that counts

    def start(tag: str, given: dict[str, str]) -> None:
        nonlocal image, box, parts
        where = f"{path}, line {parser.CurrentLineNumber}"
        if tag == "image":
            image = given.get("file", "")
            if not image:
                raise ConfigError(f"{where}: expected an image with its file")
        elif tag == "box" and image and given.get("ignore", "0") not in ("1", "true"):
            box, parts = _box(given, ("left", "top", "width", "height"), where), {}
        elif tag == "part" and parts is not None:
            name = given.get("name", "")
            if not re.fullmatch(r"[0-9]{1,4}", name) or int(name) in parts:
                raise ConfigError(f"{where}: expected a part whose name is a number of its own, found {name[:40]!r}")
            x, y = (_coordinate(given.get(key), where) + _FROM_0 for key in ("x", "y"))
            parts[int(name)] = x, y

    def end(tag: str) -> None:
        nonlocal image, parts
        if tag == "box" and parts:
            where = f"{path}, line {parser.CurrentLineNumber}"
            numbers = sorted(parts)
            if numbers[0] > 1 or numbers[-1] - numbers[0] != len(numbers) - 1:
                raise ConfigError(f"{where}: expected parts from 0 or 1 without a gap, found {len(parts)} parts")
            found.setdefault(image, []).append(LabelledFace(where, [parts[number] for number in numbers], box))
        if tag == "box":
            parts = None
        elif tag == "image":
            image = ""

    def refuse(*_: object) -> None:  # a few lines of entities can fill the memory
        raise ConfigError(f"{path}: expected dlib's form, found a document type declaration")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, refuse
    try:
        parser.Parse(_bytes(path), True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: an encoding that is not known
        raise ConfigError(f"{path}: not XML: {error}") from error
    return found


READERS: Mapping[str, Callable[[Path], Faces]] = {".json": read_tao, ".xml": read_dlib, ".pts": read_pts}


def _tao_face(chunk: dict[str, Any], where: str) -> LabelledFace:
    """P1x, P1y, maybe P1occluded, and so on to the last point."""
    points: dict[int, dict[str, Any]] = {}
    for key, value in chunk.items():
        match = re.fullmatch(r"P([0-9]{1,4})(x|y|occluded)", key)
        if match is not None:
            points.setdefault(int(match[1]), {})[match[2]] = value
    whole = all({"x", "y"} <= point.keys() for point in points.values())
    if not whole or not 0 < len(points) <= _MOST_POINTS or sorted(points) != list(range(1, len(points) + 1)):
        raise ConfigError(f"{where}: expected P1x, P1y to PNx, PNy without a gap; found {len(points)} points")
    rows = [points[number] for number in range(1, len(points) + 1)]
    xy = [(_coordinate(row["x"], where) + _FROM_0, _coordinate(row["y"], where) + _FROM_0) for row in rows]
    return LabelledFace(where, xy, occluded=tuple(bool(row.get("occluded")) for row in rows))


def _tao_box(chunk: dict[str, Any], where: str) -> Box:
    x, y, width, height = (f"face_tight_bbox{part}" for part in ("x", "y", "width", "height"))
    return _box(chunk, (x, y, width, height), where)


def _box(given: Mapping[str, Any], keys: tuple[str, str, str, str], where: str) -> Box:
    """The box of the numbers for left, top, width and height under their `keys`."""
    left, top, width, height = (_coordinate(given.get(key), f"{where}, {key}") for key in keys)
    if width <= 0 or height <= 0:
        raise ConfigError(f"{where}: expected a box with a width and a height above 0")
    return left, top, left + width, top + height


def _coordinate(value: Any, where: str) -> float:
    """A number, or a text that is one."""
    try:
        number = np.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not -_FAR <= number <= _FAR:
        raise ConfigError(f"{where}: expected a number of pixels, found {str(value)[:40]!r}")
    return number


def _objects(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConfigError(f"{where}: expected a list of objects, as in TAO's labels")
    return value


def _is_class(chunk: dict[str, Any], name: str) -> bool:
    return name in str(chunk.get("class")).lower()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file") from error
