"""A tiny bank without assets: white ellipses for heads, squares for bodies."""

from __future__ import annotations

import numpy as np

from training.render import banks, body
from training.render.background import lookalike_bank
from training.render.bank import BACK, FACE

WHOLE = 64  # pixels of a head's patch
BOX = np.array([16, 12, 48, 52], np.float32)
POINTS = np.array([[24, 26], [40, 26], [30, 34], [26, 44], [37, 44]], np.float32)


def heads(many: int = 4, kind: int = FACE) -> banks.Heads:
    """White ellipses that fill their boxes exactly."""
    alpha = np.zeros((many, WHOLE, WHOLE), np.uint8)
    y, x = np.mgrid[:WHOLE, :WHOLE] + 0.5
    alpha[:, ((x - 32) / 16) ** 2 + ((y - 32) / 20) ** 2 < 1] = 255
    luma = np.where(alpha > 0, 255, 0).astype(np.uint8)
    luma[:, 30:34, 28:36] = 90  # not flat
    return banks.heads_of(
        luma,
        alpha,
        np.tile(BOX, (many, 1)),
        np.tile(POINTS, (many, 1, 1)),
        np.full(many, kind, np.uint8),
        np.tile(np.array([180.0 if kind == BACK else 20, 5, -3], np.float32), (many, 1)),
        np.full(many, 0.4, np.float32),
    )


def bodies() -> body.Bodies:
    square = np.zeros((2, 32, 32), np.uint8)
    square[:, 4:, 6:26] = 255
    return body.Bodies(
        square // 2,
        square,
        np.array([body.UPPER, body.HAND], np.uint8),
        np.tile(np.array([16, 5], np.float32), (2, 1)),
        np.full(2, 0.4, np.float32),
        np.full(2, 0.4, np.float32),
        np.full(2, 0.5, np.float32),
        np.zeros(2, np.uint8),
    )


def bank(kind: int = FACE) -> banks.Banks:
    return banks.Banks(heads(kind=kind), bodies(), lookalike_bank(0, 12, 32), [])
