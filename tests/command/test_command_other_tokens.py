"""A language model learns from one with another tokenizer, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SMALL = ("hidden_size=16", "layers=2", "heads=2", "intermediate_size=32")


@pytest.fixture(scope="module")
def words(tmp_path_factory, reviews) -> list[str]:
    """A distillation whose teacher has 120 words where the student has 200."""
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    path.write_text("\n".join(line.rsplit(",", 1)[0] for line in reviews.read_text().splitlines()))
    shared = ["task=causal_lm", "metric=causal_lm", "datamodule=table", f"datamodule.path={path}", "logger=none"]
    shared += ["datamodule.label_column=null", "datamodule.batch_size=16", "trainer.max_epochs=1"]
    shared += ["trainer.precision=32-true"]
    teacher = [*shared, "model=gpt_tiny", *[f"model.{word}" for word in SMALL], "model.tokenizer=train:wordpiece:120"]
    recipe = ",".join(f"'{word}'" for word in teacher)
    student = [f"{role}.{word}" for role in ("student", "teacher.model") for word in SMALL]
    student += ["student.tokenizer=train:wordpiece:200", "teacher.model.tokenizer=train:wordpiece:120"]
    return [*shared, *student, "model@student=gpt_tiny", "model@teacher.model=gpt_tiny", f"teacher.recipe=[{recipe}]"]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["gold", "uld"])
def test_a_teacher_of_other_tokens_teaches_live_and_stored_alike(kdlab, words, loss):
    found = []
    for teacher in ("live", "cached"):
        code, out, err = kdlab("distill", *words, f"teacher={teacher}", f"loss={loss}", "loss.alpha=1")
        assert code == 0, out + err
        (path,) = (one for one in Path("outputs/distill").glob("*/metrics.json") if str(one) not in str(found))
        found.append((str(path), json.loads(path.read_text())))
    live, stored = (numbers for _, numbers in found)
    assert live["test/perplexity"] == pytest.approx(stored["test/perplexity"], rel=1e-4)
    assert {"teacher/test/perplexity", "test/accuracy"} <= set(live)
    code, out, err = kdlab("evaluate", f"run={Path(found[0][0]).parent}")
    assert code == 0, out + err


@pytest.mark.slow
def test_what_compares_token_by_token_is_refused_with_a_way_out(kdlab, words):
    for more, known in (
        (["loss=kd"], "use loss=gold or loss=uld, or set student.tokenizer="),
        (["loss=gold", "metric=[causal_lm,fidelity]"], "metric=fidelity compares each prediction with the teacher's"),
        (["loss=gold", "task.chunk=16"], "set task.chunk=null"),
        (["loss=gold", "teacher.top_k=8"], "set teacher.top_k=null"),
    ):
        code, out, err = kdlab("distill", *words, "teacher=live", *more)
        assert code == 2 and known in " ".join(err.split()), out + err
        assert "Traceback" not in err
