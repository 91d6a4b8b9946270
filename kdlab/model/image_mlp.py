"""A perceptron over the pixels of an image: the smallest student of images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kdlab.block import Block
from kdlab.model.family.stack import Stack
from kdlab.value import Depth, Share, Width


class ImageMLP(nn.Module):
    """``depth`` linear layers from all pixels to the labels, ReLU and dropout between them.

    Taps: ``hidden.i`` is hidden layer i after its ReLU, ``[B, width]``, for i < depth - 1.

    Example:
        >>> import torch
        >>> ImageMLP(784, 32, 2, 0.0, 10)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    family = Stack("layers", axes=("row", "width"))

    def __init__(self, pixels: int, width: int, depth: int, dropout: float, labels: int) -> None:
        super().__init__()
        sizes = [pixels, *[width] * (depth - 1)]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(one, width), nn.ReLU(), nn.Dropout(dropout)) for one in sizes[:-1]
        )
        self.classifier = nn.Linear(sizes[-1], labels)

    def blocks(self) -> list[Block]:
        """There is no embedding below the first layer."""
        layers = [Block(f"layer.{index}", [layer]) for index, layer in enumerate(self.layers)]
        return [Block("embedding", []), *layers, Block("head", [self.classifier])]

    def forward(self, pixel_values: Tensor) -> Tensor:
        state = pixel_values.flatten(1)
        for layer in self.layers:
            state = layer(state)
        return self.classifier(state)


def image_mlp(width: Width, depth: Depth, dropout: Share, labels: Sequence[str], channels: int, size: int) -> nn.Module:
    """An :class:`ImageMLP` with ``labels``; ``depth`` 1 is a linear classifier.

    Args:
        channels, size: of the images.
    """
    return ImageMLP(channels * size**2, width, depth, dropout, len(labels))
