"""A small network of convolutions for images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.model.family.stack import Stack
from kdlab.value import Depth, Share, Width


class Residual(nn.Module):
    """Two convolutions of 3 x 3 with batch norms, added to what they read: ``[B, M, H, W] -> [B, N, H/s, W/s]``.

    Args:
        reads, gives: channels.
        stride: s.

    Source: He et al. 2016 (ResNet), arXiv:1512.03385, figure 2 and, where the shape changes, option B.
    """

    def __init__(self, reads: int, gives: int, stride: int) -> None:
        super().__init__()
        self.reads, self.gives = reads, gives
        self.body = nn.Sequential(
            nn.Conv2d(reads, gives, 3, stride, 1, bias=False), nn.BatchNorm2d(gives), nn.ReLU(),
            nn.Conv2d(gives, gives, 3, 1, 1, bias=False), nn.BatchNorm2d(gives),
        )  # fmt: skip
        same = reads == gives and stride == 1
        short = [nn.Conv2d(reads, gives, 1, stride, bias=False), nn.BatchNorm2d(gives)]
        self.shortcut = nn.Identity() if same else nn.Sequential(*short)

    def forward(self, maps: Tensor) -> Tensor:
        return (self.body(maps) + self.shortcut(maps)).relu()


class CNN(nn.Module):
    """Residual blocks over feature maps, their mean over all places, and a linear classifier.

    Taps: ``hidden.i`` is the output of block i, ``[B, H W, channels]``.

    Args:
        channels: of the images.
        widths: channels of each stage; every stage but the first halves the sides of the maps.
        depth: blocks of a stage.
        dropout: before the classifier.
        labels: number of logits.

    Example:
        >>> import torch
        >>> net = CNN(1, [4, 8], 1, 0.0, 10)
        >>> net(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    family = Stack("layers", axes=("row", "width", "y", "x"))

    def __init__(self, channels: int, widths: Sequence[int], depth: int, dropout: float, labels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.layers = nn.ModuleList()
        reads = widths[0]
        for stage, width in enumerate(widths):
            for block in range(depth):
                self.layers.append(Residual(reads, width, 2 if stage and not block else 1))
                reads = width
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(reads, labels)

    def forward(self, pixel_values: Tensor) -> Tensor:
        maps = self.stem(pixel_values)
        for layer in self.layers:
            maps = layer(maps)
        return self.classifier(self.dropout(maps.mean((2, 3))))


def cnn(
    widths: Sequence[Width], depth: Depth, dropout: Share, labels: Sequence[str], channels: int, size: int
) -> nn.Module:
    """A :class:`CNN` with ``labels``.

    Args:
        channels, size: of the images.

    Raises:
        UserError: no stage, or more than the images can be halved for.
    """
    if not widths or size < 2 ** (len(widths) - 1):
        raise UserError(
            f"widths={list(widths)} are {len(widths)} stages, each of which but the first halves the sides of images "
            f"of {size} x {size} pixels: name at least one width, and not more than can be halved"
        )
    return CNN(channels, list(widths), depth, dropout, len(labels))
