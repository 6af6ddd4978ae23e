"""Compare with insightface: the same network on the same frames in one run. Needs `pip install insightface`.

    python scripts/compare_insightface.py --networks DIR --pictures FILE ... [--json FILE]

DIR holds SCRFD networks with keypoints (input 640x640). Three parts: parity (boxes, scores, counts on the pictures and
on every frame of clips), time (1280x720 frames panned over insightface's own sample picture, stage by stage, on 1
and 2 threads), and leanness (import time and memory, each in a fresh process).
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import insightface
import msgspec
import numpy as np
import onnxruntime as ort

from edgeface import message
from edgeface.bench import IMPORTS, IMPORTS_OF, Stopwatch
from edgeface.boxes import iou, letterbox, nms
from edgeface.config import Config, load_config
from edgeface.cpu.engine import OnnxEngine, open_engine
from edgeface.detector import FaceDetector
from edgeface.model_card import Card, bundled_engines, load_card
from edgeface.networks import make_detector
from edgeface.parts import make_tracker
from edgeface.pipeline import Pipeline
from edgeface.schedule import KeyframeSchedule
from edgeface.values import Frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, nargs="+", required=True)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    networks = sorted(arguments.networks.glob("scrfd*.onnx"))
    report = {
        "parity": [parity(network, arguments.pictures) for network in networks],
        "time": [
            timing(network, threads, pan(arguments.frames, copies), arguments.rounds)
            for network, copies in [(networks[-1], 1), (networks[-1], 2), (networks[0], 1)]
            for threads in (1, 2)
        ],
        "imports": imports(),
        "running_rss_mb": running_memory(networks[-1]),
    }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


def scrfd_card(network: Path) -> Card:
    card = load_card(bundled_engines() / "scrfd-500m-kps.toml")
    return msgspec.structs.replace(card, onnx=network.name, sha256="", folders=(str(network.parent),))


def our_detector(network: Path, threads: int) -> tuple[OnnxEngine, FaceDetector]:
    """Ours at the card's operating point; nothing below its score, as insightface does."""
    card = scrfd_card(network)
    engine = open_engine(card, None, threads=threads, spinning=False)
    settings = {"tracker": {"low_score_threshold": card.thresholds.score}, "detector": {"max_candidates": 1000}}
    return engine, make_detector(card, engine, load_config(None, settings))


def their_detector(network: Path, threads: int):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    detector = insightface.model_zoo.get_model(str(network), providers=["CPUExecutionProvider"], sess_options=options)
    detector.prepare(-1, det_thresh=0.5, input_size=(640, 640))
    return detector


def frame_of(picture: np.ndarray, number: int = 0) -> Frame:
    height, width = picture.shape[:2]
    return Frame(number, number * 33_333_333, width, height, "bgr8", picture)


def pictures_of(path: Path) -> Iterator[np.ndarray]:
    """A picture, or all frames of a clip."""
    if path.suffix.lower() not in (".gif", ".mp4", ".avi", ".mkv"):
        yield cv2.imread(str(path))
        return
    capture = cv2.VideoCapture(str(path))
    while (picture := capture.read()[1]) is not None:
        yield picture


