"""What is trained: for each kind of network how batches are made, what is made small, and what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training import augment, losses
from training.detection import GridBoxTask, ScrfdTask
from training.networks import landmarks
from training.samples import Bank, generator

Batch = dict[str, Tensor]


class Task(Protocol):
    """A network with its data, loss and measure; `kind` names its shards."""

    kind: str

    def network(self) -> nn.Module:
        """A fresh network."""

    def exported(self, network: nn.Module) -> nn.Module:
        """The network with the outputs as they are shipped; has `inputs`, `outputs`, `example()` and `dynamic()`."""

    def batch(self, bank: Bank, indices: Sequence[int], seed: Sequence[int]) -> Batch:
        """Augmented samples: the same for the same seed."""

    def losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The parts of the loss, already weighed: their sum is made small."""

    def measure(self, network: nn.Module, bank: Bank, count: int) -> dict[str, float]:
        """What validation reports, over the first `count` samples; the network is in eval mode."""


class LandmarksTask:
    """80 points of a face crop. Points' weights: `weights` = [[first, last + 1, weight], ...], else 1."""

    kind = "faces"

    def __init__(self, network: Mapping[str, Any], loss: Mapping[str, Any], augmentation: Mapping[str, Any]) -> None:
        self._network, self._loss, self._augmentation = dict(network), dict(loss), dict(augmentation)
        self._weight = torch.ones(self._network.get("points", 80))
        for first, end, weight in self._loss.pop("weights", []):
            self._weight[int(first) : int(end)] = weight

    def network(self) -> nn.Module:
        return landmarks.Landmarks(**self._network)

    def exported(self, network: nn.Module) -> nn.Module:
        return landmarks.Exported(network)

    def batch(self, bank: Bank, indices: Sequence[int], seed: Sequence[int]) -> Batch:
        raw = {name: torch.from_numpy(array) for name, array in bank.stacked(indices).items()}
        luma, points, visible = augment.faces(
            raw["picture"], raw["landmarks"], raw["visible"], generator(seed), **self._augmentation
        )
        return {"luma": luma, "landmarks": points, "visible": visible}

    def losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        points, seen, heat = network(batch["luma"])
        grid = _unwrapped(network).grid
        weight = self._weight.to(points.device)
        return losses.landmarks(
            points, seen.float(), heat, grid, batch["landmarks"], batch["visible"], weight, **self._loss
        )

    def measure(self, network: nn.Module, bank: Bank, count: int) -> dict[str, float]:
        """NME in % of the outer eye corners' distance, of all points and of the seen ones, and how good `seen` is.

        Faces whose corners are under 12 px apart (profiles) are measured as if they were 12 px apart. `seen_error` is
        the expected calibration error over ten bins (Guo et al. 2017), in %.
        """
        device = next(network.parameters()).device
        error, shown, sure = [], [], []
        for begin in range(0, min(count, len(bank)), 100):
            raw = bank.stacked(range(begin, min(begin + 100, count, len(bank))))
            truth = torch.from_numpy(raw["landmarks"])
            luma, truth = augment.crop_faces(torch.from_numpy(raw["picture"]), truth)
            points, seen, _ = network(luma.to(device))
            between = (truth[:, 36] - truth[:, 45]).norm(dim=-1).clamp(min=12)
            error.append((points.cpu() - truth).norm(dim=-1) / between[:, None] * 100)
            shown.append(torch.from_numpy(raw["visible"]) * ((truth >= 0) & (truth <= 80)).all(-1))
            sure.append(torch.sigmoid(seen).cpu())
        errors, visible, probability = torch.cat(error), torch.cat(shown).float(), torch.cat(sure)
        return {
            "nme": float(errors.mean()),
            "nme_median": float(errors.mean(1).median()),
            "nme_seen": float((errors * visible).sum() / visible.sum().clamp(min=1)),
            "seen_wrong": float(((probability > 0.5) != (visible > 0.5)).float().mean() * 100),
            "seen_error": calibration_error(probability.flatten(), visible.flatten()) * 100,
        }


def calibration_error(probability: Tensor, happened: Tensor, bins: int = 10) -> float:
    """Mean distance of what was foretold from how often it happened, bins weighed by their size (Guo et al. 2017)."""
    place = (probability * bins).long().clamp(0, bins - 1)
    gap = torch.zeros(bins).index_add_(0, place, probability - happened)
    return float(gap.abs().sum() / len(probability))


def _unwrapped(network: nn.Module) -> Any:
    return getattr(network, "module", network)


def make_task(config: Mapping[str, Any]) -> Task:
    """The task that a config's [network] names. Raises KeyError for an unknown one."""
    settings = dict(config["network"])
    kind = settings.pop("kind")
    tasks = {"landmarks": LandmarksTask, "scrfd": ScrfdTask, "gridbox": GridBoxTask}
    task: Task = tasks[kind](settings, config.get("loss", {}), config.get("augment", {}))
    return task
