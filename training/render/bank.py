"""Whole heads without a background, for scenes to paste: faces, profiles, backs of heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from edgeface.point_sets import five_points
from edgeface.values import F32, U8
from training.render import draw
from training.render import head as heads
from training.render import light as lights
from training.render.face import INGREDIENTS
from training.render.person import person, shot

SIZE = 288  # pixels across, the head in the middle
BACK, FACE, PROFILE = 0, 1, 2  # kinds of heads
PROFILE_DEG = 60.0  # beyond: a profile
LEAST_SEEN = 0.25  # share of the points that what is held leaves to see


@dataclass(frozen=True, slots=True)
class HeadLayer:
    picture: U8  # [SIZE, SIZE] luma, display values
    alpha: U8  # [SIZE, SIZE]
    xyxy: F32  # [4] the face's box, pixels
    keypoints: F32  # [5, 2]
    kind: np.uint8  # BACK, FACE or PROFILE
    pose: F32  # [3] degrees as the bus has them: yaw right, pitch up, roll clockwise
    skin: np.float32  # luma of the skin's albedo


def render(rng: np.random.Generator, folder: Path, ingredients: frozenset[str] = INGREDIENTS) -> HeadLayer:
    """A head drawn from `rng`: one in ten from behind, two in ten far to the side."""
    head = heads.load(folder)
    for_person, for_shot, for_view, for_light, for_shade = (
        np.random.default_rng(s) for s in rng.integers(2**63, size=5)
    )
    somebody, doing = person(for_person, folder, ingredients), shot(for_shot, head, ingredients)
    kind = for_view.random()
    if kind < 0.1:
        doing = replace(doing, yaw=np.pi + for_view.uniform(-1.1, 1.1), held=())
    elif kind < 0.25:
        doing = replace(doing, yaw=for_view.choice([-1, 1]) * for_view.uniform(0.6, 1.6))
    if for_view.random() < 0.14:
        doing = replace(doing, roll=for_view.uniform(-1.2, 1.2))
    doing = replace(doing, body_yaw=doing.yaw * 0.6 if abs(doing.yaw) < 2 else doing.yaw)
    posed = draw.pose(head, somebody, doing)
    distance = draw.far_enough(for_view, doing)
    scale = SIZE / for_view.uniform(32, 40)
    left, top, right, bottom = draw.box(head, posed, draw.View(distance, scale, np.zeros(2)))
    middle = np.array([(left + right) / 2 * 0.8, (top + bottom) / 2])
    view = draw.View(distance, scale, np.array([SIZE / 2, SIZE * 0.54]) - middle)
    infrared = for_light.random() < 0.05 and "infrared" in ingredients
    light = lights.sample(
        for_light, folder, hdri="hdri" in ingredients, shadow="shadow" in ingredients, infrared=infrared
    )
    seen = draw.picture(for_shade, head, somebody, posed, view, light, (SIZE, SIZE), infrared=infrared)
    points = draw.landmarks(head, posed, view)
    turned_away = abs(doing.yaw) > 2
    if doing.held and not turned_away and draw.visible(seen, points)[:68].mean() < LEAST_SEEN:
        posed = draw.pose(head, somebody, replace(doing, held=()))  # a face behind a book is nobody's to find
        seen = draw.picture(for_shade, head, somebody, posed, view, light, (SIZE, SIZE), infrared=infrared)
    display = lights.displayed(for_shade, seen.rgb)
    return HeadLayer(
        picture=np.clip(display * 255 + 0.5, 0, 255).astype(np.uint8),
        alpha=(cv2.GaussianBlur(seen.alpha, (0, 0), 0.6) * seen.alpha * 255).astype(np.uint8),
        xyxy=np.zeros(4, np.float32) if turned_away else draw.box(head, posed, view),
        keypoints=five_points(points[None, :, :2])[0],
        kind=np.uint8(BACK if turned_away else PROFILE if abs(np.degrees(doing.yaw)) > PROFILE_DEG else FACE),
        pose=heads.angles(posed.rotation),
        skin=np.float32(somebody.skin @ lights.LUMA),
    )
