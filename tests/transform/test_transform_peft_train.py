"""Runs with peft: what moves, what a run leaves on disk, and that it can teach, be evaluated and go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from small import crossed, knob, nodes, options, shrink, small, tiny_teacher, train

from kdlab.artifact.trained import named
from kdlab.config import build, conf
from kdlab.error import UserError
from kdlab.model.block import blocks
from kdlab.transform.save import NOTE

METHODS = [name for name in options("peft") if name != "none"]


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("peft")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        job = small("distill", ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}"])
        option = nodes("model", "freeze", "loss", "peft")
        job = knob(crossed(job, student=shrink(option["model"]["bert_tiny"])), "optimizer.lr=1e-2")
        job.cfg.scheduler = {"_target_": "kdlab.schedule.constant.Constant", "value": 1.0}
        job.cfg.teacher.run = str(tiny_teacher(job, folder / "teacher"))
        yield job, option


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize("loss", ["kd", "tinybert", "minilmv2"])
@pytest.mark.parametrize("name", METHODS)
def test_only_what_is_added_and_the_head_move_whatever_the_loss_reads(base, name, loss):
    job, option = base
    result = train(crossed(job, peft=option["peft"][name], loss=option["loss"][loss]))
    model = result.learner.model
    plain = build.model(job.cfg.student, result.learner.task, build.data(job.cfg))
    bare = {name for name, _ in plain.named_parameters()}
    head = {id(parameter) for parameter in blocks(model)[-1].parameters}
    names = {key: id(value) for key, value in model.named_parameters()}
    added = {key for key in names if key not in bare and ".base_layer." not in key}
    moved = {key for key in result.before if not torch.equal(result.before[key], result.after[key])}
    assert added <= moved <= added | {key for key, one in names.items() if one in head}
    assert any(names[key] in head for key in moved)
    group = [one for group in result.learner.trainer.optimizers[0].param_groups for one in group["params"]]
    learning = {id(parameter) for parameter in group} & set(names.values())
    assert learning == {names[key] for key in added} | head


def test_layers_that_are_frozen_keep_what_was_added_to_them(base):
    job, option = base
    job = crossed(job, peft=option["peft"]["lora"], freeze=option["freeze"]["bottom"])
    result = train(knob(job, "freeze.layers=1"))
    moved = {key for key in result.before if not torch.equal(result.before[key], result.after[key])}
    assert any("layer.1" in key for key in moved) and not any("layer.0" in key for key in moved)
    rows = {row["block"]: row["trainable"] for row in result.learner.table()}
    assert rows["embedding"] == rows["layer.0"] == 0 and rows["layer.1"] == 2 * 2 * 16 * 8


@pytest.mark.parametrize("freeze", ["head", "layernorm", "bitfit"])
def test_a_policy_that_lets_nothing_added_learn_is_refused(base, freeze):
    job, option = base
    with pytest.raises(UserError, match=r"lets nothing learn .* set freeze=none"):
        train(crossed(job, peft=option["peft"]["lora"], freeze=option["freeze"][freeze]))


@pytest.mark.parametrize("model", ["mlp", "linear"])
def test_a_student_without_attention_is_refused(base, model):
    job, option = base
    with pytest.raises(UserError, match="peft=none"):
        train(crossed(job, peft=option["peft"]["lora"], student=shrink(option["model"][model])))


@pytest.mark.slow
def test_dropout_before_the_low_rank_maps_is_drawn_from_the_seed(base):
    job, option = base
    job = knob(crossed(job, peft=option["peft"]["lora"]), "peft.dropout=0.5")
    one, two = train(job), train(job)
    assert one.losses == two.losses
    assert train(knob(job, "peft.dropout=0.0")).losses != one.losses


def runs(verb: str) -> list[Path]:
    return sorted(path.parent for path in Path("outputs", verb).glob("*/done.json"))


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", METHODS)
def test_a_tuned_run_can_be_loaded_teach_and_be_evaluated(kdlab, tiny, name):
    """Finetuned with peft, asked live and from the store; the student is tuned too."""
    from transformers import AutoModelForSequenceClassification

    small = [word for word in tiny["finetune"] if not word.startswith("trainer.max_epochs")] + ["trainer.max_epochs=1"]
    code, _, err = kdlab("finetune", *small, f"peft={name}", "optimizer.lr=1e-2", "logger=none")
    assert code == 0, err
    (run,) = runs("finetune")
    trained = named(run.name, Path("outputs"))
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    with torch.no_grad():
        said = trained.model.eval()(input_ids=ids).logits
        plain = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()(input_ids=ids).logits
    whole = not (run / "model" / NOTE).exists()
    assert torch.allclose(said, plain, atol=1e-6) == whole
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 < metrics["model/trainable_parameters"] < metrics["model/parameters"] / 2

    words = [word for word in tiny["distill"] if not word.startswith(("teacher.recipe", "trainer.max_epochs"))]
    words += [f"teacher.run={run.name}", "trainer.max_epochs=1", f"peft={name}", "logger=none"]
    for teacher in ("cached", "live"):
        code, _, err = kdlab("distill", *words, f"teacher={teacher}")
        assert code == 0, err
    for student in runs("distill"):
        taught = json.loads((student / "metrics.json").read_text())
        assert taught["teacher/test/accuracy"] == pytest.approx(metrics["test/accuracy"])
    code, _, err = kdlab("evaluate", f"run={runs('distill')[0].name}", "repeats=1")
    assert code == 0, err
    (report,) = Path("outputs/evaluate").glob("*/report.json")
    distilled = json.loads(report.read_text())["models"]["distilled"]["accuracy"]
    assert distilled == pytest.approx(json.loads((runs("distill")[0] / "metrics.json").read_text())["test/accuracy"])


@pytest.mark.slow
def test_a_model_that_needs_its_run_says_so_without_it(kdlab, tiny):
    code, _, err = kdlab("finetune", *tiny["finetune"], "peft=adapter", "trainer.max_epochs=1", "logger=none")
    assert code == 0, err
    (run,) = runs("finetune")
    Path("moved").mkdir()
    (run / "model").rename("moved/model")
    with pytest.raises(UserError, match="name the whole run directory"):
        _ = named("moved/model", Path("outputs")).model


@pytest.mark.slow
def test_a_run_that_was_stored_when_peft_was_no_transform_is_still_read(kdlab, tiny):
    """Its config names code that moved, has no list of transforms, and the note beside its weights has another name."""
    words = [word for word in tiny["finetune"] if not word.startswith("trainer.max_epochs")]
    code, _, err = kdlab("finetune", *words, "peft=adapter", "peft.size=4", "trainer.max_epochs=1", "logger=none")
    assert code == 0, err
    (run,) = runs("finetune")
    config = OmegaConf.load(run / "config.yaml")
    config.peft._target_ = "kdlab.peft.adapter.Adapter"
    del config["transform"]
    OmegaConf.save(config, run / "config.yaml")
    (run / "model" / NOTE).rename(run / "model" / "peft.json")
    before = json.loads((run / "metrics.json").read_text())["test/accuracy"]
    code, _, err = kdlab("evaluate", f"run={run.name}", "repeats=1")
    assert code == 0, err
    (report,) = Path("outputs/evaluate").glob("*/report.json")
    assert json.loads(report.read_text())["models"]["trained"]["accuracy"] == pytest.approx(before)
    Path("texts.csv").write_text("text\na good film\n")
    code, out, err = kdlab("predict", f"run={run.name}", "path=texts.csv")
    assert code == 0 and "a good film" in out, err
    code, _, err = kdlab("report")
    assert code == 0, err
    words = [word for word in tiny["distill"] if not word.startswith(("teacher.recipe", "trainer.max_epochs"))]
    code, _, err = kdlab("distill", *words, f"teacher.run={run.name}", "trainer.max_epochs=1", "logger=none")
    assert code == 0, err
    (student,) = runs("distill")
    assert json.loads((student / "metrics.json").read_text())["teacher/test/accuracy"] == pytest.approx(before)
