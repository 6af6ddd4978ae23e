"""Draws moving scenes: people who walk on given paths before a camera, in colour, with the exact truth of each frame.

A scene is a list of actors; an actor is a person with key poses at times. A frame is a function of the scene and its
number alone: frames can be drawn in any order and by several processes, and are the same each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeface.point_sets import five_points
from edgeface.values import F32, F64, I64, U8
from training.render import acting, draw, figure, raster
from training.render import head as heads
from training.render import light as lights
from training.render.acting import Actor, Keys
from training.render.mesh import I32
from training.render.person import Person, Shot

FACE_HEIGHT = 17.8  # head units, of the box of most faces seen from a few metres
NEARER = 1.13  # what is nearer than the head's middle is larger
LEAST = 256  # pixels across it at least: the grain of hair and skin is then the same at any size
REACH = 40.0  # head units from the middle of a head within which are its body and the hand's tremor
SHOULDER = 7.0  # head units from the middle: what is wider at the neck's root belongs to the body
LISTED_SHARE = 0.08  # of its box: a face with less of it in the frame is no truth
BEHIND_DEG = 90.0  # between the face's axis and the way to the camera: it is seen from behind


@dataclass(frozen=True, slots=True)
class Scene:
    """Actors before a camera that turns a little in a panorama."""

    actors: tuple[Actor, ...]
    light: lights.Light
    panorama: F32  # [h, w, 3] linear light
    seconds: float = 10.0
    fps: float = 30.0
    width: int = 640
    height: int = 360
    focal: float = 900.0  # pixels
    horizon: float = 140.0  # the row of the camera's own height
    facing: float = 0.0  # degrees in the panorama
    pan: Keys = ((0.0, 0.0),)  # (second, degrees to the right)
    tremor: float = 0.0  # pixels that the hand moves the picture
    exposure: float = 1.0
    backdrop_angle: float = 68.0  # degrees of the panorama across the frame
    backdrop: float = 1.0  # its brightness


@dataclass(frozen=True, slots=True)
class Layer:
    """One person in one frame without what is behind and before them."""

    distance: float
    corner: tuple[int, int]  # column and row of its first pixel in the frame
    rgb: F32  # [h, w, 3] linear light times alpha
    alpha: F32  # [h, w]
    face_corner: tuple[int, int]
    face: F32  # [s, s] share of each pixel that the face's front covers, also beyond the frame
    listed: bool  # the face is not seen from behind
    truth: dict


def frames(scene: Scene, folder: Path) -> Iterator[tuple[U8, list[dict]]]:
    """All of a scene's frames [h, w, 3] red, green, blue, each with its truth."""
    for number in range(count(scene)):
        yield frame(scene, folder, number)


def count(scene: Scene) -> int:
    return round(scene.seconds * scene.fps)


def frame(scene: Scene, folder: Path, number: int) -> tuple[U8, list[dict]]:
    """One frame [h, w, 3] and the truth of its faces, by track id."""
    second = number / scene.fps
    turn = np.radians(acting.along(scene.pan, second))
    slow, fast = np.array([5.3, 6.7]) * second, np.array([12.1, 10.3]) * second
    shake = np.sin(slow + np.array([0, 2])) + 0.5 * np.sin(fast + np.array([1, 0]))
    moved = scene.tremor * shake - [scene.focal * np.tan(turn), 0]
    principal = np.array([scene.width / 2, scene.horizon]) + moved
    there = [layer(scene, actor, folder, second, principal) for actor in scene.actors if _near(scene, actor, second)]
    there.sort(key=lambda one: -one.distance)
    rgb = backdrop(scene, principal)
    covers = []
    for one in there:
        cover = np.zeros((scene.height, scene.width), np.float32)
        in_frame, in_layer = overlap(one.corner, one.alpha.shape, cover.shape)
        cover[in_frame] = one.alpha[in_layer]
        rgb *= 1 - cover[..., None]
        rgb[in_frame] += one.rgb[in_layer]
        covers.append(cover)
    truth = []
    for k, one in enumerate(there):
        clear = np.ones((scene.height, scene.width), np.float32)
        for cover in covers[k + 1 :]:
            clear *= 1 - cover
        listed = _truth(one, clear) if one.listed else None
        truth += [listed] if listed else []
    return _display(scene, rgb, number), sorted(truth, key=lambda face: face["track_id"])


def _near(scene: Scene, actor: Actor, second: float) -> bool:
    """Whether anything of the actor can be in the frame."""
    x, size = (acting.along(actor.keys[name], second) for name in ("x", "size"))
    reach = REACH * size / FACE_HEIGHT
    return acting.present(actor, second) and -reach < x < scene.width + reach


