"""Agreement of detectors with a reference one on real pictures, and what they see on pictures without a face.

    python -m training.measure_detectors NET [NET ...] --reference NET --pictures DIR ... --no-faces DIR ...
                                         [--half dev|held-out] [--rendered DIR] [--speed] [--json FILE]

A NET is a card (its name or its .toml) or an ONNX file; the card of an ONNX file lies beside it or in engines/, or the
shipped detector's is lent to it, which fits networks of that form. What is measured is what the product runs:
letterboxing, decoding, suppression and, where its card has one, the look for near faces (`--one-look` does without).
Name the reference's smaller sister as a NET, too: how far two real networks agree is what agreement is worth. Of a clip
a few frames are taken. Below --no-faces each folder is a kind. The halves are told apart by a hash of the file's name,
so that choices are made on one and the other stays unseen. --rendered has scenes with exact truth: how hidden a face
is and how far it is turned is known there. --speed compares with the last NET.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeface.cpu.engine import open_engine
from edgeface.model_card import Card
from edgeface.networks import open_networks
from edgeface.values import Detections, Frame
from training import detector_agreement as agreement
from training import face_kinds
from training.agreement_report import figures, text
from training.measured import Measured, config_of, find_detector, names_of, run
from training.tables import heading, row

CLIPS = (".gif", ".mp4", ".mkv", ".avi")
LOWEST_SCORE = 0.05
SURE, DOUBTFUL = 1.0, 0.0  # scores of what rendered scenes have
ROUNDS, WARM_UP = 21, 3  # of what is timed

Table = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NET")
    parser.add_argument("--reference", required=True, metavar="NET")
    parser.add_argument("--pictures", type=Path, nargs="+", default=[], metavar="DIR")
    parser.add_argument("--no-faces", type=Path, nargs="+", default=[], metavar="DIR", help="a folder a kind")
    parser.add_argument("--half", choices=("dev", "held-out"), help="of the files; without it all")
    parser.add_argument("--rendered", type=Path, metavar="DIR", help="scenes-*.npz that none was trained on")
    parser.add_argument("--frames", type=int, default=3, help="of a clip, evenly spread")
    parser.add_argument("--sure", type=float, default=0.6, help="score from which on the reference's boxes are faces")
    parser.add_argument("--doubtful", type=float, default=0.3, help="score down to which they excuse a box")
    parser.add_argument("--one-look", action="store_true", help="the whole frame alone, without the near look")
    parser.add_argument("--speed", action="store_true", help="the networks alone, one and two threads, taking turns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(given, Path(scratch))
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


def measure(given: argparse.Namespace, scratch: Path) -> Table:
    """The report, which is printed, too. Raises ConfigError, EngineError."""
    reference = find_detector(given.reference, scratch)
    networks = {name: find_detector(network, scratch) for name, network in names_of(given.networks).items()}
    report: Table = {"reference": given.reference, "half": given.half or "all", "networks": {}}
    if given.pictures or given.no_faces:
        pictures = list(labelled(given, reference))
        report["networks"] = compared(networks, pictures, given)
        print(text(report))
    if given.rendered:
        scenes = [scene for path in sorted(given.rendered.glob("scenes-*.npz")) for scene in scenes_of(path)]
        truth = {"reference": "exact truth", "half": str(given.rendered)}
        report["rendered"] = truth | {"networks": compared(networks, scenes, given)}
        print(text(report["rendered"]))
    if given.speed:
        report["speed"] = speed({name: network.card for name, network in networks.items()})
        print(speed_text(report["speed"]))
    return report


@dataclass(frozen=True, slots=True)
class Picture:
    """What the networks look at, and what is to be found there."""

    kind: str  # "faces", or what a picture without faces shows
    frame: Frame
    faces: Detections  # those below `sure` may be found or not
    sure: float
    alike: face_kinds.Kinds  # what the sure faces are like


def compared(networks: Mapping[str, Measured], pictures: Sequence[Picture], given: argparse.Namespace) -> Table:
    """The figures of each network on the same pictures. Raises ConfigError, EngineError."""
    table: Table = {}
    for name, network in networks.items():
        found = detections(network, [one.frame for one in pictures], LOWEST_SCORE, given.one_look)
        looks = [
            agreement.look(one.kind, (one.frame.width, one.frame.height), one.faces, ours, one.sure, one.alike)
            for one, ours in zip(pictures, found, strict=True)
        ]
        table[name] = figures(looks, network.card.thresholds.score)
    return table


def labelled(given: argparse.Namespace, reference: Measured) -> Iterator[Picture]:
    """The real pictures, with what the reference finds on them. Raises ConfigError, EngineError."""
    kinds = [kind for folder in given.no_faces for kind in kinds_below(folder)]
    files = [(path, "faces") for folder in given.pictures for path, _ in kinds_below(folder)]
    seen = [
        (kind, frame)
        for path, kind in [*files, *kinds]
        if given.half in (None, half_of(path.name))
        for frame in frames_of(path, given.frames)
    ]
    found = detections(reference, [frame for _, frame in seen], given.doubtful, given.one_look)
    for (kind, frame), faces in zip(seen, found, strict=True):
        yield Picture(kind, frame, faces, given.sure, kinds_of(frame, faces, given.sure))


# --- networks and pictures


def detections(measured: Measured, seen: Sequence[Frame], low_score: float, one_look: bool) -> list[Detections]:
    """What the network finds on each frame. Raises ConfigError, EngineError."""
    with closing(open_networks(config_of(measured, low_score, one_look))) as networks:
        return [networks.detector.detect(frame) for frame in seen]


def kinds_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files below `folder`, and the name of the folder that each is in."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.parent.name


def half_of(name: str) -> str:
    return "held-out" if hashlib.sha256(name.encode()).digest()[0] % 2 else "dev"


def frames_of(path: Path, count: int) -> Iterator[Frame]:
    """The picture, or `count` frames of the clip; a file that is neither is named and passed over."""
    pictures = clip(path, count) if path.suffix.lower() in CLIPS else [cv2.imread(str(path))]
    if not pictures or pictures[0] is None:
        print(f"{path}: neither a picture nor a clip, passed over", file=sys.stderr)
        return
    for picture in pictures:
        yield Frame(0, 0, picture.shape[1], picture.shape[0], "bgr8", picture)


def clip(path: Path, count: int) -> list[Any]:
    """Evenly spread frames; all are read, as what a clip says of its length is not to be relied on."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (picture := capture.read()[1]) is not None:
        frames.append(picture)
    middles = (np.arange(count) + 0.5) * len(frames) / count
    return [frames[number] for number in sorted({int(middle) for middle in middles})] if frames else []


