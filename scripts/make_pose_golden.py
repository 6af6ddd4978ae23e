"""Render faces with known poses and eyelids, place their landmarks with the default network: tests/golden/poses.npz.

    pip install numba scipy && python scripts/make_pose_golden.py RENDERER [--faces 56] [--crops 6] [--out FILE]

RENDERER is the folder of the renderer that the default networks were trained with (gen.py and its assets). It is not
part of the repository yet. The seeds are none of those that the networks were trained on. With more faces and another
file this makes the set that docs/signals.md was measured on (--faces 1125 --first 200000).

What is in the file, a row a face (`crops`: of the first ones):
    true, network   [n, 68, 2] landmarks in hundredths of a pixel of the 80 x 80 crop
    focal, centre   [n], [n, 2] the crop's camera, pixels
    q, position     [n, 4], [n, 3] the head's pose, as edgeface.head_pose says it; metres, of the face's own eyes
    blink           [n, 2] eyelids of the right and the left eye, 0 as the expression has them .. 1 shut
    lids            [n, 2] distance of the lids over the same face's at rest
    crops           [c, 80, 80] what the network saw
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgeface.eyes import gap_and_width
from edgeface.head_pose import quaternions
from edgeface.values import F32, F64

ROOT = Path(__file__).parent.parent
NETWORK = ROOT / "engines" / "edgeface-landmarks.onnx"
BANDS = (0, 15), (15, 30), (30, 45), (45, 60), (60, 75)  # degrees of yaw to either side
SHARES = 2, 2, 2, 2, 1  # of the faces; the last band is beyond what is asked of the network
CM = 0.01  # the renderer's unit in metres
FLIP = np.array([1.0, -1.0, -1.0])  # the renderer's axes: y up, z to the camera
HEAD_CENTRE = np.array([0.0, 1.0, 3.0])  # about which the renderer turns a head


class OtherBand(Exception):
    """The face that is about to be rendered has a yaw of which there are enough."""


class Renderer:
    """The renderer's render(), with eyelids of our own and with what it does not return."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        self._gen: Any = importlib.import_module("gen")
        self._draw, self._express, self._turn = self._gen.raster, self._gen.expression, self._gen.euler
        for name, own in (("raster", self._seen), ("expression", self._expression), ("euler", self._euler)):
            setattr(self._gen, name, own)

    def face(self, seed: int, wanted: set[int]) -> dict[str, Any] | None:
        """One face with its truth; None when its yaw is in none of the `wanted` bands."""
        self._wanted, self._lids = wanted, np.random.default_rng([78, seed])
        try:
            crop, points, _, _ = self._gen.render(np.random.default_rng([77, seed]))
        except OtherBand:
            return None
        picture, space = self._picture.astype(np.float64), self._space.astype(np.float64)
        distance = float(np.mean(picture[:, 2] + space[:, 2]))
        x, y = (space[:, :2] * [1, -1] * (distance / picture[:, 2:])).T
        scale, left = np.polyfit(x, picture[:, 0], 1)  # of twice the crop's pixels
        top = np.mean(picture[:, 1] - y * scale)
        rest, now = self._shapes(seed)
        eyes = self._rotation @ (rest[36:48].mean(axis=0) - HEAD_CENTRE) * FLIP + [0, 0, distance]
        return {
            "crop": crop,
            "true": points,
            "focal": distance * scale / 2,
            "centre": np.array([left, top]) / 2,
            "q": quaternions((self._rotation * FLIP[:, None] * FLIP)[None])[0],
            "position": eyes * CM,
            "blink": self._blink,
            "lids": aspect(now) / aspect(rest),
            "band": self._band,
        }

    def _shapes(self, seed: int) -> tuple[F64, F64]:
        """Landmarks [68, 3] of the face at rest and with its expression: the renderer draws the shape first."""
        gen, random = self._gen, np.random.default_rng([77, seed])
        weights = random.standard_normal(100).astype(np.float32) * np.float32(random.uniform(0.6, 1.15))
        rest = (gen.BASE.reshape(-1) + weights @ gen.ID).reshape(-1, 3)
        return rest[gen.LM], (rest + (self._expression_weights @ gen.EX).reshape(-1, 3))[gen.LM]

    def _euler(self, yaw: float, pitch: float, roll: float) -> Any:
        degrees = abs(np.degrees(yaw))
        self._band = next((band for band, (low, high) in enumerate(BANDS) if low <= degrees < high), -1)
        if self._band not in self._wanted:
            raise OtherBand
        rotation = self._turn(yaw, pitch, roll)
        self._rotation = rotation.astype(np.float64)
        return rotation

    def _expression(self, random: Any) -> Any:
        """The renderer's expression, but half of the eyes open, most others shut, some of one face differently."""
        weights = self._express(random)
        kind, between = self._lids.random(2)
        kinds = [(0.5, (0, 0)), (0.75, (1, 1)), (0.8, (0, 1)), (0.85, (1, 0)), (1, (between, between))]
        right, left = next(blink for limit, blink in kinds if kind < limit)
        weights[self._gen.EI["eyeBlink_R"]], weights[self._gen.EI["eyeBlink_L"]] = right, left
        self._blink, self._expression_weights = np.array([right, left]), weights
        return weights

    def _seen(self, picture: Any, triangles: Any, attributes: Any, *others: Any) -> None:
        self._picture, self._space = picture.copy(), attributes[:, 7:10].copy()
        self._draw(picture, triangles, attributes, *others)


def aspect(points: F64) -> F64:
    """Eye aspect ratios [2] of landmarks [68, 3]."""
    gap, width = gap_and_width(points[None, 36:48])
    ratios: F64 = gap[0] / width[0]
    return ratios


def locate(crops: F32) -> F32:
    """The default network's landmarks [n, 68, 2] of crops [n, 80, 80], in their pixels."""
    session = onnxruntime.InferenceSession(str(NETWORK), providers=["CPUExecutionProvider"])
    batches = np.array_split(crops[:, None], max(len(crops) // 32, 1))
    return np.concatenate([session.run(None, {"input_face_images": batch})[0] for batch in batches])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("renderer", type=Path)
    parser.add_argument("--faces", type=int, default=56)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--crops", type=int, default=6)
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "golden" / "poses.npz")
    arguments = parser.parse_args()
    renderer = Renderer(arguments.renderer)
    left = dict(enumerate(np.diff(np.round(np.cumsum([0, *SHARES]) * arguments.faces / sum(SHARES))).astype(int)))
    faces, seed = [], arguments.first
    while any(left.values()):
        face = renderer.face(seed, {band for band, count in left.items() if count})
        seed += 1
        if face:
            left[face.pop("band")] -= 1
            faces.append(face)
    rows = {name: np.array([face[name] for face in faces]) for name in faces[0]}
    crops = rows.pop("crop")
    network = locate(crops.astype(np.float32))
    for name, points in (("true", rows.pop("true")), ("network", network)):
        rows[name] = np.round(points * 100).astype(np.int16)
    rows["crops"] = crops[: arguments.crops]
    small: dict[str, Any] = {
        name: value.astype(np.float32) if value.dtype == np.float64 else value for name, value in rows.items()
    }
    np.savez_compressed(arguments.out, **small)


if __name__ == "__main__":
    main()
