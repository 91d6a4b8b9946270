"""What a reader is told: the faster way counts, the fastest peer is marked, what was not measured is said."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks import __main__ as bench
from tests.benchmarks import machine, table
from tests.benchmarks.contender import Case, Contender, Kdlab, Measurement, Peer, contenders, spaced, total
from tests.benchmarks.setting import Material


def taken(contender: str, seconds: float, column: str = "best", way: str = "1 process", **other) -> Measurement:
    known = {
        "case": "sweep_tiny", "repeat": 0, "measured_seconds": seconds, "startup_seconds": 1.0,
        "training_seconds": seconds - 2, "evaluation_seconds": 1.0, "share": 1.0, "points": 12, "runs": 12,
    }  # fmt: skip
    return Measurement(contender=contender, column=column, way=way, seconds=seconds, **known | other)


def ours(seconds: float, repeat: int = 0, **other) -> Measurement:
    return taken("kdlab", seconds, "default", "its own", repeat=repeat, **other)


def test_of_two_ways_the_faster_counts():
    (row,) = table.rows([ours(10), taken("a", 50), taken("a", 30, way="2 processes")])
    assert (row.way, row.ratio.median) == ("2 processes", 3)


def test_the_fastest_peer_of_each_column_is_marked():
    found = table.rows(
        [ours(10), taken("a", 50), taken("b", 40), taken("a", 90, "documented"), taken("b", 95, "documented")]
    )
    assert [(row.peer, row.column) for row in found if row.fastest] == [("a", "documented"), ("b", "best")]


def test_ratios_pair_the_repeats():
    repeats = [ours(10, 0), ours(20, 1), taken("a", 30, repeat=0), taken("a", 80, repeat=1)]
    (row,) = table.rows(repeats)
    assert (row.ratio.least, row.ratio.most) == (3, 4)


def test_an_extrapolated_row_says_so_in_table_and_json(capsys):
    (row,) = table.rows([ours(10), taken("a", 50, share=0.1, points=2)])
    assert "10% of the rows" in row.note
    assert "2 of 12 runs" in row.note
    assert row.plain()["extrapolated"] is True
    assert table.rows([ours(10), taken("a", 50)])[0].plain()["extrapolated"] is False
    json.dumps(row.plain())
    table.show([row])
    assert "extrapolated" in capsys.readouterr().out


def test_a_less_accurate_contender_is_told():
    good = {f"{t},0.5": 0.8 + t / 1000 for t in (1, 2, 4, 8)}
    bad = {point: value - 0.1 for point, value in good.items()}
    (row,) = table.rows([ours(10, accuracies=bad), taken("a", 50, accuracies=good)])
    assert "ours is worse" in row.note
    (row,) = table.rows([ours(10), taken("a", 50)])
    assert "not measured" in row.note


def test_parity_compares_the_same_grid_points():
    mine = {"1,0.1": 0.5, "1,0.5": 0.80, "1,0.9": 0.82}
    theirs = {"1,0.5": 0.80, "1,0.9": 0.82}
    (row,) = table.rows([ours(10, accuracies=mine), taken("a", 50, accuracies=theirs)])
    assert row.parity.difference == 0


def test_the_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    found = table.rows([ours(10), taken("a", 50), taken("a", 90, "documented", share=0.1)])
    assert table.draw(found, tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("runs", "width", "seconds"), [(12, 1, 120), (12, 2, 60), (1, 2, 10), (3, 2, 20)])
def test_a_sweep_of_equal_runs(runs, width, seconds):
    assert total(10, runs, width) == seconds


def test_a_part_of_a_grid_is_spread_over_it():
    grid = bench.CASES["sweep_tiny"].grid
    assert len(grid) == 12
    assert spaced(grid, None) == spaced(grid, 12) == spaced(grid, 99) == grid
    assert len({temperature for temperature, _ in spaced(grid, 4)}) == 4


def test_one_run_has_no_two_processes():
    one = Case("one", "bert_tiny", (2.0,), (0.5,))
    assert {each.way for each in contenders(["hf_trainer"], one)} == {"1 process"}
    assert {each.way for each in contenders(["hf_trainer"], bench.CASES["sweep_tiny"])} == {"1 process", "2 processes"}


def test_kdlab_is_measured_whole_by_its_own_command_whatever_the_share(tmp_path):
    args = bench.arguments(["--share", "0.1", "--points", "2"])
    material = Material(tmp_path / "teacher", {}, tmp_path, 8056, 1007)
    (case, one) = next((case, one) for _, case, one in bench.plan(args) if isinstance(one, Kdlab))
    words = one.words(case, material, tmp_path)
    assert words[:2] == ["distill", "-m"]
    assert {"loss.temperature=1,2,4,8", "loss.alpha=0.1,0.5,0.9", "trainer.max_epochs=3"} <= set(words)
    assert not any(word.startswith(("logger", "datamodule.train_rows", "callback", "cluster")) for word in words)


class Instant(Contender):
    """Takes no time; counts how often it was asked."""

    def __init__(self, name: str, asked: list) -> None:
        self.name, self.column, self.way, self.asked = name, "best", "1 process", asked

    def measure(self, case, material, repeat):
        self.asked.append((self.name, repeat))
        return taken(self.name, 1.0, repeat=repeat, case=case.name)


def test_a_stopped_benchmark_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    asked: list = []
    case = bench.CASES["one_tiny"]
    everyone = [(repeat, case, Instant(name, asked)) for repeat in range(2) for name in ("a", "b")]
    monkeypatch.setattr(bench, "plan", lambda args: everyone)
    monkeypatch.setattr(bench.setting, "material", lambda *_: None)
    path = tmp_path / "peers.jsonl"
    assert bench.measured(bench.arguments(["--minutes", "0"]), path)[1] == 4
    monkeypatch.setattr(bench, "plan", lambda args: everyone[:3])
    assert bench.measured(bench.arguments([]), path)[1] == 0
    monkeypatch.setattr(bench, "plan", lambda args: everyone)
    have, left = bench.measured(bench.arguments([]), path)
    assert (len(have), left) == (4, 0)
    assert asked == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert len(bench.measured(bench.arguments(["--share", "0.5"]), path)[0]) == 4  # other settings, measured anew
    assert len(asked) == 8


def test_peers_are_asked_in_their_own_environment(tmp_path):
    case = bench.CASES["sweep_layers"]
    material = Material(tmp_path / "teacher", {"two_layers": tmp_path / "student"}, tmp_path, 8056, 1007)
    words = Peer("textbrewer", "best").command(case, material, 4.0, 0.9)
    assert words[0].endswith("bin/python")
    assert words[words.index("--lr") + 1] == "0.0001"


@pytest.mark.parametrize(("share", "expected"), [(1.0, 12 * 115), (0.1, 12 * 115)])
def test_a_measured_part_gives_the_seconds_of_the_whole(tmp_path, monkeypatch, share, expected):
    """Scripts that take 4 s to start, 10 s for the first batches, 100 s for all rows and 1 s to score."""

    def together(commands, threads=None):
        def one(words):
            training = 10 + 100 * float(words[words.index("--share") + 1])
            answer = {"training_seconds": training, "evaluation_seconds": 1.0, "accuracy": 0.8}
            return machine.Finished(5 + training, 0, json.dumps(answer))

        return [one(words) for words in commands]

    monkeypatch.setattr(machine, "together", together)
    material = Material(tmp_path, {"bert_tiny": tmp_path}, tmp_path, 8056, 1007)
    case = bench.CASES["sweep_tiny"]
    found = Peer("hf_trainer", "best", share=share, points=3).measure(case, material, 0)
    assert found.seconds == pytest.approx(expected)
    assert found.extrapolated
    assert len(found.accuracies) == (3 if share == 1 else 0)
    two = Peer("hf_trainer", "best", "2 processes", share=share, points=4).measure(case, material, 0)
    assert two.seconds == pytest.approx(expected / 2)
