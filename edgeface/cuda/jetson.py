"""jetson-utils: where the module is, what it can open, how it is told so, and how its images lie in memory."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgeface.cuda.picture import Picture, Yuv
from edgeface.errors import ConfigError, one_line
from edgeface.source_uri import SourceUri, camera_problem, existing_file

# The ring of captured frames: one is overwritten when so many more have arrived. Seven periods are 233 ms at 30 frames
# a second and 117 ms at 60, several times what a slow step takes; 1080p then costs 25 MB.
_RING = 8

_FILMS = (".mkv", ".mp4", ".qt", ".flv", ".avi", ".h264", ".h265", ".mov", ".webm")  # gstDecoder.cpp
_FLIPS = {"none": "rotate-180", "rotate-180": "none"}  # gstCamera.cpp swaps these two for csi cameras
_ROW_BYTES = {"gray8": 1, "nv12": 1, "yuyv": 2, "rgba8": 4, "bgra8": 4}  # of a pixel; the others have 3
_MEND = 'build it (github.com/dusty-nv/jetson-utils: cmake, make install) or set capture = "opencv" under [cuda]'


def find_jetson_utils() -> Any:
    """The module jetson_utils. Raises ConfigError when it is absent, half installed or another one."""
    logger_class = logging.getLoggerClass()
    try:
        import jetson_utils
    except Exception as error:
        what = one_line(error) or type(error).__name__
        if isinstance(error, ModuleNotFoundError) and error.name == "jetson_utils":
            what = "not installed, or hidden from this environment (python -m venv --system-site-packages)"
        raise ConfigError(f"jetson-utils: {what}; {_MEND}") from error
    finally:
        logging.setLoggerClass(logger_class)  # it sets its own, which prints every line once more
    if hasattr(jetson_utils, "videoSource"):
        return jetson_utils
    if hasattr(jetson_utils, "HAS_JETSON_UTILS_EXT"):
        raise ConfigError(f"jetson-utils: only its Python half is here, as pip installs it, no videoSource; {_MEND}")
    place = getattr(jetson_utils, "__file__", None) or "a folder"
    raise ConfigError(
        f"jetson-utils: {place} is another package of that name, maybe PyPI's: pip uninstall jetson-utils, then {_MEND}"
    )


def refusal(uri: SourceUri) -> str:
    """Why jetson-utils cannot open `uri`, as part of a line; "" when it can."""
    if uri.kind in ("pictures", "gstreamer"):
        return f"jetson-utils opens no {'pictures' if uri.kind == 'pictures' else 'pipelines'} for us"
    if uri.kind == "file" and (not uri.pace or uri.fps):
        return "jetson-utils plays films at their own speed: expected neither pace=0 nor fps"
    if uri.kind == "file" and Path(uri.target).suffix.lower() not in _FILMS:
        return f"jetson-utils knows films by their names: expected one of {', '.join(_FILMS)}"
    if uri.kind == "stream" and not uri.target.lower().startswith("rtsp://"):
        return "of streams, jetson-utils opens rtsp:// only"
    if re.search(r"[\s\"'\\%#?]" if uri.kind == "file" else r"[\s\"'\\]", uri.target):  # it quotes nothing
        return "jetson-utils opens no names with spaces, quotes or backslashes, and no films with %, # or ?"
    return ""


def obstacle(uri: SourceUri) -> str:
    """Why opening `uri` is useless now, one line; "" when it is not: each attempt in vain leaks memory in jetson-utils.

    Raises ConfigError, SourceError for a film.
    """
    if uri.kind == "file":
        existing_file(uri.target)
    if uri.kind == "stream":
        return _unreachable(uri.target)
    return camera_problem(uri.target) if uri.kind == "camera" else ""


def _unreachable(url: str) -> str:
    """Why nothing listens there. A name is not tried: looking it up may take longer than a watchdog waits."""
    try:
        parts = urlsplit(url)
        host, port = str(ipaddress.ip_address(parts.hostname or "")), parts.port or 554
    except ValueError:
        return ""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError as error:
        return f"rtsp://{host}:{port}: cannot be reached: {error.strerror or error}"
    return ""


def address(uri: SourceUri) -> str:
    """What jetson-utils calls `uri`."""
    match uri.kind:
        case "csi":
            return f"csi://{uri.target}"
        case "camera":
            return f"v4l2://{Path(uri.target).resolve()}"  # it knows /dev/videoN, but no links to it
        case "file":
            return f"file://{existing_file(uri.target)}"
        case _:
            return uri.target


def options(uri: SourceUri) -> dict[str, Any]:
    """The options of a videoSource. It would pass over one of a wrong name or type without a word."""
    chosen: dict[str, Any] = {"numBuffers": _RING}
    if uri.width:
        chosen |= {"width": uri.width, "height": uri.height}
    if uri.fps:
        chosen["framerate"] = float(uri.fps)
    if uri.kind == "csi":
        chosen["flipMethod"] = _FLIPS.get(uri.flip, uri.flip)
    return chosen


def picture(image: Any, yuv: Yuv, *, converted: bool) -> Picture:
    """How a cudaImage lies in memory.

    As captured it is a copy of GStreamer's buffer, whose rows are padded to multiples of 4 bytes and, of nv12, to an
    even number; jetson-utils itself reckons without padding, and what it converts has none.
    """
    pitch, rows = image.width * _ROW_BYTES.get(image.format, 3), image.height
    if converted:
        return Picture(image.ptr, pitch, pitch * rows, yuv=yuv, owner=image)
    pitch += -pitch % 4
    if image.format != "nv12":
        return Picture(image.ptr, pitch, pitch * rows, yuv=yuv, owner=image)
    rows += rows % 2
    return Picture(image.ptr, pitch, pitch * rows * 3 // 2, image.ptr + pitch * rows, pitch, yuv, image)
