"""Head pose, eye openness and blur against the truth of rendered faces, as JSON: the tables of docs/signals.md.

    python scripts/measure_signals.py [FACES.npz]

FACES.npz is made by training/make_poses.py; without it the small one of the tests. Costs are this machine's.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeface.eyes import CLOSED, OPEN, openness
from edgeface.generic_head import rotation
from edgeface.head_pose import Camera, angles, camera_from_fov, head_poses, quaternions
from edgeface.quality import quality
from edgeface.values import F32, F64, Bool, HeadPoses

GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "poses.npz"
YAW_BANDS = (0, 15), (15, 30), (30, 45), (45, 60), (60, 75), (0, 60)
FAR_BANDS = (-75, -60), (-60, -45), (-45, -30), (-30, -15), (-15, 15), (15, 30), (30, 45), (45, 60)
CALIBRATIONS = {"points on the lids": (CLOSED, OPEN), "default network": (0.41, 0.84)}
FRAME = 1280, 720
TRUE_FOV_DEG, ASSUMED_FOV_DEG, BESIDE_DEG = 60, (45, 52, 60, 70, 80, 90), (0, 20)
COUNTS = 1, 5, 10, 30
ROUNDS = 300


def main() -> None:
    data = dict(np.load(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN))
    camera = camera_from_fov(*FRAME, TRUE_FOV_DEG)
    report: dict[str, Any] = {"faces": len(data["q"])}
    for kind in ("true", "network"):
        rays = (data[kind] / 100 - data["centre"][:, None]) / data["focal"][:, None, None]
        xy = seen_by(camera, rays)
        poses = head_poses(xy, camera)
        report[kind] = {
            "pose": pose_table(poses, data),
            "field_of_view": fov_table(rays, data),
            "eyes": {name: eye_table(xy, poses, data, *pair) for name, pair in CALIBRATIONS.items()},
        }
    report["blur"] = blur_table(data["crops"].astype(np.float32))
    report["us"] = {count: costs(xy, camera, data["crops"], count) for count in COUNTS}
    print(json.dumps(report, indent=1))


def seen_by(camera: Camera, rays: F64) -> F32:
    """Pixels [n, k, 2] of `camera` for x / z and y / z."""
    return (rays * [camera.fx, camera.fy] + [camera.cx, camera.cy]).astype(np.float32)


def pose_table(poses: HeadPoses, data: dict[str, Any]) -> dict[str, Any]:
    truth = angles(data["q"].astype(np.float64))
    off = poses.angles - truth
    turned = apart(poses.q, data["q"])
    depth = 100 * (poses.position[:, 2] / data["position"][:, 2] - 1)
    table: dict[str, Any] = {}
    for low, high in YAW_BANDS:
        rows = (np.abs(truth[:, 0]) >= low) & (np.abs(truth[:, 0]) < high)
        table[f"yaw {low} to {high}"] = (
            {"n": int(rows.sum()), "rotation_deg": spread(turned[rows])}
            | {name: spread(off[rows, axis]) for axis, name in enumerate(("yaw", "pitch", "roll"))}
            | {"depth_percent": spread(depth[rows]), "fit_error": spread(poses.error[rows])}
        )
    # how much of a turn of the head the points show
    known = np.isfinite(turned) & (np.abs(truth[:, 0]) < 60)
    table["slopes"] = [round(float(np.polyfit(truth[known, k], poses.angles[known, k], 1)[0]), 3) for k in range(3)]
    table["unknown"] = int(np.isnan(turned).sum())
    return table


def spread(off: F64 | F32) -> dict[str, float]:
    """Median and 90th percentile of the absolute values, median of the signed."""
    size = np.abs(off[np.isfinite(off)])
    figures = np.median(size), np.percentile(size, 90), np.nanmedian(off)
    return dict(zip(("median", "p90", "bias"), (round(float(figure), 3) for figure in figures), strict=True))


def apart(a: F32, b: F32) -> F64:
    """Degrees [n] between rotations."""
    angle: F64 = np.degrees(2 * np.arccos(np.minimum(np.abs((a * b).sum(axis=1, dtype=np.float64)), 1)))
    return angle


def fov_table(rays: F64, data: dict[str, Any]) -> dict[str, Any]:
    """Errors when the camera's horizontal field of view is not what it is said to be, in the middle and beside it."""
    table = {}
    for beside in BESIDE_DEG:
        a = math.radians(beside)
        aside = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
        looks = np.concatenate([rays, np.ones_like(rays[..., :1])], axis=2) @ aside.T
        xy = seen_by(camera_from_fov(*FRAME, TRUE_FOV_DEG), looks[..., :2] / looks[..., 2:])
        truth = quaternions(aside @ rotation(data["q"].astype(np.float64))).astype(np.float32)
        depth = (data["position"] @ aside.T)[:, 2]
        near = np.abs(angles(data["q"].astype(np.float64))[:, 0]) < 60
        for assumed in ASSUMED_FOV_DEG:
            poses = head_poses(xy, camera_from_fov(*FRAME, assumed))
            off = poses.angles - angles(truth.astype(np.float64))
            table[f"{assumed} for {TRUE_FOV_DEG}, {beside} beside"] = {
                "rotation_deg": spread(apart(poses.q, truth)[near]),
                "yaw_bias": spread(off[near, 0])["bias"],
                "depth_ratio": round(float(np.nanmedian(poses.position[near, 2] / depth[near])), 3),
            }
    return table


