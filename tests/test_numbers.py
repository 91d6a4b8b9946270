"""A number for each text: every loss from disk trains or is refused, and the commands from a table to predictions."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from shape import TINY
from small import crossed, knob, live, nodes, options, shrink, small, tiny_teacher, train

from kdlab.config import build, conf, instantiate
from kdlab.config.job import Job
from kdlab.error import UserError
from kdlab.file import write_json
from kdlab.outcome import Real

SCORES = {"good": 1.25, "great": 2.1, "bad": -1.3, "awful": -2.2, "film": 0.0, "plot": 0.0, "it": 0.0}
UNFIT = "which have no classes|several teachers|model@student=simkd|computes with probabilities"


def table(path: Path, rows: int = 120) -> Path:
    draw = random.Random(0)
    lines = ["text,score"]
    for number in range(rows):
        words = draw.choices(list(SCORES), k=5)
        lines.append(f"{' '.join(words)} {number},{sum(map(SCORES.get, words)) if number % 10 else ''}")
    path.write_text("\n".join(lines))
    return path


class House:
    """What the matrix crosses: the options, and a teacher of numbers."""

    def __init__(self, folder: Path) -> None:
        self.option = nodes("loss", "model")
        self.path = table(folder / "scores.csv")
        self.words = ["task=regression", "datamodule=table", f"datamodule.path={self.path}"]
        self.words += ["datamodule.label_column=score", f"outputs={folder}", "student.tokenizer=train:wordpiece:200"]
        base = small("distill", self.words)
        self.teacher = tiny_teacher(base, folder / "teacher")
        write_json(self.teacher / "labels.json", ["number"])
        self.base = knob(base, f"teacher.run={self.teacher}")

    def job(self, loss: str, student: str = "bert_tiny", teacher: str = "cached") -> Job:
        job = crossed(self.base, loss=self.option["loss"][loss], student=shrink(self.option["model"][student]))
        if teacher == "live":
            live(job)
        return job


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield House(tmp_path_factory.mktemp("house"))


def unfit(job: Job) -> bool:
    """Whether a term is for classes, or needs what this teacher or student is not."""
    terms = instantiate.make(job.cfg.loss).terms.values()
    return any(not issubclass(Real, one.outcome) or one.several_teachers or one.same_width for one in terms)


@pytest.mark.sampled(6, tried=21)
@pytest.mark.parametrize("loss", options("loss"))
def test_every_loss_trains_on_numbers_or_is_refused_with_a_reason(house, loss):
    job = house.job(loss)
    if unfit(job):
        with pytest.raises(UserError, match=UNFIT):
            train(job)
        return
    result = train(job)
    assert result.changed and torch.tensor(result.losses).isfinite().all()


def test_losses_of_classes_are_unfit_and_those_of_numbers_are_not(house):
    assert all(unfit(house.job(loss)) for loss in ("kd", "kd_binary", "dkd", "listmle", "soft_ce"))
    assert not any(unfit(house.job(loss)) for loss in ("mse", "regression", "teacher_bounded", "ce"))


@pytest.mark.parametrize(
    ("loss", "student"), [("mse", "bert_tiny"), ("regression", "mlp"), ("teacher_bounded", "bert_tiny")]
)
def test_a_stored_teacher_gives_the_weights_of_a_live_one(house, loss, student):
    cached, live = (train(house.job(loss, student, teacher)).after for teacher in ("cached", "live"))
    assert max(float((cached[name] - live[name]).abs().max()) for name in cached) < 1e-5


@pytest.mark.parametrize("term", ["hint", "distance", "srrl", "minilm", "crd", "listnet"])
def test_terms_on_features_and_relations_stand_beside_that_on_numbers(house, term):
    words = [*house.words, f"teacher.run={house.teacher}", f"+loss/term@loss.terms.extra={term}"]
    result = train(small("distill", words))
    assert result.changed and torch.tensor(result.losses).isfinite().all()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["module=vat"], "module=vat computes with probabilities"),
        (["module=mutual", "teacher=peer", "+model@teacher.peers.a=bert_tiny"], "module=mutual computes with"),
        (["teacher=zero_shot", "teacher.path=x"], "teacher=zero_shot computes with probabilities"),
        (["+schedule@loss.alpha=confidence"], "numbers have no probabilities"),
        (["metric=[classification]"], r"metric=classification does not measure what task=regression predicts"),
        (["metric=[fidelity]"], "choose metric=number_fidelity"),
        (["task.center=100"], "set task.center="),
        (["datamodule.label_column=text"], "which is no number"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_does_not_fit_numbers_is_one_sentence(house, words, error):
    own = [f"teacher.run={house.teacher}"] if not any(word.startswith("teacher=") for word in words) else []
    with pytest.raises(UserError, match=error):
        train(small("distill", [*house.words, *own, *words]))


def test_a_teacher_of_classes_or_of_another_unit_is_refused(house, reviews):
    job = small("distill", ["datamodule=table", f"datamodule.path={reviews}", "student.tokenizer=train:wordpiece:200"])
    classes = tiny_teacher(job, Path(house.base.cfg.outputs) / "classes")
    with pytest.raises(UserError, match="has 2 labels, but the task predicts one number a row"):
        train(knob(house.base, f"teacher.run={classes}"))
    with pytest.raises(UserError, match=r"has task.center=0.0, but this task has 0.5"):
        train(knob(house.base, "task.center=0.5"))


def test_no_task_of_classes_reads_fractions_and_few_labels_are_kept(house):
    result = train(small("distill", [*house.words, f"teacher.run={house.teacher}", "datamodule.budget=6"]))
    assert result.changed
    data = build.data(small("distill", [*house.words, "datamodule.budget=6"]).cfg)
    assert data.label_counts == [6] and data.labels == ["number"]
    with pytest.raises(UserError, match="predict them with task=regression"):
        build.data(small("distill", [word for word in house.words if word != "task=regression"]).cfg)


@pytest.mark.slow
def test_the_commands_from_a_table_to_predictions(kdlab, tmp_path):
    path = table(tmp_path / "scores.csv", 160)
    words = ["task=regression", "datamodule=table", f"datamodule.path={path}", "datamodule.label_column=score"]
    words += ["model=bert_tiny", *[f"model.{word}" for word in TINY], "trainer.max_epochs=2", "logger=none"]
    code, _, shown = kdlab("finetune", *words)
    assert code == 0 and "training rows have a number" in shown, shown
    (run,) = Path("outputs/finetune").iterdir()
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"test/mae", "test/rmse", "test/r2", "test/spearman"} <= set(metrics)
    assert "test/majority" not in metrics and json.loads((run / "done.json").read_text())["metric"] == "val/rmse"
    code, out, shown = kdlab("evaluate", f"run={run.name}", "repeats=2", "datamodule=table", f"datamodule.path={path}")
    assert code == 0 and "spearman" in out + shown, shown
    code, _, shown = kdlab("predict", f"run={run.name}", f"path={path}", "file=new.csv")
    rows = list(csv.DictReader(Path("new.csv").read_text().splitlines()))
    assert code == 0 and len(rows) == 160 and all(float(row["predicted"]) == float(row["predicted"]) for row in rows)
    assert set(rows[0]) == {"text", "score", "predicted"} and "in the mean" in shown
