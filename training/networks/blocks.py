"""What the networks are built from: dense 3x3 convolutions, because they are quick to train and lose little in INT8."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution, batch normalisation and, unless told otherwise, ReLU."""
    parts: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*parts, nn.ReLU(inplace=True)) if relu else nn.Sequential(*parts)


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity (He et al. 2016, the basic block)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = conv(channels, channels, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


def stage(inputs: int, outputs: int, blocks: int, stride: int = 2) -> nn.Sequential:
    """A convolution that halves the size, then residual blocks."""
    return nn.Sequential(conv(inputs, outputs, stride=stride), *(Residual(outputs) for _ in range(blocks)))


def twice(x: torch.Tensor) -> torch.Tensor:
    """Each cell becomes 2x2 cells: nearest neighbour, the one resizing that every runtime does alike."""
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def initialise(network: nn.Module) -> None:
    """He et al. 2015 for what a ReLU follows; the second convolution of a residual block starts at nothing."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in network.modules():
        if isinstance(part, Residual):
            nn.init.zeros_(part.second[1].weight)


def fold(network: nn.Module) -> None:
    """Puts every batch normalisation into the convolution before it; the network must be in eval mode."""
    for part in network.modules():
        if isinstance(part, nn.Sequential):
            for index in range(len(part) - 1):
                before, after = part[index], part[index + 1]
                if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                    part[index], part[index + 1] = fuse_conv_bn_eval(before, after), nn.Identity()


def multiply_adds(network: nn.Module, *example: torch.Tensor) -> int:
    """Multiply-adds of all convolutions and linear layers for one call (the "FLOPs" of the detector papers)."""
    counted = 0

    def count(part: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal counted
        if isinstance(part, nn.Conv2d):
            counted += output.numel() * part.weight[0].numel()
        elif isinstance(part, nn.Linear):
            counted += output.numel() * part.in_features

    def hooks() -> Iterator[torch.utils.hooks.RemovableHandle]:
        for part in network.modules():
            if isinstance(part, (nn.Conv2d, nn.Linear)):
                yield part.register_forward_hook(count)

    handles = list(hooks())
    training = network.training
    with torch.no_grad():
        network.eval()(*example)
    network.train(training)
    for handle in handles:
        handle.remove()
    return counted


def parameters(network: nn.Module) -> int:
    """How many numbers are learnt."""
    return sum(parameter.numel() for parameter in network.parameters())
