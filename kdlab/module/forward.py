"""How a student is read: as a whole, or from what its frozen bottom said of a row the first time.

Layers that never learn say the same of a row in every epoch and in every run that starts from the same weights. So they
are asked once; training and validation then begin at the first layer that learns.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.freeze.apply import highest, select
from kdlab.freeze.base import Freeze
from kdlab.model.block import blocks, layers_path
from kdlab.model.save import weights_sha256
from kdlab.output import Output
from kdlab.precision import current
from kdlab.store.build import open_or_build
from kdlab.store.inference import rows_digest, run_inference, tensor
from kdlab.store.store import Store, key
from kdlab.task.base import Task

log = logging.getLogger(__name__)
TOKENS = 4096  # of a batch of the pass over all rows


class Forward(ABC):
    """One call, as a teacher's."""

    @abstractmethod
    def read(self, task: Task, batch: Batch, taps: Collection[str] = ()) -> Output:
        """What the student says of the rows of the batch."""


@final
class FullForward(Forward):
    """Runs all of the model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def read(self, task: Task, batch: Batch, taps: Collection[str] = ()) -> Output:
        return task.read(self.model, batch, taps)


@final
class CachedPrefixForward(Forward):
    """Runs the model from the first layer that learns; the same to rounding as the whole, whose modules it uses.

    Args:
        layers: how many of the lowest layers are not run.
        store: the output of the last of them, of every row.
        name: its name in the store.
        several: whether a layer answers with a tuple.
    """

    def __init__(self, model: nn.Module, layers: int, store: Store, name: str, several: bool) -> None:
        path, _, self.place = layers_path(model).rpartition(".")
        self.model, self.parent, self.store, self.name = model, model.get_submodule(path), store, name
        whole = list(cast(nn.ModuleList, getattr(self.parent, self.place)))
        self.given = PassthroughLayer(whole[layers - 1], several)
        skipped = [PassthroughLayer(layer, several) for layer in whole[: layers - 1]]
        self.above = nn.ModuleList([*skipped, self.given, *whole[layers:]])

    def read(self, task: Task, batch: Batch, taps: Collection[str] = ()) -> Output:
        values = tensor(
            self.store.gather(self.name, batch.row.cpu().numpy(), batch.length), self.store.dtype(self.name)
        )
        self.given.values = values.to(batch.device)
        with self._in_place():
            return task.read(self.model, batch, taps)

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        whole = getattr(self.parent, self.place)
        self.parent._modules[self.place] = self.above
        try:
            yield
        finally:
            self.parent._modules[self.place] = whole


class PassthroughLayer(nn.Module):
    """Stands where a layer stood: gives what it was given, or ``values`` where these are set, in the layer's form.

    Args:
        layer: whose settings, such as its kind of attention, the model may ask for.
        several: whether the layer answers with a tuple.
    """

    def __init__(self, layer: nn.Module, several: bool) -> None:
        super().__init__()
        for name, value in vars(layer).items():
            if isinstance(value, str | int) and not name.startswith("_"):
                setattr(self, name, value)
        self.values: Tensor | None = None
        self.several = several

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        out = hidden_states if self.values is None else self.values
        return (out,) if self.several else out


def choose_forward(
    model: nn.Module, freeze: Freeze, task: Task, data: Data, taps: Collection[str], folder: Path, steps: float
) -> Forward:
    """A reader that skips what never learns, where that is possible, exact and worth it; else one of the whole.

    Args:
        freeze: the policy that decides what never learns.
        data: a datamodule after ``setup``.
        taps: what the loss reads of the student.
        folder: of all stores.
        steps: how often a training row is read, on average.
    """
    try:
        if task.unit != "row":
            raise NotCacheableError(f"the task has a value a {task.unit}, and a store would hold the logits of each")
        layers = _frozen(model, freeze, taps, steps)
        found = _recall(model, layers, task, data, taps, folder)
    except NotCacheableError as reason:
        log.info("frozen layers are run in every step: %s", reason)
        return FullForward(model)
    log.info("the %d frozen layers are not run: their output was stored in %s", layers, found.store.folder)
    return found


class NotCacheableError(Exception):
    """Why there is nothing to recall."""


def _frozen(model: nn.Module, freeze: Freeze, taps: Collection[str], steps: float) -> int:
    """How many of the lowest layers never learn."""
    try:
        path = layers_path(model)
    except UserError as problem:
        raise NotCacheableError(str(problem)) from problem
    cut = select(freeze, model)
    scales = highest(freeze, len(cut))
    learns = [bool(block.learnable) and scale > 0 for block, scale in zip(cut, scales, strict=True)]
    learning = next((place for place, yes in enumerate(learns) if yes), len(learns))
    layers = min(learning - 1, len(list(model.get_submodule(path).children())))
    if layers < 1:
        raise NotCacheableError("the policy lets every layer learn at some time")
    if steps <= 1:
        raise NotCacheableError("no row is read twice")
    if others := sorted(tap for tap in taps if tap != "pooled"):
        raise NotCacheableError(f"the loss reads '{others[0]}' of the student, which may lie below")
    return layers


def _recall(
    model: nn.Module, layers: int, task: Task, data: Data, taps: Collection[str], folder: Path
) -> CachedPrefixForward:
    """The reader, after it was compared with the whole model."""
    name = f"module:{layers_path(model)}.{layers - 1}"
    batch = data.every_row(256)[0]
    forms: list[Any] = []
    hook = model.get_submodule(name.partition(":")[2]).register_forward_hook(lambda *seen: forms.append(seen[2]))
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            whole = task.read(model.eval(), batch, taps)
            hook.remove()
            form = forms[0]
            dtype = str((form[0] if isinstance(form, tuple) else form).dtype).removeprefix("torch.")
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
            found = CachedPrefixForward(model, layers, store, name, isinstance(form, tuple))
            again = found.read(task, batch, taps)
    except (UserError, AttributeError, TypeError, KeyError, IndexError, RuntimeError) as problem:
        raise NotCacheableError(f"{type(model).__name__} cannot be cut there ({problem})") from problem
    finally:
        hook.remove()
        for module, mode in modes.items():
            module.training = mode
    near = 1e-4 if current() == "float32" else 5e-2
    if not torch.allclose(whole.logits.float(), again.logits.float(), rtol=near, atol=near):
        raise NotCacheableError(f"{type(model).__name__} says something else when it is cut there")
    return found


def _shape(model: nn.Module) -> str:
    """A hash of the configuration, which decides what weights mean."""
    return hashlib.sha256(getattr(model, "config", model).__repr__().encode()).hexdigest()[:16]
