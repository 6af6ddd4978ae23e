"""What the networks are asked to make small: each loss with the paper that it is from."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def wing(error: Tensor, width: float, curvature: float) -> Tensor:
    """Wing loss (Feng et al. 2018, eq. 5), element by element: logarithm near zero, straight beyond `width`.

    width * ln(1 + |x| / curvature) where |x| < width, else |x| - C, C so that the two meet.
    """
    size = error.abs()
    meeting = width - width * math.log(1 + width / curvature)
    return torch.where(size < width, width * torch.log1p(size / curvature), size - meeting)


def spread(heat: Tensor, points: Tensor, grid: Tensor, sigma: float) -> Tensor:
    """How far each heatmap's variances are from sigma^2 (Nibali et al. 2018, DSNT, eq. 7), [n, k].

    `heat` [n, k, cells] sums to 1, `points` [n, k, 2] are its means, `grid` [cells, 2] the cells' places: one unit for
    all.
    """
    variance = torch.matmul(heat, grid**2) - points**2
    return ((variance - sigma**2) ** 2).sum(-1)


def landmarks(
    points: Tensor,
    seen: Tensor,
    heat: Tensor,
    grid: Tensor,
    target: Tensor,
    visible: Tensor,
    weight: Tensor,
    side: float = 80.0,
    width: float = 4.0,
    curvature: float = 0.8,
    hidden_weight: float = 0.5,
    outside: float = 2.0,
    sigma: float = 2.5,
    spread_weight: float = 20.0,
    seen_weight: float = 0.2,
) -> dict[str, Tensor]:
    """Wing on the points, their heatmaps' spread, and whether they are seen.

    `points`, `target` [n, k, 2] crop pixels; `seen` [n, k] logits; `visible` [n, k] 0 or 1; `weight` [k]; `grid` in
    pixels from the crop's middle. A point more than `outside` pixels beyond the crop teaches no place; a hidden one
    teaches less than a seen one.
    """
    beyond = torch.maximum(-target, target - side).amax(-1)
    share = weight * (beyond <= outside) * torch.where(visible > 0, 1.0, hidden_weight)
    place = (wing(points - target.clamp(0, side), width, curvature).sum(-1) * share).sum() / share.sum().clamp(min=1)
    within = (beyond <= 0).float()
    wide = spread(heat, (points - side / 2) / side, grid / side, sigma / side)
    compact = (wide * within).sum() / within.sum().clamp(min=1)
    probability = F.binary_cross_entropy_with_logits(seen, visible)
    return {
        "points": place / width,
        "spread": spread_weight * compact,
        "seen": seen_weight * probability,
    }


def iou_and_diou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and distance IoU (Zheng et al. 2020, eq. 6 and 7) of boxes xyxy a[n, 4] with b[n, 4], each [n].

    DIoU = IoU - (distance of the centres)^2 / (diagonal of the box around both)^2.
    """
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(-1) + (b[:, 2:] - b[:, :2]).clamp(min=0).prod(-1) - shared
    iou = shared / union.clamp(min=1e-7)
    around = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    apart = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2
    return iou, iou - (apart**2).sum(-1) / (around**2).sum(-1).clamp(min=1e-7)


def quality_focal(logit: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """Quality focal loss (Li et al. 2020, GFL, eq. 4), element by element.

    |quality - p|^beta * cross entropy of p = sigmoid(logit) with the quality 0..1: a box's IoU, 0 for background.
    """
    entropy = F.binary_cross_entropy_with_logits(logit, quality, reduction="none")
    return (quality - torch.sigmoid(logit)).abs() ** beta * entropy


def scrfd(
    logit: Tensor,
    xyxy: Tensor,
    keypoints: Tensor,
    owner: Tensor,
    target_xyxy: Tensor,
    target_keypoints: Tensor,
    size: Tensor,
    box_weight: float = 2.0,
    keypoint_weight: float = 0.5,
    beta: float = 0.05,
) -> dict[str, Tensor]:
    """A detector's loss: quality focal on the scores, DIoU on the boxes, smooth L1 on the points.

    For all anchors: `logit` [m], `owner` [m] (1 a face, 0 background, -1 not asked). For the anchors with a face only:
    `xyxy`, `target_xyxy` [p, 4] and `keypoints`, `target_keypoints` [p, 5, 2] in pixels, `size` [p] the face's side, by
    which the points' errors are divided (smooth L1: Girshick 2015, eq. 3, straight beyond `beta`).
    """
    iou, diou = iou_and_diou(xyxy, target_xyxy)
    quality = torch.zeros_like(logit)
    quality[owner > 0] = iou.detach().clamp(0, 1)
    faces = max(len(xyxy), 1)
    sure = quality[owner > 0]
    error = (keypoints - target_keypoints) / size[:, None, None]
    points = F.smooth_l1_loss(error, torch.zeros_like(error), beta=beta, reduction="none").sum((1, 2))
    # a box that fits well teaches more (GFL's own weight): the same as the score that the anchor shall get
    total = sure.sum().clamp(min=1)
    return {
        "score": (quality_focal(logit, quality) * (owner >= 0)).sum() / faces,
        "box": box_weight * ((1 - diou) * sure).sum() / total,
        "keypoints": keypoint_weight * points.sum() / faces,
    }


def gridbox(
    logit: Tensor,
    xyxy: Tensor,
    coverage: Tensor,
    weight: Tensor,
    target_xyxy: Tensor,
    face_weight: float = 4.0,
    box_weight: float = 2.0,
    l1_weight: float = 0.05,
    scale: float = 35.0,
    quality: bool = False,
) -> dict[str, Tensor]:
    """GridBox's loss (TAO's DetectNet_v2: cross entropy on the coverage, L1 on the distances), with DIoU added.

    With `quality` the coverage is asked for the box's IoU by the quality focal loss, not for 1: scores then tell good
    boxes from poor ones and stay away from 1, where half precision has few steps.

    For all cells: `logit`, `coverage` (0 or 1), `weight` (0: not asked) [m]; for the covered cells only: `xyxy`,
    `target_xyxy` [p, 4] pixels. L1 is in the network's unit, `scale` pixels.
    """
    iou, diou = iou_and_diou(xyxy, target_xyxy)
    if quality:
        wanted = torch.zeros_like(logit)
        wanted[coverage > 0] = iou.detach().clamp(0, 1)
        entropy = quality_focal(logit, wanted)
    else:
        entropy = F.binary_cross_entropy_with_logits(logit, coverage, reduction="none")
    entropy = entropy * weight * (1 + (face_weight - 1) * coverage)
    cells = max(len(xyxy), 1)
    return {
        "coverage": entropy.sum() / (face_weight * cells),
        "box": box_weight * (1 - diou).sum() / cells,
        "distance": l1_weight * (xyxy - target_xyxy).abs().sum() / (scale * cells),
    }
