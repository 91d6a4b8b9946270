"""Reads named places of a model, its taps, in one forward pass.

Which taps a model has, and where their values come from, is declared by its family (:mod:`kdlab.model.family`):
``embedding`` and ``hidden.i`` (0-based, negative from the top), ``attention.i``, ``query.i``, ``key.i``, ``value.i``,
``pooled``, which enters the final classifier, and ``module:<dotted path>``, the output of any submodule.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.model.family.find import family
from kdlab.model.family.origin import Returned


def available(model: nn.Module) -> list[str]:
    """The named taps of ``model``, from the bottom; besides these, ``module:<path>`` reads any submodule."""
    return list(family(model).taps(model))


def read(model: nn.Module, batch: Batch, taps: Collection[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
    """Run ``model`` once on the batch's inputs.

    Returns:
        logits ``[B, C]``, and by the names in ``taps`` the values: of a text model ``embedding``, ``hidden.i``,
        ``query.i``, ``key.i`` and ``value.i`` ``[B, L, D]``, ``attention.i`` ``[B, H, L, L]``, ``pooled`` ``[B, D]``;
        ``module:…`` as the submodule returns it.

    Raises:
        UserError: a tap that the model does not offer.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        >>> model.forward = lambda pixels: model[1](model[0](pixels))
        >>> batch = Batch(torch.arange(5), {"pixels": torch.ones(5, 4)})
        >>> logits, values = read(model, batch, ["pooled", "module:0"])
        >>> tuple(logits.shape), {name: tuple(value.shape) for name, value in values.items()}
        ((5, 2), {'pooled': (5, 3), 'module:0': (5, 3)})
    """
    active = _ACTIVE.get(model)
    if active is not None and active.taps == frozenset(taps):
        return active.read(batch)
    reader = TapReader(model, taps)
    with reader.attached():
        return reader.read(batch)


class TapReader:
    """Reads some taps of one model; its hooks are attached as long as :meth:`attached` lasts.

    Args:
        model: the model; the places of its taps are looked up once.
        taps: their names.

    Attributes:
        run: the pass ``(**inputs) -> (logits, {tap: values})``; may be replaced by the same, compiled.

    Raises:
        UserError: a tap that the model does not offer.
    """

    def __init__(self, model: nn.Module, taps: Collection[str]) -> None:
        self.model, self.taps = model, frozenset(taps)
        self.family = family(model)
        self.origins = self.family.origins(model, taps)
        self.returned = {tap: origin for tap, origin in self.origins.items() if isinstance(origin, Returned)}
        self.options = self.family.options(model, self.origins.values())
        self.kept: dict[str, Tensor] = {}
        self.runs: dict[str, int] = {}
        self.run: Callable[..., tuple[Tensor, dict[str, Tensor]]] = self.forward

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Meanwhile, the hooks that the taps need are attached to the model."""
        with ExitStack() as hooks:
            for tap, origin in self.origins.items():
                for handle in origin.attach(self.model, tap, self.kept, self.runs):
                    hooks.callback(handle.remove)
            yield

    @contextmanager
    def active(self) -> Iterator[None]:
        """Meanwhile, :func:`read` reads these taps of the model with this reader, and attaches no other hooks."""
        _ACTIVE[self.model] = self
        try:
            yield
        finally:
            del _ACTIVE[self.model]

    def forward(self, **inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The uncompiled pass."""
        output = self.model(**inputs, **self.options)
        values = dict(self.kept)
        for tap, origin in self.returned.items():
            values[tap] = origin.of(output)
        return self.family.logits(self.model, output), values

    def read(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """As :func:`read`, while the hooks are attached."""
        self.kept.clear()  # here, where it is not compiled: a graph is only good for what it was compiled for
        self.runs.clear()
        logits, values = self.run(**self.family.adapted(self.model, batch.inputs))
        if absent := [tap for tap in self.origins if tap not in values]:
            raise UserError(
                f"The tap '{absent[0]}' names a module that {type(self.model).__name__} never runs: choose another."
            )
        return logits, {tap: self.family.trim(self.model, batch, tap, values[tap]) for tap in self.origins}


class TapReaders:
    """The readers of one model, which look up the places of its taps once for each set of taps."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.known: dict[frozenset[str], TapReader] = {}

    @contextmanager
    def use(self, taps: Collection[str]) -> Iterator[None]:
        """Meanwhile, :func:`read` reads these taps of the model without looking them up."""
        names = frozenset(taps)
        if names not in self.known:
            self.known[names] = TapReader(self.model, taps)
        with self.known[names].attached(), self.known[names].active():
            yield


_ACTIVE: WeakKeyDictionary[nn.Module, TapReader] = WeakKeyDictionary()
