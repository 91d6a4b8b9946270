"""A small vision transformer of transformers, with random weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from kdlab.error import UserError
from kdlab.model.label import name_labels
from kdlab.value import Count, Depth, Share, Width


def vit(
    hidden_size: Width,
    layers: Depth,
    heads: Depth,
    intermediate_size: Width,
    patch_size: Count,
    dropout: Share,
    labels: Sequence[str],
    channels: int,
    size: int,
) -> nn.Module:
    """A ViT that reads patches of ``patch_size`` x ``patch_size`` pixels and a token for the class.

    Args:
        channels, size: of the images.

    Raises:
        UserError: heads that do not divide the width, or patches that do not divide the image.

    Source: Dosovitskiy et al. 2021, arXiv:2010.11929.
    """
    if hidden_size % heads:
        raise UserError(f"heads={heads} must divide hidden_size={hidden_size}")
    if size % patch_size:
        raise UserError(
            f"patch_size={patch_size} must divide the side of the images, which is {size} pixels: set model.patch_size "
            "or datamodule.size"
        )
    config = ViTConfig(
        hidden_size=hidden_size, num_hidden_layers=layers, num_attention_heads=heads, image_size=size,
        intermediate_size=intermediate_size, patch_size=patch_size, num_channels=channels, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    name_labels(config, labels)
    return ViTForImageClassification(config).train()
