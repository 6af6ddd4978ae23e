"""The landmark network: a face crop -> 80 points by soft-argmax, and for each the probability that it is seen.

In FPENet's layout, but for the second output: `softargmax:1` is the probability that the point is seen, i.e. that it
lies in the crop and that neither the head itself nor anything before it hides it.
"""

from __future__ import annotations

import torch
from torch import nn

from training.networks.blocks import Residual, conv, initialise, stage, twice

SIDE = 80  # pixels of the crop
CELLS = 40  # of a heatmap's side: two pixels a cell
GAIN = 6.0  # of the heat's logits: a softmax over 1600 cells needs large ones, and small weights take long to make them


class Landmarks(nn.Module):
    """A U: 40x40 cells down to 5x5 and back, one heatmap a point (Nibali et al. 2018: the mean of a softmax).

    `widths` are the channels at 40, 20, 10 and 5 cells, `blocks` the residual blocks there, `head` the channels before
    the heatmaps. Multiples of 16 are quick.
    """

    def __init__(
        self,
        points: int = 80,
        widths: tuple[int, int, int, int] = (32, 64, 96, 128),
        blocks: tuple[int, int, int, int] = (0, 1, 1, 2),
        head: int = 48,
    ) -> None:
        super().__init__()
        w0, w1, w2, w3 = widths
        self.stem = nn.Sequential(conv(1, w0, stride=2), conv(w0, w0), *(Residual(w0) for _ in range(blocks[0])))
        self.down1 = stage(w0, w1, blocks[1])
        self.down2 = stage(w1, w2, blocks[2])
        self.down3 = stage(w2, w3, blocks[3])
        self.context = nn.Sequential(nn.Conv2d(w3, w3, 1), nn.ReLU(inplace=True))  # of the whole crop
        self.up3, self.side2, self.smooth2 = conv(w3, w2, 1, relu=False), conv(w2, w2, 1, relu=False), conv(w2, w2)
        self.up2, self.side1, self.smooth1 = conv(w2, w1, 1, relu=False), conv(w1, w1, 1, relu=False), conv(w1, w1)
        self.up1, self.side0, self.smooth0 = conv(w1, head, 1, relu=False), conv(w0, head, 1), conv(head, head)
        self.heat = nn.Conv2d(head, points, 1)
        self.seen_far = nn.Conv2d(w3, points, 1)
        self.seen_near = nn.Parameter(torch.zeros(points, head))
        initialise(self)
        nn.init.normal_(self.heat.weight, std=0.05)
        nn.init.normal_(self.seen_far.weight, std=0.01)
        middle = (torch.arange(CELLS, dtype=torch.float32) + 0.5) * (SIDE / CELLS) - SIDE / 2
        grid = torch.stack([middle.expand(CELLS, CELLS), middle[:, None].expand(CELLS, CELLS)], dim=-1)
        # from the crop's middle: half the rounding of half precision
        self.register_buffer("grid", grid.reshape(CELLS * CELLS, 2).contiguous(), persistent=False)

    def forward(self, luma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Crops [n, 1, 80, 80] of 0..255 -> points [n, k, 2] pixels, logits of being seen [n, k], heat [n, k, 1600].

        The heat of a point sums to 1 over the cells, row by row.
        """
        x = luma * (1 / 255)
        x = x - x.mean((1, 2, 3), keepdim=True)
        x = x / (
            torch.sqrt((x * x).mean((1, 2, 3), keepdim=True)) + 0.02
        )  # light and contrast say nothing of the shape
        x0 = self.stem(x)
        x1 = self.down1(x0)
        x2 = self.down2(x1)
        x3 = self.down3(x2)
        context = self.context(x3.mean((2, 3), keepdim=True))
        x3 = x3 + context
        x2 = self.smooth2(torch.relu(self.side2(x2) + twice(self.up3(x3))))
        x1 = self.smooth1(torch.relu(self.side1(x1) + twice(self.up2(x2))))
        x0 = self.smooth0(torch.relu(self.side0(x0) + twice(self.up1(x1))))
        with torch.autocast(luma.device.type, enabled=False):  # eight bits of mantissa would shake the points
            near = full(x0)
            heat = torch.softmax(self.heat(near).flatten(2) * GAIN, dim=-1)
            points = torch.matmul(heat, self.grid) + SIDE / 2
            # what there is at the point, weighed by its heatmap; the points do not learn from it
            found = torch.matmul(heat.detach(), near.flatten(2).transpose(1, 2))
            seen = (found * self.seen_near).sum(-1) + self.seen_far(full(context)).flatten(1)
        return points, seen, heat


def full(values: torch.Tensor) -> torch.Tensor:
    """As float32. Not `.float()` in any case: a cast that changes nothing stays in the ONNX, where it breaks FP16."""
    return values if values.dtype == torch.float32 else values.float()


class Exported(nn.Module):
    """The same with its outputs as they are shipped: points [n, k, 2], probability of being seen [n, k]."""

    inputs = ("input_face_images",)
    outputs = ("softargmax", "softargmax:1")

    def __init__(self, network: Landmarks) -> None:
        super().__init__()
        self.network = network

    def forward(self, luma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        points, seen, _ = self.network(luma)
        return points, torch.sigmoid(seen)

    def example(self) -> torch.Tensor:
        """An input of the usual size."""
        return torch.full((1, 1, SIDE, SIDE), 128.0)

    def dynamic(self) -> dict[str, dict[int, str]]:
        """Axes that may have any length."""
        return {name: {0: "N"} for name in (*self.inputs, *self.outputs)}
