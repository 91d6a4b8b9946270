"""Every term on two real processes: what looks at rows one by one is the term of the whole batch, value and gradient.

What relates the rows of a batch to each other relates those of a process: nothing is gathered over ranks, so two
processes are what two micro-batches are, the mean over both, and not the whole batch.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pair import Net, alone

from kdlab.config import conf

TERMS = sorted(path.stem for path in (conf() / "loss/term").glob("*.yaml"))


@pytest.fixture(scope="module")
def terms(tmp_path_factory) -> dict[str, dict]:
    """Every term's node, resolved; composed in one go."""
    folder = tmp_path_factory.mktemp("terms")
    (folder / "root.yaml").write_text(f"defaults: [loss: ce, _self_]\nhydra: {{searchpath: ['file://{conf()}']}}\n")
    with initialize_config_dir(str(folder), version_base="1.3"):
        loss = compose("root", [f"+loss/term@loss.terms.{name}={name}" for name in TERMS]).loss
    return OmegaConf.to_container(loss, resolve=True)["terms"]


@pytest.fixture(scope="module")
def pair(terms, tmp_path_factory) -> list[dict]:
    """What each of two processes found, for all terms."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "terms.json").write_text(json.dumps(terms))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(Path(__file__).with_name("pair.py"))]
    places = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    ranks = [
        subprocess.Popen(
            [*command, str(rank), port, str(folder / "terms.json"), str(folder / "found")], env=places,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [rank.communicate(timeout=120)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(said)[-3000:]
    return [torch.load(folder / f"found.{rank}", weights_only=True) for rank in range(2)]


@pytest.mark.sampled(3, tried=30)
@pytest.mark.parametrize("name", TERMS)
def test_two_processes_give_the_value_and_gradient_that_are_promised(terms, pair, name):
    net = Net(terms[name])
    row_wise = net.loss.terms["term"].row_wise
    value, slope = alone(terms[name], parts=1 if row_wise else 2)
    assert any(one.abs().sum() > 0 for one in slope.values())
    for found in (one[name] for one in pair):
        torch.testing.assert_close(found["value"], value)
        torch.testing.assert_close(found["gradients"], slope)
    if not row_wise and not list(net.buffers()):  # a queue relates rows to those of earlier steps only
        whole, _ = alone(terms[name], parts=1)
        assert (whole - value).abs() > 1e-9, "it looks at rows one by one, and may say so with row_wise = True"
