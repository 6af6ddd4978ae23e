"""Source URIs: what an operator writes -> where frames come from, every option checked."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Meta

from edgeface.errors import ConfigError


class SourceUri(msgspec.Struct, frozen=True):
    """A source URI taken apart."""

    kind: Literal["file", "pictures", "camera", "stream"]
    target: str  # path, glob pattern, device or URL
    loop: bool = False
    pace: bool = True  # files: play at their own speed; False: as fast as they are read
    fps: float = 0.0  # pictures: how many a second; files: instead of the file's own rate


class ScenarioUri(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A source URI of a scenario taken apart: `scenario:NAME?faces=5&seed=1`."""

    name: str  # one of SCENES
    faces: Annotated[int, Meta(ge=0, le=500)] = 5
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 1
    fps: Annotated[float, Meta(ge=0.1, le=1000)] = 30.0
    frames: Annotated[int, Meta(ge=1, le=1_000_000)] = 300
    loop: bool = False
    pace: bool = True


# what edgeface/scenario/ has, said here because a wrong name is a wrong configuration
SCENES = ("crossing", "crowd", "occlusion", "shake", "leave-and-return", "approach", "plain", "hard", "slow")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def parse_source(uri: str) -> SourceUri | ScenarioUri:
    """Take a source URI apart: `demo:`, a path, `file://`, `images:GLOB`, a number, `v4l2://`, `rtsp://`, `http://`.

    `?loop=1`, `?pace=0` and `?fps=N` may follow a file or pictures; for `scenario:NAME` see ScenarioUri. Raises
    ConfigError.
    """
    if _exists(uri):  # whatever its name looks like
        return _file(uri, {})
    match = re.match(r"([A-Za-z][A-Za-z0-9+]*):", uri)
    scheme = match[1].lower() if match else ""
    if scheme in ("rtsp", "rtsps", "http", "https", "udp", "tcp"):
        return SourceUri("stream", uri)
    if scheme == "v4l2":
        return SourceUri("camera", uri[len("v4l2:") :].removeprefix("//"))
    if uri.isdecimal():
        return SourceUri("camera", f"/dev/video{int(uri)}")
    if scheme == "scenario":
        return _scenario(uri)
    if scheme == "csi":
        raise ConfigError(f"source {uri!r}: {scheme}: is not built into this version")
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
            "demo:, a path, file:///path, images:GLOB, v4l2:///dev/video0, a number, rtsp://, http://, scenario:NAME"
        )
        raise ConfigError(f"source {uri!r}: unknown scheme {scheme!r}; expected {known}")
    return _file(target, options)


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
    pairs = [("name", name), *parse_qsl(query, keep_blank_values=True)]
    settings = dict(pairs)
    if len(settings) < len(pairs):
        raise ConfigError(f"source {uri!r}: expected each key once")
    try:
        return msgspec.convert(settings, ScenarioUri, strict=False)
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
