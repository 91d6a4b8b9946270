"""Every loss and freezing policy on images, from disk: each trains, or is refused for a known reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from picture import folder_of_images
from small import crossed, knob, live, nodes, options, small, train

from kdlab.artifact import overlap
from kdlab.artifact.run import Run
from kdlab.config import build, conf, instantiate
from kdlab.config.job import Job
from kdlab.error import UserError
from kdlab.file import write_json
from kdlab.model.save import save
from kdlab.outcome import Categorical

SHAPES = {
    "cnn_small": {"widths": [4, 6], "depth": 1, "dropout": 0.0},
    "image_mlp": {"width": 8, "depth": 3, "dropout": 0.0},
    "vit_tiny": {"hidden_size": 8, "layers": 2, "heads": 2, "intermediate_size": 16, "patch_size": 4},
}
TEACHERS = {
    "cnn_small": {"widths": [6, 8, 8], "depth": 1},
    "image_mlp": {"width": 12, "depth": 4},
    "vit_tiny": {"hidden_size": 12, "layers": 3, "heads": 2, "intermediate_size": 16, "patch_size": 4},
}
WORDS = ["datamodule=images", "datamodule.size=8", "datamodule.channels=1"]
LACKING = {  # of students and teachers of a kind, the losses that read what they do not have
    "cnn_small": {"minilm", "minilmv2", "tinybert"},  # attention
    "image_mlp": {"minilm", "minilmv2", "tinybert", "at", "fsp", "ickd", "nst"},  # maps
    "vit_tiny": set(),
}  # fmt: skip


class House:
    """What the matrix crosses: the options, and a teacher of each kind."""

    def __init__(self, folder: Path) -> None:
        self.option = nodes("loss", "model", "freeze")
        path = folder_of_images(folder / "images")
        words = [*WORDS, f"datamodule.path={path}", "model@student=cnn_small", f"outputs={folder}"]
        self.base = small("distill", words)
        self.data = build.data(self.base.cfg)
        self.teachers = {kind: self._teacher(kind, folder / f"teacher_{kind}") for kind in SHAPES}

    def _teacher(self, kind: str, folder: Path) -> Path:
        words = [*WORDS, f"datamodule.path={self.base.cfg.datamodule.path}", f"model={kind}"]
        job = small("finetune", [*words, *[f"model.{key}={value}" for key, value in TEACHERS[kind].items()]])
        task = build.task(job.cfg, self.data)
        torch.manual_seed(1)
        model = build.model(job.cfg.model, task, self.data)
        run = Run(folder)
        folder.mkdir()
        run.begin(job.config, job.overrides)
        save(model, self.data.processor, folder / "model")
        write_json(folder / "model" / "labels.json", list(self.data.labels))
        overlap.write(folder, self.data)
        run.finish(None, "", 0.0, {}, {})
        return folder

    def job(self, loss: str, kind: str = "cnn_small", teacher: str = "cached") -> Job:
        student = self.option["model"][kind].copy()
        for key, value in SHAPES[kind].items():
            student[key] = value
        job = crossed(self.base, loss=self.option["loss"][loss], student=student)
        job.cfg.teacher.run = str(self.teachers[kind])
        if teacher == "live":
            live(job)
        return job


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(str(conf()), version_base="1.3"):
        patch.setenv("KDLAB_CACHE", str(folder / "cache"))
        yield House(folder)


CASES = [(loss, kind) for loss in options("loss") for kind in SHAPES]


@pytest.mark.sampled(10, tried=67)
@pytest.mark.parametrize(("loss", "kind"), CASES, ids=lambda value: value)
def test_every_loss_trains_on_images_or_is_refused_with_a_reason(house, loss, kind):
    job = house.job(loss, kind)
    terms = instantiate.make(job.cfg.loss).terms.values()
    reasons = {
        "does not fit a": any(not issubclass(Categorical, term.outcome) for term in terms),
        "several teachers": any(term.several_teachers for term in terms),
        "model@student=simkd": any(term.same_width for term in terms),
    }
    try:
        result = train(job)
    except UserError as problem:
        known = [reason for reason, holds in reasons.items() if holds]
        words = ("has no tap", "reads a tap", "needs a vector for each")
        lacks = loss in LACKING[kind] and any(word in str(problem) for word in words)
        assert lacks or any(reason in str(problem) for reason in known), problem
        return
    assert loss not in LACKING[kind]
    assert len(result.losses) == 3
    assert torch.tensor(result.losses).isfinite().all()
    assert result.changed


@pytest.mark.sampled(4, tried="all")
@pytest.mark.parametrize("freeze", options("freeze"))
def test_what_is_frozen_stays_and_the_rest_learns(house, freeze):
    job = crossed(house.job("kd"), freeze=house.option["freeze"][freeze])
    result = train(knob(job, "trainer.max_steps=4"))
    learner = result.learner
    names = {id(parameter): name for name, parameter in learner.model.named_parameters()}
    learning = {names[id(parameter)] for block in learner.blocks for parameter in block.learnable}
    moved = {name for name in names.values() if not torch.equal(result.before[name], result.after[name])}
    assert moved and moved <= learning


@pytest.mark.parametrize("loss", ["kd", "at", "hint", "crd"])
def test_a_stored_teacher_gives_the_weights_of_a_live_one(house, loss):
    built, live, stored = (train(house.job(loss, teacher=teacher)).after for teacher in ("cached", "live", "cached"))
    assert all(torch.equal(built[name], stored[name]) for name in built)  # the second run does not load the teacher
    cached = stored
    assert max(float((cached[name] - live[name]).abs().max()) for name in cached) < 1e-5


@pytest.mark.parametrize(
    "words",
    [
        ["model@student=vit_tiny", "student.hidden_size=8", "student.layers=2", "student.heads=2", "peft=lora"],
        ["datamodule.per_class=2", "loss.alpha=0.5"],
        ["datamodule.budget=6", "datamodule.unlabelled=drop"],
        ["datamodule.tokens_per_batch=40"],
        ["teacher=ema", "model@teacher.model=cnn_small"],
        ["module=mutual", "teacher=peer"],
    ],
    ids=lambda words: words[0],
)
def test_rules_transforms_and_few_labels_work_on_images(house, words):
    cfg = house.base.cfg
    small_cnn = [] if words[0].startswith("model@student") else ["model@student=cnn_small", "student.widths=[4,6]"]
    teacher = (
        []
        if any(word in words for word in ("teacher=ema", "teacher=peer"))
        else [f"teacher.run={house.teachers['cnn_small']}"]
    )
    job = small(
        "distill",
        [*WORDS, f"datamodule.path={cfg.datamodule.path}", f"outputs={cfg.outputs}", *small_cnn, *teacher, *words],
    )
    result = train(job)
    assert result.changed and torch.tensor(result.losses).isfinite().all()


def test_student_and_teacher_read_the_same_images_each_normalised_its_own_way(house):
    """A teacher whose processor is another is given its own pixels, and its answers are those of its own data."""
    job = house.job("kd")
    job.cfg.datamodule.mean, job.cfg.datamodule.size = [0.1], 6
    with_own = build.data(job.cfg)
    view = with_own.read_by(house.teachers["cnn_small"] / "model")
    assert view is not with_own and view.encoded.rows.pixels.shape[-1] == 8
    assert train(job).changed
    with pytest.raises(UserError, match="cannot be compared"):
        train(knob(house.job("hint"), "datamodule.size=6"))
