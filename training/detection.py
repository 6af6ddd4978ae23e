"""Detectors in training: batches of scenes with their targets, the losses, and average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeface.boxes import iou, nms
from training import augment, losses, matching
from training.networks import gridbox, scrfd
from training.samples import Bank, generator
from training.scenes import Scene, trimmed, view

Batch = dict[str, Tensor]
Detections = tuple[NDArray, NDArray]  # xyxy [n, 4] pixels, score [n]


def scenes(bank: Bank, indices: Sequence[int], seed: Sequence[int], size: int, views: Mapping[str, Any]) -> list[Scene]:
    """Training pictures, one an index; the tiles beside it are drawn from the bank."""
    random = np.random.default_rng(list(seed))
    made = []
    for index in indices:
        others = random.integers(len(bank), size=3)
        made.append(view([bank.sample(int(i)) for i in (index, *others)], size, random, **views))
    return made


def pictures(views: Sequence[Scene], random: torch.Generator, tone: float) -> Tensor:
    """Luma [n, 1, h, w] of 0..255 with other tones."""
    stack = torch.from_numpy(np.stack([scene["picture"] for scene in views]))
    return augment.tone(stack[:, None].float(), random, tone)


class ScrfdTask:
    """Scores, boxes and points at three strides. `size` is the side of a training picture."""

    kind = "scenes"

    def __init__(self, network: Mapping[str, Any], loss: Mapping[str, Any], augmentation: Mapping[str, Any]) -> None:
        self._network, self._loss, self._views = dict(network), dict(loss), dict(augmentation)
        self._size, self._tone = self._views.pop("side", 320), self._views.pop("tone", 0.7)

    def network(self) -> nn.Module:
        return scrfd.Scrfd(**self._network)

    def exported(self, network: nn.Module) -> nn.Module:
        return scrfd.Exported(network)

    def batch(self, bank: Bank, indices: Sequence[int], seed: Sequence[int]) -> Batch:
        """luma [n, 1, s, s]; owner [n * m]: 1 face, 0 background, -1 not asked; for the 1s box [p, 4], points, size."""
        made = scenes(bank, indices, seed, self._size, self._views)
        anchors = matching.grid(self._size, self._size)
        owners, boxes, keypoints = [], [], []
        for scene in made:
            face = ~scene["ignore"].astype(bool)
            owner = matching.atss(scene["xyxy"][face], anchors)
            state = (owner >= 0).astype(np.int64)
            state[matching.ignored(scene["xyxy"][~face], anchors) & (owner < 0)] = -1
            owners.append(state)
            boxes.append(scene["xyxy"][face][owner[owner >= 0]])
            keypoints.append(scene["keypoints"][face][owner[owner >= 0]])
        return {
            "luma": pictures(made, generator(seed), self._tone),
            "owner": torch.from_numpy(np.concatenate(owners)),
            "xyxy": torch.from_numpy(np.concatenate(boxes).astype(np.float32)),
            "keypoints": torch.from_numpy(np.concatenate(keypoints).astype(np.float32)),
        }

    def losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        rows = scrfd.rows(network(batch["luma"])).float()
        centre, stride = (part.to(rows.device) for part in scrfd.anchors(*batch["luma"].shape[2:]))
        faces = batch["owner"] > 0
        xyxy, keypoints = decode(
            rows.reshape(-1, 15)[faces], centre.repeat(len(rows), 1)[faces], stride.repeat(len(rows))[faces]
        )
        size = (batch["xyxy"][:, 2:] - batch["xyxy"][:, :2]).amax(-1)
        return losses.scrfd(
            rows[..., 0].flatten(),
            xyxy,
            keypoints,
            batch["owner"],
            batch["xyxy"],
            batch["keypoints"],
            size,
            **self._loss,
        )

    def detect(self, network: nn.Module, luma: Tensor) -> Detections:
        """Of one picture [1, 1, h, w]: boxes by score, after suppression at IoU 0.4."""
        rows = scrfd.rows(network(luma))[0].float().cpu()
        centre, stride = scrfd.anchors(*luma.shape[2:])
        score = torch.sigmoid(rows[:, 0])
        best = score > 0.02
        xyxy, _ = decode(rows[best], centre[best], stride[best])
        return suppressed(xyxy.numpy(), score[best].numpy())

    def measure(self, network: nn.Module, bank: Bank, count: int) -> dict[str, float]:
        return measure(self, network, bank, count)


def decode(rows: Tensor, centre: Tensor, stride: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [p, 15] -> boxes [p, 4] and points [p, 5, 2] in pixels."""
    reach = scrfd.distances(rows[:, 1:5]) * stride[:, None]
    xyxy = torch.cat([centre - reach[:, :2], centre + reach[:, 2:]], -1)
    offset = scrfd.points(rows[:, 5:]) * stride[:, None]
    return xyxy, offset.reshape(-1, 5, 2) + centre[:, None]


