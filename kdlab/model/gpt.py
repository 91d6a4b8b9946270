"""A GPT-2 of any size with random weights."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import GPT2Config, PreTrainedModel, PreTrainedTokenizerBase

from kdlab.error import UserError
from kdlab.model.family.find import auto
from kdlab.model.label import name_labels
from kdlab.value import Depth, Share, Width


def gpt(
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
    """A GPT-2 whose vocabulary is the tokenizer's, with its head tied to the word embeddings, or a classifier.

    Args:
        hidden_size: width D; must be a multiple of ``heads``.
        intermediate_size: width of the feed-forward layers.
        dropout: the probability in hidden states, embeddings and attention.
        max_length: the largest number of tokens of a row.
        task: the kind of task: ``causal_lm`` or ``sequence_classification``.

    Source: Radford et al. 2019 (Language Models are Unsupervised Multitask Learners).
    """
    if hidden_size % heads:
        raise UserError(f"hidden_size={hidden_size} is no multiple of heads={heads}, which it must be.")
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=hidden_size,
        n_layer=layers,
        n_head=heads,
        n_inner=intermediate_size,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        n_positions=max_length,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        use_cache=False,
    )
    if task == "sequence_classification":
        name_labels(config, labels)
    return auto(task).from_config(config).train()