def parity(network: Path, paths: list[Path]) -> dict:
    """Largest differences between the two on the same pictures; boxes are paired by IoU."""
    _, ours = our_detector(network, 2)
    theirs = their_detector(network, 2)
    pictures = faces = other_counts = 0
    box = score = point = rounding = 0.0
    for path in paths:
        for picture in pictures_of(path):
            mine = ours.detect(frame_of(picture))
            boxes, points = theirs.detect(picture, input_size=(640, 640))
            pictures += 1
            faces += len(boxes)
            if len(boxes) != len(mine.score):
                other_counts += 1
                continue
            if not len(boxes):
                continue
            pair = iou(boxes[:, :4].astype(np.float32), mine.xyxy).argmax(axis=1)
            # theirs divides both axes by the height's scale, truncated to whole pixels; each axis has its own
            height, width = picture.shape[:2]
            crop = letterbox((width, height), (640, 640))[0]
            their_scale = (640 if height > width else int(640 * height / width)) / height
            exact = np.array([crop[2], crop[3]] * 2) / 640 * their_scale
            box = max(box, float(np.abs(boxes[:, :4] - mine.xyxy[pair]).max()))
            rounding = max(rounding, float(np.abs(boxes[:, :4] * exact - mine.xyxy[pair]).max()))
            score = max(score, float(np.abs(boxes[:, 4] - mine.score[pair]).max()))
            point = max(point, float(np.abs(points * exact[:2] - mine.keypoints[pair]).max()))
    return {
        "network": network.name,
        "pictures": pictures,
        "faces": faces,
        "pictures_with_other_count": other_counts,
        "max_box_difference_px": round(box, 4),
        "max_box_difference_px_with_exact_scale": round(rounding, 4),
        "max_keypoint_difference_px_with_exact_scale": round(point, 4),
        "max_score_difference": round(score, 6),
    }


