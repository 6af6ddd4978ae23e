"""Source URIs: what an operator writes -> where frames come from, every option checked."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Meta

from edgeface.errors import ConfigError, SourceError

Side = Annotated[int, Meta(ge=16, le=16384)]  # pixels
Flip = Literal["none", "rotate-180", "clockwise", "counterclockwise", "horizontal", "vertical"]


class SourceUri(msgspec.Struct, frozen=True):
    """A source URI taken apart."""

    kind: Literal["file", "pictures", "camera", "csi", "stream", "gstreamer"]
    target: str  # path, glob pattern, device, number of a csi camera, URL or pipeline
    loop: bool = False
    pace: bool = True  # files: play at their own speed; False: as fast as they are read
    fps: float = 0.0  # files, instead of their own rate; pictures and cameras: how many a second; 0: not said
    width: int = 0  # cameras; 0: not said
    height: int = 0
    flip: Flip = "none"  # csi: from the picture as the sensor gives it

    @property
    def live(self) -> bool:
        """A camera or a stream: its frames do not wait."""
        return self.kind not in ("file", "pictures")


class CameraOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may follow a V4L2 camera."""

    width: Side = 0  # 0: not said
    height: Side = 0
    fps: Annotated[int, Meta(ge=1, le=1000)] = 0


class CsiOptions(CameraOptions, frozen=True, forbid_unknown_fields=True):
    """What may follow a csi camera."""

    flip: Flip = "none"


class ScenarioUri(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A source URI of a scenario taken apart: `scenario:NAME?faces=5&seed=1`."""

    name: str  # one of SCENES
    faces: Annotated[int, Meta(ge=0, le=500)] = 5
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 1
    fps: Annotated[float, Meta(ge=0.1, le=1000)] = 30.0
    frames: Annotated[int, Meta(ge=1, le=1_000_000)] = 300
    loop: bool = False
    pace: bool = True


_Options = TypeVar("_Options", CameraOptions, ScenarioUri)
# what edgeface/scenario/ has, said here because a wrong name is a wrong configuration
SCENES = ("crossing", "crowd", "occlusion", "shake", "leave-and-return", "approach", "plain", "hard", "slow")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def parse_source(uri: str) -> SourceUri | ScenarioUri:
    """Take a source URI apart: of a file, pictures, a camera, a stream, a GStreamer pipeline or a scenario.

    `?loop=1`, `?pace=0` and `?fps=N` may follow a file or pictures, CameraOptions a number, `/dev/video0` or
    `v4l2://`, CsiOptions `csi://N`; for `scenario:NAME` see ScenarioUri. Raises ConfigError.
    """
    if _exists(uri):  # whatever its name looks like
        return _file(uri, {})
    match = re.match(r"([A-Za-z][A-Za-z0-9+]*):", uri)
    scheme = match[1].lower() if match else ""
    if scheme == "scenario":
        return _scenario(uri)
    live = _live(uri, scheme)
    if live is not None:
        return live
    target, options = _options(uri)
    if scheme == "demo":
        if target not in ("demo:", "demo://"):
            raise ConfigError(f"source {uri!r}: expected demo: alone (with ?loop=1 to repeat it)")
        return SourceUri("file", str(Path(__file__).parent / "demo" / "demo.mp4"), **options)
    if scheme == "images":
        return SourceUri("pictures", target[len("images:") :], **options)
    if scheme == "file":
        target = unquote(target[len("file:") :].removeprefix("//"))
        if not target.startswith("/"):
            raise ConfigError(f"source {uri!r}: expected file:///absolute/path")
    elif scheme and not _exists(target):
        known = (
            "demo:, a path, file:///path, images:GLOB, a number, v4l2:///dev/video0, csi://0, rtsp://, http://, "
            "gstreamer:PIPELINE, scenario:NAME"
        )
        raise ConfigError(f"source {uri!r}: unknown scheme {scheme!r}; expected {known}")
    return _file(target, options)


def existing_file(target: str) -> Path:
    """A film's absolute path. Raises ConfigError when it cannot be read, SourceError when it is empty."""
    path = Path(target).expanduser().absolute()
    try:
        if not path.is_file():
            raise ConfigError(f"{path}: {'not a film but a folder; try images:' if path.is_dir() else 'no such file'}")
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: the file is empty")
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return path


def camera_problem(device: str) -> str:
    """Why that camera cannot be opened, one line; "" when it seems that it can."""
    if not Path(device).exists():
        return f"{device}: no such camera"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device}: no permission; add the user to the group 'video'"
    return ""


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def unpaced(uri: str) -> str:
    """The source URI of a file, pictures or a scenario with `pace=0`: as fast as they are read."""
    uri = re.sub(r"(?<=[?&])pace=[01]&|[?&]pace=[01]$", "", uri)
    _, mark, query = uri.rpartition("?")
    has_options = mark and parse_qsl(query) and not _exists(uri)
    return f"{uri}{'&' if has_options else '?'}pace=0"


