"""A scenario in the place of a camera and its detector: its frames carry detections instead of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from edgeface.pacing import Film, PacedSource
from edgeface.scenario.motions import HEIGHT, WIDTH
from edgeface.scenario.scenes import sights
from edgeface.seams import Source
from edgeface.source_uri import ScenarioUri
from edgeface.values import Detections, Frame


def open_source(uri: ScenarioUri) -> Source:
    """The source that `uri` names. Frame k of it is entry k of what `make_scene` gives for the same values."""

    def frames() -> Iterator[Frame]:
        seen = sights(uri.name, faces=uri.faces, seed=uri.seed, fps=uri.fps)
        for number, sight in enumerate(islice(seen, uri.frames)):
            time_ns = round(number / uri.fps * 1e9)
            yield Frame(number, time_ns, WIDTH, HEIGHT, "scenario", sight.detections, "pts")

    return PacedSource(Film(f"scenario:{uri.name}", uri.fps, frames), loop=uri.loop, pace=uri.pace)


class ScenarioDetector:
    """Finds in a scenario's frame what is written there."""

    def detect(self, frame: Frame) -> Detections:
        """The detections that the frame carries."""
        found: Detections = frame.pixels
        return found
