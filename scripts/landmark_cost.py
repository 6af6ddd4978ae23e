"""What landmarks cost, stage by stage, on a frame between looks: a part of scripts/measure_landmarks.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import cv2
import numpy as np
from measure_camera_motion import pictures
from numpy.typing import NDArray

from edgeface.config import Config, load_config
from edgeface.cpu.engine import OnnxEngine
from edgeface.evaluate.tracking import truth_for
from edgeface.eyes import openness
from edgeface.face_crops import RULES, usable
from edgeface.head_pose import camera_from_fov, head_poses
from edgeface.holding import LandmarkHold
from edgeface.landmarks import FaceLandmarker
from edgeface.message import encode, faces_body
from edgeface.model_card import Fpenet, find_card
from edgeface.networks import Networks, open_networks
from edgeface.parts import make_tracker
from edgeface.quality import quality
from edgeface.smoothing import FaceSmoother
from edgeface.source_uri import parse_source
from edgeface.values import F32, U8, Detections, Frame, Landmarks, Signals, Tracks

WIDTH, HEIGHT = 1280, 720
FRAME_NS = 33_333_333
_MARGIN = 1.3  # of the cut-out picture of a face, in longer sides of its box
_WARM_UP = 3  # rounds

T = TypeVar("T")
Costs = dict[str, float]  # stage -> microseconds a frame


def measure(counts: Sequence[int], sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """Microseconds a frame for every number of faces and size; medians of `rounds` rounds, in which all take turns."""
    config = load_config(None, {})
    face = cut_out()
    with closing(open_networks(config)) as networks:
        chains = {(n, px): Chain(config, networks, *scene(face, n, px)) for n in counts for px in sizes}
        taken: dict[tuple[int, int], list[Costs]] = {which: [] for which in chains}
        for _ in range(rounds + _WARM_UP):
            for which, chain in chains.items():
                taken[which].append(chain.run())
    return {
        "frame": [WIDTH, HEIGHT],
        "threads": config.cpu.threads,
        "rounds": rounds,
        "us": [
            {"faces": n, "size_px": px}
            | {stage: round(float(np.median([us[stage] for us in turns[_WARM_UP:]])), 1) for stage in turns[0]}
            for (n, px), turns in taken.items()
        ],
    }


def cut_out() -> U8:
    """The largest wholly visible face of the demo clip, with a margin, square."""
    truth, frames = truth_for(parse_source("demo:"), 0), pictures()
    boxes = truth.boxes.where(truth.counts)
    longer = np.max(boxes.xyxy[:, 2:] - boxes.xyxy[:, :2], axis=1)
    inside = (boxes.xyxy[:, :2] > 0).all(axis=1) & (boxes.xyxy[:, 2:] < [frames[0].width, frames[0].height]).all(axis=1)
    best = int(np.argmax(longer * inside))
    side = longer[best] * _MARGIN
    left, top = (boxes.xyxy[best, :2] + boxes.xyxy[best, 2:]) / 2 - side / 2
    way = np.array([[1, 0, -left], [0, 1, -top]])
    pixels = frames[int(boxes.frame[best]) - 1].pixels
    return np.asarray(
        cv2.warpAffine(pixels, way, (round(side), round(side)), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def scene(face: U8, count: int, size_px: int) -> tuple[NDArray[Any], F32]:
    """A picture of 1280x720 with `count` faces on a grid, and their boxes [n, 4]; many large ones overlap."""
    columns = int(np.ceil(np.sqrt(count * 1.2)))
    rows = -(-count // columns)
    picture = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
    side = round(size_px * _MARGIN)
    patch = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    boxes = []
    for index in range(count):
        x = (index % columns + 0.5) * WIDTH / columns
        y = (index // columns + 0.5) * HEIGHT / rows
        left, top = max(round(x - side / 2), 0), max(round(y - side / 2), 0)
        target = picture[top : top + side, left : left + side]
        target[:] = patch[: target.shape[0], : target.shape[1]]
        boxes.append([x - size_px / 2, y - size_px / 2, x + size_px / 2, y + size_px / 2])
    return picture, np.array(boxes, np.float32)


class Chain:
    """A look that is not timed, then the frame after it, stage by stage in the pipeline's order."""

    def __init__(self, config: Config, networks: Networks, picture: NDArray[Any], xyxy: F32) -> None:
        assert networks.landmarker is not None
        assert isinstance(networks.landmarker.engine, OnnxEngine)
        card = find_card(config.landmarks.card, config.engines)
        assert isinstance(card.decoder, Fpenet)
        self._landmarker: FaceLandmarker = networks.landmarker
        self._engine = networks.landmarker.engine
        self._rule, self._scale = RULES[card.decoder.border], card.decoder.crop_scale
        self._tracker = make_tracker(networks.thresholds, config)
        self._hold, self._smoother, self._boxes_only = LandmarkHold(), FaceSmoother(), FaceSmoother()
        self._seen = Detections(xyxy, np.full(len(xyxy), 0.9, np.float32), np.zeros((len(xyxy), 0, 2), np.float32))
        self._picture = picture
        self._now_ns = 0
        self._camera = camera_from_fov(WIDTH, HEIGHT, 60)

    def run(self) -> Costs:
        """Microseconds of each stage."""
        us: Costs = {}

        def timed(stage: str, call: Callable[[], T]) -> T:
            begun = time.perf_counter_ns()
            result = call()
            us[stage] = (time.perf_counter_ns() - begun) / 1000
            return result

        self._tracker.clear((WIDTH, HEIGHT))
        look = self._frame()
        tracks = self._tracker.update(self._seen, look.capture_ns)
        points = self._landmarker.locate(look, tracks.xyxy)
        timed("learn", lambda: self._hold.learn(tracks, points))
        for smoother, xy in ((self._smoother, points.xy), (self._boxes_only, points.xy[:, :0])):
            smoother.smooth(tracks, xy, look.capture_ns)

        frame = self._frame()
        known = self._tracker.predict(frame.capture_ns)
        crops = timed("crop rule", lambda: self._crops(known.xyxy))
        tensor = timed("crops", lambda: self._engine.crop(frame, crops))
        raw = timed("inference", lambda: self._engine.run(tensor))
        timed("decode", lambda: self._landmarker.decode(raw))
        landmarks = timed("locate", lambda: self._located(frame, known, us))
        us["outside inference"] = us["locate"] - us.pop("run in locate")
        with self._network(lambda _: raw):
            for _ in range(2):  # the second time in warm caches, which inference empties
                timed("locate again, network left out", lambda: self._landmarker.locate(frame, known.xyxy))
        _, boxes, _ = timed("judge", lambda: self._hold.judge(known, landmarks))
        held = timed("tracker.hold", lambda: self._tracker.hold(known.track_id, boxes))
        _, xy = timed("smooth", lambda: self._smoother.smooth(held, landmarks.xy, frame.capture_ns))
        timed("smooth again, boxes only", lambda: self._boxes_only.smooth(held, landmarks.xy[:, :0], frame.capture_ns))
        calm = replace(landmarks, xy=xy)
        poses = timed("pose", lambda: head_poses(calm.xy, self._camera))
        eyes = timed("eyes", lambda: openness(landmarks.xy, poses.q, poses.position))
        grey = timed("kept crops", self._engine.pictures)
        yaw = poses.angles[:, 0]
        rated = timed("quality", lambda: quality(held.xyxy, (WIDTH, HEIGHT), grey, landmarks.score, yaw))
        none = Landmarks(np.zeros((0, 0, 2), np.float32), np.zeros((0, 0), np.float32))
        timed("message", lambda: message(frame, held, calm, Signals()))
        timed("message again, boxes only", lambda: message(frame, held, none, Signals()))
        timed("message again, with landmarks", lambda: message(frame, held, calm, Signals()))
        timed("message again, with signals", lambda: message(frame, held, calm, Signals(poses, eyes, rated)))
        return us

    def _frame(self) -> Frame:
        self._now_ns += FRAME_NS
        return Frame(self._now_ns // FRAME_NS, self._now_ns, WIDTH, HEIGHT, "bgr8", self._picture)

    def _crops(self, xyxy: F32) -> F32:
        crops = self._rule(xyxy, self._scale, (WIDTH, HEIGHT))
        return crops[usable(crops, (WIDTH, HEIGHT))]

    def _located(self, frame: Frame, known: Tracks, us: Costs) -> Landmarks:
        """locate(), which says how long the network ran in it."""
        network = self._engine.run

        def run(tensor: F32) -> dict[str, NDArray[Any]]:
            begun = time.perf_counter_ns()
            outputs = network(tensor)
            us["run in locate"] = us.get("run in locate", 0) + (time.perf_counter_ns() - begun) / 1000
            return outputs

        with self._network(run):
            return self._landmarker.locate(frame, known.xyxy)

    @contextmanager
    def _network(self, run: Callable[[F32], dict[str, NDArray[Any]]]) -> Iterator[None]:
        """What the engine runs meanwhile."""
        vars(self._engine)["run"] = run
        try:
            yield
        finally:
            del vars(self._engine)["run"]


def message(frame: Frame, tracks: Tracks, landmarks: Landmarks, signals: Signals) -> bytes:
    """A `faces` message, packed."""
    body = faces_body(
        frame,
        tracks,
        dropped=0,
        keyframe_age=1,
        keyframe_reason="",
        mode="fixed",
        timing_us={},
        landmarks=landmarks,
        signals=signals,
    )
    return encode(body)
