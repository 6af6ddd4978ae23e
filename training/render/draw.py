"""Draws one person seen by a camera: geometry, labels, light, colour."""

from dataclasses import dataclass

import cv2
import numpy as np

from . import hair as hairs
from . import head as heads
from . import light as lights
from . import markup, outfit, raster, skin
from .mesh import Mesh
from .patches import noise
from .person import Person, Shot, rotation

PIVOT = np.float32([0, -6.5, -1.5])  # where the head turns on the neck
CENTRE = np.float32([0, 1, 3])  # what a camera is aimed at
BUMPS = 64  # cells of the unevenness of skin and hair
HAIR, WORN = 90, 91  # materials of what is not the head model's
HIDDEN = 0.8  # head units behind the nearest surface: a point is hidden


@dataclass(frozen=True, slots=True)
class View:
    """A camera: a place p in head units, turned into the camera's frame, falls on

    principal + scale * distance / (distance - p.z) * (p.x + across, -(p.y + up)).
    """

    distance: float  # head units from the camera to the plane of the head's centre
    scale: float  # pixels in a head unit at that distance
    principal: np.ndarray  # f64 [2] pixels
    across: float = 0.0
    up: float = 0.0

    def project(self, places: np.ndarray) -> np.ndarray:
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

    vertices: np.ndarray  # f32 [n, 3] the head, turned, hair grown
    places: np.ndarray  # f32 [80, 3] the mark-up's points
    rotation: np.ndarray  # f32 [3, 3] of the head
    roll: float
    eyes: np.ndarray  # f32 [2] openness
    gaze: np.ndarray  # f32 [2] degrees, yaw and pitch in the camera's frame
    hair: np.ndarray | None  # f32 [k, 3]
    worn: tuple[Mesh, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A person without a background."""

    rgb: np.ndarray  # f32 [h, w, 3] linear light, 0 where nobody is
    alpha: np.ndarray  # f32 [h, w] 0 or 1, less at a transparent edge
    depth: np.ndarray  # f32 [h, w] head units from the camera
    face: np.ndarray  # bool [h, w] the face itself is seen: not hair, hat, hand


def turned(places: np.ndarray, shot: Shot) -> np.ndarray:
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
    irises, axes = heads.iris_points(head, bare)
    places = bare[np.maximum(head.points, 0)].copy()
    places[markup.REGIONS["irises"]] = irises
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
        gaze=np.degrees([np.arctan2(axis[0], axis[2]), -np.arcsin(axis[1])]).astype(np.float32),
        hair=None if person.hair_vertices is None else turned(person.hair_vertices, shot),
        worn=tuple(Mesh(turned(m.vertices, shot), m.faces, m.albedo, m.opacity, m.gloss) for m in worn),
    )


def landmarks(head: heads.Head, posed: Posed, view: View, contour: bool = True) -> np.ndarray:
    """The 80 points f32 [80, 3]: pixels and depth."""
    points = view.project(posed.places)
    if contour:
        screen = view.project(posed.vertices)
        points[:17] = screen[markup.follow_contour(screen[:, :2], head.points, head.strips, posed.roll)]
    return points


def box(head: heads.Head, posed: Posed, view: View) -> np.ndarray:
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
    parts = _parts(head, person, posed, posed.worn)
    faces, vertices, normals, code = parts.faces, parts.vertices, parts.normals, parts.code
    screen = view.project(vertices)
    depth, index, weights = raster.buffers(*size)
    for first, last, both_sides in parts.runs:
        raster.draw(screen, faces[first:last], first, both_sides, depth, index, weights)
    if person.hair is not None and parts.hair_first >= 0:
        texture = np.zeros((len(vertices), 2), np.float32)
        texture[parts.hair_vertex : parts.hair_vertex + len(posed.hair)] = person.hair.texture
        raster.draw_cut_out(
            screen, faces[parts.hair_first :], texture, person.hair.alpha, person.hair_cut, parts.hair_first, depth, index, weights
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
    albedo = _albedo(rng, head, person, material, model, albedo, out, texture_at=_hair_texture(person, parts, index, weights, material))
    if infrared:
        albedo = _infrared(rng, albedo, material)
    bumps = noise(rng, *size, 16, 4 * BUMPS, 0.3) * np.float32(rng.uniform(0, 0.05))
    normal[..., 0] += cv2.Sobel(bumps, cv2.CV_32F, 1, 0)
    normal[..., 1] += cv2.Sobel(bumps, cv2.CV_32F, 0, 1)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True) + 1e-6
    solids = [(posed.vertices, head.skin_faces)] + [(m.vertices, m.faces[m.opacity > 0.5]) for m in posed.worn]
    if posed.hair is not None and parts.hair_first >= 0:
        solids.append((posed.hair, person.hair.faces[::2]))
    lit, shine = _lit(rng, light, normal, places, material, solids)
    gloss = np.where(material == WORN, parts.gloss[np.maximum(index, 0)], 0) + np.isin(material, heads.SKIN) * person.gloss * 0.4
    gloss += np.isin(material, (heads.LEFT_EYE, heads.RIGHT_EYE)) * max(person.gloss, 0.15)
    rgb = albedo * lit + (gloss * shine * 0.5)[..., None]
    near = np.where(seen, depth, view.distance + 20)
    hollow = cv2.GaussianBlur(near, (0, 0), size[0] * 0.03) - near
    rgb *= (1 - np.clip(-hollow * 0.08, 0, 0.35) * rng.uniform(0, 1))[..., None]
    rgb *= seen[..., None]
    rgb, depth = _through(rgb, screen, parts, depth, light, seen)
    return Picture(rgb.astype(np.float32), seen.astype(np.float32), depth, material == heads.FACE)


def visible(picture: Picture, points: np.ndarray) -> np.ndarray:
    """Whether bool [n] each of `points` f32 [n, 3] (pixels, depth) is seen: in the picture, nothing before it."""
    height, width = picture.depth.shape
    x, y = points[:, 0].astype(int), points[:, 1].astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    nearest = picture.depth[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return inside & (points[:, 2] - nearest < HIDDEN)


@dataclass(frozen=True, slots=True)
class _Parts:
    """All triangles of one picture in one array."""

    vertices: np.ndarray
    normals: np.ndarray
    model: np.ndarray  # f32 [n, 4] place on the mean head, and how much is hair
    albedo: np.ndarray
    faces: np.ndarray
    code: np.ndarray  # material of each triangle
    gloss: np.ndarray  # of each triangle
    opacity: np.ndarray
    runs: list  # (first, last, both sides) to draw
    through: tuple[int, int]  # the transparent triangles
    hair_first: int
    hair_vertex: int


def _parts(head, person, posed, meshes) -> _Parts:
    with_hat = any(kind == "hat" for kind, _ in person.worn)
    lashes = head.material == heads.LASHES
    keep = ~lashes | (np.arange(len(lashes)) * 0.618 % 1 < person.lashes)
    blocks = [(posed.vertices, head.faces[keep], head.material[keep], None, 0.0, None)]
    for mesh in meshes:
        blocks.append((mesh.vertices, mesh.faces, np.full(len(mesh.faces), WORN), mesh.albedo, mesh.gloss, mesh.opacity))
    hair = posed.hair is not None and not with_hat
    if hair:
        blocks.append((posed.hair, person.hair.faces, np.full(len(person.hair.faces), HAIR), None, 0.0, None))
    vertices, faces, code, albedo, gloss, opacity, model = [], [], [], [], [], [], []
    n = 0
    for k, (v, f, c, a, g, o) in enumerate(blocks):
        vertices.append(v)
        faces.append(f + n)
        code.append(c)
        albedo.append(np.zeros_like(v) if a is None else a)
        gloss.append(np.full(len(f), g, np.float32))
        opacity.append(np.ones(len(f), np.float32) if o is None else o)
        model.append(np.c_[head.base, person.covered] if k == 0 else np.zeros((len(v), 4)))
        n += len(v)
    solid = np.concatenate(opacity) >= 0.999
    order = np.concatenate([np.nonzero(solid)[0], np.nonzero(~solid)[0]])
    faces, code = np.concatenate(faces), np.concatenate(code)
    hairy = code == HAIR
    # the order: head, worn and held, transparent, hair (which draw_cut_out draws to the end)
    order = np.concatenate([np.nonzero(solid & ~hairy)[0], np.nonzero(~solid)[0], np.nonzero(hairy)[0]])
    faces, code = np.ascontiguousarray(faces[order], np.int32), code[order]
    n_head, n_solid, n_clear = int((code < HAIR).sum()), int((solid & ~hairy).sum()), int((~solid).sum())
    all_vertices = np.concatenate(vertices).astype(np.float32)
    return _Parts(
        vertices=all_vertices,
        normals=raster.vertex_normals(all_vertices, faces),
        model=np.concatenate(model).astype(np.float32),
        albedo=np.concatenate(albedo).astype(np.float32),
        faces=faces,
        code=code,
        gloss=np.concatenate(gloss)[order],
        opacity=np.concatenate(opacity)[order],
        runs=[(0, n_head, False), (n_head, n_solid, True)],
        through=(n_solid, n_solid + n_clear),
        hair_first=n_solid + n_clear if hair else -1,
        hair_vertex=len(all_vertices) - (len(posed.hair) if hair else 0),
    )


def _hair_texture(person, parts, index, weights, material):
    """The hair's texture coordinates [k, 2] of the pixels where hair is seen."""
    where = material == HAIR
    if not where.any():
        return None
    corners = parts.faces[index[where]] - parts.hair_vertex
    w = weights[where]
    w = np.stack([w[:, 0], w[:, 1], 1 - w.sum(1)], 1)
    return (person.hair.texture[corners] * w[..., None]).sum(1) % 1


def _albedo(rng, head, person, material, model, albedo, out, texture_at) -> np.ndarray:
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
        albedo[material == HAIR] = person.hair_colour * person.hair.shade[rows, columns][:, None] * rng.uniform(0.7, 1.2)
    return np.clip(albedo, 0.004, 0.97)


def _eye(person, from_centre) -> np.ndarray:
    """Albedo [k, 3] of places on an eyeball: pupil, iris with its dark edge, white, the shadow of the upper lid."""
    to = from_centre / np.linalg.norm(from_centre, axis=1, keepdims=True)
    off_axis = np.where(to[:, 2] > 0, np.sqrt(np.maximum(0, 1 - to[:, 2] ** 2)), 2)[:, None]
    size = person.iris_size
    iris = person.iris_colour * (0.7 + 0.6 * off_axis / size) * np.where(off_axis > size * 0.88, 0.5, 1)
    white = person.eye_white * np.float32([1, 0.94, 0.9]) * np.clip(1 - 0.8 * (off_axis - size), 0.55, 1)
    found = np.where(off_axis < size * 0.42, 0.01, np.where(off_axis < size, iris, white))
    return found * np.clip(1 - (to[:, 1:2] - 0.05) * 1.2, 0.35, 1)


def _infrared(rng, albedo, material) -> np.ndarray:
    """Albedo in near infrared: all skin is bright and smooth, hair and cloth unlike what the eye sees."""
    grey = albedo @ lights.LUMA
    on_skin = np.isin(material, heads.SKIN)
    grey = np.where(on_skin, 0.35 + 0.5 * grey ** 0.4 * 0.6, np.sqrt(grey) * rng.uniform(0.4, 1))
    return np.clip(np.repeat(grey[..., None], 3, 2), 0, 0.95)


def _lit(rng, light, normal, places, material, solids) -> tuple[np.ndarray, np.ndarray]:
    """Light f32 [h, w, 3] on each pixel's surface and shine f32 [h, w] of the lamps in it."""
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


def _through(rgb, screen, parts, depth, light, seen) -> tuple[np.ndarray, np.ndarray]:
    """Draws what is transparent (lenses) over the rest; what lets less than half through hides what is behind."""
    first, last = parts.through
    if first == last:
        return rgb, depth
    nearer, index, weights = depth.copy(), np.full(depth.shape, -1, np.int32), np.zeros((*depth.shape, 2), np.float32)
    raster.draw(screen, parts.faces[first:last], first, True, nearer, index, weights)
    where = index >= 0
    out = np.zeros((*depth.shape, 6), np.float32)
    attributes = np.ascontiguousarray(np.concatenate([parts.albedo, parts.normals], 1))
    raster.interpolate(index, weights, parts.faces, attributes, out)
    cover = np.where(where, parts.opacity[np.maximum(index, 0)], 0)[..., None] * seen[..., None]
    level = np.maximum(lights.harmonics(np.float32([0, 0, 1])) @ light.ambient, 0.05) + sum(lamp.colour * 0.4 for lamp in light.lamps)
    depth = np.where(cover[..., 0] > 0.5, nearer, depth)
    return rgb * (1 - cover) + out[..., :3] * level * cover, depth
