"""Writes a trained network as ONNX: python -m training.export CONFIG [--out FOLDER]; checked against PyTorch."""

from __future__ import annotations

import argparse
import hashlib
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from training.loop import CHECKPOINT
from training.networks.blocks import fold, multiply_adds, parameters
from training.tasks import make_task
from training.train import RUNS, read

OPSET = 17
TOLERANCE = 1e-4  # of 1 + the number itself


def export(network: nn.Module, path: Path, metadata: Mapping[str, str]) -> float:
    """Writes the network and returns how far ONNX Runtime is from PyTorch, relative to 1 + the number.

    `network` is a task's exported form in eval mode. Raises ValueError beyond `TOLERANCE`; the file is then removed.
    """
    shipped: Any = network
    example = shipped.example()
    dynamic = shipped.dynamic()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # the exporter that needs no further package; its graphs are plain
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            str(path),
            input_names=list(shipped.inputs),
            output_names=list(shipped.outputs),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(path)
    with torch.no_grad():
        shapes = [tuple(output.shape) for output in network(example)]
    for value, shape in zip(model.graph.output, shapes, strict=True):
        for axis, length in enumerate(shape):
            if axis not in dynamic.get(value.name, {}):
                value.type.tensor_type.shape.dim[axis].dim_value = length
    model.producer_name, model.producer_version = "edgeface", ""
    model.doc_string = metadata.get("description", "")
    for node in model.graph.node:
        node.doc_string = ""
    del model.metadata_props[:]
    for key, text in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    worst = difference(network, path)
    if worst > TOLERANCE:
        path.unlink()
        raise ValueError(f"{path.name}: ONNX Runtime and PyTorch differ by {worst:.2g}, expected at most {TOLERANCE:g}")
    return worst


def difference(network: nn.Module, path: Path) -> float:
    """The largest difference of ONNX Runtime from PyTorch, for batches of 1 and 3, and for other sizes if allowed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    shipped: Any = network
    example = shipped.example()
    name = shipped.inputs[0]
    sizes = {tuple(example.shape[2:])}
    if 2 in shipped.dynamic()[name]:
        sizes |= {(96, 160), (64, 32)}
    random = torch.Generator().manual_seed(0)
    worst = 0.0
    for size in sorted(sizes):
        for count in (1, 3):
            shape = (count, example.shape[1], *size)
            picture = torch.rand(shape, generator=random) * (1.0 if example.max() <= 1 else 255.0)
            found = session.run(list(shipped.outputs), {name: picture.numpy()})
            with torch.no_grad():
                expected = [output.numpy() for output in network(picture)]
            for a, b in zip(found, expected, strict=True):
                worst = max(worst, float(np.max(np.abs(a - b) / (1 + np.abs(b)), initial=0)))
    return worst


def load(config: Mapping[str, Any], checkpoint: Path) -> nn.Module:
    """The averaged weights of a checkpoint in the shipped form, batch normalisation folded."""
    task = make_task(config)
    network = task.network()
    network.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["average"])
    fold(network.eval())
    return task.exported(network).eval()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="training/runs/NAME/checkpoint.pt unless told otherwise")
    parser.add_argument("--out", type=Path, default=Path("engines"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    config = read(chosen.config)
    checkpoint = chosen.checkpoint or RUNS / chosen.config.stem / CHECKPOINT
    if not checkpoint.exists():
        sys.exit(f"no {checkpoint}: run python -m training.train {chosen.config}, or say --checkpoint")
    network = load(config, checkpoint)
    about = {"author": "edgeface", "license": "Apache-2.0", **config["export"]}
    path = chosen.out / f"{about.pop('name')}.onnx"
    worst = export(network, path, about)
    shipped: Any = network
    example = shipped.example()
    print(f"{path}: {path.stat().st_size} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
    print(
        f"{parameters(network)} parameters, {multiply_adds(network, example) / 1e9:.4f} GMAC "
        f"at {'x'.join(map(str, example.shape))}; ONNX Runtime within {worst:.1g} of PyTorch"
    )


if __name__ == "__main__":
    main()
