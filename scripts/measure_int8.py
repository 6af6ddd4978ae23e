"""The figures of docs/engines.md: what INT8 and FP16 cost in accuracy, by every way to the scales.

    python scripts/measure_int8.py DATA [NETWORK ...] [--json FILE]

DATA has the folders pictures, clips, landmarks and networks of the test data. Every form of a network runs on ONNX
Runtime in the pipeline itself, and is held against float32. The walking clip and the demo clip are calibrated on, the
rest is what is measured on. Prints Markdown; takes 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeface import __version__, boxes
from edgeface.build import calibrate, onnx_file, precision, quantise, trt
from edgeface.build.pictures import find_pictures
from edgeface.build.progress import Progress
from edgeface.build.scales import Method, cache_text, read_cache
from edgeface.config import Config, load_config
from edgeface.errors import ConfigError
from edgeface.evaluate import landmarks as labelled
from edgeface.model_card import Card, find_card, input_sizes, onnx_path
from edgeface.networks import open_networks
from edgeface.point_sets import OUTER_EYE_CORNERS
from edgeface.values import F32, Detections, Frame, Landmarks

NETWORKS = ("edgeface-detector", "edgeface-landmarks", "scrfd-500m-kps", "scrfd-2.5g-kps")
CALIBRATED_ON = (("demo:", 10), ("clips/face-demographics-walking.gif", 10))
MEASURED_ON = (("pictures", 1), ("landmarks", 1), ("clips/head-pose-face-detection-female-and-male.gif", 3))
METHODS: tuple[tuple[Method, float], ...] = (
    ("minmax", 100),
    ("percentile", 99.9),
    ("percentile", 99.99),
    ("percentile", 99.999),
    ("entropy", 100),
)
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"default: {' '.join(NETWORKS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args(arguments)
    report: dict[str, Any] = {"edgeface": __version__, "onnx": onnx.__version__, "networks": {}}
    for name in given.networks or NETWORKS:
        card = find_card(name, (str(given.data / "networks"),))
        rows = measure(card, given.data)
        report["networks"][name] = rows
        print(table(name, rows), flush=True)
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


def measure(card: Card, data: Path) -> list[Row]:
    """One row a form of the card's network."""
    shown = list(frames(data, MEASURED_ON))
    boxes_of = None if card.task == "detect" else [found.xyxy for found in detect(load_config(None, {}), shown)]
    rows: list[Row] = []
    reference: list[Any] | None = None
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, path, seconds) in enumerate(forms(card, data, Path(scratch))):
            folder = Path(scratch) / str(number)
            config = config_with(card, path, folder)
            row: Row = {"form": name, "kB": round(path.stat().st_size / 1000), "calibrated_s": seconds}
            if boxes_of is None:
                found: list[Any] = detect(config, shown)
                row |= compare_faces(reference or found, found, card.thresholds.score)
            else:
                found = locate(config, shown, boxes_of)
                row |= compare_landmarks(reference or found, found)
                row["nme"] = labelled_error(config, data)
            reference = reference or found
            row["built_s"] = built(card, path, name)
            rows.append(row)
    return rows


def forms(card: Card, data: Path, scratch: Path) -> Iterator[tuple[str, Path, float | None]]:
    """Name, ONNX and the time for calibration of each form; float32 first."""
    source = onnx_path(card)
    yield "fp32", source, None
    yield "fp16", precision.form(source, "fp16", strongly_typed=True, folder=scratch, engines=scratch), None
    begin = time.perf_counter()
    network = onnx_file.load(source)
    crops = [crop.copy() for crop in calibrate.pipeline_crops(card, frames(data, CALIBRATED_ON), ())]
    found, _ = calibrate.histograms(network, crops)
    seconds = round(time.perf_counter() - begin, 1)

    def write(name: str, scales: dict[str, float], per_channel: bool = True) -> Path:
        path = scratch / f"{name.replace(' ', '-')}.onnx"
        onnx.save(quantise.quantise(network, scales, per_channel=per_channel)[0], str(path))
        return path

    for method, percentile in METHODS:
        begin = time.perf_counter()
        scales = calibrate.scales(found, method, percentile)
        name = f"int8 {method}" + (f" {percentile:g}" if method == "percentile" else "")
        yield name, write(name, scales), round(seconds + time.perf_counter() - begin, 1)
    scales = calibrate.scales(found, "percentile")
    yield "int8 percentile 99.99, per tensor", write("tensor", scales, per_channel=False), seconds
    (scratch / "cache.txt").write_text(cache_text(scales, "10.3.0"))
    yield "int8 percentile 99.99, from a cache", write("cache", read_cache(scratch / "cache.txt").scales), None
    for how in ("MinMax", "Percentile"):
        begin = time.perf_counter()
        path = by_onnx_runtime(network, crops, scratch, how)
        yield f"int8 quantize_static {how}", path, round(time.perf_counter() - begin, 1)


