"""A loss on one of two processes, under DDP or alone: what tests/loss/test_loss_ddp.py starts twice.

Run as ``python pair.py RANK PORT NODES RESULT``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[1]))
import laws

from kdlab.loss.objective import Objective
from kdlab.loss.term import ModelSpec
from kdlab.outcome import Bernoulli, Real
from kdlab.output import Output

ROWS = 8
MEMBERS = ("logits.one", "logits.three", "logits.two")
Found = dict[str, Any]


class Net(nn.Module):
    """A student whose logits and taps are given ones times a gain that it learns, with the loss and its adapters."""

    def __init__(self, node: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        term = instantiate(node)
        self.loss = Objective(alpha=1.0, terms={"term": term})
        several, wide = term.outcome is Bernoulli, 4 if term.same_width else 6
        classes = 1 if term.outcome is Real else 3
        self.loss.resolve_layers(2, 4)
        sides = [
            ModelSpec(
                dict.fromkeys(self.loss.taps[role], width),
                layers,
                classes,
                laws.HEADS,
                partial(nn.Linear, width, classes),
            )
            for role, width, layers in (("student", 4, 2), ("teacher", wide, 4))
        ]
        self.loss.build_adapters(*sides, rows=2 * ROWS)
        self.double()
        kind: dict[str, Any] = {"classes": classes, "multi_label": several}
        self.said = laws.output(ROWS, seed=0, width=4, taps=sorted(self.loss.taps["student"]), **kind)
        taps = sorted({*self.loss.taps["teacher"], *(MEMBERS if term.several_teachers else ())})
        self.teacher = laws.output(ROWS, seed=1, width=wide, taps=taps, **kind)
        self.gains = nn.ParameterList(torch.ones_like(leaf[0]) for leaf in laws.leaves(self.said).values())

    def forward(self, start: int, stop: int, count: float) -> Tensor:
        """The loss of some rows of the batch; ``count`` as in :class:`kdlab.output.Output`."""
        given = laws.cut(self.said, start, stop, count)
        logits, *taps = (
            leaf.detach() * gain for leaf, gain in zip(laws.leaves(given).values(), self.gains, strict=True)
        )
        student = replace(given, logits=logits, taps=dict(zip(given.taps, taps, strict=True)))
        torch.manual_seed(1)
        total, _ = self.loss(torch.zeros(()), student, frozen(laws.cut(self.teacher, start, stop, count)), 0.5)
        return total


def frozen(out: Output) -> Output:
    return replace(out, logits=out.logits.detach(), taps={name: tap.detach() for name, tap in out.taps.items()})


def gradients(net: nn.Module) -> Found:
    return {
        name.removeprefix("module."): torch.zeros_like(one) if one.grad is None else one.grad
        for name, one in net.named_parameters()
        if one.requires_grad
    }


def alone(node: dict[str, Any], parts: int) -> tuple[Tensor, Found]:
    """Value and gradient in one process: of the whole batch, or the mean over so many micro-batches.

    Each micro-batch is looked at by a model in the state of the start, as every rank of a pair is.
    """
    size, values, slopes = ROWS // parts, [], []
    for part in range(parts):
        net = Net(node)
        value = net(part * size, (part + 1) * size, ROWS / parts)
        value.backward()
        values.append(value.detach())
        slopes.append(gradients(net))
    return torch.stack(values).mean(), {
        name: torch.stack([slope[name] for slope in slopes]).mean(0) for name in slopes[0]
    }


def main(rank: int, port: str, nodes: str, result: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found: Found = {}
    for name, node in json.loads(Path(nodes).read_text()).items():
        net = DistributedDataParallel(Net(node), find_unused_parameters=True)
        half = ROWS // 2
        value = net(rank * half, (rank + 1) * half, ROWS / 2)
        value.backward()
        value = value.detach()
        distributed.all_reduce(value)
        found[name] = {"value": value / 2, "gradients": gradients(net)}
    torch.save(found, f"{result}.{rank}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
