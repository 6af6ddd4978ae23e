"""Draws one person seen by a camera: geometry, labels, light, colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgeface.values import F32, F64, Bool
from training.render import hair as hairs
from training.render import head as heads
from training.render import light as lights
from training.render import markup, outfit, raster, shade
from training.render.head import rotation
from training.render.mesh import Mesh
from training.render.patches import noise
from training.render.person import Person, Shot
from training.render.surfaces import HAIR, WORN, Surfaces, gathered

PIVOT = np.float32([0, -6.5, -1.5])  # where the head turns on the neck
CENTRE = np.float32([0, 1, 3])  # what a camera is aimed at
BUMPS = 64  # cells of the unevenness of skin and hair
HIDDEN = 0.8  # head units behind the nearest surface: a point is hidden


@dataclass(frozen=True, slots=True)
class View:
    """A camera: a place p in head units, turned into the camera's frame, falls on

    principal + scale * distance / (distance - p.z) * (p.x + across, -(p.y + up)).
    """

    distance: float  # head units from the camera to the plane of the head's centre
    scale: float  # pixels in a head unit at that distance
    principal: F64  # [2] pixels
    across: float = 0.0
    up: float = 0.0

    def project(self, places: F32) -> F32:
        """Pixels and depth f32 [n, 3] of `places` f32 [n, 3] in the camera's frame."""
        depth = self.distance - places[:, 2]
        near = self.scale * self.distance / depth
        seen = np.empty((len(places), 3), np.float32)
        seen[:, 0] = self.principal[0] + near * (places[:, 0] + self.across)
        seen[:, 1] = self.principal[1] - near * (places[:, 1] + self.up)
        seen[:, 2] = depth
        return seen


