"""The banks that scenes are composed of, in memory: heads, bodies, painted lookalikes, panoramas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeface.values import F32, U8
from training.assets import read
from training.render.background import Panorama, lookalike_bank, panoramas, photographs
from training.render.bank import BACK
from training.render.body import Bodies, body_bank
from training.render.patches import bled

LEAST_AWAY = 135.0  # degrees of yaw from which a head turned away shows nothing of its face


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads [n] on patches of one size; luma is not multiplied by alpha."""

    luma: U8  # [n, s, s] display values
    alpha: U8  # [n, s, s]
    xyxy: F32  # [n, 4] patch pixels
    keypoints: F32  # [n, 5, 2] patch pixels: image-left eye, image-right eye, nose tip, mouth corners left, right
    kind: U8  # [n] BACK, FACE or PROFILE
    pose: F32  # [n, 3] degrees yaw, pitch, roll
    skin: F32  # [n] albedo
    face: F32  # [n] mean display value inside the box, 0..1
    neck: F32  # [n, 2] patch pixels, a quarter of a face below the chin


@dataclass(frozen=True, slots=True)
class Banks:
    """Everything that a scene is made of."""

    heads: Heads
    bodies: Bodies
    things: tuple[U8, U8]  # luma, alpha [n, s, s]
    views: Sequence[Panorama]
    photos: Sequence[U8] = ()  # [h, w] each, without faces


def load_heads(folder: Path) -> Heads:
    """All heads-*.npz of `folder`, in the order of their names. Raises FileNotFoundError when there is none."""
    files = sorted(folder.glob("heads-*.npz"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no heads-*.npz: render a bank of heads first")
    names = ("picture", "alpha", "xyxy", "keypoints", "kind", "pose", "skin")
    parts: dict[str, list[NDArray]] = {name: [] for name in names}
    for file in files:
        with np.load(file) as shard:
            for name in names:
                parts[name].append(shard[name])
    return heads_of(*(np.concatenate(parts[name]) for name in names))


def heads_of(picture: U8, alpha: U8, xyxy: F32, keypoints: F32, kind: U8, pose: F32, skin: F32) -> Heads:
    """A bank of arrays as they are stored in shards: edges cleaned, necks found.

    Left out: heads that their patch cuts above the chin, and backs of heads that still show the side of a face.
    """
    size = picture.shape[1]
    xyxy = _boxes(xyxy, keypoints, size)
    rows = np.arange(size)[None] < xyxy[:, 3:4]  # above the chin
    cut = (alpha[:, 0] > 128).any(1) | ((np.maximum(alpha[:, :, 0], alpha[:, :, -1]) > 128) & rows).any(1)
    cut |= (xyxy[:, 3] + 0.05 * (xyxy[:, 3] - xyxy[:, 1]) > size) & (kind != BACK)  # no chin
    half_turned = (kind == BACK) & (np.abs((pose[:, 0] + 180) % 360 - 180) < LEAST_AWAY)
    good = np.flatnonzero(~(cut | half_turned))
    luma = np.array([bled(picture[k], alpha[k]) for k in good], np.uint8).reshape(-1, size, size)
    kept = (part[good] for part in (alpha, xyxy, keypoints, kind, pose, skin))
    return Heads(luma, *kept, _brightness(luma, alpha[good], xyxy[good]), _necks(alpha[good], xyxy[good]))


def load_banks(heads: Path, assets: Path, seed: int, *, bodies: int = 300, things: int = 480) -> Banks:
    """The heads of a folder, `bodies` and `things` made from `seed`, panoramas and photographs of the assets' folder.

    Raises FileNotFoundError that says how to make what is missing.
    """
    views, photos = panoramas(read(assets / "hdri.npz")), photographs(read(assets / "photos.npz"))
    return Banks(load_heads(heads), body_bank(seed, bodies, 256), lookalike_bank(seed + 1, things), views, photos)


def _boxes(xyxy: F32, keypoints: F32, size: int) -> F32:
    """The boxes; where there is none (backs of heads) one about the points, as large as a face is on the patches."""
    whole = (xyxy[:, 2:] > xyxy[:, :2]).all(1)
    sides = xyxy[whole, 2:] - xyxy[whole, :2]
    usual = np.median(sides, axis=0) if whole.any() else np.array([size, size]) / 2
    middle = keypoints.mean(1)
    return np.where(whole[:, None], xyxy, np.concatenate([middle - usual / 2, middle + usual / 2], 1)).astype(
        np.float32
    )


def _brightness(luma: U8, alpha: U8, xyxy: F32) -> F32:
    """The mean of what is opaque inside the boxes, 0..1. [n]"""
    found = np.full(len(luma), 0.5, np.float32)
    for k, (x0, y0, x1, y1) in enumerate(np.clip(np.round(xyxy), 0, luma.shape[1]).astype(int)):
        seen = luma[k, y0:y1, x0:x1][alpha[k, y0:y1, x0:x1] > 128]
        if len(seen):
            found[k] = seen.mean() / 255
    return found


def _necks(alpha: U8, xyxy: F32) -> F32:
    """Where a neck leaves the head: the middle of what is opaque a quarter of a face below the chin."""
    size = alpha.shape[1]
    low = xyxy[:, 3] + 0.25 * (xyxy[:, 3] - xyxy[:, 1])
    row = np.clip(low, 0, size - 1).astype(np.int64)
    line = alpha[np.arange(len(alpha)), row].astype(np.float32)
    total = line.sum(1)
    middle = line @ (np.arange(size, dtype=np.float32) + 0.5) / np.maximum(total, 1)
    return np.stack([np.where(total > 0, middle, (xyxy[:, 0] + xyxy[:, 2]) / 2), low], 1).astype(np.float32)
