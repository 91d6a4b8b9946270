"""A multilayer perceptron over a bag of words or over averaged word embeddings: the smallest student there is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kdlab.error import UserError
from kdlab.model.architecture.mlp import MLP, MLPConfig
from kdlab.model.label import name_labels
from kdlab.model.pretrained import check_vocabulary, read_embedding, resolve
from kdlab.value import Depth, Share, Width

INPUTS = ("bag", "embedding")


def mlp(
    depth: Depth,
    width: Width,
    input: str,
    embedding_size: Width,
    dropout: Share,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    pretrained_embedding: str | None = None,
    download: bool = False,
) -> PreTrainedModel:
    """A perceptron with ``labels`` over the words of ``tokenizer``; see :class:`MLP`.

    Args:
        depth: linear layers, at least 1; 1 is a linear classifier.
        width: the width of the hidden layers.
        input: ``bag`` (word counts) or ``embedding`` (averaged word embeddings).
        embedding_size: of ``input: embedding``.
        pretrained_embedding: a pretrained model whose word embeddings are the first weights; embedding_size is then
            their width.
        download: whether it may be downloaded.

    Raises:
        UserError: an unknown input, no layer, or embeddings that do not fit.
    """
    if input not in INPUTS or depth < 1:
        raise UserError(
            f"No mlp has input={input}, depth={depth}: input is one of {', '.join(INPUTS)}, depth at least 1."
        )
    start = None
    if pretrained_embedding is not None:
        if input != "embedding":
            raise UserError(f"pretrained_embedding needs input=embedding: input={input} has no embeddings.")
        try:
            start = read_embedding(resolve(pretrained_embedding, download), download)
        except UserError as problem:
            raise UserError(f"pretrained_embedding={pretrained_embedding}: {problem}") from problem
    config = MLPConfig(
        vocab_size=len(tokenizer) if start is None else start.shape[0],
        depth=depth,
        width=width,
        input=input,
        embedding_size=embedding_size if start is None else start.shape[1],
        dropout=dropout,
        pad_token_id=tokenizer.pad_token_id,
    )
    name_labels(config, labels)
    check_vocabulary(config, tokenizer, pretrained_embedding or "mlp")
    model = MLP(config)
    if start is not None:
        with torch.no_grad():
            model.words.table.weight.copy_(start)
    return model.train()
