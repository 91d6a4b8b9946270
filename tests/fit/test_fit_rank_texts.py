"""Rules that learn from generated text, on two processes: each draws for its own rows, and a killed run goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from bits import same_run
from fork import end, start
from rules_of_texts import RULES, distillation
from watched import offered

TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "cluster.threads=1")


@pytest.fixture(scope="module")
def words(reviews, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("two")
    found = [*distillation(reviews, folder), *TWO, "callback.checkpoint.every_n_steps=1", "datamodule.train_rows=48"]
    return [*offered(folder), *found]


def lines(folder: Path, rank: int) -> list[dict]:
    return [json.loads(line) for line in (folder / f"seen-{rank}.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.rare] * (name != "mix")) for name in RULES])
def test_two_processes_draw_for_their_own_rows_and_go_on_with_the_same_bits(tmp_path, words, name):
    command = ["distill", *words, *RULES[name][1], *["module.lmbda=1"] * (name == "on_policy")]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    (killed / "deadly").touch()
    code, printed = end(start(command, killed), killed, timeout=300)
    assert code != 0 and list(killed.glob("outputs/distill/*/checkpoints/last.ckpt")), printed
    (killed / "deadly").unlink()
    for folder in (whole, killed):
        code, printed = end(start(command, folder), folder, timeout=300)
        assert code == 0, printed
    same_run(*(next(folder.glob("outputs/distill/*/done.json")).parent for folder in (whole, killed)))
    first, second = lines(whole, 0), lines(whole, 1)
    assert len(first) == len(second) == 3, "48 rows in steps of 16"
    for one, two in zip(first, second, strict=True):
        assert len(one["rows"]) == len(two["rows"]) == 8 and not set(one["rows"]) & set(two["rows"])
        assert one["seed"] != two["seed"] and math.isfinite(one["loss"]) and math.isfinite(two["loss"])
        if drawn := one.get("drawn"):
            assert not set(drawn[0]) & set(two["drawn"][0]), "a process answers its own rows"
    for rank in (0, 1):
        again = lines(killed, rank)
        assert again[-2:] == lines(whole, rank)[-2:], "the resumed steps read, draw and lose the same"
