"""Runs the student's forward pass, in full or from cached activations of its frozen lower layers.

Layers that never learn compute the same for a row in every epoch, and in every run that starts from the same weights.
So they run once for each row; training and validation then begin at the first layer that learns.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.freeze.apply import highest, select
from kdlab.freeze.base import Freeze
from kdlab.model.block import blocks
from kdlab.model.family.base import like
from kdlab.model.family.find import family
from kdlab.model.save import weights_sha256
from kdlab.model.tap import TapReaders
from kdlab.output import Output
from kdlab.precision import current
from kdlab.store.array import tensor
from kdlab.store.build import open_or_build
from kdlab.store.inference import rows_digest, run_inference
from kdlab.store.store import Store, key
from kdlab.task.base import Task

log = logging.getLogger(__name__)
TOKENS = 4096  # in a batch of the pass over all rows


class Forward(ABC):
    """The student's forward pass: one call, as that of a teacher."""

    @abstractmethod
    def read(self, task: Task, batch: Batch, taps: Collection[str] = ()) -> Output:
        """The student's output on the rows of the batch, with these taps."""


@final
class FullForward(Forward):
    """Runs the whole model. The places of its taps are looked up once, in the first pass."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.readers = TapReaders(model)

    def read(self, task: Task, batch: Batch, taps: Collection[str] = ()) -> Output:
        with self.readers.use(taps):
            return task.read(self.model, batch, taps)


@final
class CachedPrefixForward(Forward):
    """Runs the model from the first layer that learns; equal to the full pass to rounding. It uses the same modules.

    Args:
        model: the student.
        layers: the number of lowest layers that are not run.
        store: the output of the last of them for every row.
        name: the name of that output in the store.
        returns_tuple: whether a layer returns a tuple.
    """

    def __init__(self, model: nn.Module, layers: int, store: Store, name: str, returns_tuple: bool) -> None:
        path, _, self.attribute = family(model).layers(model).rpartition(".")
        self.model, self.parent, self.store, self.name = model, model.get_submodule(path), store, name
        container = getattr(self.parent, self.attribute)
        every = list(container.children())
        self.last_frozen = PassthroughLayer(every[layers - 1], returns_tuple)
        skipped = [PassthroughLayer(layer, returns_tuple) for layer in every[: layers - 1]]
        self.shortened = like(container, [*skipped, self.last_frozen, *every[layers:]])

    def read(self, task: Task, batch: Batch, taps: Collection[str] = ()) -> Output:
        values = tensor(
            self.store.gather(self.name, batch.row.cpu().numpy(), batch.length), self.store.dtype(self.name)
        )
        self.last_frozen.values = values.to(batch.device)
        with self._replaced():
            return task.read(self.model, batch, taps)

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        """Meanwhile the model has the shortened list of layers."""
        every = getattr(self.parent, self.attribute)
        self.parent._modules[self.attribute] = self.shortened
        try:
            yield
        finally:
            self.parent._modules[self.attribute] = every


class PassthroughLayer(nn.Module):
    """Takes the position of a layer and returns its input, or ``values`` where these are set.

    Args:
        layer: the layer; its settings, such as its kind of attention, are copied, as the model may read them.
        returns_tuple: whether the layer returns a tuple.
    """

    def __init__(self, layer: nn.Module, returns_tuple: bool) -> None:
        super().__init__()
        for name, value in vars(layer).items():
            if isinstance(value, str | int) and not name.startswith("_"):
                setattr(self, name, value)
        self.values: Tensor | None = None
        self.returns_tuple = returns_tuple

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        output = hidden_states if self.values is None else self.values
        return (output,) if self.returns_tuple else output


def choose_forward(
    model: nn.Module, freeze: Freeze, task: Task, data: Data, taps: Collection[str], folder: Path, steps: float
) -> Forward:
    """The pass from cached activations where that is possible, exact and worth it; else the full pass.

    Args:
        model: the student.
        freeze: the policy that decides which layers never learn.
        task: reads the model.
        data: a datamodule after ``setup``.
        taps: the taps that the loss reads of the student.
        folder: the folder of all stores.
        steps: the number of times that a training row is read, on average.
    """
    try:
        if task.unit != "row":
            raise NotCacheableError(f"the task has a value a {task.unit}, and a store would hold the logits of each")
        layers = _frozen(model, freeze, taps, steps)
        found = _cached(model, layers, task, data, taps, folder)
    except NotCacheableError as reason:
        log.info("frozen layers are run in every step: %s", reason)
        return FullForward(model)
    log.info("the %d frozen layers are not run: their output was stored in %s", layers, found.store.folder)
    return found


class NotCacheableError(Exception):
    """The reason why activations of frozen layers cannot be cached."""


def _frozen(model: nn.Module, freeze: Freeze, taps: Collection[str], steps: float) -> int:
    """The number of lowest layers that never learn."""
    try:
        path = family(model).layers(model)
    except UserError as problem:
        raise NotCacheableError(str(problem)) from problem
    cut = select(freeze, model, blocks(model))
    scales = highest(freeze, len(cut))
    learns = [bool(block.learnable) and scale > 0 for block, scale in zip(cut, scales, strict=True)]
    learning = learns.index(True) if True in learns else len(learns)
    layers = min(learning - 1, len(list(model.get_submodule(path).children())))
    if layers < 1:
        raise NotCacheableError("the policy lets every layer learn at some time")
    if steps <= 1:
        raise NotCacheableError("no row is read twice")
    if others := sorted(tap for tap in taps if tap != "pooled"):
        raise NotCacheableError(f"the loss reads '{others[0]}' of the student, which may lie below")
    return layers


def _cached(
    model: nn.Module, layers: int, task: Task, data: Data, taps: Collection[str], folder: Path
) -> CachedPrefixForward:
    """The pass from cached activations, after a comparison with the full pass on some rows."""
    name = f"module:{family(model).layers(model)}.{layers - 1}"
    batch = data.every_row(256)[0]
    outputs: list[Any] = []
    hook = model.get_submodule(name.partition(":")[2]).register_forward_hook(lambda *given: outputs.append(given[2]))
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            whole = task.read(model.eval(), batch, taps)
            hook.remove()
            first = outputs[0]
            dtype = str((first[0] if isinstance(first, tuple) else first).dtype).removeprefix("torch.")
            bottom = nn.ModuleList([module for block in blocks(model)[: layers + 1] for module in block.modules])
            content = {
                "student": weights_sha256(bottom), "shape": _shape(model), "taps": [name], "data": data.fingerprint,
                "rows": rows_digest(data), "precision": current(), "dtype": dtype,
            }  # fmt: skip
            batches = data.every_row(TOKENS)
            store = open_or_build(
                folder, key(**content), content | {"of": f"the {layers} lowest layers of a student"}, data.lengths,
                batches.groups,
                lambda numbers: run_inference(
                    model, task, data.lengths, batches, numbers, [name], dtype, name="pass through frozen layers"
                ),
            )  # fmt: skip
            found = CachedPrefixForward(model, layers, store, name, isinstance(first, tuple))
            again = found.read(task, batch, taps)
    except (UserError, AttributeError, TypeError, KeyError, IndexError, RuntimeError) as problem:
        raise NotCacheableError(f"{type(model).__name__} cannot be cut there ({problem})") from problem
    finally:
        hook.remove()
        for module, mode in modes.items():
            module.training = mode
    near = 1e-4 if current() == "float32" else 5e-2
    if not torch.allclose(whole.logits.float(), again.logits.float(), rtol=near, atol=near):
        raise NotCacheableError(f"{type(model).__name__} computes something else when it is cut there")
    return found


def _shape(model: nn.Module) -> str:
    """A hash of the configuration: the same weights compute something else under another one."""
    return hashlib.sha256(getattr(model, "config", model).__repr__().encode()).hexdigest()[:16]