def _truth(one: Layer, clear: F32) -> dict | None:
    """The face's entry; `clear` [h, w] is the share of each pixel with nobody else before it. None: not there."""
    height, width = clear.shape
    whole = one.truth["xyxy"].astype(float)
    inside = np.clip(whole, 0, [width, height, width, height])
    if np.prod(inside[2:] - inside[:2]) <= LISTED_SHARE * np.prod(whole[2:] - whole[:2]):
        return None
    in_frame, in_face = overlap(one.face_corner, one.face.shape, clear.shape)
    share = float((one.face[in_face] * clear[in_frame]).sum() / max(float(one.face.sum()), 1e-6))
    points = one.truth["landmarks"]
    return {
        "track_id": one.truth["track_id"],
        "xyxy": inside.round(2).tolist(),
        "keypoints": _rounded(five_points(points[None])[0]),
        "landmarks": _rounded(points[:68]),
        "irises_and_ears": _rounded(points[68:]),
        "visible_fraction": round(min(share, 1.0), 3),
        "pose": _rounded(one.truth["pose"], 1),
        "eyes": _rounded(one.truth["eyes"]),
    }


def _rounded(values: NDArray, digits: int = 2) -> list:
    return np.asarray(values, float).round(digits).tolist()


def overlap(corner: tuple[int, int], size: tuple[int, ...], frame_size: tuple[int, ...]) -> tuple[tuple, tuple]:
    """Where a patch of `size` (h, w) at `corner` (x, y) lies in the frame, and which of its own part that is."""
    low = np.clip([corner[1], corner[0]], 0, frame_size[:2])
    high = np.clip([corner[1] + size[0], corner[0] + size[1]], low, np.maximum(frame_size[:2], low))
    own = low - [corner[1], corner[0]], high - [corner[1], corner[0]]
    return tuple(map(slice, low, high)), tuple(map(slice, *own))


@lru_cache(maxsize=2)
def model(folder: Path) -> tuple[heads.Head, I32]:
    """The head model cut off at the neck, and the triangles of the front that a face's box is drawn around."""
    head = heads.load(folder)
    x, y, z = np.moveaxis(head.base[head.faces].mean(1), 1, 0)
    of_body = (y < np.where(z < -4, figure.NECK - 3, figure.NECK)) | ((y < figure.NECK + 1.5) & (np.abs(x) > SHOULDER))
    low = np.isin(head.material, heads.SKIN) & of_body
    front = np.isin(head.face_triangles, head.box).all(1)
    cut = replace(head, faces=np.ascontiguousarray(head.faces[~low]), material=head.material[~low])
    return cut, np.ascontiguousarray(head.face_triangles[front])


def room(person: Person) -> tuple[float, float]:
    """A square for a head that turns, seen from a metre: its side, and how far its middle is below the head's.

    In head units; the same in each frame of a person.
    """
    hat = any(kind == "hat" for kind, _ in person.worn)
    wide, low, high = (20.0, figure.NECK - 4, 22.0) if hat else (14.0, figure.NECK - 4, 16.0)
    if person.hair_vertices is not None and not hat:
        hair = person.hair_vertices - draw.CENTRE
        wide = max(wide, float(np.abs(hair[:, [0, 2]]).max()))
        low, high = min(low, float(hair[:, 1].min())), max(high, float(hair[:, 1].max()))
    return NEARER * max(2 * wide, high - low), -(high + low) / 2


@dataclass(frozen=True, slots=True)
class _Take:
    """A person before the camera: what both head and body are drawn from."""

    actor: Actor
    shot: Shot
    posed: draw.Posed
    head: heads.Head
    light: lights.Light
    view: draw.View  # of the frame
    samples: int  # each way in a pixel of the frame
    step: float


def layer(scene: Scene, actor: Actor, folder: Path, second: float, principal: F64) -> Layer:
    """One person, seen by a camera whose axis falls on the pixel `principal` [2]."""
    head, front = model(folder)
    now, shot = acting.doing(actor, head, second)
    distance = scene.focal * FACE_HEIGHT / now["size"]
    scale = scene.focal / distance
    across, up = (now["x"] - scene.width / 2) / scale, actor.rise + now["bob"]
    view = draw.View(distance, scale, principal, across, up)
    posed = draw.pose(head, actor.person, shot)
    span, lower = room(actor.person)
    samples = max(2, int(np.ceil(LEAST / (span * scale))))
    take = _Take(actor, shot, posed, head, scene.light, view, samples, now["step"])
    # the head's canvas: a square of whole frame pixels
    side = int(np.ceil(span * scale))
    corner = np.round(principal + scale * np.array([across, lower - up]) - side / 2).astype(int)
    fine = replace(view, scale=scale * samples, principal=(principal - corner) * samples)
    square = (side * samples, side * samples)
    grain = np.random.default_rng(actor.track_id)  # the same in each frame
    seen = draw.picture(grain, head, actor.person, posed, fine, scene.light, square)
    buffers = raster.buffers(*square)
    raster.draw(fine.project(posed.vertices), front, 0, False, *buffers)
    whole_corner, rgb, alpha = _with_body(take, corner, seen, (scene.width, scene.height))
    ahead, to_camera = posed.rotation @ np.array([0, 0, 1]), np.array([-across, -up, distance])
    angle = np.degrees(np.arccos(ahead @ to_camera / np.linalg.norm(to_camera)))
    return Layer(
        distance=distance,
        corner=whole_corner,
        rgb=_smaller(rgb, samples),
        alpha=_smaller(alpha, samples),
        face_corner=tuple(corner.tolist()),
        face=_smaller((buffers[1] >= 0).astype(np.float32), samples),
        listed=bool(angle < BEHIND_DEG),
        truth={
            "track_id": actor.track_id,
            "xyxy": draw.box(head, posed, view),
            "landmarks": draw.landmarks(head, posed, view)[:, :2],
            "pose": heads.angles(posed.rotation),
            "eyes": posed.eyes,
        },
    )


