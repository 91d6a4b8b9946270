"""Virtual adversarial training: keeps predictions stable under the worst small perturbation of the embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.loss.logit.binary_kl import tempered_binary_kl
from kdlab.loss.logit.kl import tempered_kl
from kdlab.module.parts import TeacherParts
from kdlab.module.teacher_rule import TeacherRule
from kdlab.outcome import Bernoulli
from kdlab.schedule.base import number
from kdlab.value import Count, Positive


@final
class Vat(TeacherRule):
    """Terms see the student on perturbed embeddings; the labels are compared with its output on the text as it is.

    With ``teacher=self`` and ``loss=kd loss.temperature=1`` it is the paper's ``(1 - alpha) * CE + alpha * LDS``, whose
    second part needs no labels. With another teacher the student learns to agree with it nearby, too.

    Args:
        epsilon: > 0, the L2 norm of the perturbation of a row's embeddings ``[L, D]``.
        xi: > 0, the norm of the probing step.
        iterations: power iterations, at least 1; each costs a forward and a backward pass.

    Source: Miyato et al. 2018, arXiv:1704.03976, section 3; on word embeddings: Miyato, Dai, Goodfellow 2017,
        arXiv:1605.07725, section 3.
    """

    compiles = False
    needs_classes = True

    def __init__(
        self,
        parts: TeacherParts,
        seed: int,
        epsilon: Positive = 1.0,
        xi: Positive = 0.1,
        iterations: Count = 1,
    ) -> None:
        super().__init__(parts, seed)
        for name, value in (("epsilon", epsilon), ("xi", xi), ("iterations", iterations)):
            if number(value, f"module.{name}") <= 0:
                raise UserError(f"module.{name} is {value}, but must be above 0")
        self.epsilon, self.xi, self.iterations = float(epsilon), float(xi), iterations
        self.table()  # raises early where the model cannot be cut into blocks
        self.embedding = (embedding(parts.model),)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        student = self.task.read(self.model, batch)
        teacher = self.teacher.read(self.task, batch)
        with perturbed(self.embedding[0], self.adversary(batch)):
            nearby = self.task.read(self.model, batch, self.loss.taps["student"])
        supervised = self.task.supervised(self.loss.labels(student, teacher, self.progress), batch)
        total, parts = self.loss(supervised, nearby, teacher, self.progress)
        return self.log_loss(total, parts, batch)

    def adversary(self, batch: Batch) -> Tensor:
        """The perturbation ``[B, L, D]`` of norm epsilon in each row that changes predictions most, in eval mode."""
        diverge = tempered_binary_kl if isinstance(self.task.outcome, Bernoulli) else tempered_kl
        assert batch.tokens is not None
        real = batch.tokens[..., None]
        with in_eval_mode(self.model), torch.enable_grad():
            with torch.no_grad(), outputs_of(self.embedding[0]) as outputs:
                logits = self.task.read(self.model, batch).logits
            step = unit(torch.randn_like(outputs[0], dtype=torch.float32) * real)
            for _ in range(self.iterations):
                step.requires_grad_()
                with perturbed(self.embedding[0], self.xi * step):
                    change = diverge(self.task.read(self.model, batch).logits, logits, 1.0).sum()
                step = unit(torch.autograd.grad(change, step)[0].detach() * real)
        return self.epsilon * step


def unit(step: Tensor) -> Tensor:
    """``[B, L, D]`` scaled to norm 1 in each row; a row of zeros stays.

    Example:
        >>> unit(torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]])).flatten()
        tensor([0.6000, 0.8000, 0.0000, 0.0000])
    """
    return step / step.flatten(1).norm(dim=1).clamp(min=torch.finfo(step.dtype).tiny)[:, None, None]


def embedding(model: nn.Module) -> nn.Module:
    """The word embeddings of a model.

    Raises:
        UserError: it has no method ``get_input_embeddings``.
    """
    find = getattr(model, "get_input_embeddings", None)
    if find is None:
        raise UserError(f"module=vat moves word embeddings, which {type(model).__name__} does not name: choose another")
    return find()


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Meanwhile the model is in eval mode; afterwards the mode of each module is as before."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def outputs_of(table: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of ``table`` meanwhile.

    Raises:
        UserError: it never runs, as in a model that only looks up its weights.
    """
    outputs: list[Tensor] = []
    handle = table.register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
    if not outputs:
        raise UserError("module=vat moves word embeddings, which this student never computes: choose a transformer")


@contextmanager
def perturbed(table: nn.Module, step: Tensor) -> Iterator[Any]:
    """Meanwhile ``step`` ``[B, L, D]`` is added to the output of ``table``."""
    handle = table.register_forward_hook(lambda module, args, output: output + step.to(output))
    try:
        yield
    finally:
        handle.remove()
