"""The pictures that the accuracy gate shows to a network and its forms, with their labels where there are some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edgeface.build.pictures import FILM_STEP, find_pictures
from edgeface.evaluate.label_files import READERS
from edgeface.evaluate.labels import LabelledPicture, demo_labels, frames, read_labels
from edgeface.values import Frame

DEMO = "demo:"
DEMO_STEP = 5  # every which frame of the demo clip: 239 faces
_MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Shown:
    """Pictures that can be gone through again and again."""

    name: str  # for reports
    frames: Callable[[], Iterator[Frame]]  # a frame is valid until the next; raises ConfigError, SourceError
    labels: list[LabelledPicture] | None  # one for each frame; None: nothing is labelled

    def every(self, step: int) -> Shown:
        """Only every which one of them."""
        labels = None if self.labels is None else self.labels[::step]
        return Shown(self.name, lambda: islice(self.frames(), 0, None, step), labels)


def find_shown(name: str) -> Shown:
    """`demo:`, a file of labelled landmarks, or what pictures.find_pictures takes. Raises ConfigError."""
    path = Path(name).expanduser()
    if name == DEMO:
        return _labelled(f"{DEMO}, every {DEMO_STEP}th frame", demo_labels()[::DEMO_STEP])
    if path.suffix.lower() in READERS and path.is_file():
        return _labelled(str(path), read_labels(path))
    pictures = find_pictures(name)
    step = f", every {FILM_STEP}th frame" if pictures.films else ""
    return Shown(pictures.name + step, _Held(pictures.frames), None)


def _labelled(name: str, labels: list[LabelledPicture]) -> Shown:
    return Shown(name, _Held(lambda: (frame for frame, _ in frames(labels))), labels)


class _Held:
    """Frames that are read once, if all of them are no more than _MOST_BYTES, else every time."""

    def __init__(self, read: Callable[[], Iterator[Frame]]) -> None:
        self._read = read
        self._frames: list[Frame] | None = None

    def __call__(self) -> Iterator[Frame]:
        if self._frames is not None:
            yield from self._frames
            return
        held, size = [], 0
        for frame in self._read():
            size += frame.pixels.nbytes
            if size <= _MOST_BYTES:
                held.append(frame)
            yield frame
        if size <= _MOST_BYTES:
            self._frames = held
