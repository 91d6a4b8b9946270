"""Metrics and optimizers on disk can be made."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torchmetrics import MetricCollection

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("path", sorted(CONF.glob("metric/*.yaml")), ids=lambda p: p.stem)
def test_every_metric_is_made_from_the_labels(path):
    assert isinstance(instantiate(OmegaConf.load(path))(labels=["a", "b"], multi_label=False), MetricCollection)


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
