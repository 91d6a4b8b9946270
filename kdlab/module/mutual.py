"""Trains several models together, each of which is a teacher of the others."""

from __future__ import annotations

import copy
from typing import Any, final

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.freeze.apply import apply, parameter_groups, prepare, select
from kdlab.model.block import blocks
from kdlab.module.evaluation import Measured
from kdlab.module.parts import TeacherParts
from kdlab.module.teacher_rule import TeacherRule
from kdlab.output import Output
from kdlab.teacher.peer import average

TARGETS = ("mean", "each")


@final
class Mutual(TeacherRule):
    """Deep mutual learning: the student and the teacher's models all learn, each from the labels and from the others.

    The objective's alpha, temperature and terms, the freezing policy, the optimizer and the clipping of gradients apply
    to each model separately. All models are in the checkpoint; only the student is tested and saved. With
    ``teacher=live`` a trained teacher and its student go on learning together.

    Args:
        target: ``mean``: one loss against the mean of the others' probabilities; ``each``: the mean of the losses
            against each of them (equation 7). With two models both are the same.

    Source: Zhang et al. 2018, arXiv:1706.00384, section 2 (``mean`` is its DML_e); all models step at once.
    """

    trains_teacher = True
    compiles = False
    needs_classes = True

    def __init__(self, parts: TeacherParts, seed: int, target: str = "mean") -> None:
        super().__init__(parts, seed)
        if target not in TARGETS:
            raise UserError(f"module.target is '{target}', but must be one of {', '.join(TARGETS)}")
        if not self.teacher.models:
            raise UserError(
                "module=mutual trains the teacher too, but this teacher's weights cannot learn: choose teacher=peer "
                "(new models) or teacher=live (a trained one)"
            )
        if read := sorted(self.loss.taps["student"] | self.loss.taps["teacher"]):
            raise UserError(f"module=mutual compares logits only, but a loss term reads '{read[0]}': leave it out")
        if self.loss.balance.asks_model:
            raise UserError(
                "module=mutual has several models that learn, but this loss/balance looks at the gradients of one: "
                "choose loss/balance=uncertainty or dwa"
            )
        self.target = target
        self.peers = nn.ModuleDict(self.teacher.models).requires_grad_(True).train()
        self.peer_losses = nn.ModuleDict({name: copy.deepcopy(self.loss) for name in self.peers})
        self.peer_blocks = {name: select(self.freezing, peer, blocks(peer)) for name, peer in self.peers.items()}
        self.peer_evaluators = {
            split: {
                name: parts.metric.chosen(split, without=("teacher", "gradients", "generation")) for name in self.peers
            }
            for split in ("val", "test")
        }
        self._peers = nn.ModuleList([one for named in self.peer_evaluators.values() for one in named.values()])

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":
            for cut in self.peer_blocks.values():
                prepare(self.freezing, cut)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        for cut in self.peer_blocks.values():
            apply(self.freezing, cut, self.progress)

    def extra_groups(self) -> list[dict[str, Any]]:
        settings = getattr(self.optimizer, "keywords", {})
        rates = settings.get("lr", 1e-3), settings.get("weight_decay", 0.0)
        groups = super().extra_groups()
        for name, cut in self.peer_blocks.items():
            groups += [g | {"name": f"{name}/{g['name']}"} for g in parameter_groups(self.freezing, cut, *rates)]
            groups += [g | {"name": f"{name}/{g['name']}"} for g in self.peer_losses[name].groups]  # type: ignore[union-attr]
        return groups

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # each model separately, so that a peer's large gradient does not slow the student
        parts = [(self.model, self.loss), *zip(self.peers.values(), self.peer_losses.values(), strict=True)]
        for model, loss in parts if gradient_clip_val else ():
            parameters = [*model.parameters(), *loss.parameters()]
            if gradient_clip_algorithm == "value":
                nn.utils.clip_grad_value_(parameters, gradient_clip_val or 0.0)
            else:
                nn.utils.clip_grad_norm_(parameters, gradient_clip_val or 0.0)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        outputs = {name: self.task.read(model, batch) for name, model in {"": self.model, **self.peers}.items()}
        total, values = self._objective("", outputs, batch)
        others = {name: self._objective(name, outputs, batch)[0] for name in self.peers}
        self.log_values({f"train/{name}/loss": value for name, value in others.items()}, batch)
        return self.log_loss(total, values, batch) + sum(others.values())

    def _objective(self, name: str, outputs: dict[str, Output], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of one model, the mean over its targets; the name of the student is empty."""
        others = [output for other, output in outputs.items() if other != name]
        groups = [others] if self.target == "mean" else [[other] for other in others]
        loss = self.peer_losses[name] if name else self.loss
        student, results = outputs[name], []
        for teacher in (average(group, self.task.outcome) for group in groups):
            labelled = loss.labels(student, teacher, self.progress)  # type: ignore[operator]
            results.append(loss(self.task.supervised(labelled, batch), student, teacher, self.progress))
        values = {key: torch.stack([parts[key] for _, parts in results]).mean() for key in results[0][1]}
        return torch.stack([total for total, _ in results]).mean(), values

    def measured(self, split: str) -> Measured:
        peers = {f"{split}/{name}/": one for name, one in self.peer_evaluators[split].items()}
        return Measured(peers | super().measured(split))

    def evaluation_step(self, batch: Batch, split: str) -> Output:
        for name, peer in self.peers.items():
            evaluators = self.peer_evaluators[split][name]
            evaluators.update(self.task.read(peer, batch), batch, labelled=self.scores(batch))
        return super().evaluation_step(batch, split)
