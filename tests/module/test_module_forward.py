"""Cached activations of frozen layers change nothing but rounding."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hydra import initialize_config_dir
from small import crossed, knob, nodes, shrink, small, tiny_teacher, train
from torch import nn

from kdlab.batch import Batch
from kdlab.config import build, conf
from kdlab.model.family.stack import Stack
from kdlab.module.forward import CachedPrefixForward, FullForward, choose_forward
from kdlab.plan import distill
from kdlab.task.sequence_classification import SequenceClassification


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("forward")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        job = small("distill", ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}"])
        option = nodes("model", "freeze", "loss")
        job = crossed(job, student=shrink(option["model"]["bert_tiny"]))
        job.cfg.student.dropout = 0.1
        job.cfg.teacher.run = str(tiny_teacher(job, folder / "teacher"))
        yield job, option, folder


def made(base, freeze: str, *words: str, steps: float = 3.0, taps=()):
    """A rule, its data and the forward pass of its student."""
    job, option, folder = base
    job = knob(crossed(job, freeze=option["freeze"][freeze]), *words)
    data = build.data(job.cfg)
    torch.manual_seed(0)
    learner = distill.prepare(job, data).learner
    found = choose_forward(learner.model, learner.freezing, learner.task, data, taps, folder / "store", steps)
    return learner, data, found


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["head", "bottom"])
def test_cached_activations_give_the_output_of_the_full_pass_in_any_batch(base, freeze):
    learner, data, found = made(base, freeze)
    assert isinstance(found, CachedPrefixForward)
    for batch in [*data.train_dataloader(), *data.test_dataloader()]:
        learner.model.eval()
        whole = learner.task.read(learner.model, batch, ["pooled"])
        again = found.read(learner.task, batch, ["pooled"])
        torch.testing.assert_close(again.logits, whole.logits, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(again.taps["pooled"], whole.taps["pooled"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_frozen_layers_are_not_run(base):
    learner, data, found = made(base, "head")
    layers = learner.model.bert.encoder.layer
    for layer in layers:
        layer.register_forward_hook(lambda *_: pytest.fail("a frozen layer was run"))
    found.read(learner.task, next(iter(data.train_dataloader())))
    assert learner.model.bert.encoder.layer is layers, "the model is whole again"


def test_it_learns_the_same_weights(base):
    """Step by step in the real training loop, dropout above the cut and all."""
    job, option, folder = base
    job = knob(crossed(job, freeze=option["freeze"]["bottom"]), "freeze.layers=1", "trainer.max_steps=12")
    whole = train(job)

    class Begin(pytest.importorskip("lightning.pytorch").Callback):
        def on_fit_start(self, trainer, learner):
            learner.forward_pass = choose_forward(
                learner.model, learner.freezing, learner.task, trainer.datamodule, (), folder / "store", 3.0
            )
            assert isinstance(learner.forward_pass, CachedPrefixForward)

    again = train(job, Begin())
    assert again.losses == pytest.approx(whole.losses, rel=1e-5)
    for name, weight in whole.after.items():
        torch.testing.assert_close(again.after[name], weight, rtol=1e-4, atol=1e-5)
    assert again.changed


@pytest.mark.parametrize(
    ("freeze", "case"),
    [("none", {}), ("embeddings", {}), ("gradual", {}), ("head", {"steps": 1.0}), ("head", {"taps": ["hidden.0"]})],
)
def test_layers_that_cannot_be_cached_run(base, freeze, case):
    assert isinstance(made(base, freeze, **case)[2], FullForward)


def test_another_seed_is_another_bottom(base):
    one, _, first = made(base, "head")
    torch.nn.init.normal_(one.model.bert.encoder.layer[0].output.dense.weight)
    data = made(base, "head")[1]
    other = choose_forward(one.model, one.freezing, one.task, data, (), base[2] / "store", 3.0)
    assert other.store.folder != first.store.folder


class Net(nn.Module):
    """Layers in a sequence, of which the forward pass calls the whole."""

    family = Stack("layers")

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
        self.classifier = nn.Linear(4, 2)

    def forward(self, features):
        return self.classifier(self.layers(features))


def test_a_sequence_of_layers_runs_from_the_first_that_learns():
    model, batch = Net(), Batch(torch.arange(3), {"features": torch.randn(3, 4)})
    task = SequenceClassification()
    task.prepare(["bad", "good"], [1, 1])
    below = model.layers[:2](batch.inputs["features"]).detach()
    store = SimpleNamespace(gather=lambda *_: below.numpy(), dtype=lambda _: "float32")
    found = CachedPrefixForward(model, 2, store, "module:layers.1", returns_tuple=False)
    full = task.read(model, batch).logits
    for layer in model.layers[:2]:
        layer.register_forward_hook(lambda *_: pytest.fail("a frozen layer ran"))
    torch.testing.assert_close(found.read(task, batch).logits, full)
    assert len(model.layers) == 3 and isinstance(model.layers, nn.Sequential)
