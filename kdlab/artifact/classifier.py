"""From a trained model on disk to what predicts with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdlab.artifact.answerer import Answerer, answerer_of
from kdlab.artifact.predictor import Predictor
from kdlab.artifact.tagger import Tagger
from kdlab.artifact.trained import Trained
from kdlab.config import instantiate
from kdlab.datamodule import tokenizer
from kdlab.datamodule.processor.image import read
from kdlab.error import UserError
from kdlab.model.pretrained import kind
from kdlab.outcome import Categorical
from kdlab.task.base import Task
from kdlab.task.causal_lm import CausalLM
from kdlab.task.generative import GenerativeTask
from kdlab.task.image_classification import ImageClassification
from kdlab.task.regression import Regression
from kdlab.task.seq2seq import Seq2Seq
from kdlab.task.sequence_classification import SequenceClassification
from kdlab.task.token_classification import TokenClassification

WRITING: dict[str, type[GenerativeTask]] = {one.kind: one for one in (CausalLM, Seq2Seq)}
LONGEST = 512  # tokens of a text, for a model without a run that has it


def predictor_of(subject: Trained, max_length: int | None = None, base: Path = Path()) -> Predictor | Tagger | Answerer:
    """The model of a run with the task and the tokens or images that it was trained with.

    Args:
        base: the folder that paths of images are relative to.

    Raises:
        UserError: it neither labels nor writes texts.
    """
    stored = subject.stored
    if max_length is not None and max_length < 1:
        raise UserError(f"max_length is {max_length}, and must be 1 or more")
    task = instantiate.make(stored.task) if stored is not None else _task(subject)
    if isinstance(task, GenerativeTask):
        return answerer_of(subject, task, max_length)
    if not task.uses_labels:
        raise UserError(f"run {subject.id} has no labels to predict, and writes no texts")
    labels = subject.labels or [f"LABEL_{index}" for index in range(subject.outputs or 0)]
    if len(labels) < 2 and isinstance(task.outcome, Categorical):
        raise UserError(f"{subject.weights} gives {len(labels) or 'no'} logit a row: predict needs a classifier")
    task.prepare(labels, [1] * len(labels))
    if task.kind == ImageClassification.kind:
        return Predictor(subject.model.eval(), task, None, labels, 0, images=read(subject.weights), base=base)
    own = tokenizer.load(str(subject.weights), [])
    if max_length is None:
        max_length = stored.datamodule.max_length if stored is not None else _longest(subject.shape, own)
    if task.kind == TokenClassification.kind:
        return Tagger(subject.model.eval(), task, own, labels, max_length)
    return Predictor(subject.model.eval(), task, own, labels, max_length)


def _task(subject: Trained) -> Task:
    """The task of a model from elsewhere."""
    config = subject.shape
    found = "" if config is None else kind(config)
    if found in WRITING:
        return WRITING[found]()
    if found == ImageClassification.kind:
        return ImageClassification()
    if found == TokenClassification.kind:
        return TokenClassification()
    if found != "sequence_classification":
        raise UserError(
            f"{subject.weights} is neither a classifier of texts or images nor a language model: predict needs one"
        )
    if config.problem_type == "regression" or config.num_labels == 1:
        return Regression()
    return SequenceClassification(multi_label=config.problem_type == "multi_label_classification")


def _longest(config: Any, own: Any) -> int:
    """The number of tokens that a model from elsewhere can read, at most LONGEST."""
    places = getattr(config, "max_position_embeddings", None) or LONGEST
    if any(name in str(config.model_type) for name in ("roberta", "camembert", "mpnet")):
        places -= (config.pad_token_id or 0) + 1  # their positions begin after that of the padding token
    return min(LONGEST, own.model_max_length, places)
