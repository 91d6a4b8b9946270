"""Rules that learn from generated text: killed in the middle of an epoch, they end with the same bits."""

from __future__ import annotations

import pytest
import torch
from bits import same_run
from fork import end, start
from rules_of_texts import RULES, WRITER, distillation


@pytest.fixture(scope="module")
def words(reviews, tmp_path_factory) -> list[str]:
    return distillation(reviews, tmp_path_factory.mktemp("texts"))


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_a_killed_run_writes_and_learns_the_same(tmp_path, words, name):
    rule, more = RULES[name]
    for folder in (tmp_path / "whole", tmp_path / "killed"):
        folder.mkdir()
        if folder.name == "killed":
            command = ["distill", *words, *more]
            call = 6 + 8 * (name == "answers alone")  # of which 8 train the teacher
            code, printed = end(start(command, folder, kill=f"{rule}.training_step", call=call), folder)
            assert code == -9, printed
            (kept,) = folder.glob("outputs/distill/*/checkpoints/last.ckpt")
            assert torch.load(kept, weights_only=True)["global_step"] == 3
        code, printed = end(start(["distill", *words, *more], folder), folder)
        assert code == 0, printed
    same_run(*(next((tmp_path / one).glob("outputs/distill/*/done.json")).parent for one in ("whole", "killed")))


@pytest.mark.slow
def test_a_teacher_that_is_killed_as_it_writes_goes_on(tmp_path, words):
    command = ["distill", *words, "module=sequence_kd", "loss=ce", *WRITER, "module.writer.tokens_per_batch=32"]
    for folder, kill in (("whole", {}), ("killed", {"kill": "kdlab.task.causal_lm.CausalLM.generate", "call": 20})):
        (tmp_path / folder).mkdir()
        if kill:
            code, printed = end(start(command, tmp_path / folder, **kill), tmp_path / folder)
            assert code == -9, printed
            assert list((tmp_path / folder).glob("outputs/store/.*.part/*.npz"))
        code, printed = end(start(command, tmp_path / folder), tmp_path / folder)
        assert code == 0, printed
    same_run(*(next((tmp_path / one).glob("outputs/distill/*/done.json")).parent for one in ("whole", "killed")))
