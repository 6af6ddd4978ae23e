"""Bodies without heads: a lofted torso with arms and hands, clothed or bare, rendered into a bank of patches.

Units are the head's: x to the picture's right, y up, z towards the viewer, a face is about 15 wide and 16.8 tall
(hairline to chin); about one centimetre. The neck's root is at (0, -12, -1.7).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgeface.values import F32, U8, Bool
from training.render import raster
from training.render.cloth import cloth
from training.render.head import rotation
from training.render.mesh import I32
from training.render.patches import DISPLAY_GAMMA, between, bled, noise

UPPER, TORSO, HAND = 0, 1, 2  # what a patch shows: what stands below a head; a close torso; a close hand or arm
_TORSO_PART, _ARM_PART, _HAND_PART = 0.0, 1.0, 2.0
_NECK = np.array([0, -12.0, -1.7], np.float32)
# y, half width, half depth, z of the centre: a super-ellipse each
_PROFILE = np.array(
    [
        (-5.0, 6.0, 6.0, -2.0),
        (-9.5, 6.2, 5.6, -2.0),
        (-12.2, 7.4, 5.6, -1.7),
        (-13.4, 11.0, 7.0, -2.0),
        (-14.8, 14.4, 8.2, -1.8),
        (-16.5, 16.8, 9.0, -1.2),
        (-19, 18.3, 9.6, -0.6),
        (-23, 18.8, 10.4, -0.2),
        (-30, 18.0, 10.8, 0.2),
        (-44, 15.6, 10.0, 0),
        (-60, 17.6, 10.8, 0),
        (-90, 17.0, 10.6, 0),
    ]
)


@dataclass(frozen=True, slots=True)
class Bodies:
    """A bank of body patches of one size."""

    luma: U8  # [n, s, s] display values
    alpha: U8  # [n, s, s]
    kind: U8  # [n] UPPER, TORSO or HAND
    neck: F32  # [n, 2] the neck's root in patch pixels
    scale: F32  # [n] patch pixels a head unit
    skin: F32  # [n] albedo
    flesh: F32  # [n] mean display value of what is bare, 0..1
    from_behind: U8  # [n] 1: seen from the back


def _tube(points: F32, radii: F32, sides: int = 12) -> tuple[F32, I32]:
    """A closed skin around the polyline `points` [k, 3] with a radius at each point."""
    along = np.gradient(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    across = np.cross(along, np.array([0.31, 0.17, 0.93]))
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    third = np.cross(across, along)
    angle = np.arange(sides) / sides * 2 * np.pi
    ring = np.cos(angle)[None, :, None] * across[:, None] + np.sin(angle)[None, :, None] * third[:, None]
    vertices = points[:, None] + radii[:, None, None] * ring
    return vertices.reshape(-1, 3).astype(np.float32), _strips(len(points), sides)


def _strips(rings: int, sides: int) -> I32:
    ring, side = np.meshgrid(np.arange(rings - 1), np.arange(sides), indexing="ij")
    a, b = ring * sides + side, ring * sides + (side + 1) % sides
    return np.stack([a, b, a + sides, b, b + sides, a + sides], -1).reshape(-1, 3).astype(np.int32)


def _rounded(start: F32, end: F32, first: float, last: float, cuts: int = 9) -> tuple[F32, I32]:
    """A limb with round ends between two points."""
    t = np.linspace(0, 1, cuts)
    length = float(np.linalg.norm(end - start)) + 1e-6
    ends = np.minimum(1, np.minimum(t * length / first, (1 - t) * length / last))
    radii = (first + (last - first) * t) * np.sqrt(np.clip(1 - (1 - ends) ** 2, 0.01, 1))
    return _tube((start + (end - start) * t[:, None]).astype(np.float32), radii.astype(np.float32))


def _torso(rng: np.random.Generator, sides: int = 48) -> tuple[F32, I32]:
    y = -np.concatenate([np.linspace(5, 30, 34), np.linspace(32, 90, 14)])
    wide, deep, middle = (np.interp(-y, -_PROFILE[:, 0], _PROFILE[:, k]) for k in (1, 2, 3))
    below_neck = np.clip((-y - 13) / 5, 0, 1)
    wide = wide * (1 + below_neck * rng.normal(0, 0.1))
    belly = rng.uniform(-0.05, 0.35) * np.exp(-(((y + 48) / 16) ** 2))
    deep = deep * (1 + below_neck * rng.normal(0, 0.08) + belly)
    angle = np.arange(sides) / sides * 2 * np.pi
    cos, sin = np.cos(angle), np.sin(angle)
    power = 2 / rng.uniform(2.1, 2.6)
    x = wide[:, None] * np.sign(cos) * np.abs(cos) ** power
    z = middle[:, None] + deep[:, None] * np.sign(sin) * np.abs(sin) ** power
    high = np.broadcast_to(y[:, None], x.shape)
    bust = rng.uniform(0.5, 5) if rng.random() < 0.5 else rng.uniform(0, 1.2)
    for side in (-1, 1):
        lump = np.exp(-(((x - side * 7.5) / 5.0) ** 2) - ((high + 27) / 5.0) ** 2)
        z = z + bust * lump * (z > 0)
    return np.stack([x, high, z], -1).reshape(-1, 3).astype(np.float32), _strips(len(y), sides)


def _hand(rng: np.random.Generator, wrist: F32, along: F32) -> list[tuple[F32, I32]]:
    across = np.cross(along, rng.normal(0, 1, 3))
    across /= np.linalg.norm(across) + 1e-9
    normal = np.cross(along, across)
    palm = wrist + along * 9.5
    parts = [_rounded(wrist - along, palm + across * side, 2.6, 2.2) for side in (-2.6, 0, 2.6)]
    curl, spread = rng.uniform(0, 1.7), rng.uniform(0, 0.25)
    for finger, length in zip((-3.4, -1.2, 1.1, 3.2), (6.2, 7.6, 7.8, 7.0), strict=True):
        base, bend = palm + across * finger, curl * rng.uniform(0.7, 1.2)
        way = along * np.cos(bend * 0.6) + normal * np.sin(bend * 0.6) + across * spread * finger / 3
        joint = base + way * length * 0.55
        tip = joint + (along * np.cos(bend * 1.7) + normal * np.sin(bend * 1.7)) * length * 0.5
        parts += [_rounded(base, joint, 1.15, 1.0), _rounded(joint, tip, 1.0, 0.8)]
    joint = wrist + along * 5 - across * (3.5 + 3 * rng.random()) + normal * rng.uniform(0, 2)
    parts += [_rounded(wrist + along * 2 - across * 2, joint, 1.6, 1.2)]
    parts += [_rounded(joint, joint + along * 4 + across * rng.uniform(-1.5, 1) + normal * rng.uniform(0, 2), 1.2, 0.9)]
    return parts


def build(rng: np.random.Generator) -> tuple[F32, I32, F32, F32]:
    """A body: vertices [n, 3], faces [m, 3], part and way along the arm (0 shoulder .. 1 wrist) [n, 2], a hand [3]."""
    vertices, faces = _torso(rng)
    pieces, marks = [(vertices, faces)], [np.tile([_TORSO_PART, 0.0], (len(vertices), 1))]
    thick = rng.uniform(0.85, 1.25)
    palm = np.zeros(3)
    for side in (-1, 1):
        shoulder = np.array([side * 16.0, -18.5, -1.0])
        raised, ahead = (
            abs(rng.normal(0, 0.35)) + (rng.uniform(0.3, 2.2) if rng.random() < 0.25 else 0),
            rng.normal(0.1, 0.5),
        )
        upper = np.array([side * (np.sin(raised) + 0.08), -np.cos(raised), np.sin(ahead)])
        upper /= np.linalg.norm(upper)
        elbow = shoulder + upper * 29
        bend = rng.uniform(0.0, 2.3)
        inward = np.array([-side * rng.uniform(-0.3, 1.0), rng.uniform(-0.2, 0.9), 1.0])
        inward -= upper * (inward @ upper)
        fore = upper * np.cos(bend) + inward / np.linalg.norm(inward) * np.sin(bend)
        wrist = elbow + fore * 25
        arm = [_rounded(shoulder, elbow, 6.2 * thick, 4.4 * thick, 14), _rounded(elbow, wrist, 4.5 * thick, 2.9, 14)]
        for start, (points, triangles) in zip((0.0, 0.5), arm, strict=True):
            way = np.repeat(np.linspace(start, start + 0.5, 14), 12)
            pieces.append((points, triangles))
            marks.append(np.stack([np.full(len(points), _ARM_PART), way], 1))
        for points, triangles in _hand(rng, wrist, fore):
            pieces.append((points, triangles))
            marks.append(np.tile([_HAND_PART, 1.0], (len(points), 1)))
        if side == 1 or rng.random() < 0.5:
            palm = wrist + fore * 8
    offset = np.cumsum([0] + [len(points) for points, _ in pieces[:-1]])
    return (
        np.concatenate([points for points, _ in pieces]).astype(np.float32),
        np.concatenate([triangles + at for at, (_, triangles) in zip(offset, pieces, strict=True)]).astype(np.int32),
        np.concatenate(marks).astype(np.float32),
        palm.astype(np.float32),
    )


def render(rng: np.random.Generator, size: int) -> tuple[F32, F32, int, F32, float, float, float, bool]:
    """One patch: luma, alpha [size, size], kind, neck [2], scale, skin albedo, bare luma, from behind."""
    kind = int(rng.choice([UPPER, TORSO, HAND], p=[0.55, 0.22, 0.23]))
    vertices, faces, marks, palm = build(rng)
    behind = bool(rng.random() < (0.2, 0.15, 0.0)[kind])
    yaw = rng.normal(np.pi if behind else 0, 0.45 if kind == UPPER else 0.8)
    free = kind == HAND or (kind == TORSO and rng.random() < 0.3)
    turn = rotation(
        yaw, rng.normal(0, 0.12 if kind == UPPER else 0.35), rng.uniform(-np.pi, np.pi) if free else rng.normal(0, 0.08)
    )
    drawn = 2 * size  # two samples a pixel each way
    units = (rng.uniform(60, 105), rng.uniform(28, 60), rng.uniform(18, 45))[kind]
    scale = drawn / units
    centre = (
        _NECK + np.array([rng.normal(0, 2), 4 - units / 2, 0], np.float32) @ turn,
        np.array([rng.normal(0, 5), rng.uniform(-60, -26), 0], np.float32),
        palm,
    )[kind]
    seen = (vertices - centre) @ turn.T
    screen = np.stack([seen[:, 0] * scale + drawn / 2, -seen[:, 1] * scale + drawn / 2, -seen[:, 2]], 1).astype(
        np.float32
    )
    depth, index, weights = raster.buffers(drawn, drawn)
    raster.draw(screen, faces, 0, True, depth, index, weights)
    normals = raster.vertex_normals(vertices, faces) @ turn.T
    attributes = np.zeros((drawn, drawn, 8), np.float32)
    raster.interpolate(index, weights, faces, np.concatenate([normals, vertices, marks], 1), attributes)
    mask = index >= 0
    skin = between(rng, 0.12, 0.8)
    luma, flesh = _shaded(rng, attributes, depth, mask, skin, kind)
    coverage = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    luma = cv2.resize(luma * mask, (size, size), interpolation=cv2.INTER_AREA) / np.maximum(coverage, np.float32(0.02))
    if kind == UPPER:  # the patch ends in the middle of the body
        coverage *= np.clip(np.arange(size, 0, -1, np.float32) / (0.06 * size), 0, 1)[:, None]
    if kind == TORSO:  # no neck: the patch ends below it
        neck_row = (-((_NECK - centre) @ turn.T)[1] * scale + drawn / 2) / 2
        rows = np.arange(size, dtype=np.float32)
        coverage *= np.clip((rows - neck_row - 3 * scale / 2) / 4, 0, 1)[:, None] if not free else 1
    neck = ((_NECK - centre) @ turn.T)[:2] * (scale, -scale) + drawn / 2
    return np.clip(luma, 0, 1), coverage, kind, (neck / 2).astype(np.float32), scale / 2, skin, flesh, behind


def _shaded(
    rng: np.random.Generator, attributes: F32, depth: F32, mask: Bool, skin: float, kind: int
) -> tuple[F32, float]:
    """Display values of the rasterised body: cloth where it is worn, skin elsewhere, lit; and bare skin's mean."""
    size = mask.shape[0]
    normal, x, y, z = attributes[..., :3], attributes[..., 3], attributes[..., 4], attributes[..., 5]
    part, along = attributes[..., 6], attributes[..., 7]
    normal = normal / (np.linalg.norm(normal, axis=2, keepdims=True) + np.float32(1e-6))
    normal = np.where(normal[..., 2:] < 0, -normal, normal)
    bare = rng.random() < (0.12, 0.45, 0.3)[kind]
    collar, opening = rng.uniform(-13.5, -9), rng.uniform(0, 9) * (rng.random() < 0.6)
    covered = (y < collar - opening * np.clip(1 - np.abs(x) / 6, 0, 1) * (z > 0)) & (part == _TORSO_PART)
    sleeve = rng.choice([0.0, 0.3, 1.1, 1.1, 1.1])
    covered = (covered | ((part > 0.5) & (along < sleeve) & (part < 1.5))) & (not bare)
    canvas = cloth(rng, 512)
    around = np.arctan2(x, np.abs(z) + 4) * 12  # unrolled: cloth lies on the body without stretching at the sides
    columns, rows = np.where(part < 0.5, around, x) * 9 + 256, (-y - 8) * 9
    worn = cv2.remap(
        canvas, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )
    flesh = np.float32(skin) * np.exp(noise(rng, size, size, 4, 128, 0.5) * np.float32(rng.uniform(0.01, 0.07)))
    front = (part < 0.5) & (z > 0)
    for side in (-1, 1):
        spot = ((x - side * 8.5) / rng.uniform(1, 1.8)) ** 2 + ((y + 28) / rng.uniform(1, 1.6)) ** 2
        flesh = flesh * (1 - np.float32(0.5) * np.clip(2 - 2 * spot, 0, 1) * front)
    flesh = flesh * (1 - np.float32(0.6) * np.clip(2 - 2 * ((x / 0.8) ** 2 + ((y + 53) / 0.9) ** 2), 0, 1) * front)
    albedo = np.where(covered, worn, flesh)
    folds = noise(rng, size, size, 4, 24, 0.6) * np.float32(rng.uniform(0, 1.2))
    slopes = np.stack([cv2.Sobel(folds, cv2.CV_32F, 1, 0), cv2.Sobel(folds, cv2.CV_32F, 0, 1), np.zeros_like(folds)], 2)
    normal = normal + slopes * covered[..., None]
    light = rng.uniform(0.15, 0.6) * (1 + rng.uniform(-0.2, 0.5) * normal[..., 1])
    for _ in range(int(rng.integers(1, 3))):
        lamp = rng.normal((0, 0.4, 0.8), 1)
        light = light + rng.uniform(0.2, 1.0) * np.clip(normal @ (lamp / np.linalg.norm(lamp)), 0, None)
    near = np.where(mask, depth, np.max(depth[mask], initial=0)).astype(np.float32)
    hollow = np.clip((near - cv2.GaussianBlur(near, (0, 0), size * 0.02)) * 0.08, 0, 0.45)
    linear = albedo * np.maximum(light, 0.03) * (1 - hollow) * rng.uniform(0.8, 1.3)
    seen = (np.clip(linear, 0, 1) ** (1 / DISPLAY_GAMMA)).astype(np.float32)
    bare_skin = seen[mask & ~covered]
    return seen, float(bare_skin.mean()) if len(bare_skin) else 0.5


def body_bank(seed: int, many: int, size: int = 192) -> Bodies:
    """`many` bodies; number i comes from default_rng([seed, i])."""
    made = [render(np.random.default_rng([seed, index]), size) for index in range(many)]
    luma, alpha = (np.round(np.stack([body[k] for body in made]) * 255).astype(np.uint8) for k in (0, 1))
    luma = np.stack([bled(*body) for body in zip(luma, alpha, strict=True)])
    kind, behind = (np.array([body[k] for body in made], np.uint8) for k in (2, 7))
    neck, scale, skin, flesh = (np.array([body[k] for body in made], np.float32) for k in (3, 4, 5, 6))
    return Bodies(luma, alpha, kind, neck, scale, skin, flesh, behind)
