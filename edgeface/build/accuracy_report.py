"""The report of the accuracy gate: figures, limits and the noisiest tensors, as JSON, a table, and for a passport."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgeface.build.agreement import SAME_IOU, DetectionFigures, LandmarkFigures
from edgeface.build.forms import TensorNoise
from edgeface.passport import Precision, Size


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure must keep."""

    figure: str
    says: str
    bound: Literal["at least", "at most"]
    value: float
    unit: Literal["", "%"] = ""

    def holds(self, found: float | None) -> bool:
        """A figure that could not be measured is no failure: the counts have limits of their own."""
        if found is None:
            return True
        return found >= self.value if self.bound == "at least" else found <= self.value

    def text(self, value: float) -> str:
        return f"{value:.2%}" if self.unit == "%" else f"{value:g}"


DETECTION_LIMITS = (
    Limit("faces", "faces that FP32 finds", "at least", 1),
    Limit("unusable", "pictures on which its numbers mean nothing", "at most", 0),
    Limit("matched", f"FP32's faces found with an IoU of {SAME_IOU}", "at least", 0.99, "%"),
    Limit("extra", "faces that FP32 does not see", "at most", 0.01, "%"),
    Limit("score_change", "mean change of the score", "at most", 0.05),
    Limit("ap_loss", "average precision lost", "at most", 0.01),
)
LANDMARK_LIMITS = (
    Limit("faces", "faces on which FP32 places landmarks", "at least", 1),
    Limit("placed", "FP32's faces on which it places them", "at least", 0.99, "%"),
    Limit("shift", "mean shift of landmarks, of the eyes' distance", "at most", 0.01, "%"),
    Limit("nme_rise", "rise of the error on labelled faces", "at most", 0.02, "%"),
)


@dataclass(frozen=True, slots=True)
class Report:
    """A form of a network, or its engine, held against FP32."""

    card: str
    input_size: Size
    precision: Precision
    form: str  # the file
    runs_on: str  # "onnxruntime 1.20.1", "cuda"
    shown: str  # what the pictures are: "demo:, every 5th frame"
    pictures: int
    unusable: int  # of them: on these the form's numbers mean nothing
    figures: DetectionFigures | LandmarkFigures
    worst: tuple[TensorNoise, ...] = ()  # least signal to noise first
    kept: tuple[str, ...] = ()  # layers that were left in FP32

    def checks(self) -> list[tuple[Limit, float | None]]:
        """Each limit with what was found; None: not to be measured on these pictures."""
        figures: dict[str, Any] = asdict(self.figures) | {"unusable": self.unusable}
        if isinstance(self.figures, DetectionFigures):
            shift = self.figures.score_shift
            figures["score_change"] = None if shift is None else abs(shift)
            figures["ap_loss"] = _less(self.figures.ap_fp32, self.figures.ap_form)
            return [(limit, figures[limit.figure]) for limit in DETECTION_LIMITS]
        before, lost = self.figures.nme_fp32, _less(self.figures.nme_form, self.figures.nme_fp32)
        figures["nme_rise"] = lost / before if lost is not None and before else None
        return [(limit, figures[limit.figure]) for limit in LANDMARK_LIMITS]

    def failures(self) -> list[str]:
        """What is beyond its limit, a clause each."""
        return [
            f"{limit.says}: {limit.text(found)}, expected {limit.bound} {limit.text(limit.value)}"
            for limit, found in self.checks()
            if found is not None and not limit.holds(found)
        ]

    @property
    def passed(self) -> bool:
        return not self.failures()

    def distance(self) -> float:
        """How far it is from FP32, in no unit: for comparing forms on the same pictures."""
        one, lost = self.figures, self.unusable / max(self.pictures, 1)
        if isinstance(one, LandmarkFigures):
            return lost + (1 - one.placed) + (one.shift or 0)
        return lost + (1 - one.matched) + one.extra + (1 - (one.mean_iou or 0)) + (one.score_shift_p95 or 0)

    def title(self) -> str:
        width, height = self.input_size
        return f"{self.card} {width}x{height} {self.precision}, {self.form} on {self.runs_on}"

    def as_json(self) -> dict[str, Any]:
        """For a file: the limits stand beside what was found."""
        checks = [
            {"figure": limit.figure, "found": found, limit.bound: limit.value, "holds": limit.holds(found)}
            for limit, found in self.checks()
        ]
        return asdict(self) | {"passed": self.passed, "checks": checks}

    def main_figures(self) -> dict[str, Any]:
        """For a passport."""
        found = {limit.figure: value for limit, value in self.checks()}
        about = {"on": self.runs_on, "shown": self.shown, "pictures": self.pictures, "passed": self.passed}
        return about | found | ({"kept": list(self.kept)} if self.kept else {})

    def table(self) -> str:
        """The report as people read it."""
        lines = [f"{self.title()}, against FP32 on {self.pictures} pictures of {self.shown}"]
        for limit, found in self.checks():
            verdict = "-" if found is None else "ok" if limit.holds(found) else "FAILS"
            said = "-" if found is None else limit.text(found)
            lines.append(f"  {limit.says:<50}{said:>10}  {limit.bound} {limit.text(limit.value):<8}{verdict:>6}")
        lines += [f"  {name:<50}{said:>10}" for name, said in self._more()]
        if self.worst:
            lines.append("  noisiest tensors, signal to noise:")
            lines += [
                f"    {'not finite' if one.snr_db is None else f'{one.snr_db:.1f} dB':>10}  "
                f"{one.tensor} ({one.op_type} {one.node})"
                for one in self.worst
            ]
        if self.kept:
            lines.append(f"  layers left in FP32: {', '.join(self.kept)}")
        return "\n".join(lines)

    def _more(self) -> Iterable[tuple[str, str]]:
        """Figures without a limit."""
        one = self.figures
        if isinstance(one, DetectionFigures):
            yield "of these with a score below the threshold", _percent(one.weak)
            yield "mean IoU", _number(one.mean_iou)
            yield "change of the score, mean", _number(one.score_shift)
            yield "change of the score, 95 %", _number(one.score_shift_p95)
            yield "shift of keypoints, of the eyes' distance, mean", _percent(one.keypoint_shift)
            yield "shift of keypoints, 95 %", _percent(one.keypoint_shift_p95)
            yield "average precision, FP32", _number(one.ap_fp32)
            yield "average precision, form", _number(one.ap_form)
        else:
            yield "shift of landmarks, 95 %", _percent(one.shift_p95)
            yield "change of their scores, mean", _number(one.score_shift)
            yield "change of their scores, 95 %", _number(one.score_shift_p95)
            yield f"error on {one.labelled} labelled faces, FP32", _percent(one.nme_fp32)
            yield f"error on {one.labelled} labelled faces, form", _percent(one.nme_form)


def report_path(engine: Path) -> Path:
    """Where the reports on the engine at this path lie."""
    return engine.with_name(engine.name.removesuffix(".engine") + ".accuracy.json")


def reports_text(reports: Iterable[Report]) -> str:
    """The contents of that file."""
    return json.dumps({"schema": 1, "reports": [report.as_json() for report in reports]}, indent=1) + "\n"


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
