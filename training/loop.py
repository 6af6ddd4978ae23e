"""The one training loop: AdamW, warm-up and cosine, averaged weights, checkpoints that continue exactly."""

from __future__ import annotations

import copy
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.utils.data import DataLoader, Dataset

from training.samples import Bank, find, is_validation, order
from training.tasks import Batch, Task

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Settings:
    """[train] of a config. The end is `steps`, or `minutes` of training (then the schedule follows the clock)."""

    data: Sequence[str]
    batch: int = 64
    steps: int = 0
    minutes: float = 0.0
    rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 200  # steps
    average: float = 0.999  # of the averaged copy, reached step by step
    clip: float = 5.0  # norm of the gradient
    seed: int = 0
    workers: int = 0  # processes that make batches
    threads: int = 1  # of this process, without a GPU
    precision: str = "bf16"  # or "fp32"
    compile: bool = False  # by PyTorch: takes a minute and a C++ compiler, then is a quarter quicker on a CPU
    validation_every: int = 20  # every n-th shard is for validation only
    validation_samples: int = 1000
    measure_every: int = 500  # steps
    save_every: int = 250  # steps
    log_every: int = 50  # steps

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.minutes > 0):
            raise ValueError(f"expected either steps or minutes, found steps {self.steps}, minutes {self.minutes}")


