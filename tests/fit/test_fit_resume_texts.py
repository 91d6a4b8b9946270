"""Rules that learn from generated text: killed in the middle of an epoch, they end with the same bits."""

from __future__ import annotations

import pytest
import torch
from bits import same_run
from fork import end, start
from shape import TINY

SHORT = ("module.samples.max_new_tokens=4", "task.prompt=3")
WRITER = ("module.writer.max_new_tokens=4", "task.prompt=3")
RULES = {
    "on_policy": ("kdlab.module.on_policy.OnPolicy", ("module=on_policy", "module.samples.reuse=2", *SHORT)),
    "minillm": (
        "kdlab.module.minillm.MiniLLM",
        ("module=minillm", "loss=reverse_kl", "loss.temperature=1", "module.samples.reuse=2", *SHORT),
    ),
    "distillm2": ("kdlab.module.distillm2.DistiLLM2", ("module=distillm2", "loss=skew_kl", *SHORT, *WRITER[:1])),
    "sequence_kd": ("kdlab.module.sequence_kd.SequenceKD", ("module=sequence_kd", "teacher=cached", *WRITER)),
    "answers alone": ("kdlab.module.finetune.Finetune", ("module=sequence_kd", "loss=ce", *WRITER)),
}


@pytest.fixture(scope="module")
def words(reviews, tmp_path_factory) -> list[str]:
    """A distillation of a language model, whose teacher is trained first."""
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    path.write_text("\n".join(line.rsplit(",", 1)[0] for line in reviews.read_text().splitlines()))
    shared = ["task=causal_lm", "metric=[causal_lm,fidelity]", "datamodule=table", f"datamodule.path={path}"]
    shared += ["datamodule.label_column=null", "datamodule.batch_size=16", "trainer.max_epochs=1", "logger=none"]
    shared += ["trainer.precision=32-true"]
    recipe = ",".join(f"'{word}'" for word in [*shared, "model=gpt_tiny", *[f"model.{word}" for word in TINY]])
    student = ["model@student=gpt_tiny", *[f"student.{word}" for word in TINY], "student.dropout=0.1"]
    student += ["model@teacher.model=gpt_tiny", *[f"teacher.model.{word}" for word in TINY]]
    also = ["teacher=live", "loss=kd", "trainer.log_every_n_steps=1", "callback.checkpoint.every_n_steps=3"]
    return [*shared, *student, *also, f"teacher.recipe=[{recipe}]"]


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
