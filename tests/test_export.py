"""What a finished run leaves is the student alone: adapters are trained and checkpointed, and never exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from safetensors.torch import load_file
from small import crossed, nodes, options, shrink, small, tiny_teacher

from kdlab.artifact.trained import named
from kdlab.config import build, conf, instantiate
from kdlab.model.save import save
from kdlab.outcome import Categorical
from kdlab.plan import distill


def saved(folder: Path) -> set[str]:
    """The names of the tensors in a model directory."""
    return set(load_file(folder / "model.safetensors"))


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("export")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        job = small("distill", ["teacher=live", "datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}"])
        option = nodes("loss", "model")
        job = crossed(job, student=shrink(option["model"]["bert_tiny"]))
        job.cfg.teacher.run = str(tiny_teacher(job, folder / "teacher"))
        yield job, option, build.data(job.cfg)


@pytest.mark.sampled(4, tried=37)
@pytest.mark.parametrize("loss", options("loss"))
def test_what_is_exported_has_the_students_keys_and_no_adapters(base, loss, tmp_path):
    job, option, data = base
    job = crossed(job, loss=option["loss"][loss])
    terms = list(instantiate.make(job.cfg.loss).terms.values())
    if any(term.several_teachers or not issubclass(Categorical, term.outcome) for term in terms):
        pytest.skip("needs an ensemble, several labels a row or a number")
    if any(term.same_width for term in terms):
        job = crossed(job, student=shrink(option["model"]["simkd"]))
    learner = distill.prepare(job, data).learner
    teacher = named(job.cfg.teacher.run, Path(job.cfg.outputs)).model
    alone = build.model(job.cfg.student, build.task(job.cfg, data), data, teacher=teacher)
    exported = saved(save(learner.model, data.tokenizer, tmp_path / "model"))
    assert exported == saved(save(alone, data.tokenizer, tmp_path / "alone"))
    assert {f"model.{name}" for name in exported} == {n for n in learner.state_dict() if n.startswith("model.")}
    learning = {id(parameter) for group in learner.extra_groups() for parameter in group["params"]}
    own = {id(parameter) for parameter in learner.model.parameters()}
    assert not learning & own and learning == {
        id(parameter) for name, parameter in learner.named_parameters() if name.startswith("loss.")
    }


@pytest.mark.slow
def test_a_finished_run_with_adapters_on_every_layer_leaves_the_student_alone(kdlab, tiny):
    wide = [word for word in tiny["distill"] if not word.startswith(("student.hidden_size", "trainer.max_epochs"))]
    words = [*wide, "student.hidden_size=8", "trainer.max_epochs=1", "teacher=live", "loss=tinybert", "logger=none"]
    code, _, err = kdlab("distill", *words, "callback=default", "+loss/term@loss.terms.vid=vid")
    assert code == 0, err
    (run,) = Path("outputs/distill").glob("reviews-*")
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    adapters = {name for name in checkpoint if name.startswith("loss.")}
    assert {name.split(".")[2] for name in adapters} == {"embedding", "hidden", "vid"}
    assert {f"model.{name}" for name in saved(run / "model")} == {n for n in checkpoint if n.startswith("model.")}
    assert not any("loss" in name or "adapter" in name for name in saved(run / "model"))
    code, _, err = kdlab("evaluate", f"run={run.name}", "repeats=1")
    assert code == 0, err


@pytest.mark.slow
def test_a_student_with_the_teachers_classifier_is_distilled_saved_and_evaluated(kdlab, tiny):
    inner = [word.replace("student.", "student.inner.") for word in tiny["distill"]]
    words = [word for word in inner if not word.startswith("trainer.max_epochs")]
    words += ["student.inner.hidden_size=8", "trainer.max_epochs=1", "model@student=simkd", "loss=simkd", "logger=none"]
    code, _, err = kdlab("distill", *words)
    assert code == 0, err
    (run,) = Path("outputs/distill").glob("reviews-simkd-simkd-*")
    (teacher,) = Path("outputs/finetune").glob("reviews-*")
    mine, theirs = (load_file(folder / "model/model.safetensors") for folder in (run, teacher))
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.equal(mine[name], theirs[name]), "the teacher's, bit for bit"
    code, out, err = kdlab("evaluate", f"run={run.name}", "repeats=1")
    assert code == 0, err
    assert "distilled" in out and "untrained" in out
    code, _, err = kdlab("distill", *words, "model@student.inner=mlp")
    assert code == 2 and "student.inner.hidden_size" in err, (
        "what is inside is a group of its own, and its keys are checked"
    )
    code, _, err = kdlab(
        "distill", *[word.replace("student.inner.", "student.") for word in words], "model@student=bert_tiny"
    )
    assert code == 2 and "model@student=simkd" in err
