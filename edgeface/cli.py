"""`edgeface <verb>`: arguments, logging, errors -> exit codes."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeface import __version__, message
from edgeface.errors import ConfigError, DeviceLostError, EdgefaceError, one_line


def main(arguments: Sequence[str] | None = None) -> int:
    """The `edgeface` program."""
    parser = argparse.ArgumentParser(prog="edgeface", description="Find faces, follow them, publish them on ZeroMQ.")
    parser.add_argument("--version", action="version", version=f"edgeface {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    run = verbs.add_parser("run", help="find and follow faces, publish them")
    add_pipeline_arguments(run)
    run.add_argument("--endpoint", metavar="URI", help="where to publish: ipc:///absolute/path or tcp://address:port")
    run.add_argument("--camera", metavar="NAME", help="the camera's name on the bus (default cam0)")
    run.add_argument("--max-frames", type=_count, default=0, metavar="N", help="stop after N frames")
    run.set_defaults(verb_function=_run)

    listen = verbs.add_parser("listen", help="print messages, one JSON object a line")
    listen.add_argument("endpoint", nargs="?", metavar="ENDPOINT", help="default: where `edgeface run` publishes")
    listen.add_argument("--topic", choices=message.TOPICS, help="only this topic (default: all)")
    listen.add_argument("--max-messages", type=_count, default=0, metavar="N", help="stop after N messages")
    listen.set_defaults(verb_function=_listen)

    evaluate = verbs.add_parser("evaluate", help="how good is it, held against the truth")
    what = evaluate.add_subparsers(dest="what", required=True, metavar="WHAT")
    tracking = what.add_parser(
        "tracking", help="HOTA, IDF1, MOTA, id switches of a run, by default on the demo clip, or of a file"
    )
    add_pipeline_arguments(tracking)
    tracking.add_argument("--truth", type=Path, metavar="FILE", help="MOTChallenge text; the demo clip needs none")
    tracking.add_argument("--tracks", type=Path, metavar="FILE", help="MOTChallenge text: evaluate this, run nothing")
    tracking.add_argument("--max-frames", type=_count, default=0, metavar="N", help="only the first N frames")
    tracking.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    tracking.add_argument("--write", type=Path, metavar="FILE", help="write the tracks there, as MOTChallenge text")
    tracking.add_argument("--write-truth", type=Path, metavar="FILE", help="write the truth of the run likewise")
    tracking.set_defaults(verb_function=_evaluate_tracking, refuse=tracking.error)

    landmarks = what.add_parser("landmarks", help="error of the landmarks, by default on the demo clip, or on labels")
    add_network_arguments(landmarks)
    landmarks.add_argument(
        "--labels", type=Path, metavar="PATH", help="TAO's .json, iBUG's .pts or dlib's .xml; a folder"
    )
    landmarks.add_argument("--pictures", type=Path, metavar="DIR", help="where they lie, if not beside their labels")
    landmarks.add_argument(
        "--boxes",
        choices=("detector", "labels", "points"),
        default="detector",
        help="what a crop is made from: the detector's box (default), the label's, the box round the true points",
    )
    landmarks.add_argument(
        "--every", type=positive, metavar="N", help="only every N-th picture (default: all; demo clip: 10)"
    )
    landmarks.add_argument("--jitter", action="store_true", help="what moved and scaled boxes cost, too")
    landmarks.add_argument("--sheet", type=Path, metavar="FILE.png", help="write a contact sheet, worst faces first")
    landmarks.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    landmarks.set_defaults(verb_function=_evaluate_landmarks, refuse=landmarks.error)

    build = verbs.add_parser("build", help="build a network's engines for this machine's GPU")
    build.add_argument("card", metavar="CARD", help="a network's name, or the path of its card")
    build.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp16", help="default fp16")
    build.add_argument(
        "--input-size",
        type=_size,
        action="append",
        metavar="WxH",
        help="one engine for each (default: what the card looks with)",
    )
    build.add_argument(
        "--batch", type=positive, metavar="N", help="the most crops at once (default: 1 frame, 32 faces)"
    )
    build.add_argument("--dla", type=_count, metavar="N", help="for DLA core N instead of the GPU")
    build.add_argument("--engines", metavar="DIR", action="append", help="build into it (default: beside the card)")
    build.add_argument("--workspace-mb", type=positive, default=1024, metavar="N", help="memory to try with (1024)")
    build.add_argument("--runtime", metavar="NAME", help="another builder, for checks without the device")
    build.add_argument("--dry-run", action="store_true", help="say what would be built")
    build.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    build.set_defaults(verb_function=_build)
    return guarded(parser, arguments)


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
        if debug:
            raise
        print(f"{parser.prog}: {one_line(error)}", file=sys.stderr)
        if isinstance(error, DeviceLostError):  # whatever gives something back now may hang or abort
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


def _run(arguments: argparse.Namespace) -> int:
    from edgeface import daemon, service
    from edgeface.config import load_config

    service.setup_logging(logging.DEBUG if arguments.debug else logging.INFO)
    daemon.run(load_config(arguments.config, overrides(arguments)), arguments.max_frames)
    return 0


def _listen(arguments: argparse.Namespace) -> int:
    from edgeface.client import Subscriber

    endpoint = arguments.endpoint or message.default_endpoint("cam0")
    topics = [arguments.topic] if arguments.topic else message.TOPICS
    try:
        bus = Subscriber(endpoint, topics)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    with bus:
        for count, (topic, body) in enumerate(bus, 1):
            print(json.dumps({"topic": topic} | _printable(body)), flush=True)
            if count == arguments.max_messages:
                break
    return 0


def _evaluate_tracking(arguments: argparse.Namespace) -> int:
    from edgeface import mot
    from edgeface.config import load_config
    from edgeface.evaluate import tracking

    if arguments.tracks is None:
        config = load_config(arguments.config, overrides(arguments))
        report, truth, run = tracking.of_run(config, arguments.truth, arguments.max_frames)
        texts = [
            (arguments.write, mot.tracks_text(run.tracks, run.score)),
            (arguments.write_truth, mot.truth_text(truth.boxes, truth.counts)),
        ]
    else:
        if arguments.truth is None:
            arguments.refuse("--tracks needs --truth")
        if arguments.config or arguments.write or arguments.write_truth or overrides(arguments):
            arguments.refuse("with --tracks nothing is run: only --truth, --max-frames and --json go with it")
        report, texts = tracking.of_files(arguments.truth, arguments.tracks, arguments.max_frames), []
    print(tracking.table(report))
    write_texts([*texts, (arguments.json, json.dumps(report, indent=1) + "\n")])
    return 0


def _evaluate_landmarks(arguments: argparse.Namespace) -> int:
    from edgeface.config import load_config
    from edgeface.evaluate import landmark_report, landmarks

    if arguments.pictures is not None and arguments.labels is None:
        arguments.refuse("--pictures needs --labels")
    report = landmarks.of_labels(
        load_config(arguments.config, overrides(arguments)),
        arguments.labels,
        folder=arguments.pictures,
        boxes=arguments.boxes,
        every=arguments.every,
        jitter=arguments.jitter,
        sheet_path=arguments.sheet,
    )
    print(landmark_report.table(report))
    write_texts([(arguments.json, json.dumps(report, indent=1) + "\n")])
    return 0


def _build(arguments: argparse.Namespace) -> int:
    from edgeface import service
    from edgeface.build import engine, trt
    from edgeface.model_card import find_card, input_sizes

    service.setup_logging(logging.DEBUG if arguments.debug else logging.INFO)
    card = find_card(arguments.card, tuple(arguments.engines or ()))
    folder = engine.target_folder(card, arguments.engines or ())
    runtime, timing_cache = arguments.runtime or trt.DEFAULT_RUNTIME, b""
    for size in arguments.input_size or input_sizes(card):
        order = trt.Order(card, size, arguments.precision, arguments.batch, arguments.dla, arguments.workspace_mb)
        draft = engine.draft(order, folder=folder, runtime=runtime)
        print(draft, flush=True)
        if not arguments.dry_run:
            timing_cache = engine.finish(draft, timing_cache)
    return 0


def write_texts(texts: Sequence[tuple[Path | None, str]]) -> None:
    """Each text into its file, if it has one. Raises ConfigError."""
    for path, text in texts:
        if path is not None:
            try:
                path.write_text(text)
            except OSError as error:
                raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _printable(value: Any) -> Any:
    """Landmarks as numbers, to a hundredth of a pixel, and other bytes as hexadecimal text: JSON has none."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _landmarks(item) if key == "landmarks" else _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def _landmarks(value: Any) -> Any:
    try:
        points, scores = message.landmark_points(value), message.landmark_scores(value)
    except ValueError:  # of status, where it is the network's name; or not of this schema
        return _printable(value)
    rounded = [[round(x, 2), round(y, 2)] for x, y in points]
    return {"n": len(points), "xy": rounded, "score": [round(score, 4) for score in scores]}


def _interval(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdecimal() else text


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, found {text!r}")
    return int(width), int(height)


def positive(text: str) -> int:
    """The whole number above 0 of an argument."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}")
    return int(text)
