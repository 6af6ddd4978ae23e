"""Other trackers behind one interface, each remembering a face for one second, otherwise with the settings it ships.

To have them all, in a virtual environment beside edgeface's own packages:

    pip install uniface==4.2.1 trackers==2.6.1 motpy==0.0.10 pyxtrackers==2026.3.3 similari-trackers-rs==0.26.12 \
        edgefirst-tracker==0.38.0 visiontrack-mot==0.3.0 filterpy==2.0.0 scipy rich
    pip install --no-deps norfair==2.3.0 supervision==0.26.1 boxmot==25.0.0

norfair pins an old numpy; supervision 0.31 has no ByteTrack any more, and trackers runs on 0.26.1 too; boxmot imports
torch, but its numpy path computes without it (a package `torch` whose every name is a dummy will do). What is not
installed is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from plain_trackers import FPS, MEMORY, Peer, and_others, rows

from edgeface.values import F32, F64


class Roboflow(Peer):
    """The package trackers. Takes the time when it is called on the looks only."""

    def __init__(self, name: str, period: int, empty: bool) -> None:
        import supervision
        import trackers

        super().__init__(period, empty)
        self.Detections = supervision.Detections
        self.tracker = getattr(trackers, name)(lost_track_buffer=MEMORY, frame_rate=FPS)

    def convert(self, found: F32) -> Any:
        return self.Detections(xyxy=found[:, :4], confidence=found[:, 4], class_id=np.zeros(len(found), int))

    def update(self, found: Any, time_s: float) -> Any:
        return self.tracker.update(found, **({"timestamp": time_s} if self.calls_apart > 1 else {}))

    def export(self, tracks: Any) -> F64:
        if not len(tracks) or tracks.tracker_id is None:
            return np.zeros((0, 5))
        named = tracks.tracker_id >= 0
        return np.column_stack([tracks.xyxy[named], tracks.tracker_id[named]])


class Supervision(Roboflow):
    def __init__(self, period: int, empty: bool) -> None:
        import supervision

        Peer.__init__(self, period, empty)
        self.Detections = supervision.Detections
        self.tracker = supervision.ByteTrack(lost_track_buffer=self.memory, frame_rate=30)

    def update(self, found: Any, time_s: float) -> Any:
        return self.tracker.update_with_detections(found)


class BoxmotByteTrack(Peer):
    """Takes the time when it is called on the looks only."""

    def __init__(self, period: int, empty: bool) -> None:
        from boxmot.trackers.box.bytetrack.tracker import ByteTrack

        super().__init__(period, empty)
        logging.getLogger("boxmot").setLevel(logging.WARNING)
        self.tracker: Any = ByteTrack(track_buffer=self.memory, frame_rate=30, variable_dt=self.calls_apart > 1)

    def convert(self, found: F32) -> Any:
        return np.column_stack([found, np.zeros(len(found), np.float32)])

    def update(self, found: Any, time_s: float) -> Any:
        return self.tracker.update(found, **({"timestamp_s": time_s} if self.calls_apart > 1 else {}))


class BoxmotOcSort(BoxmotByteTrack):
    def __init__(self, period: int, empty: bool) -> None:
        from boxmot.trackers.box.ocsort.tracker import OcSort

        Peer.__init__(self, period, empty)
        logging.getLogger("boxmot").setLevel(logging.WARNING)
        self.tracker = OcSort(max_age=self.memory)

    def update(self, found: Any, time_s: float) -> Any:
        return self.tracker.update(found)


class Norfair(Peer):
    """Is told the period, and publishes what it predicts."""

    def __init__(self, period: int, empty: bool) -> None:
        import norfair

        super().__init__(period, empty)
        self.Detection, self.period = norfair.Detection, period if empty else 1
        self.tracker = norfair.Tracker(
            distance_function="iou", distance_threshold=0.7, hit_counter_max=self.memory, initialization_delay=2
        )

    def convert(self, found: F32) -> Any:
        corners = found[:, :4].reshape(-1, 2, 2).astype(float)
        return [self.Detection(points=box, scores=score[[4, 4]]) for box, score in zip(corners, found, strict=True)]

    def update(self, found: Any, time_s: float) -> Any:
        return self.tracker.update(found or None, period=self.period)

    def export(self, tracks: Any) -> F64:
        return rows([[*track.estimate.ravel(), track.id] for track in tracks])


class Motpy(Peer):
    """Publishes what it predicts."""

    def __init__(self, period: int, empty: bool) -> None:
        import motpy

        super().__init__(period, empty)
        logging.getLogger("motpy").setLevel(logging.ERROR)
        self.Detection = motpy.Detection
        self.tracker = motpy.MultiObjectTracker(
            dt=self.calls_apart / FPS,
            tracker_kwargs={"max_staleness": self.memory},
            matching_fn_kwargs={"min_iou": 0.3},
            active_tracks_kwargs={"min_steps_alive": 2, "max_staleness": MEMORY},
        )

    def convert(self, found: F32) -> Any:
        return [self.Detection(box=row[:4].astype(float), score=float(row[4])) for row in found]

    def update(self, found: Any, time_s: float) -> Any:
        return self.tracker.step(found)

    def export(self, tracks: Any) -> F64:
        return rows([[*track.box, self.number(track.id)] for track in tracks])


class Pyxtrackers(Peer):
    """Compiled (Cython)."""

    def __init__(self, name: str, period: int, empty: bool) -> None:
        import pyxtrackers

        super().__init__(period, empty)
        settings: dict[str, dict[str, float]] = {
            "Sort": {"max_age": self.memory, "min_hits": 3, "iou_threshold": 0.3},
            "BYTETracker": {
                "track_thresh": 0.5,
                "match_thresh": 0.8,
                "track_buffer": self.memory,
                "frame_rate": 30,
            },
            "OCSort": {"det_thresh": 0.3, "max_age": self.memory},
        }
        self.tracker = getattr(pyxtrackers, name)(**settings[name])

    def convert(self, found: F32) -> Any:
        return found.astype(np.float64)


class Uniface(Peer):
    def __init__(self, period: int, empty: bool) -> None:
        from uniface.tracking.bytetrack.tracker import BYTETracker

        super().__init__(period, empty)
        self.tracker = BYTETracker(track_thresh=0.5, track_buffer=self.memory, match_thresh=0.8)
        self.tracker.reset()

    def convert(self, found: F32) -> Any:
        return found.astype(np.float64)


class Visiontrack(Peer):
    def __init__(self, period: int, empty: bool) -> None:
        import visiontrack

        super().__init__(period, empty)
        self.Detection = visiontrack.Detection
        self.tracker = visiontrack.ByteTracker(visiontrack.TrackerConfig(max_age=self.memory))

    def convert(self, found: F32) -> Any:
        return [self.Detection(row[:4], float(row[4])) for row in found]

    def export(self, tracks: Any) -> F64:
        return rows([[*track.xyxy, track.track_id] for track in tracks])


class Similari(Peer):
    """Compiled (Rust), with threads of its own. Gives its predictions on request."""

    def __init__(self, period: int, empty: bool) -> None:
        import similari

        super().__init__(period, empty)
        self.Box = similari.BoundingBox.new_with_confidence
        metric = similari.PositionalMetricType.iou(0.3)
        self.tracker = similari.Sort(shards=1, bbox_history=1, max_idle_epochs=self.memory, method=metric)

    def convert(self, found: F32) -> Any:
        return [
            (self.Box(left, top, right - left, bottom - top, score).as_xyaah(), None)
            for left, top, right, bottom, score in found.tolist()
        ]

    def update(self, found: Any, time_s: float) -> Any:
        return self.tracker.predict(found)

    def export(self, tracks: Any) -> F64:
        boxes = [(track.predicted_bbox.as_ltwh(), self.number(track.id)) for track in tracks]
        return rows([[b.left, b.top, b.left + b.width, b.top + b.height, number] for b, number in boxes])

    def between(self, time_s: float) -> F64:
        return and_others(super().between(time_s), self.export(self.tracker.idle_tracks()))


class Edgefirst(Peer):
    """Compiled (Rust). Takes the time; gives its predictions on request; its coordinates are shares of the frame."""

    WIDTH = 1920

    def __init__(self, period: int, empty: bool) -> None:
        from edgefirst.tracker import ByteTrack

        super().__init__(period, empty)
        self.tracker = ByteTrack(high_conf=0.5, iou=0.25, lifespan_ns=1_000_000_000)

    def convert(self, found: F32) -> Any:
        share = np.ascontiguousarray(found[:, :4] / self.WIDTH, np.float32)
        return share, np.ascontiguousarray(found[:, 4]), np.zeros(len(found), np.uintp)

    def update(self, found: Any, time_s: float) -> Any:
        return self.tracker.update(*found, int(time_s * 1e9))

    def export(self, tracks: Any) -> F64:
        table = rows([[*track.tracked_location, self.number(track.uuid)] for track in tracks if track is not None])
        table[:, :4] *= self.WIDTH
        return table

    def between(self, time_s: float) -> F64:
        found = super().between(time_s)
        return and_others(found, self.export([track.info for track in self.tracker.get_active_tracks()]))


Make = Callable[[int, bool], Peer]

PEERS: dict[str, tuple[str, Make]] = {  # name: package, how it is made
    "trackers.SORT": ("trackers", partial(Roboflow, "SORTTracker")),
    "trackers.ByteTrack": ("trackers", partial(Roboflow, "ByteTrackTracker")),
    "trackers.CBIoU": ("trackers", partial(Roboflow, "CBIoUTracker")),
    "trackers.OCSORT": ("trackers", partial(Roboflow, "OCSORTTracker")),
    "supervision.ByteTrack": ("supervision", Supervision),
    "boxmot.ByteTrack": ("boxmot", BoxmotByteTrack),
    "boxmot.OcSort": ("boxmot", BoxmotOcSort),
    "uniface.BYTETracker": ("uniface", Uniface),
    "norfair (iou)": ("norfair", Norfair),
    "motpy": ("motpy", Motpy),
    "visiontrack.ByteTracker": ("visiontrack-mot", Visiontrack),
    "pyxtrackers.Sort": ("pyxtrackers", partial(Pyxtrackers, "Sort")),
    "pyxtrackers.ByteTrack": ("pyxtrackers", partial(Pyxtrackers, "BYTETracker")),
    "pyxtrackers.OCSort": ("pyxtrackers", partial(Pyxtrackers, "OCSort")),
    "edgefirst.ByteTrack": ("edgefirst-tracker", Edgefirst),
    "similari.Sort": ("similari-trackers-rs", Similari),
}


@lru_cache
def installed() -> tuple[dict[str, Make], str]:
    """The peers that can be made here, and a line that says which versions, and which are missing."""
    peers, versions, missing = {}, {}, []
    for name, (package, make) in PEERS.items():
        try:
            make(1, True)
            versions[package] = version(package)
            peers[name] = make
        except (PackageNotFoundError, ImportError):
            missing.append(name)
    line = ", ".join(f"{package} {number}" for package, number in versions.items())
    return peers, f"{line or 'none'}; not installed: {', '.join(missing) or 'none'}"
