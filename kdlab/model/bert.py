"""A BERT of any size with random weights."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from kdlab.error import UserError
from kdlab.model.label import name_labels
from kdlab.value import Depth, Share, Width


def bert(
    hidden_size: Width,
    layers: Depth,
    heads: Width,
    intermediate_size: Width,
    dropout: Share,
    max_length: Width,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    task: str = "sequence_classification",
) -> PreTrainedModel:
    """A BERT classifier whose vocabulary is the tokenizer's.

    Args:
        hidden_size: the width D; must be a multiple of ``heads``.
        intermediate_size: width of the feed-forward layers.
        dropout: the probability in hidden states, attention and classifier.
        max_length: the largest number of tokens of a row.
        task: the kind of task: ``token_classification`` has logits for each token, any other for each row.

    Raises:
        UserError: a task that writes texts, or a width that the heads do not divide.

    Source: Devlin et al. 2018, arXiv:1810.04805; small sizes: Turc et al. 2019, arXiv:1908.08962.
    """
    if task in ("causal_lm", "seq2seq"):
        fitting = {"causal_lm": "causal language model, such as model=gpt_tiny", "seq2seq": "model=seq2seq_tiny"}[task]
        raise UserError(f"model=bert_tiny classifies, but task={task} writes texts: choose a {fitting}, or model=hf")
    if hidden_size % heads:
        raise UserError(f"hidden_size={hidden_size} is no multiple of heads={heads}, which it must be.")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate_size,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=max_length,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
    )
    name_labels(config, labels)
    kind = BertForTokenClassification if task == "token_classification" else BertForSequenceClassification
    return kind(config).train()
