"""Engine files for the software GPU: the header that TensorRT's have, then what it takes to run an ONNX."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

HEADER = struct.Struct("<4sI8xQ4B")  # magic, serialization version, size of the file, TensorRT's version
Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]


def make_plan(
    onnx: Path,
    *,
    version: tuple[int, int, int, int] = (10, 3, 0, 30),
    compute_capability: tuple[int, int] = (8, 7),
    half_io: bool = False,
    profile: Profile | None = None,
    shapes: Mapping[str, Shape] | None = None,
    precision: str = "fp16",
    dla: bool = False,
    version_compatible: bool = False,
) -> bytes:
    """An engine of a network. `profile` is of its free axes: for each input the least, usual and greatest shape.

    `shapes` fixes inputs whose axes are free in the ONNX. With `half_io` float tensors come and go as float16; it
    computes in float32 whatever `precision` says.
    """
    body = json.dumps(
        {
            "compute_capability": compute_capability,
            "half_io": half_io,
            "profile": profile or {},
            "shapes": shapes or {},
            "precision": precision,
            "dla": dla,
            "version_compatible": version_compatible,
        }
    ).encode()
    network = Path(onnx).read_bytes()
    size = HEADER.size + 4 + len(body) + len(network)
    return HEADER.pack(b"ftrt", 0, size, *version) + struct.pack("<I", len(body)) + body + network


def read_plan(plan: bytes) -> tuple[dict, bytes]:
    """What make_plan was told, and the ONNX."""
    (length,) = struct.unpack_from("<I", plan, HEADER.size)
    start = HEADER.size + 4
    return json.loads(plan[start : start + length]), plan[start + length :]
