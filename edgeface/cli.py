"""`edgeface <verb>`: arguments, logging, errors -> exit codes."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeface import __version__, message
from edgeface.arguments import (
    add_accuracy_arguments,
    add_int8_arguments,
    add_network_arguments,
    add_pipeline_arguments,
    guarded,
    overrides,
    pixel_size,
    positive,
    whole_number,
    write_texts,
)
from edgeface.errors import ConfigError, EdgefaceError
from edgeface.model_card import Card
from edgeface.models.verbs import add_verbs

if TYPE_CHECKING:
    from edgeface.build.acceptance import Acceptance


def main(arguments: Sequence[str] | None = None) -> int:
    """The `edgeface` program."""
    parser = argparse.ArgumentParser(prog="edgeface", description="Find faces, follow them, publish them on ZeroMQ.")
    parser.add_argument("--version", action="version", version=f"edgeface {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    run = verbs.add_parser("run", help="find and follow faces, publish them")
    add_pipeline_arguments(run)
    run.add_argument("--endpoint", metavar="URI", help="where to publish: ipc:///absolute/path or tcp://address:port")
    run.add_argument("--camera", metavar="NAME", help="the camera's name on the bus (default cam0)")
    run.add_argument("--max-frames", type=whole_number, default=0, metavar="N", help="stop after N frames")
    run.set_defaults(verb_function=_run)

    listen = verbs.add_parser("listen", help="print messages, one JSON object a line")
    listen.add_argument("endpoint", nargs="?", metavar="ENDPOINT", help="default: where `edgeface run` publishes")
    listen.add_argument("--topic", choices=message.TOPICS, help="only this topic (default: all)")
    listen.add_argument("--max-messages", type=whole_number, default=0, metavar="N", help="stop after N messages")
    listen.set_defaults(verb_function=_listen)

    evaluate = verbs.add_parser("evaluate", help="how good is it, held against the truth")
    what = evaluate.add_subparsers(dest="what", required=True, metavar="WHAT")
    tracking = what.add_parser(
        "tracking", help="HOTA, IDF1, MOTA, id switches of a run, by default on the demo clip, or of a file"
    )
    add_pipeline_arguments(tracking)
    tracking.add_argument("--truth", type=Path, metavar="FILE", help="MOTChallenge text; the demo clip needs none")
    tracking.add_argument("--tracks", type=Path, metavar="FILE", help="MOTChallenge text: evaluate this, run nothing")
    tracking.add_argument("--max-frames", type=whole_number, default=0, metavar="N", help="only the first N frames")
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
        type=pixel_size,
        action="append",
        metavar="WxH",
        help="one engine for each (default: what the card looks with)",
    )
    build.add_argument(
        "--batch", type=positive, metavar="N", help="the most crops at once (default: 1 frame, 32 faces)"
    )
    build.add_argument("--dla", type=whole_number, metavar="N", help="for DLA core N instead of the GPU")
    build.add_argument("--engines", metavar="DIR", action="append", help="build into it (default: beside the card)")
    build.add_argument("--workspace-mb", type=positive, default=1024, metavar="N", help="memory to try with (1024)")
    build.add_argument("--runtime", metavar="NAME", help="another builder, for checks without the device")
    add_int8_arguments(build)
    add_accuracy_arguments(build)
    build.add_argument("--dry-run", action="store_true", help="say what would be built, and whether it is accurate")
    build.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    build.set_defaults(verb_function=_build)

    add_verbs(verbs.add_parser("models", help="the networks: which there are, are they good, get one"))
    return guarded(parser, arguments)


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
    try:
        return _build_engines(arguments)
    except KeyboardInterrupt as error:
        raise EdgefaceError("cancelled: what was not built yet is as it was before") from error


def _build_engines(arguments: argparse.Namespace) -> int:
    from edgeface import service
    from edgeface.build import engine, trt, workplace
    from edgeface.model_card import find_card, input_sizes, target_folder

    service.setup_logging(logging.DEBUG if arguments.debug else logging.INFO)
    card = find_card(arguments.card, tuple(arguments.engines or ()))
    folder = target_folder(card, arguments.engines or ())
    runtime = arguments.runtime or trt.DEFAULT_RUNTIME
    if arguments.precision == "int8" and not _prepare_int8(card, arguments, folder, runtime):
        return 0
    with workplace.scratch() as forms:
        acceptance = None if arguments.check == "none" else _acceptance(card, arguments, folder, runtime, forms)
        for size in arguments.input_size or input_sizes(card):
            order = trt.Order(card, size, arguments.precision, arguments.batch, arguments.dla, arguments.workspace_mb)
            draft = engine.draft(order, folder=folder, runtime=runtime, form=acceptance.form() if acceptance else None)
            print(draft, flush=True)
            if acceptance is not None:
                draft = acceptance.hold(draft)
            if not arguments.dry_run:
                finish = engine.finish if acceptance is None else acceptance.finish
                finish(draft)
    return 0


def _acceptance(card: Card, arguments: argparse.Namespace, folder: Path, runtime: str, scratch: Path) -> Acceptance:
    """What holds forms and engines against FP32."""
    try:
        from edgeface.build import acceptance, makers
    except ImportError as error:
        how = "pip install 'edgeface[build]' (cv2: 'edgeface[cpu]' or python3-opencv), or --check none"
        raise ConfigError(f"to check the accuracy, {error.name or error} is missing: {how}") from error
    terms = acceptance.Terms(arguments.check, arguments.force, arguments.auto_fallback, tuple(arguments.engines or ()))
    maker = makers.maker(card, arguments.precision, runtime, engines=folder, scratch=scratch)
    return acceptance.Acceptance(card, maker, terms)


def _prepare_int8(card: Card, arguments: argparse.Namespace, folder: Path, runtime: str) -> bool:
    """Make or find the network's INT8 form, and whether there is one now: a dry run makes none."""
    from edgeface.build import int8, trt

    cache = arguments.write_cache
    wish = int8.Wish(
        arguments.calib,
        arguments.method,
        arguments.percentile,
        arguments.every,
        arguments.per_tensor,
        cache and (cache, arguments.cache_version or trt.load_trt(runtime).__version__),
    )
    said, ready = int8.prepare(card, wish, folder=folder, engines=arguments.engines or (), dry_run=arguments.dry_run)
    print(said, flush=True)
    return ready


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
