"""Every loss with every kind of task, student and teacher, from disk: each trains, or is refused for a known reason."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from small import crossed, knob, live, nodes, options, shrink, small, tiny_teacher, train

from kdlab.artifact.trained import named
from kdlab.config import build, conf, instantiate
from kdlab.config.job import Job
from kdlab.error import UserError
from kdlab.loss.objective import Objective
from kdlab.outcome import Bernoulli, Categorical

LOSSES, FREEZES = options("loss"), options("freeze")
OTHERS = (
    "seq2seq_tiny",
    "prompted",
    "cnn",
    "cnn_small",
    "hf_image",
    "image_mlp",
    "vit_tiny",
)  # language models, images
STUDENTS = [model for model in options("model") if model not in OTHERS]
MULTI = ["datamodule.multi_label=true"]
TASKS = {
    "single": [], "weights": ["task.class_weights=balanced"], "smoothing": ["task.label_smoothing=0.1"], "head": [],
    "multi": MULTI, "multi-smoothing": [*MULTI, "task.label_smoothing=0.1"], "multi-head": MULTI,
}  # fmt: skip
VARIANTS = [task for task in TASKS if task not in ("single", "multi")]
SPREAD = list(itertools.product(LOSSES, ["single"], STUDENTS, ["cached"]))
SPREAD += list(itertools.product(LOSSES, ["multi"], ["bert_tiny"], ["cached"]))
SPREAD += list(itertools.product(["ce", "kd", "kd_binary", "hint"], VARIANTS, ["bert_tiny"], ["cached"]))
SPREAD += list(itertools.product(LOSSES, ["single"], ["bert_tiny"], ["live"]))
FAST = {("bert_tiny", "cached"), ("linear", "cached"), ("layers_of_teacher", "cached")}
CASES = [case if case[2:] in FAST else pytest.param(*case, marks=pytest.mark.slow) for case in SPREAD]


class House:
    """Everything that the matrix crosses, each composed once."""

    def __init__(self, folder: Path, data: dict[bool, Path]) -> None:
        self.option = nodes("loss", "model", "freeze", "optimizer", "scheduler", "task/head")
        base = small("distill", ["datamodule=table", "datamodule.path=null", f"outputs={folder}"])
        base = crossed(base, student=shrink(self.option["model"]["bert_tiny"]))
        self.task: dict[str, Job] = {}
        for name, words in TASKS.items():
            multi = name.startswith("multi")
            job = self.task[name] = knob(base, f"datamodule.path={data[multi]}", *words)
            teacher = folder / "teacher" / ("multi" if multi else "single")
            job.cfg.teacher.run = str(teacher if teacher.exists() else tiny_teacher(job, teacher))
            if name.endswith("head"):
                job.cfg.task.head = self.option["task/head"]["mlp"]
        self.data = {name: build.data(job.cfg) for name, job in self.task.items()}
        self.teacher = {name: named(job.cfg.teacher.run, folder).model for name, job in self.task.items()}

    def job(self, loss: str, task: str = "single", student: str = "bert_tiny", teacher: str = "cached") -> Job:
        base = self.task[task]
        node = shrink(self.option["model"][student], base.cfg.teacher.run)
        job = crossed(base, loss=self.option["loss"][loss], student=node)
        if teacher == "live":
            live(job)
        return job


@pytest.fixture(scope="module")
def house(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("house")
    rows = reviews.read_text().splitlines()
    several = [line.rsplit(",", 1) for line in rows[1:]]
    marked = [f"{text},{label}{';new' if number % 3 == 0 else ''}" for number, (text, label) in enumerate(several)]
    (folder / "several.csv").write_text("\n".join([rows[0], *marked]))
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield House(folder, {False: reviews, True: folder / "several.csv"})


def misfit(house: House, job: Job, task: str) -> bool:
    """Whether a term is for the other kind of labels."""
    outcome = Bernoulli() if house.data[task].multi_label else Categorical()
    return any(not isinstance(outcome, term.outcome) for term in instantiate.make(job.cfg.loss).terms.values())


def lonely(job: Job) -> bool:
    """Whether a term needs several teachers, and has one."""
    return any(term.several_teachers for term in instantiate.make(job.cfg.loss).terms.values())


def needs_width(job: Job) -> bool:
    """Whether a term takes the student's features at the teacher's width only."""
    return any(term.same_width for term in instantiate.make(job.cfg.loss).terms.values())


def demanding(job: Job) -> bool:
    """Whether a loss reads more of the student than its logits, which not every student can show."""
    loss: Objective = instantiate.make(job.cfg.loss)
    return loss.maps_layers or bool(loss.taps["student"])


@pytest.mark.sampled(10, tried=60)
@pytest.mark.parametrize(("loss", "task", "student", "teacher"), CASES, ids=lambda value: value)
def test_every_combination_trains_or_is_refused_with_a_reason(house, loss, task, student, teacher):
    """A transformer can learn by every loss of its task; a perceptron may lack what a loss reads, and is told so.

    What has no adapter needs a student of the teacher's width.
    """
    job = house.job(loss, task, student, teacher)
    if misfit(house, job, task) or lonely(job):
        known = "does not fit a (multi|single)-label task" if misfit(house, job, task) else "several teachers needs two"
        with pytest.raises(UserError, match=known):
            train(job)
        return
    try:
        result = train(job)
    except UserError as reason:
        narrow = needs_width(job) and student not in ("simkd", "hf", "layers_of_teacher")
        assert (narrow and "model@student" in str(reason)) or (student in ("linear", "mlp") and demanding(job)), reason
        return
    assert len(result.losses) == 3
    assert torch.tensor(result.losses).isfinite().all()
    assert result.changed


def test_what_is_refused_is_what_cannot_be(house):
    """A matrix that accepted every refusal would pass without training anything."""
    assert misfit(house, house.job("kd", "multi"), "multi") and misfit(house, house.job("kd_binary"), "single")
    for student, reason in (
        ("linear", "has no tap"),
        ("mlp", "must agree in all but the width"),
        ("seq2seq_tiny", "set task=seq2seq"),
    ):
        with pytest.raises(UserError, match=reason):
            train(house.job("hint", "single", student))


@pytest.mark.parametrize("freeze", FREEZES)
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_learns(house, freeze):
    job = knob(crossed(house.job("kd"), freeze=house.option["freeze"][freeze]), "trainer.max_steps=6")
    job.cfg.scheduler = house.option["scheduler"]["constant"]
    result = train(job)
    learner = result.learner
    cut = learner.blocks
    names = {id(parameter): name for name, parameter in learner.model.named_parameters()}
    for step, (old, new) in enumerate(itertools.pairwise([result.before, *result.steps])):
        scales = learner.freezing.scales(len(cut), step / 5)
        for block, scale in zip(cut, scales, strict=True):
            own = [names[id(parameter)] for parameter in block.parameters]
            moved = [name for name in own if not torch.equal(old[name], new[name])]
            assert bool(moved) == (scale > 0), f"step {step}, {block.name}, scale {scale}: {moved}"
            assert set(moved) <= {names[id(parameter)] for parameter in block.learnable}
    learning = {
        name
        for group in learner.trainer.optimizers[0].param_groups
        for name in map(names.get, map(id, group["params"]))
    }
    ever = {
        names[id(p)]
        for index, block in enumerate(cut)
        for p in block.learnable
        if any(learner.freezing.scales(len(cut), step / 5)[index] for step in range(6))
    }
    assert learning == ever, "what never learns has no place in the optimizer"


@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_every_optimizer_takes_in_blocks_that_begin_to_learn_later(house, optimizer):
    node = house.option["optimizer"][optimizer]
    job = knob(
        crossed(house.job("kd"), freeze=house.option["freeze"]["gradual"], optimizer=node), "trainer.max_steps=6"
    )
    assert train(job).changed


@pytest.mark.sampled(4, tried=18)
@pytest.mark.parametrize("loss", LOSSES)
def test_micro_batches_give_the_weights_of_the_whole_batch(house, loss):
    """The sum over micro-batches is the step; only what relates the rows of a batch to each other cannot be cut."""
    if lonely(house.job(loss)):
        pytest.skip("needs an ensemble")
    task = "multi" if misfit(house, house.job(loss), "single") else "single"
    student = "simkd" if needs_width(house.job(loss)) else "bert_tiny"
    job = knob(house.job(loss, task, student), "trainer.gradient_clip_val=null")
    job.cfg.optimizer = house.option["optimizer"]["sgd"]
    relating = {name: term for name, term in instantiate.make(job.cfg.loss).terms.items() if not term.row_wise}
    for name, term in relating.items():
        job = knob(job, f"loss.terms.{name}.weight={1000 * term.weight}")  # or rounding could hide what it does
    whole = train(job)
    parts = train(knob(job, "trainer.accumulate_grad_batches=4"))
    assert len(parts.losses) == 4 * len(whole.losses)
    difference = max(float((whole.after[name] - parts.after[name]).abs().max()) for name in whole.after)
    assert (difference > 1e-6) if relating else (difference < 1e-6)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss in ("hint", "minilm", "minilmv2", "tinybert")])
def test_a_stored_teacher_gives_the_weights_of_a_live_one(house, loss):
    """What has a vector a token is stored by token, whatever the padding of the batch that it is read for."""
    cached, live = (train(house.job(loss, teacher=teacher)).after for teacher in ("cached", "live"))
    assert max(float((cached[name] - live[name]).abs().max()) for name in cached) < 1e-6
