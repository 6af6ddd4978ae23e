"""What light makes of each pixel's surface: albedo of skin, eyes, hair; lamps, shadows, shine."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeface.values import F32
from training.render import head as heads
from training.render import light as lights
from training.render import skin
from training.render.mesh import I32
from training.render.patches import noise
from training.render.person import Person
from training.render.surfaces import HAIR, Surfaces

Codes = NDArray[np.integer]  # materials


def hair_texture(person: Person, parts: Surfaces, index: I32, weights: F32, material: Codes) -> F32 | None:
    """The hair's texture coordinates [k, 2] of the pixels where hair is seen."""
    where = material == HAIR
    if not where.any():
        return None
    corners = parts.faces[index[where]] - parts.hair_vertex
    w = weights[where]
    w = np.stack([w[:, 0], w[:, 1], 1 - w.sum(1)], 1)
    return (person.hair.texture[corners] * w[..., None]).sum(1) % 1


def albedo(
    rng: np.random.Generator,
    head: heads.Head,
    person: Person,
    material: Codes,
    model: F32,
    albedo: F32,
    texture_at: F32 | None,
) -> F32:
    """Linear albedo [h, w, 3] of each pixel's `material` [h, w] (-1: nothing).

    `model` [h, w, 4] is the place on the mean head and how much is hair, `albedo` [h, w, 3] that of what is worn,
    `texture_at` that of `hair_texture`.
    """
    size = material.shape
    x = (model[..., 0] - skin.LEFT) * skin.SCALE
    y = (skin.TOP - model[..., 1]) * skin.SCALE
    painted = cv2.remap(person.canvas, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    front = np.clip((model[..., 2] - 1.5) / 2, 0, 1)
    on_skin = np.isin(material, heads.SKIN)
    shade = 1 + (painted[..., skin.SHADE] - 1) * front
    red = (painted[..., skin.RED] * front * 0.35)[..., None]
    of_skin = person.skin * shade[..., None] * (1 - red * np.float32([-0.1, 0.9, 0.7]))
    for layer, colour in ((skin.BEARD, person.hair_colour * 1.1), (skin.BROW, person.brow_colour)):
        share = (painted[..., layer] * front)[..., None]
        of_skin = of_skin * (1 - share) + colour * share
    neck = model[..., 1] < person.collar + 0.15 * np.abs(model[..., 0])
    of_skin = np.where(neck[..., None], person.cloth, of_skin)
    strands = np.clip(1 + noise(rng, *size, 32, 256, 0.2) * 0.35, 0.2, 2)[..., None]
    share = model[..., 3:4]
    of_skin = of_skin * (1 - share) + person.hair_colour * strands * share
    albedo = np.where(on_skin[..., None], of_skin, albedo)
    albedo[material == heads.GUMS] = np.float32([0.28, 0.09, 0.08]) * rng.uniform(0.4, 1.2)
    albedo[material == heads.TEETH] = np.float32([1, 0.95, 0.85]) * person.teeth
    albedo[material == heads.LASHES] = rng.uniform(0.01, 0.08)
    for eye in (heads.LEFT_EYE, heads.RIGHT_EYE):
        where = material == eye
        if where.any():
            albedo[where] = _eye(person, model[where][:, :3] - head.eye_centre[eye])
    if texture_at is not None:
        rows, columns = (texture_at[:, 1] * 255).astype(int), (texture_at[:, 0] * 255).astype(int)
        albedo[material == HAIR] = (
            person.hair_colour * person.hair.shade[rows, columns][:, None] * rng.uniform(0.7, 1.2)
        )
    return np.clip(albedo, 0.004, 0.97)


def _eye(person: Person, from_centre: F32) -> F32:
    """Albedo [k, 3] of places on an eyeball: pupil, iris with its dark edge, white, the shadow of the upper lid."""
    to = from_centre / np.linalg.norm(from_centre, axis=1, keepdims=True)
    off_axis = np.where(to[:, 2] > 0, np.sqrt(np.maximum(0, 1 - to[:, 2] ** 2)), 2)[:, None]
    size = person.iris_size
    iris = person.iris_colour * (0.7 + 0.6 * off_axis / size) * np.where(off_axis > size * 0.88, 0.5, 1)
    white = person.eye_white * np.float32([1, 0.94, 0.9]) * np.clip(1 - 0.8 * (off_axis - size), 0.55, 1)
    found = np.where(off_axis < size * 0.42, 0.01, np.where(off_axis < size, iris, white))
    return found * np.clip(1 - (to[:, 1:2] - 0.05) * 1.2, 0.35, 1)


def infrared_albedo(rng: np.random.Generator, albedo: F32, material: Codes) -> F32:
    """Albedo in near infrared: all skin is bright and smooth, hair and cloth unlike what the eye sees."""
    grey = albedo @ lights.LUMA
    on_skin = np.isin(material, heads.SKIN)
    grey = np.where(on_skin, 0.35 + 0.5 * grey**0.4 * 0.6, np.sqrt(grey) * rng.uniform(0.4, 1))
    return np.clip(np.repeat(grey[..., None], 3, 2), 0, 0.95)


def lit(
    rng: np.random.Generator,
    light: lights.Light,
    normal: F32,
    places: F32,
    material: Codes,
    solids: Sequence[tuple[F32, I32]],
) -> tuple[F32, F32]:
    """Light f32 [h, w, 3] on each pixel's surface and shine f32 [h, w] of the lamps in it.

    `normal` and `places` f32 [h, w, 3] in the camera's frame; `solids` throw shadows (see lights.shadows).
    """
    total = np.maximum(lights.harmonics(normal) @ light.ambient, 0.02)
    shine = np.zeros(material.shape, np.float32)
    gloss = rng.uniform(8, 40)
    for lamp in light.lamps:
        facing = np.clip((normal @ lamp.direction + lamp.wrap) / (1 + lamp.wrap), 0, None)
        if lamp.shadow:
            dark = lights.shadows(solids, lamp.direction, places, rng.uniform(0.5, 2.5)) * lamp.shadow
            facing *= 1 - np.where(material == HAIR, dark * 0.4, dark)
        total += facing[..., None] * lamp.colour
        half = lamp.direction + np.float32([0, 0, 1])
        half /= np.linalg.norm(half) + 1e-6
        shine += float(lamp.colour.mean()) * np.clip(normal @ half, 0, 1) ** gloss
    return total, shine
