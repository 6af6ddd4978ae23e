"""The figures of docs/tracking.md: edgeface's tracker beside others, alone without its ingredients, on the demo clip.

    python scripts/measure_tracking.py [quality speed ablation demo] [--write docs/tracking.md]

Prints Markdown. Quality takes 15 minutes on one core (--jobs), all else 10. The other trackers that are installed are
measured too; scripts/peer_trackers.py says how to get them. Times are of one thread, except for trackers that have
threads of their own (similari). Compare times by ratio and within one run.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from peer_trackers import installed
from plain_trackers import FPS, Edgeface, Floor, Peer, Reference
from tracking_ablation import ablation, each
from tracking_films import DEMO, Film, film, judge, run

from edgeface import __version__
from edgeface.config import Config, load_config
from edgeface.evaluate.tracking import frames_of, of_run
from edgeface.parts import build
from edgeface.values import F64

PERIODS = (1, 3, 5, 10)
LARGE = 100  # from so many faces on two seeds must do
FEW = 30  # a median of fewer frames is marked
SIMPLE = {"greedy IoU (floor)": Floor, "reference: CV + centre gate": Reference}
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = ["quality", "speed", "ablation", "demo"]
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(sections))
    parser.add_argument("--seeds", type=_range, default=range(100, 106), metavar="FIRST-LAST", help="default 100-105")
    parser.add_argument("--faces", type=int, nargs="+", default=[1, 5, 20, 100, 500], help="quality: those up to 100")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--intervals", nargs="+", default=["1", "3", "5", "10"], help="of the demo; also 'adaptive'")
    parser.add_argument("--rounds", type=int, default=3, help="of what is timed")
    parser.add_argument("--jobs", type=int, default=1, help="processes, for what is not timed")
    parser.add_argument("--no-peers", action="store_true", help="edgeface alone")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between that page's markers")
    given = parser.parse_args(arguments)
    if unknown := set(given.sections) - set(sections):
        parser.error(f"no section {', '.join(unknown)}: expected {', '.join(sections)}")
    names = [] if given.no_peers else [*installed()[0], *SIMPLE]
    seeds, faces, frames = list(given.seeds), given.faces, given.frames
    for section in given.sections or sections:
        match section:
            case "quality":
                text = quality(names, seeds, [count for count in faces if count <= LARGE], frames, given.jobs)
            case "speed":
                text = speed(names, faces, frames, given.rounds)
            case "ablation":
                others = range(seeds[0] + 100, seeds[0] + 100 + 2 * len(seeds))  # settings may be chosen by these
                text = ablation(others, frames, given.jobs)
            case _:
                text = demo(given.intervals, frames, given.rounds)
        print(text, flush=True)
        if given.write:
            write(given.write, section, text)


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def write(page: Path, name: str, text: str) -> None:
    """Put a table between its markers in a page."""
    old = page.read_text()
    between = re.compile(rf"(?<=<!-- measured: {name} -->\n).*?(?=<!-- end -->)", re.DOTALL)
    if not between.search(old):
        raise SystemExit(f"{page}: no place for the table: expected <!-- measured: {name} --> and <!-- end -->")
    page.write_text(between.sub(lambda _: f"\n{text}\n", old, count=1))


# --- quality


def quality(names: Sequence[str], seeds: Sequence[int], faces: Sequence[int], frames: int, jobs: int) -> str:
    """edgeface and the trackers `names` on the scenes, with a look at every frame to every 10th."""
    films = [(scene, 20) for scene in ("plain", "hard", "slow") if 20 in faces]
    films += [("plain", count) for count in faces if count != 20] + [(DEMO, 5)]
    names = ["edgeface", *names]
    work = [
        (name, *which, period, empty, tuple(seeds if which[1] < LARGE else seeds[:2]), frames)
        for which in films
        for name in names
        for period in PERIODS
        for empty in ((True,) if period == 1 or make(name).predicts else (True, False))
    ]
    found: dict[tuple[str, str, int, int], tuple[F64, str]] = {}
    for (name, scene, count, period, empty, *_), means in zip(work, each(_measured, work, jobs), strict=True):
        way = "" if period == 1 or make(name).predicts else " e" if empty else " k"
        key = name, scene, count, period
        if key not in found or means[0] > found[key][0][0]:  # the way that suits it better
            found[key] = means, way
    lines = [f"edgeface {__version__}; {installed()[1] if len(names) > 1 else 'no others'}.", ""]
    for scene, count in films:
        used = seeds if count < LARGE else seeds[:2]
        which = "the demo clip" if scene == DEMO else f"{scene}, N = {count}, seeds {used[0]} to {used[-1]}"
        lines += [f"**{which}**", "", "| tracker | every frame | every 3rd | every 5th | every 10th |"]
        lines += ["|---|---|---|---|---|"]
        for name in names:
            cells = [found[name, scene, count, period] for period in PERIODS]
            texts = [f"{v[0]:.3f} / {v[1]:.1f} / {v[2]:.3f} / {v[3]:.3f}{way}" for v, way in cells]
            lines.append(f"| {name} | {' | '.join(texts)} |")
        lines.append("")
    return "\n".join(lines)


def make(name: str, period: int = 1, empty: bool = True, on: Film | None = None) -> Peer:
    """A new tracker, for a film."""
    if name == "edgeface":
        return Edgeface(period, empty, on.scores, on.size) if on else Edgeface(period, empty)
    return (SIMPLE[name] if name in SIMPLE else installed()[0][name])(period, empty)


def _measured(work: tuple[str, str, int, int, bool, tuple[int, ...], int]) -> F64:
    """Mean figures of judge()."""
    name, scene, faces, period, empty, seeds, frames = work
    values = []
    for seed in seeds[:1] if scene == DEMO else seeds:
        clip = film(scene, faces, seed, frames)
        values.append(judge(clip, run(make(name, period, empty, clip), clip, period, empty), period))
    means: F64 = np.mean(values, axis=0)
    return means


# --- speed


def speed(names: Sequence[str], faces: Sequence[int], frames: int, rounds: int, budget_s: float = 1.5) -> str:
    """ms for update() with the conversion to and from a tracker's own types; a look at every frame of `plain`.

    All trackers take turns, `rounds` times, each for at most `budget_s`; medians of the rounds' medians.
    """
    names = ["edgeface", *names]
    columns = " | ".join(f"N = {count}" for count in faces)
    wall, cpu = ([f"| tracker | {columns} |", "|---" * (len(faces) + 1) + "|"] for _ in range(2))
    medians = np.zeros((len(names), len(faces), 4))  # wall, its 99th percentile, cpu, frames
    for column, count in enumerate(faces):
        clip = film("plain", count, 100, frames)
        turns = [[_timed(make(name), clip, budget_s) for name in names] for _ in range(rounds)]
        medians[:, column] = np.median(turns, axis=0)
    times = medians[:, :, [0, 2]] / medians[0, :, [0, 2]].T
    for name, row, ratios in zip(names, medians.tolist(), times.tolist(), strict=True):
        cells = zip(row, ratios, strict=True)
        texts = [
            (f"{ms:.3f} / {p99:.3f} ({more:.2f}){'' if number >= FEW else ' *'}", f"{cpu_ms:.3f} ({cpu_more:.2f})")
            for (ms, p99, cpu_ms, number), (more, cpu_more) in cells
        ]
        for table, column_texts in zip((wall, cpu), zip(*texts, strict=True), strict=True):
            table.append(f"| {name} | {' | '.join(column_texts)} |")
    load = f"{rounds} rounds; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    about_wall = f"Elapsed ms, median / 99th percentile (times edgeface's median); *: fewer than {FEW} frames. {load}."
    about_cpu = "ms of this thread's processor time, median (times edgeface's); a tracker's own threads do not count."
    return "\n".join([about_wall, "", *wall, "", about_cpu, "", *cpu, ""])


def _timed(peer: Peer, clip: Film, budget_s: float) -> tuple[float, float, float, int]:
    """ms a frame: median, 99th percentile, median of this thread's processor time; and of how many frames."""
    gc.collect()
    wall, cpu = [], []
    begun = time.perf_counter()
    for number, found in enumerate(clip.found, 1):
        cpu_before, before = time.thread_time(), time.perf_counter()
        peer.export(peer.update(peer.convert(found), number / FPS))
        after, cpu_after = time.perf_counter(), time.thread_time()
        wall.append(after - before)
        cpu.append(cpu_after - cpu_before)
        if after - begun > budget_s:
            break
    warm = min(30, len(wall) // 4)
    steady = np.array([wall, cpu])[:, warm:] * 1e3
    median, cpu_median = np.median(steady, axis=1).tolist()
    return median, float(np.percentile(steady[0], 99)), cpu_median, steady.shape[1]


# --- the demo clip


def demo(intervals: Sequence[str], frames: int, rounds: int) -> str:
    """The whole pipeline on the demo clip."""
    configs = [_demo_config(interval) for interval in intervals]
    rates = np.median([[_frames_a_second(config, frames) for config in configs] for _ in range(rounds)], axis=0)
    lines = [
        "| look at every | looks | IDF1 | HOTA | MOTA | switches | ids | recall | frames/s | times the first |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for interval, config, rate in zip(intervals, configs, rates.tolist(), strict=True):
        report = of_run(config, None, frames)[0]
        shares = " | ".join(f"{report[name]:.3f}" for name in ("idf1", "hota", "mota"))
        counts = f"{report['id_switches']} | {report['track_ids']} | {report['recall']:.3f}"
        looks = f"{report['looks']} of {report['frames']}"
        lines.append(f"| {interval} | {looks} | {shares} | {counts} | {rate:.0f} | {rate / rates[0]:.2f} |")
    return "\n".join([*lines, ""])


def _demo_config(interval: str) -> Config:
    number = int(interval) if interval.isdigit() else interval
    tracker = {"keyframe_interval": number}
    return load_config(None, {"source": "demo:?pace=0", "tracker": tracker, "landmarks": {"card": "none"}})


def _frames_a_second(config: Config, frames: int) -> float:
    """Of the pipeline's steps alone, without reading the clip."""
    steps: list[float] = []
    with build(config) as parts:
        for frame in frames_of(parts.source, frames):
            before = time.perf_counter()
            parts.pipeline.step(frame)
            steps.append(time.perf_counter() - before)
    return len(steps) / sum(steps)


if __name__ == "__main__":
    if not _ONE_THREAD.items() <= os.environ.items():  # before numpy is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_ONE_THREAD})
    main()
