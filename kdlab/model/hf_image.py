"""Any image classifier of transformers, from a directory, a package or the hub."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from kdlab.error import UserError
from kdlab.model.family.find import auto, family
from kdlab.model.hf import set_dropout
from kdlab.model.label import name_labels
from kdlab.model.layers_of_teacher import layers_of_teacher
from kdlab.model.pretrained import read_config, read_model, resolve
from kdlab.model.quiet import quiet
from kdlab.value import Share

TASK = "image_classification"


def hf_image(
    path: str,
    labels: Sequence[str],
    channels: int,
    size: int,
    layers: Sequence[int] | None = None,
    pretrained: bool = True,
    dropout: Share | None = None,
    download: bool = False,
    image_processor: str | None = None,
) -> nn.Module:
    """An image classifier with ``labels``, such as a ResNet, ConvNeXt, ViT or DeiT, in train mode, float32.

    Args:
        path: a directory with ``config.json``, a ``package:NAME==VERSION/inner/path`` spec, or a hub id.
        channels, size: of the images.
        layers: the layers to keep (0-based, negative ones from the top); None keeps all.
        pretrained: False keeps the shape and draws random weights; then a directory needs no weights.
        dropout: replaces every dropout probability of the config; None leaves them.
        download: whether the network may be used, unless HF_HUB_OFFLINE is set.
        image_processor: how images are read; the data set takes it from here.

    Raises:
        UserError: no image classifier there, unreadable weights, or images of another shape than it reads.
    """
    place = resolve(path, download)
    config = read_config(place, download)
    name_labels(config, labels)
    config.architectures = config.architectures or []  # or a DeiT without any could not be made
    if dropout is not None:
        set_dropout(config, dropout)
    side = getattr(config, "image_size", None)
    if pretrained and isinstance(side, int) and side != size:
        raise UserError(
            f"'{path}' reads images of {side} x {side} pixels, and those of the data have {size}: set "
            f"datamodule.size={side}, or datamodule.image_processor={path} if preprocessor_config.json is there"
        )
    if not pretrained:
        config.num_channels = channels
        if side is not None:
            config.image_size = size
    try:
        if pretrained:
            model = read_model(place, config, download, task=TASK)
        else:
            with quiet():
                model = auto(TASK).from_config(config, trust_remote_code=False, dtype=torch.float32)
    except ValueError as problem:
        raise UserError(
            f"'{path}' is a {config.model_type}, which transformers has no image classifier of: choose a ResNet, "
            "ConvNeXt, ViT, DeiT or the like"
        ) from problem
    if layers is None:
        return model.train()
    return layers_of_teacher([*layers], model, labels, task=TASK) if family(model).depth(model) else model.train()
