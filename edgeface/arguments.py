"""What the programs share: arguments, errors -> exit codes, files to write."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeface.errors import ConfigError, DeviceLostError, EdgefaceError, one_line


def add_pipeline_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that lay over the configuration file; `edgeface-bench` has them too."""
    add_network_arguments(parser)
    parser.add_argument(
        "--source",
        metavar="URI",
        help="demo:, a file, images:GLOB, 0, v4l2:///dev/video0, csi://0, rtsp://..., http://..., gstreamer:PIPELINE, "
        "scenario:NAME; cameras take ?width=1280&height=720&fps=30",
    )
    parser.add_argument(
        "--keyframe-interval",
        type=_interval,
        metavar="N|adaptive",
        help="look at every N-th frame, or when it is needed",
    )


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of them that choose the networks."""
    parser.add_argument("config", nargs="?", metavar="CONFIG.toml")
    parser.add_argument("--detector", metavar="CARD", help="a network's name, or the path of its card")
    parser.add_argument("--landmarks", metavar="CARD|none", help="a landmark network, or none")
    parser.add_argument("--backend", metavar="NAME", help="what runs the networks; see docs/configuration.md")
    parser.add_argument("--engines", metavar="DIR", action="append", help="one more folder with networks")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")


def add_int8_arguments(parser: argparse.ArgumentParser) -> None:
    """How `edgeface build` comes by INT8 scales."""
    parser.add_argument(
        "--calib",
        metavar="PATH|URI",
        help="for int8: a folder, glob or list of pictures, a film, demo:, a calibration cache or a file of scales",
    )
    parser.add_argument(
        "--method", choices=("minmax", "percentile", "entropy"), help="ranges from pictures (default: percentile)"
    )
    parser.add_argument("--percentile", type=_percentile, metavar="P", help="of the values to keep (default: 99.99)")
    parser.add_argument("--every", type=positive, metavar="N", help="only every N-th picture (default: all; films: 10)")
    parser.add_argument(
        "--per-tensor", action="store_true", help="one scale for all weights of a node, not one a channel"
    )
    parser.add_argument("--write-cache", type=Path, metavar="FILE", help="write a calibration cache, too")
    parser.add_argument("--cache-version", metavar="X.Y.Z", help="of the library that reads it (default: the one here)")


def add_accuracy_arguments(parser: argparse.ArgumentParser) -> None:
    """How `edgeface build` finds out whether a form is accurate; the limits are build/accuracy_report.py's."""
    parser.add_argument(
        "--check",
        default="demo:",
        metavar="PATH|none",
        help="pictures on which it must do as fp32 does: a folder, glob, list, film or labels (default demo:). "
        "Of a detector's faces at least 99%% found at an IoU of 0.9, 1%% others at most, mean score changed by 0.05 at "
        "most, average precision lost 0.01 at most; of landmarks at least 99%% placed, mean shift 1%% of the distance "
        "of the eyes at most, error risen by 2%% at most",
    )
    parser.add_argument("--force", action="store_true", help="build what fails that check, too")
    parser.add_argument("--auto-fallback", action="store_true", help="leave layers in fp32 until it passes that check")


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given on the command line, in the configuration's shape."""
    flat = {key: getattr(arguments, key, None) for key in ("camera", "source", "backend", "endpoint", "engines")}
    flags: dict[str, Any] = {key: value for key, value in flat.items() if value is not None}
    for part in ("detector", "landmarks"):
        if getattr(arguments, part) is not None:
            flags[part] = {"card": getattr(arguments, part)}
    if getattr(arguments, "keyframe_interval", None) is not None:
        flags["tracker"] = {"keyframe_interval": arguments.keyframe_interval}
    return flags


def guarded(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Parse, run `verb_function`, turn every error into one line on stderr and an exit code."""
    parsed = parser.parse_args(arguments)
    verb_function: Callable[[argparse.Namespace], int] = parsed.verb_function
    debug = getattr(parsed, "debug", False)
    try:
        return verb_function(parsed)
    except EdgefaceError as error:
        lost = isinstance(error, DeviceLostError)
        if debug and not lost:
            raise
        print(traceback.format_exc() if debug else f"{parser.prog}: {one_line(error)}", file=sys.stderr)
        if lost:  # whatever gives something back now may hang or abort
            sys.stderr.flush()
            os._exit(error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        return 0  # asked to stop
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        print(f"{parser.prog}: {type(error).__name__}: {one_line(error)} (--debug shows where)", file=sys.stderr)
        return 1


def write_texts(texts: Sequence[tuple[Path | None, str]]) -> None:
    """Each text into its file, if it has one. Raises ConfigError."""
    for path, text in texts:
        if path is not None:
            try:
                path.write_text(text)
            except OSError as error:
                raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _interval(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdecimal() else text


def _percentile(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 50 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected a number from 50 to 100, found {text!r}")
    return value


def pixel_size(text: str) -> tuple[int, int]:
    """Width and height of an argument WxH."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, found {text!r}")
    return int(width), int(height)


def positive(text: str) -> int:
    """The whole number above 0 of an argument."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text!r}")
    return int(text)


def whole_number(text: str) -> int:
    """The whole number from 0 on of an argument."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}")
    return int(text)
