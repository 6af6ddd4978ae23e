"""Several looks at one frame: the whole of it at more than one size for near faces, a tile of it for tiny ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeface import boxes
from edgeface.detector import FaceDetector
from edgeface.values import F32, Detections, Frame

_SAME_IOU = 0.3  # two looks put looser boxes on a face than one does: docs/measurements.md
_BEST_PX = 64.0  # the size of a face in the input that a look shows best; between 48 and 90 it hardly matters
_BORDER_PX = 4.0  # input pixels from the border of a tile within which a face counts as cut


class MultiScaleDetector:
    """Looks at a frame with each of `looks` and with one of `tiles`, a different one at every frame it is given.

    Faces seen by more than one look are one detection (`join`). A tile that shows a new face is looked at `in_a_row`
    times before the next one has its turn: a tracker forgets a new face that the following look does not confirm.
    `sure_score`: from which on a detection may begin a face.
    """

    def __init__(
        self, looks: Sequence[FaceDetector], tiles: Sequence[FaceDetector], *, sure_score: float, in_a_row: int
    ) -> None:
        self.looks, self.tiles = looks, tiles  # attributes, so that a bench can time them
        self._sure_score, self._in_a_row = sure_score, in_a_row
        self._turn = 0  # which tile is looked at next
        self._stay = 0  # how many times more
        self._seen: list[F32] = [np.zeros((0, 4), np.float32)] * len(tiles)  # what each tile showed when last looked at

    def detect(self, frame: Frame) -> Detections:
        """Faces in frame pixels. Raises OutputError when the outputs of any look mean nothing."""
        found = [look.detect(frame) for look in self.looks]
        scales = [look.input_scale(frame) for look in self.looks]
        if self.tiles:
            tile = self.tiles[self._turn]
            scales.append(tile.input_scale(frame))
            margin = _BORDER_PX / scales[-1]
            seen = uncut(tile.detect(frame), tile.crop(frame)[0], (frame.width, frame.height), margin)
            self._next_turn(seen, found)
            found.append(seen)
        return join(found, scales, self._sure_score)

    def _next_turn(self, seen: Detections, found: list[Detections]) -> None:
        """Choose the next tile, after this one showed `seen` and the whole frame `found`."""
        sure = seen.xyxy[seen.score >= self._sure_score]
        known = np.concatenate(
            [self._seen[self._turn], *(whole.xyxy[whole.score >= self._sure_score] for whole in found)]
        )
        new = np.max(boxes.iou(sure, known), axis=1, initial=0) <= _SAME_IOU
        self._seen[self._turn] = sure
        if self._stay:
            self._stay -= 1
        elif new.any():
            self._stay = self._in_a_row - 1
        if not self._stay:
            self._turn = (self._turn + 1) % len(self.tiles)


def uncut(found: Detections, crop: F32, frame_size: tuple[int, int], margin: float) -> Detections:
    """The faces that a tile can show whole: none that touches a border of `crop` [4] inside the frame.

    Nor any that is larger than the overlap of tiles, as another may be cut by every one; those are for a look at the
    whole frame. `margin`: frame pixels from a border that count as touching it.
    """
    sides = found.xyxy[:, 2:] - found.xyxy[:, :2]
    start: F32 = np.where(crop[:2] > 0, crop[:2] + margin, -np.inf)
    end: F32 = np.where(crop[2:] < frame_size, crop[2:] - margin, np.inf)
    keep = (found.xyxy[:, :2] >= start).all(axis=1) & (found.xyxy[:, 2:] <= end).all(axis=1)
    keep &= (sides <= boxes.TILE_OVERLAP * np.min(crop[2:] - crop[:2])).all(axis=1)
    return Detections(found.xyxy[keep], found.score[keep], found.keypoints[keep])


def join(found: Sequence[Detections], scales: Sequence[float], sure_score: float) -> Detections:
    """What several looks found, in frame pixels -> one detection a face, best first.

    Of two looks' boxes on a face a sure one goes before one below `sure_score`; then the one of the look that shows the
    face nearest to 64 pixels. `scales`: input pixels for a frame pixel, look by look. What one look tells apart stays.
    """
    if np.count_nonzero([len(one.score) for one in found]) < 2:
        return max(found, key=lambda one: len(one.score))
    xyxy, score = np.concatenate([one.xyxy for one in found]), np.concatenate([one.score for one in found])
    look = np.repeat(np.arange(len(found)), [len(one.score) for one in found])
    size = np.sqrt(boxes.area(xyxy)) * np.array(scales)[look]
    misfit = np.abs(np.log(np.maximum(size, 1e-3) / _BEST_PX))
    same = (boxes.iou(xyxy, xyxy) > _SAME_IOU) & (look[:, None] != look)
    keep = np.ones(len(score), np.bool_)
    for row in np.lexsort((misfit, score < sure_score)).tolist():
        if keep[row]:
            keep &= ~same[row]
    (kept,) = keep.nonzero()
    kept = kept[np.argsort(-score[kept], kind="stable")]
    return Detections(xyxy[kept], score[kept], np.concatenate([one.keypoints for one in found])[kept])
