"""Every knob of a distillation does something and is part of the run's identity, or does nothing and is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file
from small import crossed, knob, nodes, options, same, shrink, small, tiny_teacher, train

from kdlab.config import conf
from kdlab.config.identity import NEUTRAL, identity
from kdlab.config.job import Job

# turned by these, a few steps end at other weights
TURNED = {
    "seed": "1",
    "task.class_weights": "[1, 3]", "task.label_smoothing": "0.1",
    "datamodule.path": "OTHER", "datamodule.max_length": "6", "datamodule.batch_size": "8",
    "datamodule.tokens_per_batch": "256",
    "datamodule.val_fraction": "0.2", "datamodule.test_fraction": "0.2", "datamodule.split_seed": "1",
    "datamodule.train_rows": "40", "datamodule.per_class": "8", "datamodule.budget": "20",
    "teacher.run": "OTHER_TEACHER",
    "student.hidden_size": "24", "student.layers": "1", "student.heads": "1", "student.intermediate_size": "16",
    "student.dropout": "0.1", "student.max_length": "32",
    "loss.alpha": "0.5", "loss.temperature": "4.0",
    "loss.terms.kl.weight": "2.0", "loss.terms.kl.temperature": "1.0", "loss.terms.hint.weight": "0.5",
    "loss.terms.hint.taps.student": "hidden.0", "loss.terms.hint.taps.teacher": "hidden.0",
    "optimizer.lr": "2e-3", "optimizer.weight_decay": "0.5", "optimizer.betas": "[0.5, 0.9]", "optimizer.eps": "1e-2",
    "scheduler.warmup": "0.5", "scheduler.then.start": "0.5", "scheduler.then.end": "0.5",
    "trainer.max_steps": "2", "trainer.gradient_clip_val": "0.01", "trainer.precision": "bf16-mixed",
    "trainer.limit_train_batches": "1",
}  # fmt: skip

# only decide which of the weights on the way are kept, or what is measured of them
MEASURED = {
    "datamodule.eval_batch_size": "7", "datamodule.val_rows": "5", "datamodule.test_rows": "5",
    "trainer.val_check_interval": "2", "trainer.check_val_every_n_epoch": "2", "trainer.limit_val_batches": "1",
    "trainer.limit_test_batches": "1", "trainer.num_sanity_val_steps": "1", "callback.checkpoint.monitor": "val/loss",
    "callback.checkpoint.mode": "max", "metric.cost.repeats": "2",
}  # fmt: skip

# change neither a weight nor the identity
IDLE = {
    "group": "other", "outputs": "elsewhere", "rerun": "true", "download": "true",
    "check": "false", "trust": "[mylab.*]", "allow_overlap": "true", "cluster.threads": "1",
    "callback.checkpoint.keep_optimizer": "true",
    "callback.finite.every_n_steps": "1", "callback.progress.refresh_seconds": "0.1",
    "callback.progress.write_seconds": "0.5",
    "callback.checkpoint.every_n_steps": "2", "callback.lr_monitor.logging_interval": "epoch",
    "trainer.log_every_n_steps": "1", "trainer.profiler": "simple",
}  # fmt: skip

# what is not turned here, and why
ELSEWHERE = {
    "module.seed datamodule.seed datamodule.download datamodule.tokenizer": "follow another key",
    "datamodule.text_column datamodule.label_column datamodule.split_column datamodule.label_names "
    "datamodule.label_separator datamodule.encoding datamodule.separator datamodule.template datamodule.label_map "
    "datamodule.overlap": "say how the file is read",
    "datamodule.unlabelled": "needs rows without labels",
    "start stages": "in tests/fit/test_fit_stage.py",
    "reuse_frozen": "needs frozen layers, and changes rounding only",
    "compile": "changes rounding only, in tests/module/test_module_compiled.py",
    "datamodule.augment datamodule.select datamodule.curriculum": "are options of their own, in tests/datamodule",
    "task.multi_label datamodule.multi_label task.head trainer.accumulate_grad_batches": "in test_matrix.py",
    "teacher.recipe teacher.model teacher.generations teacher.tokens_per_batch student.tokenizer": "decide who teaches",
    "transform": "is a list of options of its own, in tests/transform",
    "student.lr": "is what optimizer.lr is where it is not given",
    "teacher.dtype": "is of taps that kd does not read",
    "teacher.top_k teacher.top_k_dtype teacher.temperatures": "are refused by kd; in test_command_language.py",
    "trainer.accelerator trainer.devices trainer.max_epochs trainer.use_distributed_sampler trainer.deterministic "
    "optimizer.fused": "decide where, how long and with which kernels",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews) -> Iterator[Job]:
    folder = tmp_path_factory.mktemp("knob")
    lines = reviews.read_text().splitlines()
    (folder / "other.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    with initialize_config_dir(str(conf()), version_base="1.3"):
        job = small("distill", ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}", "loss=hint"])
        job = knob(crossed(job, student=shrink(job.cfg.student)), "optimizer.lr=1e-3")
        job.cfg.teacher.run = str(tiny_teacher(job, folder / "teacher"))
        tiny_teacher(job, folder / "other", seed=2)
        job.cfg.student.tokenizer = job.cfg.teacher.run  # one that does not depend on the splits
        yield job


@pytest.fixture(scope="module")
def plain(base) -> dict[str, torch.Tensor]:
    """The weights with every knob as it is."""
    return train(base).after


def turned(base: Job, key: str, value: str) -> Job:
    folder = Path(base.cfg.outputs)
    words = {"OTHER": folder / "other.csv", "OTHER_TEACHER": folder / "other"}
    return knob(base, f"{key}={words.get(value, value)}")


def name(job: Job) -> str:
    return identity(OmegaConf.to_container(job.cfg, resolve=True))


@pytest.mark.sampled(8, tried=30)
@pytest.mark.parametrize("key", TURNED)
def test_a_knob_that_is_turned_changes_the_weights_and_the_identity(base, plain, key):
    job = turned(base, key, TURNED[key])
    assert name(job) != name(base)
    assert not same(train(job).after, plain), f"{key}={TURNED[key]} did nothing"


@pytest.mark.sampled(2, tried="all")
@pytest.mark.parametrize("group", ["freeze", "peft", "penalty", "optimizer", "scheduler"])
def test_every_other_option_of_a_group_changes_the_weights_and_the_identity(base, plain, group):
    mine, seen = OmegaConf.to_container(base.cfg[group]), {name(base)}
    for option, node in nodes(group)[group].items():
        if node == {key: mine.get(key) for key in node} or (group == "optimizer" and option == "adamw"):
            continue  # the one that is chosen already
        if "lr" in node:
            node.lr = 1e-3
        job = crossed(base, **{group: node})
        assert name(job) not in seen
        seen.add(name(job))
        assert not same(train(job).after, plain), f"{group}={option} is the same as the default"
    assert len(seen) == len(options(group))


def each_turned(job, place, values):
    """The weights that a job ends with; each key of the node at ``place``, turned, gives others and another run."""
    first, names = train(job).after, {name(job)}
    assert set(values) == {key for key in OmegaConf.select(job.cfg, place) if key != "_target_"}
    for key, value in values.items():
        other = knob(job, f"{place}.{key}={value}")
        names.add(name(other))
        assert not same(train(other).after, first), f"{place}.{key}={value} did nothing"
    assert len(names) == 1 + len(values)
    return first


BALANCED = {
    "uncertainty": {"lr": "0.1", "weight_decay": "50.0"}, "dwa": {"temperature": "0.5", "periods": "3"},
    "gradnorm": {"asymmetry": "50.0", "lr": "0.1", "weight_decay": "20.0"}, "none": {},
}  # fmt: skip


@pytest.mark.sampled(2)
@pytest.mark.parametrize("option", options("loss/balance"))
def test_every_balance_and_each_of_its_knobs_changes_the_weights_and_the_identity(base, plain, option):
    job = crossed(base, loss=base.cfg.loss.copy())
    job.cfg.loss.balance = nodes("loss/balance")["loss/balance"][option]
    job = knob(job, "trainer.max_steps=6", "optimizer.lr=5e-3")
    first = each_turned(job, "loss.balance", BALANCED[option])
    same_as_before = same(first, train(knob(base, "trainer.max_steps=6", "optimizer.lr=5e-3")).after)
    assert same_as_before == (option == "none")


ORDERED = {
    "length": {"start": "0.5", "until": "1.0", "power": "1.0"},
    "teacher": {"start": "0.5", "until": "1.0", "power": "1.0", "by": "loss", "run": "TEACHER"},
}


@pytest.mark.sampled(0, tried=1)
@pytest.mark.parametrize("option", options("datamodule/curriculum"))
def test_every_curriculum_and_each_of_its_knobs_changes_the_weights_and_the_identity(base, plain, option):
    job = crossed(base, datamodule=base.cfg.datamodule.copy())
    job.cfg.datamodule.curriculum = nodes("datamodule/curriculum")["datamodule/curriculum"][option]
    job = knob(job, "datamodule.batch_size=4", "trainer.max_steps=24")
    other = str(Path(base.cfg.outputs) / "other")
    values = {key: other if value == "TEACHER" else value for key, value in ORDERED[option].items()}
    first = each_turned(job, "datamodule.curriculum", values)
    assert not same(first, train(knob(base, "datamodule.batch_size=4", "trainer.max_steps=24")).after)


@pytest.mark.parametrize("key", IDLE)
def test_what_cannot_change_the_result_is_no_part_of_the_identity(base, key):
    assert name(turned(base, key, IDLE[key])) == name(base)


@pytest.mark.parametrize("key", MEASURED)
def test_what_decides_which_weights_are_kept_is_part_of_the_identity(base, key):
    assert name(turned(base, key, MEASURED[key])) != name(base)


def test_every_key_of_a_composed_config_is_accounted_for(base):
    """A new key belongs into one of the tables above."""
    tables = [*TURNED, *MEASURED, *IDLE, *[key for keys in ELSEWHERE for key in keys.split()], *NEUTRAL]
    for path in leaves(base.cfg):
        if not path.split(".")[-1].startswith("_"):
            assert any(path == key or path.startswith(f"{key}.") for key in tables), path


def leaves(cfg: DictConfig, path: str = "") -> Iterator[str]:
    for key in cfg:
        here = f"{path}.{key}".lstrip(".")
        value = None if OmegaConf.is_interpolation(cfg, key) else cfg[key]
        if isinstance(value, DictConfig) and len(value):
            yield from leaves(value, here)
        else:
            yield here


@pytest.mark.slow
def test_idle_knobs_all_turned_at_once_give_the_same_run_bit_for_bit(kdlab, tiny):
    words = [word for word in tiny["distill"] if not word.startswith("trainer.max_epochs")]
    words += ["trainer.max_epochs=1", "loss=hint", "cluster.threads=1"]  # bits are promised for a number of threads
    idle = [f"{key}={value}" for key, value in IDLE.items() if key not in ("download", "outputs")]
    assert kdlab("distill", *words, "outputs=one", "logger=none")[0] == 0
    code, _, err = kdlab("distill", *words, "outputs=two", "logger=csv", *idle)
    assert code == 0, err
    (one,), (two,) = (list(Path(folder, "distill").glob("reviews-*")) for folder in ("one", "two"))
    assert one.name == two.name
    assert same(load_file(one / "model/model.safetensors"), load_file(two / "model/model.safetensors"))
