"""What is derived from a face's landmarks: head pose, eye openness, quality."""

from __future__ import annotations

import numpy as np

from edgeface.eyes import openness
from edgeface.head_pose import Camera, camera_from_fov, head_poses
from edgeface.point_sets import NAMED
from edgeface.quality import quality
from edgeface.values import F32, Frame, Landmarks, Signals, Tracks


class FaceSignals:
    """Derives what was asked for.

    `camera` in pixels of the frame; without it the camera is one of square pixels and a field of view of
    `horizontal_fov_deg` about the middle of the frame.
    """

    def __init__(
        self, *, pose: bool, eyes: bool, quality: bool, camera: Camera | None = None, horizontal_fov_deg: float = 60.0
    ) -> None:
        self._pose, self._eyes, self._quality = pose, eyes, quality
        self._camera, self._fov_deg = camera, horizontal_fov_deg

    def derive(self, frame: Frame, tracks: Tracks, landmarks: Landmarks, calm: Landmarks) -> Signals:
        """The signals of the faces, row by row: from their `landmarks`, the poses from the `calm` (smoothed) ones.

        A blink is too short for smoothed points. For quality, `landmarks` has its crops.
        """
        camera = self._camera or camera_from_fov(frame.width, frame.height, self._fov_deg)
        named = calm.xy.shape[1] in NAMED
        poses = head_poses(calm.xy, camera) if named else None
        yaw: F32 = poses.angles[:, 0] if poses is not None else np.full(len(calm.xy), np.nan, np.float32)
        size = frame.width, frame.height
        return Signals(
            poses if self._pose else None,
            openness(landmarks.xy, poses.q, poses.position) if self._eyes and poses is not None else None,
            quality(tracks.xyxy, size, landmarks.grey, landmarks.score, yaw)
            if self._quality and landmarks.grey is not None
            else None,
        )
