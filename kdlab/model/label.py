"""Names of labels in a transformers config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdlab.error import UserError

CLASSIFIES = ("sequence_classification", "token_classification")  # kinds of tasks whose models have a logit a label


def name_labels(config: Any, labels: Sequence[str]) -> None:
    """Write the label names into ``config``.

    Raises:
        UserError: there is no label, or a name is there twice.
    """
    if len(set(labels)) != len(labels) or not labels:
        raise UserError(f"A model needs at least one label and no name twice, but the labels are {list(labels)}.")
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: index for index, name in enumerate(labels)}