def eye_table(xy: F32, poses: HeadPoses, data: dict[str, Any], closed: float, opened: float) -> dict[str, Any]:
    level = openness(xy, poses.q, poses.position, closed=closed, opened=opened)
    yaw = poses.angles[:, 0]
    far = np.stack([-yaw, yaw], axis=1)  # of each eye: positive where it is the far one
    table = {f"{low} to {high}": eye_row(level, data, (far >= low) & (far < high)) for low, high in FAR_BANDS}
    return table | {"all within 60": eye_row(level, data, np.abs(far) < 60)}


def eye_row(level: F32, data: dict[str, Any], rows: Bool) -> dict[str, Any]:
    """Of eyes whose lids the expression leaves open and of those that it shuts."""
    known = np.isfinite(level) & rows
    is_open, is_shut = level[known & (data["blink"] == 0)], level[known & (data["blink"] == 1)]
    row: dict[str, Any] = {"n": int(rows.sum()), "known": int(known.sum())}
    if min(len(is_open), len(is_shut)) < 5:
        return row
    better = (is_open[:, None] > is_shut).mean() + (is_open[:, None] == is_shut).mean() / 2
    right = (is_open > 0.5).mean(), (is_shut <= 0.5).mean()
    figures = {
        "open": np.median(is_open),
        "open_p10": np.percentile(is_open, 10),
        "shut": np.median(is_shut),
        "shut_p90": np.percentile(is_shut, 90),
        "order_right": better,  # area under the ROC curve
        "open_right": right[0],
        "shut_right": right[1],
        "correlation": np.corrcoef(level[known], data["lids"][known])[0, 1],
    }
    return row | {name: round(float(figure), 3) for name, figure in figures.items()}


def blur_table(crops: F32) -> dict[str, list[float]]:
    """Median blur for Gaussians of so many pixels and motions of three times that, level and slanting."""

    def moved(crop: F32, length: float, slant: float) -> F32:
        kernel = np.zeros((21, 21), np.float32)
        for step in np.linspace(-length / 2, length / 2, 200):
            kernel[round(10 + step * math.sin(slant)), round(10 + step * math.cos(slant))] += 1
        return cv2.filter2D(crop, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE).astype(np.float32)

    ways: dict[str, Callable[[F32, float], Any]] = {
        "gaussian": lambda crop, sigma: cv2.GaussianBlur(crop, (0, 0), max(sigma, 0.01)),
        "level motion": lambda crop, sigma: moved(crop, 3 * sigma, 0),
        "slanting motion": lambda crop, sigma: moved(crop, 3 * sigma, 0.5),
        "contrast": lambda crop, sigma: 128 + (crop - 128) * (1 - sigma / 4),
    }
    return {
        name: [
            round(float(np.median(rate(np.stack([way(c, sigma) for c in crops])))), 3) for sigma in (0, 0.5, 1, 2, 3)
        ]
        for name, way in ways.items()
    }


def rate(crops: F32) -> F32:
    n = len(crops)
    box = np.tile(np.array([0, 0, 80, 80], np.float32), (n, 1))
    return quality(box, FRAME, crops, np.ones((n, 68), np.float32), np.zeros(n, np.float32)).blur


def costs(xy: F32, camera: Camera, crops: Any, count: int) -> dict[str, float]:
    """Median microseconds for `count` faces, all three taken in turn."""
    faces, poses = xy[:count], head_poses(xy[:count], camera)
    grey = np.resize(crops, (count, *crops.shape[1:])).astype(np.float32)
    programs: dict[str, Callable[[], Any]] = {
        "pose": lambda: head_poses(faces, camera),
        "eyes": lambda: openness(faces, poses.q, poses.position),
        "quality": lambda: rate(grey),
    }
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            taken[name].append((time.perf_counter() - start) * 1e6)
    return {name: round(float(np.median(times)), 1) for name, times in taken.items()}


if __name__ == "__main__":
    main()
