"""Training views of rendered scenes: enlarged or made smaller, cropped, mirrored, tiled; the boxes go along exactly."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

MIRRORED_KEYPOINTS = [1, 0, 2, 4, 3]  # the image-left eye becomes the image-right one, and so on
Scene = dict[str, NDArray]  # picture u8 [h, w], xyxy [n, 4], keypoints [n, 5, 2], ignore [n]


def tiled(scenes: Sequence[Scene]) -> Scene:
    """Four scenes of one size as one of twice the size."""
    height, width = scenes[0]["picture"].shape
    rows = [np.hstack([scene["picture"] for scene in scenes[i : i + 2]]) for i in (0, 2)]
    moves = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float32)
    parts = [moved(scene["xyxy"], scene["keypoints"], move, 1.0) for scene, move in zip(scenes, moves, strict=True)]
    return {
        "picture": np.vstack(rows),
        "xyxy": np.concatenate([xyxy for xyxy, _ in parts]),
        "keypoints": np.concatenate([keypoints for _, keypoints in parts]),
        "ignore": np.concatenate([scene["ignore"] for scene in scenes]),
    }


def moved(xyxy: NDArray, keypoints: NDArray, shift: NDArray, scale: float) -> tuple[NDArray, NDArray]:
    """Boxes and points after (x, y) -> (x, y) * scale + shift."""
    return xyxy * np.float32(scale) + np.tile(shift, 2), keypoints * np.float32(scale) + shift


def window(scene: Scene, corner: tuple[int, int], side: int, size: int) -> Scene:
    """The square of `side` pixels at `corner` (x, y), resized to `size`; what lies beyond the scene is black.

    An area average when it becomes smaller, else linear, as the runtime does it.
    """
    picture = scene["picture"]
    x, y = corner
    part = picture[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)]
    if part.shape != (side, side):
        canvas = np.zeros((side, side), np.uint8)
        top, left = max(-y, 0), max(-x, 0)
        canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
        part = canvas
    scale = size / side
    if side != size:
        part = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    shift = np.array([-x, -y], np.float32) * np.float32(scale)
    xyxy, keypoints = moved(scene["xyxy"], scene["keypoints"], shift, scale)
    return {"picture": part, "xyxy": xyxy, "keypoints": keypoints, "ignore": scene["ignore"]}


def mirrored(scene: Scene) -> Scene:
    """Left for right: points, too."""
    width = scene["picture"].shape[1]
    xyxy, keypoints = scene["xyxy"], scene["keypoints"][:, MIRRORED_KEYPOINTS].copy()
    keypoints[..., 0] = width - keypoints[..., 0]
    return {
        "picture": np.ascontiguousarray(scene["picture"][:, ::-1]),
        "xyxy": np.stack([width - xyxy[:, 2], xyxy[:, 1], width - xyxy[:, 0], xyxy[:, 3]], -1),
        "keypoints": keypoints,
        "ignore": scene["ignore"],
    }


def quarter_turned(scene: Scene, times: int) -> Scene:
    """Turned counter-clockwise by `times` right angles; points keep their names."""
    size = scene["picture"].shape[0]
    xyxy, keypoints = scene["xyxy"], scene["keypoints"]
    for _ in range(times % 4):  # (x, y) -> (y, size - x)
        xyxy = np.stack([xyxy[:, 1], size - xyxy[:, 2], xyxy[:, 3], size - xyxy[:, 0]], -1)
        keypoints = np.stack([keypoints[..., 1], size - keypoints[..., 0]], -1)
    picture = np.ascontiguousarray(np.rot90(scene["picture"], times))
    return {"picture": picture, "xyxy": xyxy, "keypoints": keypoints, "ignore": scene["ignore"]}


def stretched(scene: Scene, factor: float) -> Scene:
    """Made `factor` times as wide."""
    height, width = scene["picture"].shape
    wide = max(1, round(width * factor))
    exact = np.float32(wide / width)
    picture = cv2.resize(
        scene["picture"], (wide, height), interpolation=cv2.INTER_AREA if exact < 1 else cv2.INTER_LINEAR
    )
    xyxy, keypoints = scene["xyxy"].copy(), scene["keypoints"].copy()
    xyxy[:, [0, 2]] *= exact
    keypoints[..., 0] *= exact
    return {"picture": picture, "xyxy": xyxy, "keypoints": keypoints, "ignore": scene["ignore"]}


def trimmed(scene: Scene, least_px: float, least_share: float) -> Scene:
    """Boxes clipped to the picture; those outside are gone, small or cut ones are to be ignored."""
    height, width = scene["picture"].shape
    xyxy = scene["xyxy"]
    clipped = np.clip(xyxy, 0, np.array([width, height, width, height], np.float32))
    size, whole = clipped[:, 2:] - clipped[:, :2], xyxy[:, 2:] - xyxy[:, :2]
    share = size.prod(-1) / np.maximum(whole.prod(-1), 1e-6)
    ignore = scene["ignore"].astype(bool) | (size.max(-1, initial=0) < least_px) | (share < least_share)
    keep = (size > 0.5).all(-1)
    return {
        "picture": scene["picture"],
        "xyxy": clipped[keep],
        "keypoints": scene["keypoints"][keep],
        "ignore": ignore[keep],
    }


def view(
    scenes: Sequence[Scene],
    size: int,
    random: np.random.Generator,
    smallest: float = 0.5,
    largest: float = 2.0,
    least_px: float = 8.0,
    least_share: float = 0.5,
    turned: float = 0.1,
    stretch: float = 1.0,
) -> Scene:
    """A training picture of `size` pixels from four scenes: the first, or all as tiles where they are made smaller.

    The scale is log-uniform from `smallest` to `largest` (a scene's pixel becomes so many). Faces under `least_px`, and
    those of which the crop leaves less than `least_share`, are to be ignored. A share `turned` lies on a side or upside
    down. `stretch`: up to how much wider or narrower a scene becomes, for networks whose input is not letterboxed.
    """
    scale = float(np.exp(random.uniform(np.log(smallest), np.log(largest))))
    side = max(1, round(size / scale))
    scene = scenes[0]
    if side > max(scene["picture"].shape) and random.random() < 0.8:
        scene = tiled(scenes)
    if stretch > 1:
        scene = stretched(scene, float(np.exp(random.uniform(-np.log(stretch), np.log(stretch)))))
    height, width = scene["picture"].shape
    corner = [int(random.integers(min(0, room), max(0, room) + 1)) for room in (width - side, height - side)]
    scene = window(scene, (corner[0], corner[1]), side, size)
    if random.random() < 0.5:
        scene = mirrored(scene)
    if random.random() < turned:
        scene = quarter_turned(scene, int(random.integers(1, 4)))
    return trimmed(scene, least_px, least_share)