def by_onnx_runtime(network: onnx.ModelProto, crops: Sequence[F32], scratch: Path, how: str) -> Path:
    """What ONNX Runtime's own quantiser makes of it, with the settings that TensorRT takes.

    It holds the tensors of all crops at once, and takes crops of one size only: 16 of them.
    """
    rows = [crop[None] for part in crops if part.shape[1:] == crops[0].shape[1:] for crop in part]
    rows = rows[:: -(-len(rows) // 16)]
    before, inferred, path = (scratch / f"{how}-{step}.onnx" for step in ("before", "inferred", "after"))
    onnx.save(network, str(before))
    quant_pre_process(str(before), str(inferred), skip_symbolic_shape=True)

    class Reader:
        def __init__(self) -> None:
            self.left = iter({network.graph.input[0].name: crop} for crop in rows)

        def get_next(self) -> dict[str, F32] | None:
            return next(self.left, None)

    quantize_static(
        str(inferred),
        str(path),
        Reader(),
        quant_format=QuantFormat.QDQ,
        calibrate_method=CalibrationMethod[how],
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv"],
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
        | ({"CalibPercentile": 99.99} if how == "Percentile" else {}),
    )
    return path


def frames(data: Path, names: Sequence[tuple[str, int]]) -> Iterator[Frame]:
    paths = [(name if ":" in name else str(data / name), every) for name, every in names]
    return chain.from_iterable(find_pictures(path, every).frames() for path, every in paths)


def config_with(card: Card, path: Path, folder: Path) -> Config:
    """The default networks, but for this one, whose ONNX is the one at `path`."""
    folder.mkdir()
    (folder / path.name).symlink_to(path.resolve())
    text = (Path(card.folders[0]) / f"{card.name}.toml").read_text()
    text = re.sub(r"(?m)^onnx = .*$", f'onnx = "{path.name}"', text)
    (folder / "card.toml").write_text(re.sub(r"(?m)^sha256 = .*$", "", text))
    part = "detector" if card.task == "detect" else "landmarks"
    return load_config(None, {"backend": "cpu", part: {"card": str(folder / "card.toml")}})


def detect(config: Config, shown: Sequence[Frame]) -> list[Detections]:
    with closing(open_networks(config)) as networks:
        return [networks.detector.detect(frame) for frame in shown]


def locate(config: Config, shown: Sequence[Frame], faces: Sequence[F32]) -> list[Landmarks]:
    with closing(open_networks(config)) as networks:
        assert networks.landmarker is not None
        return [networks.landmarker.locate(frame, xyxy) for frame, xyxy in zip(shown, faces, strict=True)]


def compare_faces(reference: Sequence[Detections], found: Sequence[Detections], least_score: float) -> Row:
    """Of the reference's detections: how many are found again at IoU 0.9, how far off their like are."""
    overlaps, shifts, moved = [], [], []
    for old, new in zip(reference, found, strict=True):
        sure, again = old.score >= least_score, new.score >= least_score
        table_of = boxes.iou(old.xyxy[sure], new.xyxy[again])
        for row, overlap in enumerate(table_of):
            best = int(np.argmax(overlap)) if len(overlap) else -1
            overlaps.append(float(overlap[best]) if best >= 0 else 0.0)
            if overlaps[-1] >= 0.5:
                shifts.append(float(new.score[again][best] - old.score[sure][row]))
                a, b = old.keypoints[sure][row], new.keypoints[again][best]
                moved.append(float(np.linalg.norm(a - b, axis=1).mean() / np.linalg.norm(a[0] - a[1])))
    extra = sum(int((one.score >= least_score).sum()) for one in found) - len(overlaps)
    return {
        "faces": len(overlaps),
        "kept": float(np.mean(np.array(overlaps) >= 0.9)),
        "kept_at_iou_0.5": float(np.mean(np.array(overlaps) >= 0.5)),
        "more_faces": extra,
        "mean_iou": float(np.mean([one for one in overlaps if one >= 0.5])),
        "score_shift": float(np.mean(shifts)),
        "largest_score_shift": float(np.max(np.abs(shifts), initial=0)),
        "points_shift": float(np.mean(moved)),
    }


def compare_landmarks(reference: Sequence[Landmarks], found: Sequence[Landmarks]) -> Row:
    """Mean distance of points, over that of the outer eye corners."""
    left, right = OUTER_EYE_CORNERS
    shifts = []
    for old, new in zip(reference, found, strict=True):
        eyes = np.linalg.norm(old.xy[:, left] - old.xy[:, right], axis=1)
        shifts.append(np.linalg.norm(old.xy - new.xy, axis=2).mean(axis=1) / eyes)
    of_faces = np.concatenate(shifts)
    of_faces = of_faces[np.isfinite(of_faces)]
    return {
        "faces": len(of_faces),
        "points_shift": float(np.mean(of_faces)),
        "largest_points_shift": float(np.max(of_faces, initial=0)),
    }


def labelled_error(config: Config, data: Path) -> float:
    """Mean error on the labelled pictures, over the distance of the outer eye corners, in the labels' boxes."""
    labels = data / "landmarks" / "training_with_face_landmarks.xml"
    report = labelled.of_labels(config, labels, boxes="labels")
    return float(report["network"]["nme_eyes"]["mean"])


def built(card: Card, path: Path, name: str) -> float | None:
    """Seconds until TensorRT-RTX has built it for the card's first size; None: it is not installed."""
    try:
        module = trt.load_trt("tensorrt-rtx")
    except ConfigError:
        return None
    order = trt.Order(card, input_sizes(card)[0], "int8" if name.startswith("int8") else "fp32", None, None, 1024)
    begin = time.perf_counter()
    trt.build(module, trt.parse(module, path, order), order, None, Progress())
    return round(time.perf_counter() - begin, 1)


def table(name: str, rows: Sequence[Row]) -> str:
    """Markdown."""
    columns = [*dict.fromkeys(key for row in rows for key in row)]
    lines = [f"### {name}", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for row in rows:
        cells = (row.get(column) for column in columns)
        lines.append(f"| {' | '.join('' if cell is None else _text(cell) for cell in cells)} |")
    return "\n".join([*lines, ""])


def _text(cell: Any) -> str:
    return f"{cell:.4f}" if isinstance(cell, float) and abs(cell) < 1.5 else str(cell)


if __name__ == "__main__":
    main()
