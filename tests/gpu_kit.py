"""Engine files of our cards for the software GPU, and frames as a camera captures them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from msgspec.structs import replace

from edgeface.cuda.picture import BT601, Picture
from edgeface.model_card import Card, find_card, input_sizes, onnx_path
from edgeface.passport import Passport, Tensor, engine_name, write_engine
from edgeface.values import Frame

MOST_FACES = 32


def write_soft_engine(
    folder: Path,
    card: Card,
    size: tuple[int, int],
    *,
    precision: str = "fp16",
    batch: int | None = None,
    dla: bool = False,
    passport: dict[str, Any] | None = None,
    **plan: Any,
) -> Path:
    """An engine of the card as `edgeface build` would make it; `batch` fixes one, landmarks have up to 32.

    `passport` changes what that says, `plan` what make_plan of the software GPU is told.
    """
    from plans import make_plan

    onnx = onnx_path(card)
    version = plan.setdefault("version", (10, 3, 0, 30))
    capability = plan.setdefault("compute_capability", (8, 7))
    name = ort.InferenceSession(str(onnx), providers=["CPUExecutionProvider"]).get_inputs()[0].name
    one = (card.input.channels, size[1], size[0])
    least, most = (1, MOST_FACES) if card.task == "landmarks" and batch is None else (batch or 1, batch or 1)
    if least < most:
        usual = {"shapes": {name: (-1, *one)}, "profile": {name: ((least, *one), (8, *one), (most, *one))}}
    else:
        usual = {"shapes": {name: (most, *one)}}
    data = make_plan(onnx, precision=precision, dla=dla, **(usual | plan))
    says: dict[str, Any] = {
        "schema": 1,
        "card": card.name,
        "engine_sha256": hashlib.sha256(data).hexdigest(),
        "engine_bytes": len(data),
        "onnx_sha256": hashlib.sha256(onnx.read_bytes()).hexdigest(),
        "built_from_sha256": hashlib.sha256(onnx.read_bytes()).hexdigest(),
        "tensorrt": ".".join(map(str, version[:3])),
        "plan_version": tuple(version),
        "compute_capability": ".".join(map(str, capability)),
        "device": "Orin",
        "platform": "test",
        "precision": precision,
        "int8_source": "",
        "inputs": (Tensor(name, (-1, *one), "float32"),),
        "outputs": (),
        "batch": (least, min(8, most), most),
        "input_size": size,
        "dla_core": 0 if dla else None,
        "workspace_mb": 1024,
        "flags": (),
        "date": "2026-11-22",
    }
    path = folder / engine_name(card.name, size, precision, dla)  # type: ignore[arg-type]
    write_engine(path, data, Passport(**(says | (passport or {}))))
    return path


def write_default_engines(folder: Path, *, looks: Sequence[tuple[int, int]] = (), **options: Any) -> None:
    """What `edgeface run` loads by default; `looks`: the detector's input sizes."""
    detector, landmarks = find_card("edgeface-detector"), find_card("edgeface-landmarks")
    for size in looks or input_sizes(detector):
        write_soft_engine(folder, detector, size, **options)
    write_soft_engine(folder, landmarks, (landmarks.input.width, landmarks.input.height), **options)


def opener(folder: Path, stack: ExitStack) -> Callable[..., Any]:
    """open_engines for (card, input size or None) pairs, with engines of `folder`; settings can be changed."""

    def opened(*networks: tuple[Card, tuple[int, int] | None], **changes: Any) -> Any:
        from edgeface.cuda.engine import open_engines

        settings = {"device": 0, "precisions": ["fp16"], "dla_core": None, "graph": True, "frame_memory": "auto"}
        settings["complaint"] = lambda *_: ""
        found = [(replace(card, folders=(str(folder), *card.folders)), size) for card, size in networks]
        return open_engines(found, stack, **(settings | changes))

    return opened


def host_frame(pixels: np.ndarray, number: int = 0) -> Frame:
    """A frame as OpenCV reads it."""
    form = {1: "gray8", 3: "bgr8", 4: "bgra8"}[1 if pixels.ndim == 2 else pixels.shape[2]]
    return Frame(number, number * 33_333_333, pixels.shape[1], pixels.shape[0], form, pixels)


CAPTURES = ("bgr8", "rgba8", "gray8", "nv12", "yuyv")


def as_captured(bgr: np.ndarray, form: str) -> tuple[np.ndarray, int, int]:
    """A picture as a camera lays it out: its bytes, the bytes of a row, where chroma begins (0: there is none)."""
    height, width = bgr.shape[:2]
    if form == "nv12":
        i420 = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420).reshape(-1)
        u, v = i420[width * height :].reshape(2, -1)
        return np.concatenate([i420[: width * height], np.stack([u, v], axis=1).reshape(-1)]), width, width * height
    if form == "yuyv":
        yuv = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
        u, v = (plane.reshape(height // 2, width // 2).repeat(2, axis=0) for plane in yuv[height:].reshape(2, -1))
        return np.stack([yuv[:height, ::2], u, yuv[:height, 1::2], v], axis=2).reshape(-1), 2 * width, 0
    change = {"bgr8": None, "rgba8": cv2.COLOR_BGR2RGBA, "gray8": cv2.COLOR_BGR2GRAY}[form]
    data = np.array(bgr if change is None else cv2.cvtColor(bgr, change)).reshape(-1)
    return data, len(data) // height, 0


def captured(bgr: np.ndarray, form: str, allocate: Callable[[int], tuple[np.ndarray, int]], frame_id: int = 0) -> Frame:
    """A picture as jetson-utils captures it, in memory of `allocate` (bytes -> host's array, GPU's address)."""
    data, pitch, chroma = as_captured(bgr, form)
    host, address = allocate(len(data))
    host[: len(data)] = data
    picture = Picture(address, pitch, len(data), address + chroma if chroma else 0, pitch if chroma else 0, BT601)
    return Frame(frame_id, frame_id * 33_333_333, bgr.shape[1], bgr.shape[0], form, picture)
