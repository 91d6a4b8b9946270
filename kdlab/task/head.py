"""Classifiers to put on top of an encoder, in the place of the model's own final linear layer."""

from __future__ import annotations

from torch import nn

from kdlab.value import Share, Width


def mlp_head(in_features: int, labels: int, width: Width, dropout: Share) -> nn.Module:
    """One hidden layer: ``[..., in_features] -> [..., labels]``.

    Args:
        width: of the hidden layer.
        dropout: before each of the two linear layers, in [0, 1].
    """
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(in_features, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, labels)
    )
