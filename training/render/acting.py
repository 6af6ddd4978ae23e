"""What people in moving scenes do: channels of key poses, smoothly joined, and life between the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeface.values import F32
from training.render import head as heads
from training.render.figure import Dress
from training.render.person import Person, Shot, look

# what is keyed, and its value where nothing is
CHANNELS = {
    "x": 0.0,  # pixels: the column of the head's middle, seen by a camera at rest
    "size": 90.0,  # pixels: the face's height, hairline to chin
    "yaw": 0.0,  # degrees: of the head, positive to the picture's right; 180 turns its back on us
    "pitch": 0.0,  # positive looks down
    "roll": 0.0,  # positive tilts the head's top to the picture's left
    "body_yaw": 0.0,
    "smile": 0.0,  # 0 to 1, as all below
    "talk": 0.0,
    "look_x": 0.0,  # -1 to 1: the eyes to the picture's right
    "look_y": 0.0,  # and up
    "walk": 0.0,
}
Keys = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Actor:
    """A person and what they do. Before the first and after the last key of `x` they are not there."""

    track_id: int
    person: Person
    keys: Mapping[str, Keys]  # x and size always: see CHANNELS
    dress: Dress
    rise: float = 0.0  # head units: how far the head is above the camera's height
    blinks: tuple[float, ...] = ()  # seconds


def along(keys: Keys, second: float) -> float:
    """The value at `second` of a monotone cubic through `keys` (Fritsch and Carlson 1980); constant beyond its ends."""
    t, v = np.array(keys, float).T
    if len(t) == 1 or second <= t[0]:
        return float(v[0])
    if second >= t[-1]:
        return float(v[-1])
    slope = np.diff(v) / np.diff(t)
    tangent = np.zeros(len(t))
    same = slope[:-1] * slope[1:] > 0
    tangent[1:-1][same] = 2 / (1 / slope[:-1][same] + 1 / slope[1:][same])
    tangent[0], tangent[-1] = slope[0], slope[-1]
    k = int(np.searchsorted(t, second, "right")) - 1
    h = t[k + 1] - t[k]
    u = (second - t[k]) / h
    return float(
        v[k] * (1 + 2 * u) * (1 - u) ** 2
        + v[k + 1] * u * u * (3 - 2 * u)
        + h * (tangent[k] * u * (1 - u) ** 2 - tangent[k + 1] * u * u * (1 - u))
    )


def present(actor: Actor, second: float) -> bool:
    """Whether the person is anywhere near."""
    return actor.keys["x"][0][0] <= second <= actor.keys["x"][-1][0]


def doing(actor: Actor, head: heads.Head, second: float) -> tuple[dict[str, float], Shot]:
    """The channels' values and the pose: a person never stands quite still."""
    now = {name: along(actor.keys.get(name, ((0.0, rest),)), second) for name, rest in CHANNELS.items()}
    own = 2.4 * actor.track_id  # everybody sways at a time of their own
    yaw, pitch, roll = (
        np.radians(now[name] + much * np.sin(rate * second + own))
        for name, much, rate in (("yaw", 1.5, 1.7), ("pitch", 1.2, 2.3), ("roll", 1.0, 1.1))
    )
    shot = Shot(_expression(actor, head, now, second), yaw, pitch, roll, np.radians(now["body_yaw"]))
    now["bob"] = 0.9 * now["walk"] * abs(np.sin(5.5 * second + own)) + 0.2 * np.sin(1.3 * second + own)
    now["step"] = 0.45 * now["walk"] * np.sin(5.5 * second + own)
    return now, shot


def _expression(actor: Actor, head: heads.Head, now: Mapping[str, float], second: float) -> F32:
    weights = np.zeros(53, np.float32)

    def put(name: str, value: float) -> None:
        for full in (name, name + "_L", name + "_R"):
            if full in head.expression:
                weights[head.expression[full]] += value

    own, smile, talk = 1.7 * actor.track_id, now["smile"], now["talk"]
    for name, share in (("mouthSmile", 0.75), ("cheekSquint", 0.45), ("eyeSquint", 0.25), ("mouthLowerDown", 0.1)):
        put(name, share * smile)
    # syllables about three a second, in phrases
    open_ = 0.5 + 0.5 * np.sin(20.7 * second + own + 1.5 * np.sin(4.4 * second + own))
    round_ = 0.5 + 0.5 * np.sin(11.9 * second + 2 * own + 0.9 * np.sin(6.9 * second))
    phrase = talk * np.clip(0.55 + 0.6 * np.sin(2.8 * second + own), 0.15, 1)
    put("jawOpen", 0.34 * open_ * phrase)
    put("mouthFunnel", 0.4 * round_ * (1 - open_ / 2) * phrase)
    put("mouthLowerDown", 0.35 * open_ * phrase)
    put("mouthUpperUp", 0.2 * open_ * phrase)
    put("browInnerUp", 0.2 * max(0.0, np.sin(0.8 * second + own)))
    shut = max((1 - ((second - blink) / 0.13) ** 2 for blink in actor.blinks), default=0.0)
    for name in ("eyeBlink_L", "eyeBlink_R"):
        weights[head.expression[name]] = max(0.0, shut)
    look(weights, head, float(np.clip(now["look_x"], -1, 1)), float(np.clip(now["look_y"], -1, 1)))
    return np.clip(weights, 0, 1.05)
