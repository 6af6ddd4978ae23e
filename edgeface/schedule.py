"""When to look: every n-th frame."""

from __future__ import annotations


class KeyframeSchedule:
    """When to look: every `interval`-th frame."""

    def __init__(self, interval: int) -> None:
        self._interval = interval

    def is_due(self, keyframe_age: int) -> bool:
        """`keyframe_age`: frames since the last look, this one included."""
        return keyframe_age >= self._interval
