"""What stands behind people: views of panoramas, painted noise, collages, and plain shapes as clutter.

Everything returns or changes luma in display values 0..1 of any size. The panoramas whose number leaves a remainder of
5 by 6 are never trained on: views of them are the face-free pictures to measure with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edgeface.values import F32, F64, U8
from training.render.light import LUMA
from training.render.lookalikes import LOOKALIKES
from training.render.patches import DISPLAY_GAMMA, Patch, between, coordinates, lit, noise, paste

INGREDIENTS = frozenset({"hdri", "photos", "collage", "clutter"})
_HELD_OUT = (6, 5)  # panorama number % 6 == 5
PANORAMA_NAMES = (
    *("apartment", "bridge", "city", "dawn", "esplanade", "forest", "hall", "lab", "lobby"),
    *("night", "park", "sky", "studio", "sunrise", "sunset", "venice", "warehouse", "workshop"),
)


@dataclass(frozen=True, slots=True)
class Panorama:
    """An equirectangular picture: luma [h, w] in linear light, the bright fifth at 1."""

    name: str
    luma: F32


def panoramas(hdri: Mapping[str, F32], *, held_out: bool = False) -> list[Panorama]:
    """The panoramas to train with, or those held out, of the arrays "0".."17" [h, w, 3] of hdri.npz."""
    found = []
    for number, name in enumerate(PANORAMA_NAMES):
        if str(number) in hdri and (number % _HELD_OUT[0] == _HELD_OUT[1]) == held_out:
            luma = np.clip(np.nan_to_num(np.asarray(hdri[str(number)], np.float32)) @ LUMA, 0, None)
            found.append(Panorama(name, luma / max(1e-6, float(np.percentile(luma, 80)))))
    return found


def view(panorama: Panorama, rng: np.random.Generator, height: int, width: int) -> F32:
    """What a camera in the middle of the panorama sees: any direction, mostly near level, 25 to 95 degrees wide."""
    half = np.tan(np.radians(rng.uniform(25, 95)) / 2)
    yaw, pitch, roll = rng.uniform(0, 2 * np.pi), rng.normal(-0.05, 0.3), rng.normal(0, 0.08)
    nodes = 48  # the mapping is smooth: computed on a coarse grid, enlarged linearly
    line = (np.arange(nodes) + 0.5) / nodes * 2 - 1
    x, y = np.meshgrid(line * half, line * half * height / width)
    x, y = x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)
    down, ahead = y * np.cos(pitch) - np.sin(pitch), y * np.sin(pitch) + np.cos(pitch)
    longitude = np.arctan2(x, ahead)
    longitude = yaw + np.unwrap(np.unwrap(longitude, axis=1), axis=0)
    latitude = np.arctan2(down, np.hypot(x, ahead))
    rows, columns = panorama.luma.shape
    u = cv2.resize((longitude / (2 * np.pi) * columns).astype(np.float32), (width, height)) % columns
    v = cv2.resize(((latitude / np.pi + 0.5) * rows).astype(np.float32), (width, height))
    seen = cv2.remap(panorama.luma, u, np.clip(v, 0, rows - 1), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    gain = rng.uniform(0.15, 0.5) * np.exp(rng.normal(0, 0.4)) / max(0.25, float(np.median(seen)))
    return np.asarray(cv2.pow(np.clip(seen * np.float32(gain), 0, 1), 1 / DISPLAY_GAMMA), np.float32)


def photographs(stored: Mapping[str, U8]) -> list[U8]:
    """The pictures of photos.npz, luma [h, w]: no face is to be seen in them."""
    return [np.asarray(stored[name], np.uint8) for name in sorted(stored)]


def chosen(photos: Sequence[U8], rng: np.random.Generator) -> U8:
    """One of them, as often as it is large: each pixel is as likely."""
    area = np.cumsum([photo.size for photo in photos])
    return photos[int(np.searchsorted(area, rng.integers(area[-1]), side="right"))]


def clipping(picture: U8, rng: np.random.Generator, height: int, width: int) -> F32:
    """A part of a photograph, of any size, turned by right angles, with another contrast."""
    side = int(between(rng, 60, min(picture.shape)))
    top, left = (int(rng.integers(0, room - side + 1)) for room in picture.shape)
    part = np.rot90(picture[top : top + side, left : left + side], int(rng.choice([0, 0, 0, 1, 2, 3])))
    area = cv2.INTER_AREA if side > width else cv2.INTER_CUBIC
    seen = cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=area).astype(np.float32) / 255
    return np.clip((seen - seen.mean()) * np.float32(rng.uniform(0.5, 1.4)) + np.float32(rng.uniform(0.3, 0.7)), 0, 1)


def painted(rng: np.random.Generator, height: int, width: int) -> F32:
    """Noise of any coarseness and contrast, perhaps with shapes, perhaps out of focus."""
    grain = noise(rng, height, width, 2, 128, rng.uniform(0.3, 1.5))
    picture = np.clip(grain * np.float32(rng.uniform(0.01, 0.2)) + np.float32(rng.uniform(0.05, 0.95)), 0, 1)
    if rng.random() < 0.7:
        clutter(picture, rng, int(rng.integers(1, 14)))
    if rng.random() < 0.4:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 6)), np.float32)
    return picture


def background(
    rng: np.random.Generator,
    views: Sequence[Panorama],
    height: int,
    width: int,
    ingredients: frozenset[str],
    photos: Sequence[U8] = (),
) -> F32:
    """A background [height, width]: a view, a photograph or paint; mirrored, given detail, joined with a second one.

    INGREDIENTS: "hdri" (views of panoramas), "photos" (parts of them; without both all is painted), "collage",
    "clutter" (shapes on it); others of the names are ignored.
    """
    if "photos" in ingredients and photos and rng.random() < 0.45:
        picture = clipping(chosen(photos, rng), rng, height, width)
    elif "hdri" in ingredients and views and rng.random() < 0.7:
        picture = view(views[rng.integers(len(views))], rng, height, width)
        if rng.random() < 0.5:  # panoramas are coarse: surfaces of finer grain
            picture *= 1 + noise(rng, height, width, 32, 256, 0.2) * np.float32(rng.uniform(0.01, 0.12))
    else:
        picture = painted(rng, height, width)
    if rng.random() < 0.5:
        picture = np.ascontiguousarray(picture[:, ::-1])
    if "clutter" in ingredients and rng.random() < 0.4:
        clutter(picture, rng, int(rng.integers(1, 9)))
    if "collage" in ingredients and rng.random() < 0.15:
        other = background(rng, views, height, width, ingredients - {"collage"}, photos)
        if rng.random() < 0.5:
            edge = int(rng.uniform(0.2, 0.8) * width)
            picture[:, edge:] = other[:, edge:]
        else:
            edge = int(rng.uniform(0.2, 0.8) * height)
            picture[edge:] = other[edge:]
    return np.clip(picture, 0, 1)


def clutter(picture: F32, rng: np.random.Generator, many: int) -> None:
    """Draws `many` plain shapes into `picture`."""
    for _ in range(many):
        centre = rng.uniform(0, 1, 2) * picture.shape[::-1]
        radius = between(rng, 3, 0.35 * max(picture.shape))
        _SHAPES[rng.integers(len(_SHAPES))](picture, rng, centre, radius)


def _pixel(point: F64) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _pen(rng: np.random.Generator) -> int:
    return int(rng.choice([-1, 1, 2, 3]))  # filled, or a line of that width


def _oval(picture: F32, rng: np.random.Generator, centre: F64, radius: float) -> None:
    axes = (int(radius), int(radius * rng.uniform(0.3, 1.6)))
    cv2.ellipse(picture, _pixel(centre), axes, rng.uniform(0, 180), 0, 360, rng.random(), _pen(rng), cv2.LINE_AA)


def _pair(picture: F32, rng: np.random.Generator, centre: F64, radius: float) -> None:
    """Two discs like eyes, lamps or buttons; often a bar below like a mouth."""
    angle, apart = rng.normal(0, 0.4), radius * rng.uniform(0.25, 0.7)
    along, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    grey, size, pen = rng.random(), max(1, int(radius * rng.uniform(0.1, 0.35))), _pen(rng)
    for side in (-1, 1):
        cv2.circle(picture, _pixel(centre + side * apart * along), size, grey, pen, cv2.LINE_AA)
    if rng.random() < 0.5:
        middle, half = centre + down * radius * rng.uniform(0.6, 1.1), apart * rng.uniform(0.3, 0.9)
        cv2.line(
            picture, _pixel(middle - half * along), _pixel(middle + half * along), grey, max(1, size // 2), cv2.LINE_AA
        )


def _wheel(picture: F32, rng: np.random.Generator, centre: F64, radius: float) -> None:
    grey = rng.random()
    cv2.circle(picture, _pixel(centre), int(radius), grey, max(1, int(radius * 0.1)), cv2.LINE_AA)
    for angle in np.arange(spokes := int(rng.integers(4, 14))) * 2 * np.pi / spokes:
        rim = centre + radius * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(picture, _pixel(centre), _pixel(rim), grey, 1, cv2.LINE_AA)


def _grid(picture: F32, rng: np.random.Generator, centre: F64, radius: float) -> None:
    """Windows, shelves, tiles."""
    grey, pitch = rng.random(), max(3.0, radius * 0.45)
    for column in range(int(rng.integers(1, 7))):
        for row in range(int(rng.integers(1, 7))):
            corner = centre + np.array([column, row]) * pitch
            cv2.rectangle(
                picture,
                _pixel(corner),
                _pixel(corner + pitch * 0.65),
                grey if rng.random() < 0.85 else rng.random(),
                -1,
            )


def _text(picture: F32, rng: np.random.Generator, centre: F64, radius: float) -> None:
    letters = "".join(rng.choice(list("abcdeghkmnorstuABCDEGHKMNORST0123456789&%@"), rng.integers(1, 9)))
    font, pen = int(rng.integers(0, 8)), int(rng.integers(1, 5))
    ink = np.zeros(picture.shape, np.uint8)  # OpenCV writes on bytes only
    cv2.putText(ink, letters, _pixel(centre), font, max(0.3, radius / 28), 255, pen, cv2.LINE_AA)
    picture += (np.float32(rng.random()) - picture) * (ink * np.float32(1 / 255))


def _stripes(picture: F32, rng: np.random.Generator, centre: F64, radius: float) -> None:
    grey, wide = rng.random(), int(rng.integers(2, 12))
    for stripe in range(int(rng.integers(3, 12))):
        corner = centre + np.array([2.0 * stripe * wide, 0])
        cv2.rectangle(picture, _pixel(corner), _pixel(corner + np.array([wide, radius])), grey, -1)


def _polygon(picture: F32, rng: np.random.Generator, centre: F64, radius: float) -> None:
    corners = centre + rng.uniform(-radius, radius, (int(rng.integers(3, 7)), 2))
    cv2.fillPoly(picture, [corners.astype(np.int32)], rng.random(), cv2.LINE_AA)


def _ball(picture: F32, rng: np.random.Generator, centre: F64, radius: float) -> None:
    size = max(8, int(radius * 1.4))
    x, y = coordinates(size)
    inside = x * x + y * y
    relief = np.sqrt(np.clip(1 - inside, 0, 1))
    albedo = np.float32(rng.uniform(0.1, 0.9)) * np.exp(noise(rng, size, size, 4, 16) * np.float32(0.1 * rng.random()))
    shaded = lit(rng, relief, albedo, rng.uniform(0, 0.3))
    paste(picture, shaded, np.clip((1 - inside) * size / 4, 0, 1), int(centre[0] - size / 2), int(centre[1] - size / 2))


_SHAPES = (_oval, _pair, _pair, _wheel, _grid, _text, _stripes, _polygon, _ball)


def lookalike_bank(seed: int, many: int, size: int = 128) -> tuple[U8, U8]:
    """`many` painted lookalikes: luma and alpha u8 [many, size, size]. All kinds equally often."""
    luma, alpha = np.zeros((2, many, size, size), np.uint8)
    paint = list(LOOKALIKES.values())
    for index in range(many):
        patch: Patch = paint[index % len(paint)](np.random.default_rng([seed, index]), size)
        luma[index], alpha[index] = (np.round(part * 255) for part in patch)
    return luma, alpha
