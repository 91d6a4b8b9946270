"""Points that differ in values alone share a teacher, and what is found of them is what is found of each alone."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from kdlab.command import doctor
from kdlab.config import point
from kdlab.doctor import untrained
from kdlab.doctor.examine import Examination
from kdlab.doctor.swept_key import vary
from kdlab.doctor.table import Page
from kdlab.plan import distill


@pytest.fixture
def examine(tmp_path, monkeypatch):
    """What looks at points, a folder of its own each time; no time is measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Examination, "_cost", lambda self, point: [])

    def examined(swept: dict[str, list[str]], points: list[point.Point]) -> tuple[Examination, list[str]]:
        folder = tmp_path / f"folder{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        page = Page(Console(file=io.StringIO()))
        examination = Examination(swept, points, folder, page, page.progress)
        return examination, examination.carry_out(0)

    return examined


@pytest.mark.slow
def test_a_grid_has_the_findings_of_each_of_its_points_alone(examine, tiny):
    """One key clashes with another, one does nothing, one is fine."""
    words = [*tiny["distill"], "logger=none", "loss.alpha=1.0", "loss.temperature=2,4"]
    words += ["student.heads=2,3", "task.label_smoothing=0.0,0.1"]
    with doctor._quiet(), doctor._composing(None) as loader:
        grid = doctor._grid("distill", words, True, loader)
        points = grid.points()
        whole, told = examine(grid.swept, points)
        alone = {one.job.folder: examine({}, [one]) for one in points}
    traces = {folder: one.traces.get(folder) for folder, (one, _) in alone.items()}
    assert set(whole.wrong) == {problem for _, found in alone.values() for problem in found}
    assert len(whole.wrong) == 1
    assert "heads=3" in next(iter(whole.wrong))
    assert len(whole.traces) < len(points)
    assert all(traces[folder] == trace for folder, trace in whole.traces.items())
    by_words = {tuple(one.swept.values()): traces[one.job.folder] for one in points}
    keys = vary(grid.swept, lambda given: by_words[tuple(given[key] for key in grid.swept)], 60)
    assert [key.key for key in keys if key.dead] == ["task.label_smoothing"]
    assert [one.split(" does nothing")[0] for one in told if "does nothing" in one] == ["task.label_smoothing"]


@pytest.mark.slow
def test_forty_points_that_differ_in_values_are_prepared_once(examine, tiny, monkeypatch):
    counts = {"prepare": 0, "assemble": 0}

    def counting(name: str):
        real = getattr(distill, name)

        def counted(*given, **named):
            counts[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(distill, name, counted)

    for name in counts:
        counting(name)
    words = [*tiny["distill"], "logger=none", "loss.temperature=1.5,2,3,4"]
    words += ["loss.alpha=0.3,0.4,0.5,0.7,0.9", "seed=0,1"]
    with doctor._quiet(), doctor._composing(None) as loader:
        grid = doctor._grid("distill", words, True, loader)
        points = grid.points()
        examination, told = examine(grid.swept, points)
    assert (len(points), told) == (40, [])
    assert 3 < len(examination.traces) < 40
    assert counts == {"prepare": 1, "assemble": 1}
    assert not Path("outputs").exists()


@pytest.mark.slow
def test_of_many_rows_a_sample_is_tokenised_and_stands_for_all(kdlab, tiny, monkeypatch):
    monkeypatch.setattr(untrained, "SAMPLE", 40)
    words = [*tiny["finetune"], "logger=none", "datamodule.max_length=97"]
    code, out, err = kdlab("doctor", "finetune", *words)
    assert code == 0, err
    assert re.search(r"40 of the \d+ rows were tokenised as a sample", out)
    monkeypatch.setattr(untrained, "SAMPLE", 100_000)
    assert "as a sample" not in kdlab("doctor", "finetune", *words)[1], "nothing of it was kept as the rows"


def test_of_a_large_grid_each_value_and_each_structure_is_composed(examine, tiny):
    words = [*tiny["distill"], "logger=none", "loss=kd,hint", "freeze=none,head", "loss.alpha=0.3,0.4,0.5", "seed=0,1"]
    with doctor._quiet(), doctor._composing(None) as loader:
        points = doctor._grid("distill", words, True, loader).points(10)
    assert len(points) == 7
    outlines = [point.outline(one.swept) for one in points]
    assert set(outlines) == {
        (f"loss={loss}", f"freeze={freeze}", "loss.alpha=number")
        for loss in ("kd", "hint")
        for freeze in ("none", "head")
    }
    assert {one.swept[key] for one in points for key in one.swept} == {
        "loss=kd", "loss=hint", "freeze=none", "freeze=head", "loss.alpha=0.3", "loss.alpha=0.4", "loss.alpha=0.5",
        "seed=0", "seed=1",
    }  # fmt: skip
