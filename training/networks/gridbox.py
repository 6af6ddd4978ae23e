"""A face detector in FaceDetect's layout (TAO's DetectNet_v2): one coverage and four distances for each 16x16 cell."""

from __future__ import annotations

import torch
from torch import nn

from training.networks.blocks import conv, initialise, stage, twice

STRIDE = 16
OFFSET = 0.5  # a cell's point is STRIDE * column + OFFSET, STRIDE * row + OFFSET: not its middle
SCALE = 35.0  # pixels that a distance of 1 stands for
LUMA = (0.299, 0.587, 0.114)


class GridBox(nn.Module):
    """A backbone to stride 16, with what stride 32 sees added, and two 1x1 convolutions for the outputs.

    By default the backbone is that of the middle SCRFD network, which training may begin with.
    """

    def __init__(
        self,
        stem: int = 16,
        widths: tuple[int, int, int, int] = (16, 32, 64, 80),
        blocks: tuple[int, int, int, int] = (1, 1, 1, 1),
        head: int = 96,
    ) -> None:
        super().__init__()
        w4, w8, w16, w32 = widths
        # only the luma is looked at: what rendered skin lacks in colour cannot mislead; infrared cameras are as good
        self.luma = nn.Conv2d(3, 1, 1, bias=False)
        self.stem = nn.Sequential(conv(1, stem, stride=2), stage(stem, w4, blocks[0]))
        self.stages = nn.ModuleList([stage(w4, w8, blocks[1]), stage(w8, w16, blocks[2]), stage(w16, w32, blocks[3])])
        self.sides = nn.ModuleList([conv(width, head, 1, relu=False) for width in (w16, w32)])
        self.head = nn.Sequential(conv(head, head), conv(head, head))
        self.coverage, self.distances = nn.Conv2d(head, 1, 1), nn.Conv2d(head, 4, 1)
        initialise(self)
        self.luma.weight = nn.Parameter(torch.tensor(LUMA).reshape(1, 3, 1, 1), requires_grad=False)
        nn.init.normal_(self.coverage.weight, std=0.01)
        nn.init.constant_(self.coverage.bias, -4.6)
        nn.init.normal_(self.distances.weight, std=0.01)
        nn.init.constant_(self.distances.bias, 0.5)

    def forward(self, rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures [n, 3, h, w], RGB of 0..1, multiples of 32 -> coverage logits [n, 1, h / 16, w / 16], distances.

        The distances [n, 4, h / 16, w / 16] are left, top, right, bottom over 35 pixels.
        """
        fine = self.stages[1](self.stages[0](self.stem(self.luma(rgb) * 2 - 1)))
        coarse = self.sides[1](self.stages[2](fine))
        x = self.head(torch.relu(self.sides[0](fine) + twice(coarse)))
        return self.coverage(x), self.distances(x)


def points(height: int, width: int) -> torch.Tensor:
    """The cells' points [m, 2] in pixels, row by row."""
    y, x = torch.meshgrid(torch.arange(height // STRIDE), torch.arange(width // STRIDE), indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2) * float(STRIDE) + OFFSET


class Exported(nn.Module):
    """The outputs as they are shipped: coverage after its sigmoid, distances in units of 35 pixels."""

    inputs = ("input_1",)
    outputs = ("output_cov/Sigmoid", "output_bbox/BiasAdd")

    def __init__(self, network: GridBox) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        coverage, distances = self.network(rgb)
        return torch.sigmoid(coverage), distances

    def example(self) -> torch.Tensor:
        """An input of the one size; 26 rows of cells are 13 of stride 32."""
        return torch.full((1, 3, 416, 736), 0.5)

    def dynamic(self) -> dict[str, dict[int, str]]:
        """Axes that may have any length."""
        return {name: {0: "N"} for name in (*self.inputs, *self.outputs)}
