"""Other views of the same pictures: turned, moved, mirrored, cropped, with other light; the labels go along exactly.

Everything is a function of the arrays and of a generator, so that a step gives the same batch however often it is run.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeface.point_sets import flip_map

SIDE = 80
CORNER = 12  # pixels of a crop that seldom show the face
NOWHERE = -1000.0  # pixels


def _normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator).to(like.device)


def _uniform(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.rand(shape, generator=generator).to(like.device)


def crop_faces(
    picture: Tensor,
    landmarks: Tensor,
    turn: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Square pictures u8 [n, S, S] and points [n, k, 2] in them -> luma f32 [n, 1, 80, 80] and the points in the crop.

    A crop's pixel u is the picture's S / 2 + scale * R(turn) (u - 40) + shift: by default the middle 80 pixels as they
    are. `turn` [n] radians, `scale` [n], `shift` [n, 2] pixels. Beyond the picture its border is repeated.
    """
    count, size = len(picture), picture.shape[-1]
    zero = torch.zeros(count, device=picture.device)
    turn = zero if turn is None else turn
    scale = zero + 1 if scale is None else scale
    shift = torch.stack([zero, zero], 1) if shift is None else shift
    cosine, sine = torch.cos(turn) * scale, torch.sin(turn) * scale
    rotation = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)  # [n, 2, 2]
    line = torch.arange(SIDE, device=picture.device, dtype=torch.float32) + 0.5 - SIDE / 2
    crop = torch.stack([line.expand(SIDE, SIDE), line[:, None].expand(SIDE, SIDE)], -1).reshape(1, -1, 2)
    source = crop @ rotation.transpose(1, 2) + (size / 2 + shift)[:, None]
    grid = (source * (2 / size) - 1).reshape(count, SIDE, SIDE, 2)
    luma = F.grid_sample(picture.float()[:, None], grid, padding_mode="border", align_corners=False)
    placed = (landmarks - size / 2 - shift[:, None]) @ rotation / (scale**2)[:, None, None] + SIDE / 2
    return luma, placed


