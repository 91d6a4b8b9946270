"""Metrics and optimizers on disk can be made."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torchmetrics import MeanMetric

from kdlab.config.build import evaluators
from kdlab.error import UserError
from kdlab.task.causal_lm import CausalLM
from kdlab.task.regression import Regression
from kdlab.task.sequence_classification import SequenceClassification

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("path", sorted(CONF.glob("metric/*.yaml")), ids=lambda p: p.stem)
def test_every_metric_is_made_from_the_labels(path):
    node = OmegaConf.load(path)
    task = {"causal_lm": CausalLM, "regression": Regression}.get(path.stem, SequenceClassification)()
    found = evaluators(node, task, ["a", "b"])
    assert [name for name, _ in found.items()] == [path.stem] * (path.stem != "none")
    assert set(found.primaries()) <= set(found.higher_is_better)


def test_a_metric_of_another_task_is_refused():
    for name, task in (
        ("classification", CausalLM()),
        ("causal_lm", SequenceClassification()),
        ("classification", Regression()),
        ("regression", SequenceClassification()),
    ):
        with pytest.raises(UserError, match=f"metric={name} does not measure"):
            evaluators(OmegaConf.load(CONF / f"metric/{name}.yaml"), task)


def test_a_single_metric_is_asked_for_its_name():
    node = OmegaConf.create({"_target_": f"{__name__}.alone"})
    with pytest.raises(
        UserError, match=r"alone returns a MeanMetric, but metric needs a torchmetrics.MetricCollection"
    ):
        evaluators(node, SequenceClassification())


def alone(labels, multi_label):
    return MeanMetric()


@pytest.mark.parametrize("path", sorted(CONF.glob("optimizer/*.yaml")), ids=lambda p: p.stem)
def test_every_optimizer_lowers_a_loss_and_takes_groups(path):
    torch.manual_seed(0)
    model, x = torch.nn.Linear(3, 2), torch.randn(8, 3)
    config = OmegaConf.load(path)
    assert {"lr", "weight_decay"} <= set(config)
    groups = [{"params": [p], "lr": 1e-2, "weight_decay": 0.0, "name": n} for n, p in model.named_parameters()]
    optimizer = instantiate(config)(groups)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(model(x).square().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["calibration", "robustness", "ood", "groups", "attribution"])
@pytest.mark.parametrize("task", [CausalLM(), Regression()], ids=["causal_lm", "regression"])
def test_what_compares_decisions_is_refused_where_there_are_no_classes(name, task):
    with pytest.raises(UserError, match=f"metric={name} .*task={task.kind}"):
        evaluators(OmegaConf.load(CONF / f"metric/{name}.yaml"), task)