def _with_body(
    take: _Take, corner: I64, seen: draw.Picture, frame_size: tuple[int, int]
) -> tuple[tuple[int, int], F32, F32]:
    """The part of the frame that head and body cover: its corner, and the light and alpha of its samples.

    `seen` is the head, its first pixel the frame's `corner` [2].
    """
    dress, posed, samples = take.actor.dress, take.posed, take.samples
    vertices = draw.turned(figure.walking(dress, take.step), take.shot)
    screen = take.view.project(vertices)
    limits = np.array(frame_size)
    side = seen.alpha.shape[0] // samples
    low = np.clip(np.floor(np.minimum(screen[:, :2].min(0), corner)).astype(int), 0, limits - 1)
    high = np.clip(np.ceil(np.maximum(screen[:, :2].max(0), corner + side)).astype(int), low + 1, limits)
    width, height = ((high - low) * samples).tolist()
    screen[:, :2] = (screen[:, :2] - low) * samples
    depth, index, weights = raster.buffers(height, width)
    raster.draw(screen, dress.faces, 0, True, depth, index, weights)
    solids = [(posed.vertices, take.head.skin_faces)] + [(m.vertices, m.faces) for m in posed.worn]
    shades = figure.lit(take.light, vertices, dress.faces, dress.albedo, solids)
    rgb = np.zeros((height, width, 3), np.float32)
    raster.interpolate(index, weights, dress.faces, shades, rgb)
    alpha = (index >= 0).astype(np.float32)
    start = ((corner - low) * samples).tolist()
    here, of_head = overlap((start[0], start[1]), seen.alpha.shape, alpha.shape)
    nearer = (seen.alpha[of_head] > 0) & (seen.depth[of_head] < depth[here])
    rgb[here][nearer] = seen.rgb[of_head][nearer]
    alpha[here][nearer] = 1
    return (int(low[0]), int(low[1])), rgb, alpha


def _smaller(picture: F32, times: int) -> F32:
    size = picture.shape[1] // times, picture.shape[0] // times
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)


def backdrop(scene: Scene, principal: F64) -> F32:
    """Linear light [h, w, 3] of the panorama, out of focus, as the camera finds it."""
    focal = scene.width / 2 / np.tan(np.radians(scene.backdrop_angle) / 2)
    moved = (principal - [scene.width / 2, scene.horizon]) * focal / scene.focal
    x, y = np.meshgrid(np.arange(scene.width) + 0.5, np.arange(scene.height) + 0.5)
    x, y = x - scene.width / 2 - moved[0], y - scene.horizon - moved[1]
    rows, columns = scene.panorama.shape[:2]
    u = (np.arctan2(x, focal) / (2 * np.pi) + scene.facing / 360) % 1 * columns - 0.5
    v = (0.5 + np.arctan2(y, np.hypot(x, focal)) / np.pi) * rows - 0.5
    source = np.minimum(scene.panorama, np.percentile(scene.panorama, 97) * 1.6)
    source = cv2.GaussianBlur(source, (0, 0), 0.7)
    seen = cv2.remap(source, u.astype(np.float32), v.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return np.clip(cv2.GaussianBlur(seen, (0, 0), 2.2), 0, None) * np.float32(scene.backdrop)


def _display(scene: Scene, rgb: F32, number: int) -> U8:
    """Bytes of linear light: a soft shoulder, darker corners, the sensor's grain."""
    y, x = np.mgrid[: scene.height, : scene.width]
    off = (x / scene.width * 2 - 1) ** 2 + (y / scene.height * 2 - 1) ** 2
    light = cv2.GaussianBlur(rgb, (0, 0), 0.45) * np.float32(scene.exposure)
    curved = light * (1 + light / 6) / (1 + 0.55 * light)
    shown = np.clip(curved, 0, 1) ** np.float32(1 / 2.2) * (1 - 0.08 * off[..., None])
    shown = shown + np.random.default_rng(number).normal(0, 0.006, (*off.shape, 1))
    return np.clip(shown * 255 + 0.5, 0, 255).astype(np.uint8)
