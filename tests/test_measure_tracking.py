"""The command behind docs/tracking.md: its tables on tiny films, without other trackers."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from measure_tracking import SIMPLE, main, make, quality, write
from peer_trackers import PEERS, installed
from tracking_ablation import COLUMNS, Expanded, Overlap, Staged, ablation, variants
from tracking_films import film, judge, run

from edgeface.association import Motion


def rows(text: str) -> dict[str, list[str]]:
    """Cells of a Markdown table by the row's name."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    return {name: others for name, *others in cells}


def test_quality_of_edgeface_and_of_simple_trackers() -> None:
    text = quality(list(SIMPLE), seeds=[7, 8], faces=[2], frames=21, jobs=1)
    assert "**plain, N = 2, seeds 7 to 8**" in text
    assert "**the demo clip**" in text
    table = rows(text.partition("**the demo clip**")[0])
    assert list(table) == ["tracker", "edgeface", *SIMPLE]
    dense = {
        name: [float(part) for part in cells[0].split(" / ")] for name, cells in table.items() if name != "tracker"
    }
    assert dense["edgeface"][:2] == [1, 0]
    assert dense["edgeface"][2] == dense["edgeface"][3] > dense["greedy IoU (floor)"][2]
    assert table["edgeface"][1][-2:] not in (" e", " k")  # edgeface predicts between looks
    assert table["greedy IoU (floor)"][1].endswith(" e")  # of two ways that are worth the same, the first


def test_judged_are_the_frames_looked_at_then_all() -> None:
    clip = film("plain", 3, 1, 20)
    truth = clip.truth
    assert judge(clip, truth, 5).tolist() == [1, 0, 1, 1]
    looks = truth.where((truth.frame - 1) % 5 == 0)
    assert judge(clip, looks, 5).tolist() == [1, 0, 1, 0.2]
    assert judge(clip, looks, 1).tolist() == pytest.approx([2 * 12 / (60 + 12), 0, 0.2, 0.2])
    later = looks.frame >= 11
    looks.track_id[later] = (looks.track_id[later] + 1) % 3 + 10
    assert judge(clip, looks, 5).tolist() == [0.5, 3, 1, 0.2]


def test_a_tracker_is_asked_between_looks_or_not() -> None:
    clip = film("plain", 3, 1, 20)
    frames = {
        (name, empty): set(run(make(name, 5, empty, clip), clip, 5, empty).frame.tolist())
        for name in ("edgeface", "greedy IoU (floor)")
        for empty in (True, False)
    }
    assert frames["edgeface", True] == frames["edgeface", False] == set(range(1, 21))
    assert frames["greedy IoU (floor)", True] == frames["greedy IoU (floor)", False] == {1, 6, 11, 16}


def test_speed_has_a_row_for_each_tracker(capsys: pytest.CaptureFixture[str]) -> None:
    main(["speed", "--no-peers", "--faces", "1", "2", "--frames", "12", "--rounds", "1"])
    elapsed, processor = capsys.readouterr().out.split("processor time")
    for text in (elapsed, processor):
        assert rows(text)["tracker"] == ["N = 1", "N = 2"]
        assert all("(1.00)" in cell for cell in rows(text)["edgeface"])
    assert all(cell.endswith(" *") for cell in rows(elapsed)["edgeface"])  # of nine frames


def test_the_ablation_changes_every_setting_of_the_motion() -> None:
    changed = [settings["motion"] for settings in variants().values() if "motion" in settings]
    for setting in fields(Motion):
        assert any(getattr(motion, setting.name) != setting.default for motion in changed), setting.name


def test_the_ablation_of_some_settings() -> None:
    kinds = {kind.__name__: {"kind": kind} for kind in (Staged, Overlap, Expanded)}
    chosen = {"as it is": {}, **kinds, "no low scores": {"low_score": None}, "no coasting": {"coast_s": 0.0}}
    table = rows(ablation([7], 40, 1, chosen))
    assert list(table) == ["changed", *chosen]
    assert table["changed"] == [f"{scene} {period}" for scene, _, period in COLUMNS]
    values = {
        name: np.array([cell.split(" / ")[0] for cell in cells], float) for name, cells in list(table.items())[1:]
    }
    assert all((figures > 0.4).all() for figures in values.values())
    for kind in ("Overlap", "no coasting", "no low scores"):
        assert values[kind][3] < values["as it is"][3], kind  # hard, every 5th


def test_the_demo_clip_is_measured_through_the_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    main(["demo", "--frames", "20", "--intervals", "1", "10", "--rounds", "1"])
    table = rows(capsys.readouterr().out)
    assert [table[interval][0] for interval in ("1", "10")] == ["20 of 20", "2 of 20"]
    assert table["1"][-1] == "1.00"
    assert float(table["1"][1]) > 0.9


def test_tables_go_between_their_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- measured: demo -->\nold\n<!-- end -->\nb\n<!-- measured: speed -->\n<!-- end -->\n")
    main(["demo", "--frames", "2", "--intervals", "1", "--rounds", "1", "--write", str(page)])
    text = page.read_text()
    assert text.startswith("a\n<!-- measured: demo -->\n\n| look at every |")
    assert text.endswith("|\n\n<!-- end -->\nb\n<!-- measured: speed -->\n<!-- end -->\n")
    with pytest.raises(SystemExit, match="no place for the table"):
        write(page, "quality", "")


def test_the_page_has_a_place_for_every_table() -> None:
    page = (ROOT / "docs" / "tracking.md").read_text()
    assert all(f"<!-- measured: {name} -->" in page for name in ("quality", "speed", "ablation", "demo"))


def test_sections_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sped"])
    assert "no section sped" in capsys.readouterr().err


def test_missing_trackers_are_named() -> None:
    peers, line = installed()
    missing = line.partition("not installed: ")[2].split(", ")
    assert all((name in peers) != (name in missing) for name in PEERS)