class Batches(Dataset):
    """An epoch's batches by number; with several processes on several GPUs each takes its own."""

    def __init__(self, task: Task, bank: Bank, size: int, seed: int, epoch: int, rank: int, world: int) -> None:
        self._task, self._bank, self._size, self._seed, self._epoch = task, bank, size, seed, epoch
        self._rank, self._world, self._order = rank, world, order(len(bank), seed, epoch)
        self.begin = 0

    def __len__(self) -> int:
        return max(1, len(self._bank) // (self._size * self._world)) - self.begin

    def __getitem__(self, index: int) -> Batch:
        number = (self.begin + index) * self._world + self._rank
        indices = self._order[number * self._size : (number + 1) * self._size]
        return self._task.batch(self._bank, indices, (self._seed, self._epoch, 1 + number))


class Run:
    """A training run in a folder: what is learnt, and how far it is."""

    def __init__(self, task: Task, settings: Settings, folder: Path, begin: Path | None = None) -> None:
        self.task, self.settings, self.folder = task, settings, folder
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.device = _device()
        torch.manual_seed(settings.seed)
        self.network = task.network().to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(_groups(self.network, settings.weight_decay), lr=settings.rate, fused=True)
        self.step = self.epoch = self.position = 0
        self.elapsed_s = 0.0
        self.bank = Bank(task.kind)
        if (folder / CHECKPOINT).exists():
            self._continue(folder / CHECKPOINT)
        elif begin is not None:
            weights = torch.load(begin, map_location=self.device, weights_only=True)["average"]
            for network in (self.network, self.average):
                take_fitting(network, weights)
        self.learner: nn.Module = self.network
        if settings.compile:
            self.network.compile()
        if self.world > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            self.learner = nn.parallel.DistributedDataParallel(self.network, device_ids=ids)

    def _continue(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.epoch, self.position = state["step"], state["epoch"], state["position"]
        self.elapsed_s = state["elapsed_s"]
        self.bank.add([Path(name) for name in state["shards"]])

    def save(self) -> None:
        """Writes the checkpoint; a half-written one never takes the old one's place."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "position": self.position,
            "elapsed_s": self.elapsed_s,
            "shards": [str(path) for path in self.bank.paths],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / (CHECKPOINT + ".partial")
        torch.save(state, partial)
        partial.replace(self.folder / CHECKPOINT)

    def progress(self) -> float:
        """How much of the run is done, 0..1."""
        settings = self.settings
        done = self.step / settings.steps if settings.steps else self.elapsed_s / (60 * settings.minutes)
        if self.world > 1:  # clocks differ; all must stop after the same step
            shared = torch.tensor(done, dtype=torch.float64, device=self.device)
            distributed.broadcast(shared, 0)
            done = float(shared)
        return min(done, 1.0)

    def epoch_batches(self) -> Batches:
        """The batches of this epoch from where the run stands; at an epoch's begin shards that are new are taken in."""
        settings = self.settings
        if self.position == 0:
            shards = [[p for p in find(list(map(Path, settings.data)), self.task.kind)]]
            if self.world > 1:
                distributed.broadcast_object_list(shards, 0)
            self.bank.add([path for path in shards[0] if not is_validation(path, settings.validation_every)])
            if not len(self.bank):
                raise FileNotFoundError(
                    f"all shards in {', '.join(settings.data)} are for validation, as every "
                    f"{settings.validation_every}th from number 0 on is: render more"
                )
        batches = Batches(self.task, self.bank, settings.batch, settings.seed, self.epoch, self.rank, self.world)
        batches.begin = self.position
        return batches

    def learn(self, batch: Batch, progress: float) -> dict[str, float]:
        """One step. Returns the parts of the loss, and the gradient's norm before it was clipped."""
        settings = self.settings
        rate = settings.rate * min(1.0, (self.step + 1) / max(settings.warmup, 1))
        rate *= 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        moved = {name: _move(tensor, self.device) for name, tensor in batch.items()}
        self.learner.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            parts = self.task.losses(self.learner, moved)
        total = torch.stack(list(parts.values())).sum()
        loss = float(total.detach())
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {self.step}: a smaller rate may help")
        self.optimiser.zero_grad()
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.optimiser.step()
        self.step += 1
        keep = min(settings.average, self.step / (self.step + 10))
        with torch.no_grad():
            new = self.network.state_dict()
            for name, value in self.average.state_dict().items():
                if value.dtype.is_floating_point:
                    value.lerp_(new[name], 1 - keep)
                else:
                    value.copy_(new[name])
        shown = {name: float(part.detach()) for name, part in parts.items()}
        return {"loss": loss, **shown, "norm": float(norm), "rate": rate}

    def measure(self) -> dict[str, float]:
        """The averaged copy on the shards that are kept for validation; {} while there is none."""
        settings = self.settings
        bank = Bank(self.task.kind)
        for path in find(list(map(Path, settings.data)), self.task.kind):
            if is_validation(path, settings.validation_every) and len(bank) < settings.validation_samples:
                bank.add([path])
        if not len(bank):
            return {}
        with torch.no_grad():
            return self.task.measure(self.average, bank, settings.validation_samples)


def take_fitting(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> int:
    """Loads the weights whose name and shape the network has, and returns how many. Raises ValueError if none fits."""
    own = network.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ValueError("no weight of the checkpoint fits this network")
    network.load_state_dict(fitting, strict=False)
    return len(fitting)


def train(run: Run, say: Callable[[str], None] | None = None, stop_after: int = 0) -> dict[str, float]:
    """Trains until the run's end, or for `stop_after` steps. Returns the last measures. Raises FloatingPointError."""
    settings = run.settings
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    log: Any = None
    if run.rank == 0:
        from torch.utils.tensorboard import SummaryWriter

        log = SummaryWriter(str(run.folder))
    last = run.step + stop_after if stop_after else sys.maxsize
    measures: dict[str, float] = {}
    mean: dict[str, float] = {}
    clock = time.monotonic()
    began, first = clock, run.step
    progress = run.progress()
    while progress < 1 and run.step < last:
        batches = run.epoch_batches()
        loader = DataLoader(batches, batch_size=None, num_workers=settings.workers, pin_memory=_pins(run.device))
        for batch in loader:
            values = run.learn(batch, progress)
            run.position += 1
            run.elapsed_s += time.monotonic() - clock
            clock = time.monotonic()
            mean = {name: value + 0.98 * (mean.get(name, value) - value) for name, value in values.items()}
            progress = run.progress()
            ends = progress >= 1 or run.step >= last
            if run.rank == 0 and (ends or run.step % settings.log_every == 0):
                speed = (run.step - first) * settings.batch * run.world / max(clock - began, 1e-9)
                say(f"step {run.step} epoch {run.epoch} {progress:.1%} {speed:.0f}/s of {len(run.bank)}: {_line(mean)}")
                for name, value in values.items():
                    log.add_scalar(f"train/{name}", value, run.step)
            if run.rank == 0 and (ends or run.step % settings.measure_every == 0):
                measures = run.measure()
                say(f"step {run.step} validation: {_line(measures)}")
                for name, value in measures.items():
                    log.add_scalar(f"validation/{name}", value, run.step)
            if run.rank == 0 and (ends or run.step % settings.save_every == 0):
                run.save()
            clock = time.monotonic()  # measuring and saving are not training
            if ends:
                break
        else:
            run.epoch, run.position = run.epoch + 1, 0
    if log is not None:
        log.close()
    return measures


def _line(values: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases and normalisation do not."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    return [
        {"params": weights, "weight_decay": decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _pins(device: torch.device) -> bool:
    return device.type == "cuda"


def _move(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    tensor = tensor.to(device, non_blocking=True)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
