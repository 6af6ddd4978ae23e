"""Face detectors in SCRFD's form: scores, boxes and five points at strides 8, 16 and 32, in three sizes.

SCRFD (Guo et al. 2021) found that small faces need their computation at the shallow stages: the table below gives
stride 4 and 8 most of it. Dense convolutions instead of depthwise ones: quick to train, and INT8 keeps them better.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from training.networks.blocks import conv, initialise, stage, twice

STRIDES = (8, 16, 32)
REACH = 2.0  # strides: the distance that a zero stands for, about the middle of what a level is given
LIMIT = 3.0  # a distance is REACH * exp(-3..3) strides: 0.1 to 40


@dataclass(frozen=True)
class Size:
    """Channels of the stem, channels and residual blocks at strides 4 to 32, of the neck; convolutions of a head."""

    stem: int
    widths: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    neck: int
    head: int


SIZES = {
    "0.1g": Size(8, (16, 24, 48, 48), (0, 0, 0, 1), 16, 1),
    "0.5g": Size(16, (16, 32, 64, 80), (1, 1, 1, 1), 32, 1),
    "2.5g": Size(32, (32, 64, 96, 128), (1, 2, 2, 1), 64, 2),
}


class Scrfd(nn.Module):
    """Backbone, a pyramid down and up again (PAFPN, Liu et al. 2018), and a head of its own for each level.

    Heads of their own cost parameters, not time: what a level's numbers look like differs, and so would INT8's scales.
    """

    def __init__(self, size: str = "0.5g") -> None:
        super().__init__()
        table = SIZES[size]
        w4, w8, w16, w32 = table.widths
        b4, b8, b16, b32 = table.blocks
        neck = table.neck
        self.stem = nn.Sequential(conv(1, table.stem, stride=2), stage(table.stem, w4, b4))
        self.stages = nn.ModuleList([stage(w4, w8, b8), stage(w8, w16, b16), stage(w16, w32, b32)])
        self.sides = nn.ModuleList([conv(width, neck, 1, relu=False) for width in (w8, w16, w32)])
        self.smooth = conv(neck, neck)  # at stride 16, between the ways down and up
        self.ups = nn.ModuleList([conv(neck, neck, stride=2, relu=False) for _ in range(2)])
        self.heads = nn.ModuleList(
            nn.Sequential(*(conv(neck, neck) for _ in range(table.head)), nn.Conv2d(neck, 15, 1)) for _ in STRIDES
        )
        initialise(self)
        for head in self.heads:
            nn.init.normal_(head[-1].weight, std=0.01)
            nn.init.constant_(head[-1].bias[:1], -4.6)  # 1 % at the beginning (Lin et al. 2017)

    def forward(self, luma: torch.Tensor) -> list[torch.Tensor]:
        """Pictures [n, 1, h, w] of 0..255 -> for each stride a map [n, 15, h / s, w / s]: logit, 4 and 10 numbers."""
        x = self.stem(luma * (1 / 128) - 1)  # every luma is a step of INT8
        levels = []
        for part, side in zip(self.stages, self.sides, strict=True):
            x = part(x)
            levels.append(side(x))
        c8, c16, c32 = levels
        p32 = torch.relu(c32)
        p16 = self.smooth(torch.relu(c16 + twice(p32)))
        p8 = torch.relu(c8 + twice(p16))
        n16 = torch.relu(p16 + self.ups[0](p8))
        n32 = torch.relu(p32 + self.ups[1](n16))
        return [head(level) for head, level in zip(self.heads, (p8, n16, n32), strict=True)]


def distances(numbers: torch.Tensor) -> torch.Tensor:
    """What the network says of a box -> left, top, right, bottom distances in strides, always positive.

    Exponential, at the very end and within limits: an error of the number (INT8 rounds what the head reads) is then the
    same share of every box, of 10 pixels or of 500; a straight branch would round the small boxes as coarsely as the
    large ones. The limits keep half precision from overflowing and the observed range from the background's moods.
    """
    return REACH * torch.exp(numbers.clamp(-LIMIT, LIMIT))


def points(numbers: torch.Tensor) -> torch.Tensor:
    """What the network says of the five points -> their offsets in strides."""
    return REACH * numbers


def anchors(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres [m, 2] (column * stride, row * stride) and strides [m] of all cells, level by level, row by row."""
    centres, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        centres.append(torch.stack([x, y], -1).reshape(-1, 2) * float(stride))
        strides.append(torch.full((len(centres[-1]),), float(stride)))
    return torch.cat(centres), torch.cat(strides)


def rows(maps: list[torch.Tensor]) -> torch.Tensor:
    """Maps [n, 15, h, w] of all levels -> [n, m, 15], in the order of `anchors`."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1)


class Exported(nn.Module):
    """The nine outputs as they are shipped: score [n, k, 1], bbox [n, k, 4] and kps [n, k, 10] in strides, for each."""

    inputs = ("input",)
    outputs = tuple(f"{name}_{stride}" for name in ("score", "bbox", "kps") for stride in STRIDES)

    def __init__(self, network: Scrfd) -> None:
        super().__init__()
        self.network = network

    def forward(self, luma: torch.Tensor) -> tuple[torch.Tensor, ...]:
        levels = [level.permute(0, 2, 3, 1) for level in self.network(luma)]
        scores = [torch.sigmoid(level[..., :1]).reshape(luma.shape[0], -1, 1) for level in levels]
        boxes = [distances(level[..., 1:5]).reshape(luma.shape[0], -1, 4) for level in levels]
        keypoints = [points(level[..., 5:]).reshape(luma.shape[0], -1, 10) for level in levels]
        return (*scores, *boxes, *keypoints)

    def example(self) -> torch.Tensor:
        """An input of the usual size."""
        return torch.full((1, 1, 640, 640), 128.0)

    def dynamic(self) -> dict[str, dict[int, str]]:
        """Axes that may have any length: height and width multiples of 32."""
        outputs = {name: {0: "N", 1: f"K_{name.split('_')[1]}"} for name in self.outputs}
        return {"input": {0: "N", 2: "H", 3: "W"}, **outputs}
