"""Pictures with the true landmarks of their faces: from label files, or the demo clip; and their frames."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeface.errors import ConfigError
from edgeface.evaluate.label_files import READERS, LabelledFace
from edgeface.evaluate.tracking import DEMO, OPEN_SHARE, frames_of
from edgeface.point_sets import NAMED, OUTER_EYE_CORNERS
from edgeface.source_uri import PICTURES, SourceUri
from edgeface.values import F64, Bool, Frame

_MOST_FACES = 1000  # of a picture; all their crops are in memory at once
_SUFFIXES = (*PICTURES, *(suffix.upper() for suffix in PICTURES))


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """The faces of one picture, one row each, in pixels of the picture."""

    path: Path
    xy: F64  # [n, N, 2]
    xyxy: F64  # [n, 4] the labels' own boxes; NaN where a label has none
    occluded: Bool | None  # [n, N]; None: the labels do not say
    frame: int | None = None  # which one of a film, from 0

    @property
    def name(self) -> str:
        return str(self.path) if self.frame is None else f"{self.path.name}, frame {self.frame}"


def read_labels(path: Path, folder: Path | None = None) -> list[LabelledPicture]:
    """The labels of a .json (TAO), .xml (dlib) or .pts (iBUG) file, or of all .json or all .pts files of a folder.

    Names of pictures are meant from `folder`, by default the one of the label file. All faces have equal numbers of
    points. Raises ConfigError: what cannot be read, is not what it claims, or holds no face.
    """
    found = []
    for file in _label_files(path):
        for name, faces in READERS[file.suffix.lower()](file).items():
            target = (folder or file.parent) / name
            found.append(_picture(_with_suffix(target, file) if file.suffix.lower() == ".pts" else target, faces))
    if not found:
        raise ConfigError(f"{path}: no labelled face in it")
    for picture in found:
        if picture.xy.shape[1] != found[0].xy.shape[1]:
            raise ConfigError(
                f"{path}: expected equal numbers of points; "
                f"found {found[0].xy.shape[1]} in {found[0].name} and {picture.xy.shape[1]} in {picture.name}"
            )
    return found


def demo_labels() -> list[LabelledPicture]:
    """The frames of the demo clip, with those faces of which enough can be seen."""
    found = []
    for number, faces in enumerate(json.loads(DEMO.with_suffix(".json").read_text())["frames"]):
        seen = [face for face in faces if face["visible_fraction"] >= OPEN_SHARE]
        xy, xyxy = (np.array([face[key] for face in seen], float) for key in ("landmarks", "xyxy"))
        found.append(LabelledPicture(DEMO, xy, xyxy, None, number))
    return found


def frames(pictures: Sequence[LabelledPicture]) -> Iterator[tuple[Frame, LabelledPicture]]:
    """Each picture and its labels, those of a film in its order.

    Raises ConfigError for a picture that cannot be read or whose labels belong to another one.
    """
    from edgeface.cpu.source import open_source

    wanted = {picture.frame: picture for picture in pictures if picture.frame is not None}
    if wanted:
        with closing(open_source(SourceUri("file", str(DEMO), pace=False))) as source:
            for number, frame in enumerate(frames_of(source, max(wanted) + 1)):
                if number in wanted:
                    yield frame, wanted[number]
        return
    for picture in pictures:
        frame = _frame(picture.path)
        size = np.array([frame.width, frame.height])
        middle = (np.max(picture.xy, axis=1) + np.min(picture.xy, axis=1)) / 2
        if ((middle < 0) | (middle > size)).any() or ((picture.xy < -size) | (picture.xy > 2 * size)).any():
            raise ConfigError(f"{picture.name}: its labels lie outside of its {frame.width} x {frame.height} pixels")
        yield frame, picture


def _frame(path: Path) -> Frame:
    from edgeface.cpu.source import read_picture

    pixels = read_picture(str(path))
    if pixels is None:
        raise ConfigError(f"{path}: not a picture that OpenCV can read")
    height, width = pixels.shape[:2]
    return Frame(0, 0, width, height, "bgr8", pixels)


def _label_files(path: Path) -> list[Path]:
    try:
        files = [path] if path.is_file() else sorted(path.iterdir())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if files == [path]:
        if path.suffix.lower() not in READERS:
            raise ConfigError(f"{path}: expected a .json (TAO), .xml (dlib) or .pts (iBUG) file, or a folder")
        return files
    kinds = [[file for file in files if file.suffix.lower() == suffix] for suffix in (".json", ".pts")]
    if all(kinds) or not any(kinds):
        found = "both" if all(kinds) else "neither"
        raise ConfigError(f"{path}: expected a folder with .json (TAO) or .pts (iBUG) files, found {found}")
    return kinds[0] or kinds[1]


def _with_suffix(stem: Path, labels: Path) -> Path:
    """The one picture of this name."""
    found = [path for path in (stem.with_name(stem.name + suffix) for suffix in _SUFFIXES) if _is_file(path)]
    if len(found) != 1:
        have = " and ".join(path.name for path in found) or "none"
        raise ConfigError(f"{labels}: expected one picture {stem} with a suffix like .png or .jpg, found {have}")
    return found[0]


def _picture(path: Path, faces: Sequence[LabelledFace]) -> LabelledPicture:
    """The faces of a picture as arrays, checked."""
    if not _is_file(path):
        raise ConfigError(f"{faces[0].where}: there is no picture {path}")
    if len(faces) > _MOST_FACES:
        raise ConfigError(f"{faces[0].where}: expected at most {_MOST_FACES} faces in a picture, found {len(faces)}")
    count = len(faces[0].xy)
    for face in faces:
        if len(face.xy) != count:
            raise ConfigError(f"{face.where}: expected {count} points as in the face before, found {len(face.xy)}")
        inner = face.xy[:68] if count in NAMED else face.xy  # a network may have no more
        flat = any(len(set(axis)) == 1 for axis in zip(*inner, strict=True))
        if flat or (count in NAMED and len({face.xy[corner] for corner in OUTER_EYE_CORNERS}) == 1):
            raise ConfigError(f"{face.where}: its points are not spread over a face")
    said = [face.occluded for face in faces if face.occluded is not None]
    return LabelledPicture(
        path,
        xy=np.array([face.xy for face in faces], float),
        xyxy=np.array([face.xyxy for face in faces], float),
        occluded=np.array(said, bool) if said else None,
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the system allows
        return False