def pan(count: int, copies: int) -> list[np.ndarray]:
    """1280x720 frames over `copies` of insightface's six-face sample picture side by side, moving 2 px a frame."""
    still = cv2.imread(str(Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"))
    assert still is not None
    zoom = 1.0 / copies
    frames = []
    for number in range(count):
        move = np.array([[zoom, 0, -2 * (number % 50) / copies], [0, zoom, -(100 + number % 50) / copies]])
        picture = cv2.warpAffine(still, move, (1280 // copies, 720), borderMode=cv2.BORDER_REPLICATE)
        frames.append(np.hstack([picture] * copies))
    return frames


def timing(network: Path, threads: int, pictures: list[np.ndarray], rounds: int) -> dict:
    """Medians over all frames of all rounds; the two take turns round by round."""
    cv2.setNumThreads(threads)
    frames = [frame_of(picture, number) for number, picture in enumerate(pictures)]
    engine, ours = our_detector(network, threads)
    watch, their_watch = Stopwatch(), Stopwatch()
    watch.wrap(engine, "crop", "pre")
    watch.wrap(engine, "run", "inference")
    watch.wrap(ours, "detect", "look")
    tracker = make_tracker(scrfd_card(network).thresholds, Config())
    pipeline = Pipeline(ours, tracker, KeyframeSchedule(1), blind_timeout_s=1.0)
    theirs = their_detector(network, threads)

    class Session:
        def __init__(self, inner: ort.InferenceSession) -> None:
            self.run = inner.run
            self.inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

    session = Session(theirs.session)
    their_watch.wrap(session, "run", "inference")
    theirs.session = session
    theirs._session_for_input_size = lambda size: session
    mine: dict[str, list[float]] = {}
    other: dict[str, list[float]] = {}
    candidates: list[int] = []
    face_counts: list[int] = []
    decode = ours.decode
    ours.decode = lambda outputs, score: candidates.append(len((found := decode(outputs, score)).score)) or found
    for round_number in range(rounds):
        for frame in frames:
            later_ns = round_number * len(frames) * 33_333_333
            frame = replace(frame, capture_ns=frame.capture_ns + later_ns)  # noqa: PLW2901
            start = time.perf_counter_ns()
            messages = pipeline.step(frame)
            for _, body in messages:
                message.encode(body)
            total = time.perf_counter_ns() - start
            face_counts.append(len(messages[0][1]["faces"]))
            now = watch.lap(keep=False)
            row = {
                "pre": now["pre"],
                "inference": now["inference"],
                "post": now["look"] - now["pre"] - now["inference"],
                "rest": total - now["look"],
                "total": total,
            }
            for key, value in row.items():
                mine.setdefault(key, []).append(value / 1e6)
        for frame in frames:
            seen: list[int] = []
            start = time.perf_counter_ns()
            run = session.run
            session.run = lambda *a, _run=run, _seen=seen, **k: (_seen.append(time.perf_counter_ns()), _run(*a, **k))[1]
            theirs.detect(frame.pixels, input_size=(640, 640))
            total = time.perf_counter_ns() - start
            session.run = run
            inference = their_watch.lap(keep=False)["inference"]
            pre = seen[0] - start
            row = {"pre": pre, "inference": inference, "post": total - pre - inference, "total": total}
            for key, value in row.items():
                other.setdefault(key, []).append(value / 1e6)
    loop = []
    outputs = engine.infer(frames[0], letterbox((1280, 720), (640, 640)))
    for _ in range(500):
        start = time.perf_counter_ns()
        found = decode(outputs, 0.5)
        nms(found.xyxy, found.score, 0.4)
        loop.append((time.perf_counter_ns() - start) / 1e6)
    median = lambda rows: {key: round(statistics.median(values), 3) for key, values in rows.items()}  # noqa: E731
    return {
        "network": network.name,
        "threads": threads,
        "frames": len(frames) * rounds,
        "median_faces": statistics.median(face_counts),
        "median_candidates": statistics.median(candidates),
        "edgeface_ms": median(mine),
        "decode_and_nms_in_a_loop_ms": {
            "candidates": len(found.score),
            "median": round(statistics.median(loop), 3),
        },
        "insightface_ms": median(other),
    }


_MEASURE = """
import sys, time
def rss(): return int(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1]) / 1024
start = time.perf_counter()
exec(sys.argv[1])
print((time.perf_counter() - start) * 1e3, rss())
"""


def imports() -> dict:
    """Import time and resident memory, medians of 9 fresh processes each, in turn."""
    programs = {**IMPORTS, **IMPORTS_OF["cpu"], "insightface": "import insightface"}
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(9):
        for name, program in programs.items():
            out = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", _MEASURE, program], capture_output=True, text=True, check=True
            )
            milliseconds, megabytes = out.stdout.split()[-2:]
            rows[name].append((float(milliseconds), float(megabytes)))
    return {
        name: {
            "import_ms": round(statistics.median(row[0] for row in values), 1),
            "rss_mb": round(statistics.median(row[1] for row in values), 1),
        }
        for name, values in rows.items()
    }


_THEIR_RUN = """
import sys, cv2, insightface, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = 2
options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
detector = insightface.model_zoo.get_model(sys.argv[1], providers=["CPUExecutionProvider"], sess_options=options)
detector.prepare(-1, det_thresh=0.5, input_size=(640, 640))
capture = cv2.VideoCapture(sys.argv[2])
while (picture := capture.read()[1]) is not None:
    detector.detect(picture, input_size=(640, 640))
print(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
"""


def running_memory(network: Path) -> dict:
    """Resident memory after 150 frames of a 1280x720 film, medians of 3: our whole daemon, their detector alone."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        film, card = f"{folder}/pan.mp4", f"{folder}/scrfd.toml"
        writer = cv2.VideoWriter(film, cv2.VideoWriter.fourcc(*"mp4v"), 30, (1280, 720))
        for picture in pan(150, 1):
            writer.write(picture)
        writer.release()
        text = (bundled_engines() / "scrfd-500m-kps.toml").read_text()
        Path(card).write_text(
            re.sub("(?m)^(onnx|sha256) = .*$", lambda m: f'{m[1]} = "{network.name if m[1] == "onnx" else ""}"', text)
        )
        (Path(folder) / network.name).symlink_to(network.absolute())
        run = "from edgeface.cli import main; main()"
        options = ["--source", f"{film}?loop=1", "--detector", card, "--endpoint", f"ipc://{folder}/r.ipc"]
        for _ in range(3):
            daemon = subprocess.Popen([sys.executable, "-c", run, "run", *options], stderr=subprocess.DEVNULL)
            time.sleep(7)
            ours.append(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{daemon.pid}/status").read_text())[1]) / 1024)
            daemon.terminate()
            daemon.wait()
            command = [sys.executable, "-W", "ignore", "-c", _THEIR_RUN, str(network), film]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            theirs.append(int(out.split()[-1]) / 1024)
    return {"edgeface run": round(statistics.median(ours), 1), "insightface": round(statistics.median(theirs), 1)}


if __name__ == "__main__":
    main()
