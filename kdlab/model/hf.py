"""Any transformers classifier, causal language model or encoder-decoder, from a directory, a package or the hub."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from kdlab.error import UserError
from kdlab.model.family.find import auto, family
from kdlab.model.label import CLASSIFIES, name_labels
from kdlab.model.layers_of_teacher import layers_of_teacher
from kdlab.model.pretrained import check_vocabulary, read_config, read_model, resolve
from kdlab.model.quiet import quiet
from kdlab.value import Share

DROPOUT = (  # the names that families give to their dropout probabilities
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "classifier_dropout_prob",
    "dropout",
    "attention_dropout",
    "seq_classif_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "hidden_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "activation_dropout",
    "pooler_dropout",
    "cls_dropout",
)


def hf(
    path: str,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    layers: Sequence[int] | None = None,
    pretrained: bool = True,
    dropout: Share | None = None,
    download: bool = False,
    task: str = "sequence_classification",
    encoder_layers: Sequence[int] | None = None,
    target_tokenizer: PreTrainedTokenizerBase | None = None,
) -> nn.Module:
    """A sequence classifier with ``labels``, a causal language model or an encoder-decoder, in train mode, float32.

    Args:
        path: a directory, a GGUF file, a ``package:NAME==VERSION/inner/path`` spec, or a hub id.
        tokenizer: the tokenizer of the model; decoder-only models also take the padding id from it.
        layers: the layers to keep (0-based, negative ones from the top), of an encoder-decoder those of the decoder;
            None keeps all.
        pretrained: False keeps the shape and draws random weights.
        dropout: replaces every dropout probability of the config; None leaves them.
        download: whether the network may be used, unless HF_HUB_OFFLINE is set.
        task: the kind of task: ``sequence_classification``, ``token_classification``, ``causal_lm`` or ``seq2seq``.
        encoder_layers: the layers of the encoder to keep, of an encoder-decoder; None keeps all.
        target_tokenizer: of what a decoder writes, where it has another vocabulary than the encoder.

    Raises:
        UserError: no model there, unreadable weights, or a tokenizer that is not the model's.
    """
    place = resolve(path, download)
    config = read_config(place, download)
    if task in CLASSIFIES:
        name_labels(config, labels)
    check_vocabulary(config, tokenizer, path)
    if target_tokenizer is not None:
        check_vocabulary(config, target_tokenizer, path, "decoder_vocab_size")
    if dropout is not None:
        set_dropout(config, dropout)
    if getattr(config, "use_cache", False):
        config.use_cache = False  # keys and values of past tokens are of no use in training
    if pretrained:
        model = read_model(place, config, download, task=task)
    else:
        with quiet():
            model = auto(task).from_config(config, trust_remote_code=False, dtype=torch.float32)
    set_padding(model, tokenizer, path)
    if layers is None and encoder_layers is None:
        return model.train()
    kept = range(family(model).depth(model)) if layers is None else layers
    return layers_of_teacher(kept, model, labels, tokenizer, task=task, encoder_layers=encoder_layers)


def set_dropout(config: PreTrainedConfig, dropout: float) -> None:
    """Set every dropout probability of a config."""
    if not 0 <= dropout < 1:
        raise UserError(f"dropout={dropout} is no probability: give 0 to below 1, or null for the model's own.")
    for name in DROPOUT:
        if isinstance(getattr(config, name, ""), int | float | None):
            setattr(config, name, dropout)


def set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str) -> None:
    """Set the padding id to the tokenizer's: decoder-only classifiers read the last token that is no padding."""
    config, table = model.config, model.get_input_embeddings()
    if config.pad_token_id is not None and getattr(table, "padding_idx", None) is not None:
        return  # an encoder that has a padding id
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"The tokenizer of '{path}' has no padding token, which a batch needs: give it one (tokenizer.pad_token = "
            "tokenizer.eos_token) and save it."
        )
    config.pad_token_id = tokenizer.pad_token_id
