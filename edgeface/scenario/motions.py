"""How the faces of a scenario move: functions of the time in seconds, everything random drawn at the start."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeface.values import F32, F64, I64

WIDTH, HEIGHT = 1920, 1080  # of the frame
PILLARS: F32 = np.array([[560, 0, 720, HEIGHT], [1200, 0, 1360, HEIGHT]], np.float32)  # in front of the faces

Motion = Callable[[float], tuple[F64, F64]]  # seconds -> centres [n, 2] and sizes [n, 2], pixels


def crossing(rng: np.random.Generator, faces: int) -> Motion:
    """To and fro across the frame in both directions, up to five in a lane: paths cross, the nearer hides the other."""
    lanes = max(-(-faces // 5), 1)
    size = _sizes(rng, rng.uniform(0.5, 1, faces) * np.clip(HEIGHT / lanes, 24, 220))
    start, speed = rng.uniform(0, WIDTH, faces), rng.uniform(150, 450, faces) * _both_ways(faces)
    y = (np.arange(faces) // 5 + 0.5) * HEIGHT / lanes + rng.uniform(-0.15, 0.15, faces) * size[:, 1]
    return lambda t: (np.stack([_to_and_fro(start + speed * t, size[:, 0]), y], axis=1), size)


def crowd(rng: np.random.Generator, faces: int) -> Motion:
    """Small faces close together that sway."""
    home, room = _grid(faces, 64)
    size, sway = _sizes(rng, rng.uniform(0.5, 0.85, faces) * room), _sway(rng, faces, 0.35 * room)
    return lambda t: (home + sway(t), size)


def occlusion(rng: np.random.Generator, faces: int) -> Motion:
    """Each in its own lane, to and fro behind two pillars: hidden for 0.3 to 0.9 s each time."""
    room = HEIGHT / max(faces, 1)
    size = _sizes(rng, rng.uniform(0.5, 0.85, faces) * np.clip(room, 100, 180))  # narrower than a pillar
    start, speed = rng.uniform(0, WIDTH, faces), rng.uniform(185, 480, faces) * _both_ways(faces)
    y = (np.arange(faces) + 0.5) * room
    return lambda t: (np.stack([_to_and_fro(start + speed * t, size[:, 0]), y], axis=1), size)


def shake(rng: np.random.Generator, faces: int) -> Motion:
    """A camera in the hand or in a car: all faces together tremble, and every 0.9 s jerk or begin a pan."""
    home, room = _grid(faces, 300)
    size, sway = _sizes(rng, rng.uniform(0.25, 0.5, faces) * room), _sway(rng, faces, 0.15 * room)
    aims = rng.uniform(-1, 1, (64, 2)) * (140, 70)
    rate, width = np.array([[1.7], [4.3], [9.1]]), np.array([[8.0], [4.0], [1.5]])  # of the tremor: Hz, pixels
    phase = rng.uniform(0, 2 * np.pi, (3, 2))

    def motion(t: float) -> tuple[F64, F64]:
        number, share = divmod(t / 0.9, 1)
        begin, end = aims[int(number) % 64], aims[(int(number) + 1) % 64]
        share = min(share * (8 if number % 2 else 1), 1)  # a jerk takes an eighth of the time, a pan all of it
        camera = begin + (end - begin) * share**2 * (3 - 2 * share)
        camera += (width * np.sin(2 * np.pi * rate * t + phase)).sum(axis=0)
        return home + sway(t) + camera, size

    return motion


def leave_and_return(rng: np.random.Generator, faces: int) -> Motion:
    """In and out at the left and right border: away for 1.4 to 2.2 s each time."""
    room = HEIGHT / max(-(-faces // 2), 1)
    size = _sizes(rng, rng.uniform(0.5, 0.9, faces) * np.clip(room, 24, 170))
    rate, phase = 1 / rng.uniform(4, 6, faces), rng.uniform(0, 1, faces)
    y, left = (np.arange(faces) // 2 + 0.5) * room, _both_ways(faces) > 0

    def motion(t: float) -> tuple[F64, F64]:
        inside = 150 + 350 * np.sin(2 * np.pi * (rate * t + phase))  # how far from the border
        return np.stack([np.where(left, inside, WIDTH - inside), y], axis=1), size

    return motion


def approach(rng: np.random.Generator, faces: int) -> Motion:
    """One after the other comes, from 50 px to 670 px high, and goes away again, in 7 to 10 s."""
    home, _ = _grid(faces, 400)
    shape = _sizes(rng, np.ones(faces))
    rate, phase = 1 / rng.uniform(7, 10, faces), np.arange(faces) / max(faces, 1) + rng.uniform(0, 0.1, faces)

    def motion(t: float) -> tuple[F64, F64]:
        nearness = np.sin(2 * np.pi * (rate * t + phase))
        return home, shape * (50 * 670) ** 0.5 * (670 / 50) ** (nearness[:, None] / 2)

    return motion


def _sizes(rng: np.random.Generator, height: F64) -> F64:
    """Width and height [n, 2] of faces of such heights."""
    return np.stack([height / rng.uniform(1.1, 1.35, len(height)), height], axis=1)


def _both_ways(faces: int) -> I64:
    return 1 - 2 * (np.arange(faces) % 2)


def _to_and_fro(x: F64, width: F64) -> F64:
    """Where something `width` wide is that would be at `x`, but turns round at the borders of the frame."""
    span = WIDTH - width
    turned: F64 = width / 2 + np.abs((x - width / 2 + span) % (2 * span) - span)
    return turned


def _grid(faces: int, room: float) -> tuple[F64, float]:
    """Places [n, 2] in rows around the middle of the frame, and how far apart: `room` or what there is."""
    columns = max(int(np.ceil(np.sqrt(faces * WIDTH / HEIGHT))), 1)
    rows = max(-(-faces // columns), 1)
    room = min(room, 0.9 * WIDTH / columns, 0.9 * HEIGHT / rows)
    place = np.stack([np.arange(faces) % columns, np.arange(faces) // columns], axis=1)
    return (place - (np.array([columns, rows]) - 1) / 2) * room + (WIDTH / 2, HEIGHT / 2), room


def _sway(rng: np.random.Generator, faces: int, width: float) -> Callable[[float], F64]:
    """Seconds -> offsets [n, 2], each up to `width` and back in 3 to 6 s."""
    rate, phase = 1 / rng.uniform(3, 6, (faces, 2)), rng.uniform(0, 1, (faces, 2))
    return lambda t: width * np.sin(2 * np.pi * (rate * t + phase))
