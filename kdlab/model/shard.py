"""A model split between processes (FSDP2): each keeps a part of the weights, gradients and optimizer's state.

The weights of a layer are gathered while the layer is computed. Checkpoints hold whole tensors, as those of a run on
one process do.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed import get_world_size
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from kdlab.error import UserError
from kdlab.model.family.find import family

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def splits(trainer: Trainer) -> bool:
    """Whether this trainer splits models: ``trainer=fsdp``."""
    return isinstance(trainer.strategy, ModelParallelStrategy)


def twin(model: nn.Module) -> nn.Module:
    """The same model on the CPU, with uninitialised weights, which take no memory until they are filled."""
    empty: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="cpu"), parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, empty)


def split(model: nn.Module, device: torch.device) -> None:
    """Give each process its part of every layer, and of the rest; all processes call it, with the same weights."""
    mesh = init_device_mesh(device.type, (get_world_size(),))
    try:
        layers = list(model.get_submodule(family(model).layers(model)).children())
    except UserError:  # a model without a list of layers is gathered as a whole
        layers = []
    for module in [*layers, model]:
        fully_shard(module, mesh=mesh)


def part(weight: Tensor) -> Tensor:
    """The part of a weight that is on this process; all of a weight that is not split."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


def fill(module: LightningModule, state: Mapping[str, Tensor]) -> None:
    """Load whole weights into a split module; every process has read them."""
    set_model_state_dict(module, dict(state), options=StateDictOptions(full_state_dict=True))


def gather(model: nn.Module, whole: nn.Module) -> None:
    """Gather the weights of a split model in ``whole``, on the first process; all processes call it."""
    state = get_model_state_dict(model, options=WHOLE)
    if state:
        whole.load_state_dict(state)
