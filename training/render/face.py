"""One face crop with exact labels: what the landmark network learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from edgeface.values import F32, U8
from training.render import background, camera, draw, outfit
from training.render import head as heads
from training.render import light as lights
from training.render.person import Person, Shot, person, shot

CROP = 80  # pixels of the network's crop
MARGIN = 8  # more on each side, so that augmentation can turn and shift it
FRAME = 1.1  # the crop's side over the longer side of the face's box: crop_scale of the card
SUPERSAMPLING = 2
CLOSED = 0.25  # openness up to which an iris is hidden
INGREDIENTS = (
    camera.INGREDIENTS
    | background.INGREDIENTS - {"photos"}
    | frozenset(
        [
            "identity",
            "expression",
            "profiles",
            "perspective",
            "contour",
            "skin",
            "beard",
            "hair",
            "glasses",
            "hats",
            "masks",
            "front",
            "shadow",
            "background",
        ]
    )
)


@dataclass(frozen=True, slots=True)
class Face:
    picture: U8  # [s, s] luma
    landmarks: F32  # [80, 2] pixels
    visible: U8  # [80]
    pose: F32  # [3] degrees as the bus has them: yaw right, pitch up, roll clockwise
    eyes: F32  # [2] openness, the picture's left eye first
    gaze: F32  # [2] degrees: yaw, pitch
    skin: np.float32  # luma of the skin's albedo


def render(
    rng: np.random.Generator, folder: Path, ingredients: frozenset[str] = INGREDIENTS, margin: int = MARGIN
) -> Face:
    """A face drawn from `rng`; what is not in `ingredients` is left out."""
    # streams of their own: without an ingredient the rest of a picture stays what it was
    for_person, for_shot, *others = (np.random.default_rng(seed) for seed in rng.integers(2**63, size=8))
    somebody = person(for_person, folder, ingredients)
    doing = shot(for_shot, heads.load(folder), ingredients)
    return taken(others, folder, somebody, doing, ingredients, margin)[0]


def taken(
    streams: Sequence[np.random.Generator],
    folder: Path,
    somebody: Person,
    doing: Shot,
    ingredients: frozenset[str],
    margin: int,
) -> tuple[Face, draw.Posed, draw.View]:
    """Somebody who does something, and what saw them: the view is of SUPERSAMPLING times the picture's size."""
    head = heads.load(folder)
    size, big = CROP + 2 * margin, (CROP + 2 * margin) * SUPERSAMPLING
    for_view, for_light, for_shade, for_front, for_background, for_camera = streams
    infrared = for_camera.random() < 0.07 and "infrared" in ingredients
    posed = draw.pose(head, somebody, doing)
    distance = draw.far_enough(for_view, doing)
    if "perspective" not in ingredients:
        distance = 250.0
    view = framed(for_view, head, posed, size, distance)
    points = draw.landmarks(head, posed, view, "contour" in ingredients)
    light = lights.sample(
        for_light, folder, hdri="hdri" in ingredients, shadow="shadow" in ingredients, infrared=infrared
    )
    seen = draw.picture(for_shade, head, somebody, posed, view, light, (big, big), infrared=infrared)
    visible = draw.visible(seen, points)
    for eye, iris in enumerate((slice(68, 72), slice(72, 76))):
        visible[iris] &= posed.eyes[eye] > CLOSED  # lids are thinner than the depth test can tell
    behind = np.full((big, big), 0.5, np.float32)
    if "background" in ingredients:
        behind = background.background(for_background, views(folder), big, big, ingredients)
    whole = lights.displayed(for_shade, seen.rgb) * seen.alpha + behind * (1 - seen.alpha)
    if for_front.random() < 0.07 and "front" in ingredients:
        whole, covered = outfit.patch(for_front, whole)
        x, y = np.clip(points[:, :2].astype(int), 0, big - 1).T
        visible &= ~covered[y, x]
    small = cv2.resize(np.clip(whole, 0, 1.2).astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    if infrared:
        small = camera.infrared(small, for_camera)
    small = camera.degrade(small, for_camera, ingredients - {"infrared"})
    made = Face(
        picture=small,
        landmarks=(points[:, :2] / SUPERSAMPLING).astype(np.float32),
        visible=visible.astype(np.uint8),
        pose=heads.angles(posed.rotation),
        eyes=posed.eyes,
        gaze=posed.gaze,
        skin=np.float32(somebody.skin @ lights.LUMA),
    )
    return made, posed, view


def framed(rng: np.random.Generator, head: heads.Head, posed: draw.Posed, size: int, distance: float) -> draw.View:
    """A view whose picture of `size` pixels has the nominal crop in its middle."""
    left, top, right, bottom = draw.box(head, posed, draw.View(distance, 1.0, np.zeros(2)))
    side = FRAME * max(right - left, bottom - top) * np.exp(rng.normal(0, 0.06))
    middle = np.array([left + right, top + bottom]) / 2 + rng.normal(0, 0.03, 2) * side
    scale = CROP * SUPERSAMPLING / side
    return draw.View(distance, scale, size * SUPERSAMPLING / 2 - middle * scale)


@lru_cache(maxsize=2)
def views(folder: Path) -> tuple[background.Panorama, ...]:
    """The panoramas that training may see behind a face."""
    return tuple(background.panoramas(np.load(folder / "hdri.npz")))