def _exists(path: str) -> bool:
    """Whether there is such a file. Raises ConfigError for `~somebody` whom nobody knows, and what is not UTF-8."""
    try:
        path.encode()  # OpenCV ends the program at a name that is not
        return Path(path).expanduser().exists()
    except UnicodeEncodeError as error:
        raise ConfigError(f"source {path!r}: expected a name in UTF-8") from error
    except OSError:  # a URL may be longer than a file's name
        return False
    except RuntimeError as error:
        raise ConfigError(f"source {path!r}: {error}") from error


def _scenario(uri: str) -> ScenarioUri:
    name, _, query = uri.partition(":")[2].partition("?")
    if name not in SCENES:
        raise ConfigError(f"source {uri!r}: expected scenario:NAME with one of {', '.join(SCENES)}; found {name!r}")
    return _checked(uri, [("name", name), *parse_qsl(query, keep_blank_values=True)], ScenarioUri)


def _live(uri: str, scheme: str) -> SourceUri | None:
    """A camera, a stream or a pipeline; None: something else."""
    if scheme in ("rtsp", "rtsps", "http", "https", "udp", "tcp"):
        return SourceUri("stream", uri)
    if scheme == "gstreamer":
        pipeline = uri[len("gstreamer:") :].strip()
        if not re.search(r"\bappsink\b", pipeline):
            raise ConfigError(f"source {uri!r}: expected gstreamer:PIPELINE that ends in appsink")
        return SourceUri("gstreamer", pipeline)
    name, _, query = uri.partition("?")
    if scheme == "csi":
        number = re.fullmatch(r"csi:(?://)?([0-9]{1,2})", name, re.IGNORECASE)
        if number is None:
            raise ConfigError(f"source {uri!r}: expected csi:// and the camera's number, as csi://0")
        return _camera("csi", number[1], uri, query, CsiOptions)
    if scheme == "v4l2":
        return _camera("camera", name[len("v4l2:") :].removeprefix("//"), uri, query, CameraOptions)
    if name.isdecimal():
        return _camera("camera", f"/dev/video{int(name)}", uri, query, CameraOptions)
    if name.startswith("/dev/video"):
        return _camera("camera", name, uri, query, CameraOptions)
    return None


def _camera(kind: Literal["camera", "csi"], target: str, uri: str, query: str, known: type[CameraOptions]) -> SourceUri:
    options = _checked(uri, parse_qsl(query, keep_blank_values=True), known)
    if bool(options.width) != bool(options.height):
        raise ConfigError(f"source {uri!r}: expected width and height together")
    return SourceUri(kind, target, **msgspec.structs.asdict(options))


def _checked(uri: str, pairs: list[tuple[str, str]], known: type[_Options]) -> _Options:
    """The settings `pairs` as a `known` struct. Raises ConfigError."""
    settings = dict(pairs)
    if len(settings) < len(pairs):
        raise ConfigError(f"source {uri!r}: expected each key once")
    try:
        return msgspec.convert(settings, known, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"source {uri!r}: {error}") from error


def _file(path: str, options: dict[str, Any]) -> SourceUri:
    if path.startswith("/dev/video"):
        return SourceUri("camera", path)
    if Path(path).suffix.lower() in PICTURES:
        return SourceUri("pictures", glob.escape(path), **options)
    return SourceUri("file", path, **options)


def _options(uri: str) -> tuple[str, dict[str, Any]]:
    """`PATH?loop=1` -> PATH and its options. A question mark that begins no option belongs to the path (globs)."""
    target, mark, query = uri.rpartition("?")
    pairs = dict(parse_qsl(query))
    if not mark or not pairs:
        return uri, {}
    options: dict[str, Any] = {}
    for key, value in pairs.items():
        if key in ("loop", "pace") and value in ("0", "1"):
            options[key] = value == "1"
        elif key == "fps" and _is_rate(value):
            options[key] = float(value)
        else:
            raise ConfigError(f"source {uri!r}: expected ?loop=0|1, pace=0|1 or fps=0.1..1000, found {key}={value}")
    return target, options


def _is_rate(text: str) -> bool:
    try:
        return 0.1 <= float(text) <= 1000
    except ValueError:
        return False