def mirror_faces(luma: Tensor, landmarks: Tensor, visible: Tensor, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mirrors the crops [n, 1, S, S] and points [n, k, 2] where `which` [n] is true; left points become right ones."""
    order = torch.from_numpy(flip_map(landmarks.shape[1]))
    other = landmarks[:, order] * landmarks.new_tensor([-1.0, 1.0]) + landmarks.new_tensor([luma.shape[-1], 0.0])
    return (
        torch.where(which[:, None, None, None], luma.flip(3), luma),
        torch.where(which[:, None, None], other, landmarks),
        torch.where(which[:, None], visible[:, order], visible),
    )


def cover(
    luma: Tensor, landmarks: Tensor, visible: Tensor, generator: torch.Generator, share: float
) -> tuple[Tensor, Tensor]:
    """Lays an ellipse or a rectangle, of one tone or of another crop, on a `share` of the crops; hides the points."""
    count, side = len(luma), luma.shape[-1]
    draw = _uniform((count, 9), generator, luma)
    centre, radius = draw[:, 0:2] * side, (0.08 + 0.25 * draw[:, 2:4]) * side
    turn = draw[:, 4:5] * math.pi
    chosen, power = draw[:, 5] < share, torch.where(draw[:, 6] < 0.5, 2.0, 12.0)

    def inside(place: Tensor) -> Tensor:
        """places [n, m, 2] -> bool [n, m]."""
        x, y = (place - centre[:, None]).unbind(-1)
        along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
        ratio = torch.stack([along, across], -1).abs() / radius[:, None]
        return ((ratio ** power[:, None, None]).sum(-1) < 1) & chosen[:, None]

    line = torch.arange(side, device=luma.device, dtype=torch.float32) + 0.5
    grid = torch.stack([line.expand(side, side), line[:, None].expand(side, side)], -1).reshape(1, -1, 2)
    mask = inside(grid.expand(count, -1, -1)).reshape(count, 1, side, side)
    plain = (draw[:, 7] * 255)[:, None, None, None].expand_as(luma)
    patch = torch.where((draw[:, 8] < 0.5)[:, None, None, None], plain, luma.roll(1, 0).flip(2))
    return torch.where(mask, patch, luma), visible * ~inside(landmarks)


def emptied(
    luma: Tensor, landmarks: Tensor, visible: Tensor, generator: torch.Generator, share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Nobody in a `share` of the crops: one tone, a slope, or a corner of the crop enlarged.

    Their points lie far outside, where they teach no place, and none is seen.
    """
    count, side = len(luma), luma.shape[-1]
    draw = _uniform((count, 5), generator, luma)[:, :, None, None, None]
    line = torch.linspace(-1, 1, side, device=luma.device)
    slope = (draw[:, 1] - 0.5) * line + (draw[:, 2] - 0.5) * line[:, None]
    plain = (draw[:, 3] + slope * (draw[:, 0] > 1 / 3)) * 255
    corner = F.interpolate(luma[:, :, :CORNER, :CORNER], size=(side, side), mode="bilinear", align_corners=False)
    nobody = torch.where(draw[:, 0] < 2 / 3, plain.expand_as(luma), corner).clamp(0, 255)
    chosen = draw[:, 4, 0, 0, 0] < share
    return (
        torch.where(chosen[:, None, None, None], nobody, luma),
        torch.where(chosen[:, None, None], NOWHERE, landmarks),
        visible * ~chosen[:, None],
    )


def tone(luma: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Other contrast, brightness, mid-tones and, for half of them, noise for crops or scenes [n, 1, h, w] of 0..255."""
    count = len(luma)
    draw = _normal((count, 4), generator, luma)[:, :, None, None, None] * strength
    gain, bias, bend, rough = (
        torch.exp(draw[:, 0] * 0.2),
        draw[:, 1] * 16,
        draw[:, 2] * 0.3,
        draw[:, 3].clamp(min=0) * 4,
    )
    x = luma * (1 / 255)
    x = x + bend.clamp(-0.9, 0.9) * x * (1 - x)  # a gamma's shape, without its powers
    x = (x - 0.5) * (gain * 255) + (127.5 + bias)
    (noisy,) = torch.nonzero(rough.flatten(), as_tuple=True)
    if len(noisy):
        x[noisy] += torch.randn((len(noisy), *luma.shape[1:]), generator=generator) * rough[noisy]
    return x.clamp_(0, 255)


def faces(
    picture: Tensor,
    landmarks: Tensor,
    visible: Tensor,
    generator: torch.Generator,
    turn_deg: float = 12.0,
    scale: float = 0.07,
    shift_px: float = 2.5,
    covered: float = 0.15,
    empty: float = 0.0,
    tone_strength: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """A training batch from shards: luma f32 [n, 1, 80, 80], landmarks [n, k, 2] crop pixels, visible f32 [n, k].

    `turn_deg`, `scale` (of its logarithm) and `shift_px` are standard deviations. Visible is 0 outside the crop. A
    share `covered` has something laid on it, a share `empty` shows nobody.
    """
    count = len(picture)
    turn = _normal((count,), generator, landmarks) * math.radians(turn_deg)
    size = torch.exp(_normal((count,), generator, landmarks) * scale)
    luma, placed = crop_faces(picture, landmarks, turn, size, _normal((count, 2), generator, landmarks) * shift_px)
    half = _uniform((count,), generator, landmarks) < 0.5
    luma, placed, seen = mirror_faces(luma, placed, visible.float(), half)
    luma, seen = cover(luma, placed, seen, generator, covered)
    luma, placed, seen = emptied(luma, placed, seen, generator, empty)
    within = ((placed >= 0) & (placed <= SIDE)).all(-1)
    return tone(luma, generator, tone_strength), placed, seen * within