@dataclass(frozen=True, slots=True)
class Posed:
    """A person's surfaces in the camera's frame, before the picture is chosen."""

    vertices: F32  # [n, 3] the head, turned, hair grown
    places: F32  # [80, 3] the mark-up's points
    rotation: F32  # [3, 3] of the head
    roll: float
    eyes: F32  # [2] openness
    gaze: F32  # [2] degrees, yaw and pitch in the camera's frame
    hair: F32 | None  # [k, 3]
    worn: tuple[Mesh, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A person without a background."""

    rgb: F32  # [h, w, 3] linear light, 0 where nobody is
    alpha: F32  # [h, w] 0 or 1
    depth: F32  # [h, w] head units from the camera
    face: Bool  # [h, w] the face itself is seen: not hair, hat, hand


def far_enough(rng: np.random.Generator, shot: Shot) -> float:
    """A camera's distance in head units: arm's length to far away; what is held must fit in between."""
    return float(np.exp(rng.uniform(np.log(65 if shot.held else 38), np.log(250))))


def turned(places: F32, shot: Shot) -> F32:
    """`places` f32 [n, 3] of a head turned on its neck: above it with the head, below it with the body."""
    share = np.clip((places[:, 1:2] + 14.5) / 6.0, 0, 1)
    share = share * share * (3 - 2 * share)
    head, body = rotation(shot.yaw, shot.pitch, shot.roll), rotation(shot.body_yaw, 0, shot.roll * 0.3)
    from_pivot = places - PIVOT
    return ((from_pivot @ head.T) * share + (from_pivot @ body.T) * (1 - share) + PIVOT - CENTRE).astype(np.float32)


def pose(head: heads.Head, person: Person, shot: Shot) -> Posed:
    """The person's surfaces as the camera finds them."""
    flat = person.neutral.reshape(-1).copy()
    for k in np.nonzero(shot.expression)[0]:
        flat += shot.expression[k] * head.expressions[k]
    bare = flat.reshape(-1, 3)
    heads.turn_eyes(head, bare, shot.expression)
    irises, axes = heads.iris_points(head, bare, person.iris_size)
    places = bare[np.maximum(head.points, 0)].copy()
    places[markup.IRISES] = irises
    worn = tuple(outfit.make(kind, seed, head, bare, places, person.skin) for kind, seed in (*person.worn, *shot.held))
    grown = hairs.grow(bare, head.faces, person.growth) if person.growth.any() else bare
    spin = rotation(shot.yaw, shot.pitch, shot.roll)
    axis = (spin @ axes.mean(0)).astype(np.float64)
    axis /= np.linalg.norm(axis)
    return Posed(
        vertices=turned(grown, shot),
        places=turned(places, shot),
        rotation=spin,
        roll=shot.roll,
        eyes=heads.eye_openness(head, person.neutral, bare),
        gaze=np.degrees([np.arctan2(axis[0], axis[2]), np.arcsin(axis[1])]).astype(np.float32),
        hair=None if person.hair_vertices is None else turned(person.hair_vertices, shot),
        worn=tuple(Mesh(turned(m.vertices, shot), m.faces, m.albedo, m.opacity, m.gloss) for m in worn),
    )


def landmarks(head: heads.Head, posed: Posed, view: View, follow: bool = True) -> F32:
    """The 80 points f32 [80, 3]: pixels and depth."""
    points = view.project(posed.places)
    if follow:
        screen = view.project(posed.vertices)
        contour = screen[markup.follow_contour(screen[:, :2], head.points, head.strips, posed.roll)]
        points[:17] = markup.equal_steps(contour)
    return points


def box(head: heads.Head, posed: Posed, view: View) -> F32:
    """The face's box f32 [4]: the extent of the front of the head, hairline to chin, as far as it is turned to us."""
    seen = view.project(posed.vertices[head.box])[:, :2]
    return np.concatenate([seen.min(0), seen.max(0)]).astype(np.float32)


def picture(
    rng: np.random.Generator,
    head: heads.Head,
    person: Person,
    posed: Posed,
    view: View,
    light: lights.Light,
    size: tuple[int, int],
    *,
    infrared: bool = False,
) -> Picture:
    """The person in light, `size` = (height, width) pixels."""
    parts = gathered(head, person, posed.vertices, posed.hair, posed.worn)
    faces, vertices, normals, code = parts.faces, parts.vertices, parts.normals, parts.code
    screen = view.project(vertices)
    depth, index, weights = raster.buffers(*size)
    for first, last, both_sides in parts.runs:
        raster.draw(screen, faces[first:last], first, both_sides, depth, index, weights)
    if person.hair is not None and parts.hair_first >= 0:
        texture = np.zeros((len(vertices), 2), np.float32)
        texture[parts.hair_vertex : parts.hair_vertex + len(posed.hair)] = person.hair.texture
        raster.draw_cut_out(
            screen,
            faces[parts.hair_first :],
            texture,
            person.hair.alpha,
            person.hair_cut,
            parts.hair_first,
            depth,
            index,
            weights,
        )
    seen = index >= 0
    attributes = np.concatenate([normals, parts.model, parts.albedo, vertices], 1)
    out = np.zeros((*size, attributes.shape[1]), np.float32)
    raster.interpolate(index, weights, faces, np.ascontiguousarray(attributes), out)
    material = np.where(seen, code[index], -1)
    normal, model, albedo, places = out[..., :3], out[..., 3:7], out[..., 7:10], out[..., 10:13]
    normal /= np.linalg.norm(normal, axis=2, keepdims=True) + 1e-6
    away = (normal[..., 2] < 0) & (material >= HAIR)
    normal[away] *= -1  # thin things have two sides
    texture_at = shade.hair_texture(person, parts, index, weights, material)
    albedo = shade.albedo(rng, head, person, material, model, albedo, texture_at)
    if infrared:
        albedo = shade.infrared_albedo(rng, albedo, material)
    bumps = noise(rng, *size, 16, 4 * BUMPS, 0.3) * np.float32(rng.uniform(0, 0.05))
    normal[..., 0] += cv2.Sobel(bumps, cv2.CV_32F, 1, 0)
    normal[..., 1] += cv2.Sobel(bumps, cv2.CV_32F, 0, 1)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True) + 1e-6
    solids = [(posed.vertices, head.skin_faces)] + [(m.vertices, m.faces[m.opacity > 0.5]) for m in posed.worn]
    if posed.hair is not None and parts.hair_first >= 0:
        solids.append((posed.hair, person.hair.faces[::2]))
    lit, shine = shade.lit(rng, light, normal, places, material, solids)
    gloss = (
        np.where(material == WORN, parts.gloss[np.maximum(index, 0)], 0)
        + np.isin(material, heads.SKIN) * person.gloss * 0.4
    )
    gloss += np.isin(material, (heads.LEFT_EYE, heads.RIGHT_EYE)) * max(person.gloss, 0.15)
    rgb = albedo * lit + (gloss * shine * 0.5)[..., None]
    near = np.where(seen, depth, view.distance + 20)
    hollow = cv2.GaussianBlur(near, (0, 0), size[0] * 0.03) - near
    rgb *= (1 - np.clip(-hollow * 0.08, 0, 0.35) * rng.uniform(0, 1))[..., None]
    rgb *= seen[..., None]
    rgb, depth = _through(rgb, screen, parts, depth, light, seen)
    return Picture(rgb.astype(np.float32), seen.astype(np.float32), depth, material == heads.FACE)


def visible(picture: Picture, points: F32) -> Bool:
    """Whether bool [n] each of `points` f32 [n, 3] (pixels, depth) is seen: in the picture, nothing before it."""
    height, width = picture.depth.shape
    x, y = points[:, 0].astype(int), points[:, 1].astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    nearest = picture.depth[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return inside & (points[:, 2] - nearest < HIDDEN)


def _through(rgb: F32, screen: F32, parts: Surfaces, depth: F32, light: lights.Light, seen: Bool) -> tuple[F32, F32]:
    """Draws what is transparent (lenses) over the rest; what lets less than half through hides what is behind."""
    first, last = parts.through
    if first == last:
        return rgb, depth
    nearer, index, weights = depth.copy(), np.full(depth.shape, -1, np.int32), np.zeros((*depth.shape, 2), np.float32)
    raster.draw(screen, parts.faces[first:last], first, True, nearer, index, weights)
    albedo = np.zeros((*depth.shape, 3), np.float32)
    raster.interpolate(index, weights, parts.faces, parts.albedo, albedo)
    cover = np.where(index >= 0, parts.opacity[np.maximum(index, 0)], 0)[..., None] * seen[..., None]
    level = np.maximum(lights.harmonics(np.float32([0, 0, 1])) @ light.ambient, 0.05) + sum(
        lamp.colour * 0.4 for lamp in light.lamps
    )
    depth = np.where(cover[..., 0] > 0.5, nearer, depth)
    return rgb * (1 - cover) + albedo * level * cover, depth