class GridBoxTask:
    """Coverage and distances for each cell of 16 pixels."""

    kind = "scenes"

    def __init__(self, network: Mapping[str, Any], loss: Mapping[str, Any], augmentation: Mapping[str, Any]) -> None:
        self._network, self._loss, self._views = dict(network), dict(loss), dict(augmentation)
        self._size, self._tone = self._views.pop("side", 320), self._views.pop("tone", 0.7)

    def network(self) -> nn.Module:
        return gridbox.GridBox(**self._network)

    def exported(self, network: nn.Module) -> nn.Module:
        return gridbox.Exported(network)

    def batch(self, bank: Bank, indices: Sequence[int], seed: Sequence[int]) -> Batch:
        """luma [n, 1, s, s]; coverage and weight [n * cells]; for covered cells the face's box [p, 4]."""
        made = scenes(bank, indices, seed, self._size, self._views)
        owners, weights, boxes = [], [], []
        for scene in made:
            owner, weight = matching.coverage(scene["xyxy"], scene["ignore"], self._size, self._size)
            owners.append(owner.ravel() >= 0)
            weights.append(weight.ravel())
            boxes.append(scene["xyxy"][owner[owner >= 0]])
        return {
            "luma": pictures(made, generator(seed), self._tone),
            "coverage": torch.from_numpy(np.concatenate(owners).astype(np.float32)),
            "weight": torch.from_numpy(np.concatenate(weights)),
            "xyxy": torch.from_numpy(np.concatenate(boxes).astype(np.float32)),
        }

    def losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logit, reach = (maps.float() for maps in network(batch["luma"].expand(-1, 3, -1, -1) / 255))
        covered = batch["coverage"] > 0
        place = gridbox.points(*batch["luma"].shape[2:]).to(logit.device).repeat(len(logit), 1)[covered]
        away = reach.permute(0, 2, 3, 1).reshape(-1, 4)[covered] * gridbox.SCALE
        xyxy = torch.cat([place - away[:, :2], place + away[:, 2:]], -1)
        return losses.gridbox(logit.flatten(), xyxy, batch["coverage"], batch["weight"], batch["xyxy"], **self._loss)

    def detect(self, network: nn.Module, luma: Tensor) -> Detections:
        """Of one picture [1, 1, h, w]: boxes by coverage, after suppression at IoU 0.4 (the runtime clusters them)."""
        logit, reach = network(luma.expand(-1, 3, -1, -1) / 255)
        score = torch.sigmoid(logit.float()).flatten().cpu()
        best = score > 0.02
        away = reach.float().cpu().permute(0, 2, 3, 1).reshape(-1, 4)[best] * gridbox.SCALE
        place = gridbox.points(*luma.shape[2:])[best]
        xyxy = torch.cat([place - away[:, :2], place + away[:, 2:]], -1)
        return suppressed(xyxy.numpy(), score[best].numpy())

    def measure(self, network: nn.Module, bank: Bank, count: int) -> dict[str, float]:
        return measure(self, network, bank, count)


def suppressed(xyxy: NDArray, score: NDArray) -> Detections:
    """Greedy suppression at IoU 0.4; best first."""
    keep = nms(xyxy, score, 0.4)
    return xyxy[keep], score[keep]


def measure(task: ScrfdTask | GridBoxTask, network: nn.Module, bank: Bank, count: int) -> dict[str, float]:
    """Average precision in % of all faces, of those under 24 px and of the others; boxes a picture at score 0.5.

    Over the first `count` scenes as they were rendered; faces under 8 px or more than half cut off are ignored.
    """
    device = next(network.parameters()).device
    found, truths = [], []
    for index in range(min(count, len(bank))):
        scene = trimmed(bank.sample(index), 8.0, 0.5)
        height, width = (length // 32 * 32 for length in scene["picture"].shape)
        luma = torch.from_numpy(scene["picture"][None, None, :height, :width]).float().to(device)
        found.append(task.detect(network, luma.contiguous(memory_format=torch.channels_last)))
        truths.append((scene["xyxy"], scene["ignore"].astype(bool)))
    result = {"ap": average_precision(found, truths)}
    for name, low, high in (("ap_small", 0.0, 24.0), ("ap_large", 24.0, np.inf)):
        sized = []
        for xyxy, ignore in truths:
            side = (xyxy[:, 2:] - xyxy[:, :2]).max(-1, initial=0)
            sized.append((xyxy, ignore | (side < low) | (side >= high)))
        result[name] = average_precision(found, sized)
    scores = np.concatenate([score for _, score in found])
    result["found_a_picture"] = float((scores >= 0.5).sum() / len(found))
    result["faces_a_picture"] = float(sum((~ignore).sum() for _, ignore in truths) / len(found))
    return result


def average_precision(found: Sequence[Detections], truths: Sequence[tuple[NDArray, NDArray]]) -> float:
    """Area under the precision envelope in % (as PASCAL VOC 2010 on): a hit needs IoU 0.5.

    `truths` are boxes [n, 4] and whether they are to be ignored [n]: what lies on one of these counts nothing.
    """
    scores, hits, faces = [], [], 0
    for (xyxy, score), (truth, ignore) in zip(found, truths, strict=True):
        overlap = iou(xyxy.astype(np.float32), truth.astype(np.float32))
        free = ~ignore
        faces += int(free.sum())
        for row, certain in zip(overlap, score, strict=True):
            best = np.where(free, row, 0)
            if best.max(initial=0) >= 0.5:
                free = free & (np.arange(len(free)) != best.argmax())
                hits.append(1.0)
            elif np.where(ignore, row, 0).max(initial=0) >= 0.3:
                continue
            else:
                hits.append(0.0)
            scores.append(float(certain))
    if not faces:
        return float("nan")
    hit = np.array(hits)[np.argsort(-np.array(scores), kind="stable")] if hits else np.zeros(0)
    recall = np.cumsum(hit) / faces
    precision = np.maximum.accumulate((np.cumsum(hit) / np.arange(1, len(hit) + 1))[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * precision).sum() * 100)
