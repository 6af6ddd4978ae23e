"""Who is seen and what they do: identities, skin, hair, expressions, gaze, head pose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeface.values import F32
from training.render import hair as hairs
from training.render import head as heads
from training.render import skin


@dataclass(frozen=True, slots=True)
class Person:
    """What of a person does not change while they are filmed."""

    neutral: F32  # [n, 3] the head without expression, before hair
    covered: F32  # [n] how much of each vertex is the scalp's hair
    growth: F32  # [n] how far it pushes outward, head units
    hair: hairs.Style | None
    hair_vertices: F32 | None  # [k, 3]
    hair_cut: int  # 0..255: where the hair's texture is cut out
    canvas: F32  # [HEIGHT, WIDTH, 4] see skin.canvas
    skin: F32  # [3] albedo
    hair_colour: F32  # [3]
    brow_colour: F32  # [3]
    iris_colour: F32  # [3]
    iris_size: float  # sine of the angle between the eye's axis and the iris' edge
    eye_white: float
    teeth: float
    lashes: float  # share of them that is seen
    cloth: F32  # [3]
    collar: float  # head units: below it the neck is cloth
    gloss: float  # of the skin
    worn: tuple[tuple[str, int], ...]  # what is worn, and the seed it is made from


@dataclass(frozen=True, slots=True)
class Shot:
    """What of a person changes: expression and pose."""

    expression: F32  # [53]
    yaw: float  # radians; positive turns the face to the picture's right
    pitch: float  # positive looks down
    roll: float  # positive tilts the head's top to the picture's left
    body_yaw: float
    held: tuple[tuple[str, int], ...] = ()  # a hand or a thing before the face, and the seed it is made from


IRIS_COLOURS = np.float32(
    [[0.03, 0.018, 0.01], [0.08, 0.045, 0.025], [0.16, 0.11, 0.05], [0.12, 0.17, 0.2], [0.3, 0.33, 0.34]]
)
HAIR_COLOURS = np.float32(
    [[0.015, 0.012, 0.01], [0.05, 0.03, 0.02], [0.14, 0.08, 0.045], [0.4, 0.28, 0.15], [0.45, 0.43, 0.4]]
)


def person(rng: np.random.Generator, folder: Path, ingredients: frozenset[str]) -> Person:
    """Somebody, drawn at random. What is not in `ingredients` is drawn and dropped: the rest stays what it was."""
    head = heads.load(folder)
    spread = np.float32(rng.uniform(0.6, 1.35))
    if "identity" not in ingredients:
        spread = np.float32(0.15)
    neutral = head.base + (rng.standard_normal(100, dtype=np.float32) * spread @ head.identities).reshape(-1, 3)
    bald = rng.random() < 0.10
    covered, growth = hairs.scalp(rng, head.base, head.height_over_hairline)
    depth = rng.random()
    albedo = (
        skin.albedo(depth) * np.float32(np.exp(rng.normal(0, 0.12))) * np.exp(rng.normal(0, 0.04, 3)).astype(np.float32)
    )
    style = vertices = None
    if not bald and rng.random() < 0.62:
        style, vertices = hairs.combed(rng, folder)
    if "hair" not in ingredients or bald:
        style, vertices, covered, growth = None, None, covered * 0, growth * 0
    colour = _between(rng, HAIR_COLOURS) if rng.random() < 0.85 else rng.uniform(0.02, 0.6, 3).astype(np.float32)
    brow = colour * np.float32(rng.uniform(0.6, 1.3))
    bearded = rng.random() < 0.3 and "beard" in ingredients
    number = int(rng.integers(skin.CANVASES)) * ("skin" in ingredients)
    return Person(
        neutral=neutral,
        covered=covered,
        growth=growth,
        hair=style,
        hair_vertices=vertices,
        hair_cut=int(rng.integers(60, 150)),
        canvas=skin.canvas(folder, number, bearded),
        skin=np.clip(albedo, 0.015, 0.9),
        hair_colour=colour,
        brow_colour=np.minimum(brow, albedo * np.float32(rng.uniform(0.35, 0.95))),
        iris_colour=_between(rng, IRIS_COLOURS),
        iris_size=rng.uniform(0.43, 0.52),
        eye_white=rng.uniform(0.3, 0.68),
        teeth=rng.uniform(0.45, 0.85),
        lashes=rng.uniform(0, 0.8) * rng.integers(0, 2),
        cloth=np.clip(rng.uniform(0.03, 0.9) + rng.normal(0, 0.12, 3), 0.02, 0.95).astype(np.float32),
        collar=rng.uniform(-14, -10),
        gloss=rng.uniform(0, 0.35) * rng.integers(0, 2),
        worn=_worn(rng, ingredients),
    )


def _between(rng: np.random.Generator, colours: F32) -> F32:
    at = rng.uniform(0, len(colours) - 1)
    return np.float32([np.interp(at, range(len(colours)), colours[:, k]) for k in range(3)])


def _worn(rng: np.random.Generator, ingredients: frozenset[str]) -> tuple[tuple[str, int], ...]:
    found = []
    if rng.random() < 0.24:
        found.append(("glasses", "sunglasses" if rng.random() < 0.25 else "glasses"))
    if rng.random() < 0.2:
        found.append(("hats", "hat"))
    if rng.random() < 0.08:
        found.append(("masks", "mask"))
    seeds = [int(rng.integers(2**31)) for _ in found]
    worn = zip(found, seeds, strict=True)
    return tuple((kind, seed) for (ingredient, kind), seed in worn if ingredient in ingredients)


def shot(rng: np.random.Generator, head: heads.Head, ingredients: frozenset[str]) -> Shot:
    """What somebody does, drawn at random: most look roughly at the camera, some in full profile."""
    if rng.random() < 0.2 and "profiles" in ingredients:
        yaw = rng.uniform(-np.radians(92), np.radians(92))
    else:
        yaw = np.clip(rng.normal(0, np.radians(26)), -1.3, 1.3)
    pitch = np.clip(rng.normal(0, np.radians(13)), -0.75, 0.75)
    roll = rng.normal(0, np.radians(14)) if rng.random() < 0.93 else rng.uniform(-np.radians(55), np.radians(55))
    doing = expression(rng, head)
    if "expression" not in ingredients:
        doing = np.zeros(53, np.float32)
    held = []
    if rng.random() < 0.15:
        held.append(("hand" if rng.random() < 0.65 else "thing", int(rng.integers(2**31))))
    body_yaw = float(yaw * rng.uniform(0, 0.9))
    return Shot(doing, float(yaw), float(pitch), float(roll), body_yaw, tuple(held) if "front" in ingredients else ())


def expression(rng: np.random.Generator, head: heads.Head) -> F32:
    """Weights f32 [53]: smiles, open mouths, single muscles, lids, brows, gaze."""
    weights = np.zeros(53, np.float32)

    def put(name: str, value: float, uneven: float = 0.15) -> None:
        names = [name] if name in head.expression else [n for n in (name + "_L", name + "_R") if n in head.expression]
        for n in names:
            weights[head.expression[n]] = np.clip(value * (1 + rng.normal(0, uneven if len(names) > 1 else 0)), 0, 1.1)

    def maybe(chance: float, name: str, low: float, high: float) -> None:
        if rng.random() < chance:
            put(name, rng.uniform(low, high))

    kind = rng.random()
    if kind < 0.4:
        smile = rng.uniform(0.2, 1)
        put("mouthSmile", smile)
        put("cheekSquint", smile * rng.uniform(0, 0.8))
        put("eyeSquint", smile * rng.uniform(0, 0.7))
        if rng.random() < 0.6:
            put("mouthUpperUp", smile * rng.uniform(0, 0.8))
            put("mouthLowerDown", smile * rng.uniform(0, 0.8))
        maybe(0.4, "jawOpen", 0, 0.45)
        maybe(0.3, "mouthStretch", 0, 0.5)
    elif kind < 0.6:
        put("jawOpen", rng.uniform(0.05, 1))
        maybe(0.4, "mouthFunnel", 0, 0.9)
        maybe(0.3, "mouthLowerDown", 0, 0.8)
        maybe(0.3, "mouthUpperUp", 0, 0.8)
    elif kind < 0.8:
        for name in rng.choice(sorted(head.expression), int(rng.integers(1, 6)), replace=False):
            if not name.startswith("eyeLook"):
                weights[head.expression[name]] = rng.uniform(0, 0.8)
    lids = rng.random()
    if lids < 0.14:
        put("eyeBlink", rng.uniform(0.4, 1), 0.05)
    elif lids < 0.17:  # a wink
        weights[head.expression[f"eyeBlink_{rng.choice(['L', 'R'])}"]] = rng.uniform(0.6, 1)
    elif lids < 0.5:
        put("eyeSquint", rng.uniform(0, 0.8))
    elif lids < 0.75:
        put("eyeBlink", rng.uniform(0, 0.4), 0.05)
    elif lids < 0.85:
        put("eyeWide", rng.uniform(0, 0.9))
    maybe(0.35, rng.choice(["browDown", "browInnerUp", "browOuterUp"]), 0, 0.9)
    look(weights, head, *np.clip(rng.normal(0, 0.35, 2), -1, 1))
    return weights


def look(weights: F32, head: heads.Head, right: float, up: float) -> None:
    """Turns the eyes of `weights`: -1..1 to the picture's right and up."""
    sideways = ("eyeLookOut_L", "eyeLookIn_R") if right > 0 else ("eyeLookOut_R", "eyeLookIn_L")
    upward = ("eyeLookUp_L", "eyeLookUp_R") if up > 0 else ("eyeLookDown_L", "eyeLookDown_R")
    for name, other in zip(sideways, upward, strict=True):
        weights[head.expression[name]] = abs(right)
        weights[head.expression[other]] = abs(up)
