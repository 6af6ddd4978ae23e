"""What an operator may set: a TOML file and command-line flags -> typed values, every one checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgeface.errors import ConfigError

Share = Annotated[float, Meta(ge=0, le=1)]
Inner = Annotated[float, Meta(gt=0, lt=1)]
Side = Annotated[int, Meta(ge=32, le=8192)]
Focal = Annotated[float, Meta(ge=1, le=1e6)]  # pixels
Middle = Annotated[float, Meta(ge=-1e6, le=1e6)]  # pixels
Precision = Literal["fp32", "fp16", "int8"]
Count = Annotated[int, Meta(ge=1, le=8)]


class DeepstreamDbscanConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """DeepStream's clustering; the keys are nvinfer's."""

    pre_cluster_threshold: Inner = 0.2
    eps: Inner = 0.7
    min_boxes: Annotated[int, Meta(ge=1, le=1000)] = 1
    min_score: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    athr: bool = True


class TaoDbscanConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """TAO's clustering; the keys are those of its inference specifications."""

    coverage_threshold: Inner = 0.005
    eps: Inner = 0.3
    min_samples: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    confidence_threshold: Annotated[float, Meta(ge=0, le=1000)] = 0.9
    min_height: Annotated[float, Meta(ge=0, le=8192)] = 4.0


class DetectorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which network looks, and how closely. What is not set is as the card says."""

    card: str = "edgeface-detector"
    input_size: tuple[Side, Side] | None = None
    scales: Annotated[tuple[Side, ...], Meta(min_length=1, max_length=8)] | None = None  # longer sides of the inputs
    tiles: tuple[Count, Count] = (1, 1)  # columns, rows
    score_threshold: Share | None = None
    clustering: Literal["nms", "deepstream_dbscan", "tao_dbscan"] = "nms"
    nms_iou_threshold: Share | None = None
    max_candidates: Annotated[int, Meta(ge=1, le=10000)] | None = None  # 400 for nms, 1200 for the others
    deepstream_dbscan: DeepstreamDbscanConfig = DeepstreamDbscanConfig()
    tao_dbscan: TaoDbscanConfig = TaoDbscanConfig()


class LandmarksConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which network places the facial landmarks, and what is made of them."""

    card: Annotated[str, Meta(min_length=1)] = "edgeface-landmarks"  # or "none"
    hold_tracks: bool = True
    pose: bool = False
    eyes: bool = False
    quality: bool = False
    camera_matrix: tuple[Focal, Focal, Middle, Middle] | None = None  # fx, fy, cx, cy; None: by the field of view
    horizontal_fov_deg: Annotated[float, Meta(ge=5, le=170)] = 60.0


class TrackerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How faces are followed, in scores and seconds. What is not set is as the card says."""

    keyframe_interval: Annotated[int, Meta(ge=1, le=300)] | Literal["adaptive"] = 3
    low_score_threshold: Share | None = None
    new_score_margin: Share = 0.1
    min_hits: Annotated[int, Meta(ge=1, le=100)] = 2
    lost_timeout_s: Annotated[float, Meta(ge=0, le=60)] = 2.0
    coast_s: Annotated[float, Meta(ge=0, le=60)] = 0.5
    camera_moves: bool = False
    smoothing: bool = True


class ScheduleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When to look; all but max_detector_share are for keyframe_interval = "adaptive"."""

    max_age_s: Annotated[float, Meta(gt=0, le=60)] = 0.25
    idle_age_s: Annotated[float, Meta(gt=0, le=60)] = 1.0
    max_uncertainty: Annotated[float, Meta(gt=0, le=10)] = 0.15
    max_travel: Annotated[float, Meta(gt=0, le=100)] = 0.5
    max_motion: Share = 0.01
    max_detector_share: Annotated[float, Meta(gt=0, le=1)] = 1.0


class CpuConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The CPU backend. Spinning threads are faster only on a machine that does nothing else."""

    threads: Annotated[int, Meta(ge=1, le=256)] = 2
    spinning: bool = False


class CudaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The GPU backend."""

    device: Annotated[int, Meta(ge=0, le=63)] = 0
    # of the engines to load; of several the first that exists and passes its self-test, for each network
    precision: Precision | Annotated[tuple[Precision, ...], Meta(min_length=1, max_length=3)] = "fp16"
    self_test_minutes: Annotated[float, Meta(ge=0, le=1440)] = 0.0  # how often again while it runs; 0: never
    dla_core: Annotated[int, Meta(ge=0, le=7)] | None = None  # None: the GPU itself
    graph: bool = True  # replay a captured CUDA graph instead of enqueueing layer by layer
    frame_memory: Literal["auto", "mapped", "device"] = "auto"  # where kernels read a frame
    capture: Literal["auto", "jetson-utils", "opencv"] = "auto"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration; every value has a default that works."""

    camera: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,32}\Z")] = "cam0"
    source: Annotated[str, Meta(min_length=1)] = "demo:"
    backend: Literal["auto", "cpu", "cuda"] = "auto"
    endpoint: str = ""  # empty: the default for this camera
    engines: tuple[str, ...] = ()
    camera_timeout_s: Annotated[float, Meta(gt=0, le=600)] = 3.0
    detector: DetectorConfig = DetectorConfig()
    landmarks: LandmarksConfig = LandmarksConfig()
    tracker: TrackerConfig = TrackerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    cpu: CpuConfig = CpuConfig()
    cuda: CudaConfig = CudaConfig()


def load_config(path: str | None, flags: dict[str, Any]) -> Config:
    """The configuration of the file at `path` (None: defaults) with `flags` laid over it.

    `flags` is a nested dict of what was given on the command line. Raises ConfigError with the path of a wrong key.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = msgspec.toml.decode(Path(path).read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not TOML: {error}") from error
    _convert(settings, path or "configuration")  # a wrong file is wrong also where a flag hides it
    if "engines" in flags:  # one folder more, searched first
        flags = flags | {"engines": [*flags["engines"], *settings.get("engines", [])]}
    return _convert(_overlay(settings, flags), "command line")


def _convert(settings: dict[str, Any], where: str) -> Config:
    try:
        return msgspec.convert(settings, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from error


def _overlay(settings: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for key, value in flags.items():
        merged[key] = _overlay(settings.get(key, {}), value) if isinstance(value, dict) else value
    return merged
