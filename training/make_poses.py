"""Renders faces of known poses and eyelids, and places their landmarks with a network: tests/golden/poses.npz.

    python -m training.make_poses [--faces 56] [--first 0] [--crops 6] [--network ONNX] [--out FILE]

The seeds are none of those that networks are trained on. With more faces and another file this makes the set that
docs/signals.md is measured on (--faces 1125 --first 200000 --crops 60).

What is in the file, a row a face (`crops`: of the first ones):
    true, network   [n, 80, 2] landmarks in hundredths of a pixel of the 80 x 80 crop
    focal, centre   [n], [n, 2] the crop's camera, pixels
    q, position     [n, 4], [n, 3] the head's pose, as edgeface.head_pose says it; metres, of the face's own eyes
    blink           [n, 2] eyelids of the right and the left eye, 0 as the expression has them .. 1 shut
    lids            [n, 2] distance of the lids over the same face's at rest, at most 1
    crops           [c, 80, 80] what the network saw
"""

from __future__ import annotations

import argparse
from collections.abc import Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edgeface.head_pose import quaternions
from edgeface.point_sets import LEFT_EYE, RIGHT_EYE
from edgeface.values import F32
from training import assets
from training.render import draw, face
from training.render import head as heads
from training.render.person import person, shot

ROOT = Path(__file__).parent.parent
NETWORK = ROOT / "engines" / "edgeface-landmarks.onnx"
STREAM = 77  # first of the seeds of these faces
BANDS = (0, 15), (15, 30), (30, 45), (45, 60), (60, 75)  # degrees of yaw to either side
SHARES = 2, 2, 2, 2, 1  # of the faces; the last band is beyond what is asked of the network
CM = 0.01  # the renderer's unit in metres
OPTICAL = np.array([1.0, -1.0, -1.0])  # the renderer's axes: y up, z to the camera
EYES = [*RIGHT_EYE, *LEFT_EYE]
# chance up to which eyelids are so: both open, both shut, one shut, anything in between
LIDS = (0.5, (0, 0)), (0.75, (1, 1)), (0.8, (0, 1)), (0.85, (1, 0))

LID_MOVERS = "eyeSquint", "eyeWide", "eyeLookDown", "eyeLookUp"


def rendered(seed: int, wanted: Set[int], folder: Path) -> tuple[int, dict[str, Any]] | None:
    """The band and the row of one face; None when its yaw is in none of the `wanted` bands."""
    head = heads.load(folder)
    for_person, for_shot, for_lids, *others = (np.random.default_rng([STREAM, seed, part]) for part in range(9))
    doing = shot(for_shot, head, face.INGREDIENTS)
    yaw = abs(float(heads.angles(heads.rotation(doing.yaw, doing.pitch, doing.roll))[0]))
    band = next((band for band, (low, high) in enumerate(BANDS) if low <= yaw < high), -1)
    if band not in wanted:
        return None
    kind, between = for_lids.random(2)
    blink = next((lids for limit, lids in LIDS if kind < limit), (between, between))
    weights = doing.expression.copy()
    for side, shut in zip("RL", blink, strict=True):
        weights[head.expression[f"eyeBlink_{side}"]] = shut
        if shut == 1:  # what moves the lids besides would let them cross
            weights[[head.expression[f"{name}_{side}"] for name in LID_MOVERS]] = 0
    somebody = person(for_person, folder, face.INGREDIENTS)
    doing = replace(doing, expression=weights)
    made, posed, view = face.taken(others, folder, somebody, doing, face.INGREDIENTS, margin=0)
    x, y, z = draw.turned(somebody.neutral[head.points[EYES]], doing).mean(axis=0)
    optical = posed.rotation.astype(float) * OPTICAL * OPTICAL[:, None]
    return band, {
        "true": made.landmarks,
        "crops": made.picture,
        "focal": view.scale * view.distance / face.SUPERSAMPLING,
        "centre": view.principal / face.SUPERSAMPLING,
        "q": quaternions(optical[None])[0],
        "position": np.array([x, -y, view.distance - z]) * CM,
        "blink": np.array(blink),
        "lids": made.eyes,
    }


def located(network: Path, crops: NDArray[np.uint8]) -> F32:
    """The landmarks [n, N, 2] of crops [n, 80, 80], in their pixels."""
    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    tensors = crops[:, None].astype(np.float32)
    batches = np.array_split(tensors, max(len(crops) // 32, 1))
    return np.concatenate([session.run(["softargmax"], {"input_face_images": batch})[0] for batch in batches])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.make_poses", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=56)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--crops", type=int, default=6)
    parser.add_argument("--network", type=Path, default=NETWORK)
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "golden" / "poses.npz")
    given = parser.parse_args()
    left = dict(enumerate(np.diff(np.round(np.cumsum([0, *SHARES]) * given.faces / sum(SHARES))).astype(int).tolist()))
    faces, seed = [], given.first
    while any(left.values()):
        made = rendered(seed, {band for band, count in left.items() if count}, assets.folder())
        seed += 1
        if made is not None:
            left[made[0]] -= 1
            faces.append(made[1])
    rows = {name: np.array([one[name] for one in faces]) for name in faces[0]}
    rows["network"] = located(given.network, rows["crops"])
    rows["crops"] = rows["crops"][: given.crops]
    small = {name: values.astype(np.float32) if values.dtype == float else values for name, values in rows.items()}
    for name in ("true", "network"):
        small[name] = np.round(rows[name] * 100).astype(np.int16)
    np.savez_compressed(given.out, **small)


if __name__ == "__main__":
    main()
