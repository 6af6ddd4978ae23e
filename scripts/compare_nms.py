"""Compare NMS: time of ours beside others' on the same boxes in one run, as a Markdown table.

    python scripts/compare_nms.py [--network SCRFD.onnx --picture FILE] [--peers insightface opencv ...]

Peers, each absent one named in the output: `pip install insightface uniface powerboxes lsnms onnx onnxruntime
opencv-python`. The candidates are generated faces with 15 jittered copies each (1920x1080), and, with --network and
--picture, the best of all boxes that network finds at score 0 (a 2.5G SCRFD on a picture of six faces has 16800). One
thread; IoU threshold 0.4; medians; all take turns, call by call. Ours must keep the same boxes as plain NMS; the table
marks with * the others that do not.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeface.boxes import iou, nms

THRESHOLD = 0.4
COUNTS = (100, 1000, 5000, 17000)
BUDGET_S = 1.5  # about what one peer may take at one count
Suppress = Callable[[np.ndarray], np.ndarray]  # boxes with their scores [n, 5], best first -> indices of the kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    arguments = parser.parse_args()
    rows: dict[str, Suppress] = {"edgeface": lambda boxes: nms(boxes[:, :4], boxes[:, 4], THRESHOLD, len(boxes))}
    for name in arguments.peers:
        try:
            rows.update(PEERS[name]())
        except ImportError as error:
            print(f"absent: {name} ({error})")
    tables = {"generated": {count: generated(count) for count in COUNTS}}
    if arguments.network and arguments.picture:
        found = detected(arguments.network, arguments.picture)
        tables["detected"] = {min(count, len(found)): found[:count] for count in COUNTS}
    for title, table in tables.items():
        results = {count: measure(rows, boxes) for count, boxes in table.items()}
        print(f"\n| {title}, ms | " + " | ".join(map(str, table)) + " |\n|---" + "|---" * len(table) + "|")
        for name in rows:
            print(f"| {name} | " + " | ".join(results[count][name] for count in table) + " |")
        print("| kept by plain NMS | " + " | ".join(results[count]["plain"] for count in table) + " |")


def measure(rows: dict[str, Suppress], boxes: np.ndarray) -> dict[str, str]:
    """Median milliseconds of each, with * when its boxes are not those of plain NMS."""
    plain = plain_nms(boxes[:, :4])
    same, single_ms = {}, {}
    for name, suppress in rows.items():
        suppress(boxes)  # warm up: compilers, arenas
        start = time.perf_counter()
        kept = np.asarray(suppress(boxes))
        single_ms[name] = (time.perf_counter() - start) * 1e3
        same[name] = np.array_equal(np.sort(kept.ravel().astype(np.int64)), np.sort(plain))
    assert same["edgeface"], "ours differs from plain NMS"
    rounds = int(np.clip(BUDGET_S * 1e3 / max(single_ms.values()), 7, 1000))
    times_ms: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, suppress in rows.items():
            start = time.perf_counter()
            suppress(boxes)
            times_ms[name].append((time.perf_counter() - start) * 1e3)
    cells = {name: f"{statistics.median(times):.3g}{'' if same[name] else '*'}" for name, times in times_ms.items()}
    return {**cells, "plain": str(len(plain))}


def plain_nms(xyxy: np.ndarray) -> np.ndarray:
    """Greedy suppression of boxes [n, 4] that come best first, one at a time."""
    left, kept = np.arange(len(xyxy)), []
    while len(left):
        kept.append(left[0])
        left = left[1:][iou(xyxy[left[:1]], xyxy[left[1:]])[0] <= np.float32(THRESHOLD)]
    return np.array(kept)


def generated(count: int) -> np.ndarray:
    """Boxes and scores [count, 5]: count / 15 faces, each with 15 copies jittered by 8 % in place and 10 % in size."""
    random = np.random.default_rng(0)
    faces = max(1, count // 15)
    centre = random.uniform([40, 40], [1880, 1040], (faces, 2))
    size = random.uniform(24, 120, (faces, 1))
    face = np.arange(count) % faces
    centre = centre[face] + random.normal(0, 0.08, (count, 2)) * size[face]
    half = size[face] * np.exp(random.normal(0, 0.1, (count, 2))) / 2
    score = np.sort(random.uniform(0.02, 0.98, (count, 1)), axis=0)[::-1]
    table: np.ndarray = np.concatenate([centre - half, centre + half, score], axis=1).astype(np.float32)
    return table


def detected(network: Path, picture: Path) -> np.ndarray:
    """Boxes and scores [n, 5] of all that `network` sees in `picture`."""
    import cv2
    from compare_insightface import frame_of, our_detector

    from edgeface.boxes import letterbox

    pixels = cv2.imread(str(picture))
    if pixels is None:
        raise SystemExit(f"{picture}: no picture")
    engine, detector = our_detector(network, 1)
    frame = frame_of(pixels)
    found = detector.decode(engine.infer(frame, letterbox((frame.width, frame.height), engine.input_size)), 0.0)
    order = np.argsort(-found.score, kind="stable")
    return np.column_stack([found.xyxy, found.score])[order]


def insightface_nms() -> dict[str, Suppress]:
    scrfd = importlib.import_module("insightface.model_zoo.scrfd").SCRFD
    theirs = scrfd.__new__(scrfd)  # its nms needs no network
    theirs.nms_thresh = THRESHOLD
    return {"insightface SCRFD.nms": theirs.nms}


def uniface_nms() -> dict[str, Suppress]:
    theirs = importlib.import_module("uniface.common").non_max_suppression
    return {"uniface non_max_suppression": lambda boxes: theirs(boxes, THRESHOLD)}


def onnxruntime_nms() -> dict[str, Suppress]:
    """A network of one operator."""
    onnx, ort = importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    make, kind = onnx.helper, onnx.TensorProto
    graph = make.make_graph(
        [make.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou"], ["kept"])],
        "nms",
        [
            make.make_tensor_value_info("boxes", kind.FLOAT, [1, None, 4]),
            make.make_tensor_value_info("scores", kind.FLOAT, [1, 1, None]),
        ],
        [make.make_tensor_value_info("kept", kind.INT64, [None, 3])],
        [make.make_tensor("most", kind.INT64, [1], [10**6]), make.make_tensor("iou", kind.FLOAT, [1], [THRESHOLD])],
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    text = make.make_model(graph, opset_imports=[make.make_opsetid("", 11)], ir_version=8).SerializeToString()
    session = ort.InferenceSession(text, options, providers=["CPUExecutionProvider"])
    return {
        "onnxruntime NonMaxSuppression": lambda boxes: session.run(
            None, {"boxes": boxes[None, :, :4], "scores": np.ascontiguousarray(boxes[None, None, :, 4])}
        )[0][:, 2]
    }


def opencv_nms() -> dict[str, Suppress]:
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(1)

    def suppress(boxes: np.ndarray) -> np.ndarray:
        xywh = boxes[:, :4].astype(np.float64)
        xywh[:, 2:] -= xywh[:, :2]
        return np.asarray(cv2.dnn.NMSBoxes(xywh, boxes[:, 4], 0.0, THRESHOLD))

    return {"cv2.dnn.NMSBoxes": suppress}


def powerboxes_nms() -> dict[str, Suppress]:
    theirs = importlib.import_module("powerboxes")

    def call(function) -> Suppress:
        return lambda boxes: function(
            np.ascontiguousarray(boxes[:, :4]), boxes[:, 4].astype(np.float64), THRESHOLD, 0.0
        )

    return {
        "powerboxes.nms (compiled)": call(theirs.nms),
        "powerboxes.rtree_nms (compiled)": call(theirs.rtree_nms),
    }


def lsnms_nms() -> dict[str, Suppress]:
    theirs = importlib.import_module("lsnms")

    def suppress(boxes: np.ndarray) -> np.ndarray:
        wide = boxes.astype(np.float64)
        return np.asarray(theirs.nms(wide[:, :4], wide[:, 4], THRESHOLD, 0.0))

    return {"lsnms.nms (compiled)": suppress}


PEERS: dict[str, Callable[[], dict[str, Suppress]]] = {
    "insightface": insightface_nms,
    "uniface": uniface_nms,
    "onnxruntime": onnxruntime_nms,
    "opencv": opencv_nms,
    "powerboxes": powerboxes_nms,
    "lsnms": lsnms_nms,
}


if __name__ == "__main__":
    main()