def kinds_of(frame: Frame, found: Detections, sure_score: float) -> face_kinds.Kinds:
    """What the sure faces of a picture are like, where the reference has five points."""
    sure = found.score >= sure_score
    points = found.keypoints[sure]
    return face_kinds.of_picture(frame.pixels, found.xyxy[sure], points) if points.shape[1] == 5 else {}


def scenes_of(path: Path) -> Iterator[Picture]:
    """The rendered scenes of a shard: its faces have the score `SURE`, what may be found or not `DOUBTFUL`."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in ("picture", "first", "xyxy", "keypoints", "ignore", "visible", "pose")}
    for number, picture in enumerate(arrays.pop("picture")):
        mine = slice(*arrays["first"][number : number + 2])
        score = np.where(arrays["ignore"][mine] > 0, DOUBTFUL, SURE).astype(np.float32)
        faces = Detections(arrays["xyxy"][mine], score, arrays["keypoints"][mine])
        sure = score == SURE
        kinds = face_kinds.of_truth(arrays["pose"][mine][sure], arrays["visible"][mine][sure])
        frame = Frame(0, 0, picture.shape[1], picture.shape[0], "bgr8", cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
        yield Picture("faces", frame, faces, SURE, kinds)


# --- speed


def speed(cards: Mapping[str, Card]) -> Table:
    """Median milliseconds of the networks alone at their cards' inputs; they take turns."""
    found: Table = {name: {"input": [card.input.width, card.input.height]} for name, card in cards.items()}
    for threads in (1, 2):
        engines = {name: open_engine(card, None, threads=threads, spinning=False) for name, card in cards.items()}
        spent: dict[str, list[float]] = {name: [] for name in cards}
        for _ in range(ROUNDS):
            for name, engine in engines.items():
                shape = (1, cards[name].input.channels, *engine.input_size[::-1])
                tensor = np.random.default_rng(0).random(shape, np.float32) * 255
                start = time.perf_counter()
                engine.run(tensor)
                spent[name].append((time.perf_counter() - start) * 1e3)
        for name, engine in engines.items():
            found[name][f"ms_{threads}"] = float(np.median(spent[name][WARM_UP:]))
            engine.close()
    return found


def speed_text(report: Table) -> str:
    """The last network is the unit."""
    last = list(report.values())[-1]
    lines = ["", *heading("ms (to the last network)", ["input", "1 thread", "2 threads"])]
    for name, one in report.items():
        times = [f"{one[key]:.1f} ({one[key] / last[key]:.2f})" for key in ("ms_1", "ms_2")]
        lines += row(name, ["x".join(map(str, one["input"])), *times])
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
