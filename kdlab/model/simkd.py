"""Any student with a projector and the teacher's own frozen classifier on top."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kdlab.error import UserError
from kdlab.model.architecture.simkd import SimKD, SimKDConfig
from kdlab.model.family.find import family
from kdlab.model.label import name_labels
from kdlab.value import Width


def simkd(
    inner: Callable[..., nn.Module],
    teacher: nn.Module,
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    reduction: Width = 2,
) -> PreTrainedModel:
    """A student that ends in a copy of the teacher's final linear layer, which never learns; in train mode.

    Args:
        inner: makes the student inside from ``labels`` and ``tokenizer`` (and ``teacher``, where it asks for it).
        teacher: left as it was.
        reduction: the projector's width is the number of the classifier's inputs divided by this.

    Raises:
        UserError: the teacher or the student inside does not end in a linear layer, or labels that the teacher lacks.

    Source: Chen et al. 2022, arXiv:2203.14001, section 3.2.
    """
    if reduction < 1:
        raise UserError(f"reduction is {reduction}, but must be at least 1: 2 is the paper's, 1 the widest projector.")
    _, classifier = family(teacher).find_head(teacher)
    if classifier.out_features != len(labels):
        raise UserError(
            f"The teacher's classifier gives {classifier.out_features} logits, but there are {len(labels)} labels "
            f"({', '.join(labels)}): a student can only reuse one that was trained on its own labels."
        )
    given: dict[str, Any] = {"labels": labels, "tokenizer": tokenizer}
    if "teacher" in inspect.signature(inner).parameters:
        given["teacher"] = teacher
    start = inner(**given)
    if not isinstance(start, PreTrainedModel):
        raise UserError(
            f"simkd wraps a transformers model, but the student inside is a {type(start).__name__}; use another."
        )
    config = SimKDConfig(
        inner=start.config.to_dict(), features=classifier.in_features, reduction=reduction,
        bias=classifier.bias is not None,
    )  # fmt: skip
    name_labels(config, labels)
    student = SimKD(config)
    path, _ = family(start).find_head(start)
    known = {name: value for name, value in start.state_dict().items() if not name.startswith(f"{path}.")}
    student.inner.load_state_dict(known, strict=False)
    student.classifier.load_state_dict(classifier.state_dict())
    return student.train()
