"""Semantic names for places in a model, read from its outputs.

``embedding`` is what enters the first layer, ``hidden.i`` what layer i (0-based, negative from the top) gives,
``attention.i`` its attention probabilities, ``query.i``, ``key.i`` and ``value.i`` what its self-attention is made of
(all heads side by side, before rotary positions where a family has them), ``pooled`` what enters the final classifier,
``module:<dotted path>`` the output of any submodule. As in transformers, ``hidden.-1`` is taken after a decoder's final
norm, and attention probabilities in train mode are those after dropout.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.model.projection import KINDS, catch, projections

log = logging.getLogger(__name__)


def read(model: nn.Module, batch: Batch, taps: Collection[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
    """Run ``model`` once on the batch's inputs.

    Returns:
        logits ``[B, C]``, and by the names in ``taps``: ``embedding``, ``hidden.i``, ``query.i``, ``key.i`` and
        ``value.i`` ``[B, L, D]``, ``attention.i`` ``[B, H, L, L]``, ``pooled`` ``[B, D]``, and ``module:…`` as the
        submodule gives it.

    Raises:
        UserError: a tap that the model does not offer.
    """
    active = _ACTIVE.get(model)
    if active is not None and active.taps == frozenset(taps):
        return active.read(batch)
    reader = TapReader(model, taps)
    with reader.attached():
        return reader.read(batch)


class TapReader:
    """Reads some taps of a model, through hooks that hang while :meth:`attached` lasts.

    Args:
        model: which.
        taps: their names.

    Attributes:
        run: the pass ``(**inputs) -> (logits, {tap: values})``; may be replaced by the same, compiled.

    Raises:
        UserError: a tap that the model does not offer.
    """

    def __init__(self, model: nn.Module, taps: Collection[str]) -> None:
        self.model, self.taps = model, frozenset(taps)
        self.places = {tap: _place(model, tap) for tap in taps}
        kinds = {kind for kind, _ in self.places.values()}
        self.asked: dict[str, bool] = {}
        if isinstance(model, PreTrainedModel):
            self.asked = {"output_hidden_states": "hidden" in kinds, "output_attentions": "attention" in kinds}
        if "attention" in kinds:
            _use_eager_attention(model)
        self.caught: dict[str, Tensor] = {}
        self.calls: dict[str, int] = {}
        self.run: Callable[..., tuple[Tensor, dict[str, Tensor]]] = self.forward

    @contextmanager
    def attached(self) -> Iterator[None]:
        """With the hooks that the taps need."""
        with ExitStack() as hooks:
            for tap, (kind, place) in self.places.items():
                if kind in ("pooled", "module"):
                    hooks.callback(_catch(self.model.get_submodule(place), tap, kind, self.caught).remove)
            wanted = {tap: (kind, place) for tap, (kind, place) in self.places.items() if kind in KINDS}
            for handle in catch(projections(self.model), wanted, self.caught, self.calls) if wanted else ():
                hooks.callback(handle.remove)
            yield

    @contextmanager
    def active(self) -> Iterator[None]:
        """Meanwhile, :func:`read` reads these taps of the model here, without hooks of its own."""
        _ACTIVE[self.model] = self
        try:
            yield
        finally:
            del _ACTIVE[self.model]

    def forward(self, **inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The pass as the model makes it."""
        output = self.model(**inputs, **self.asked)
        values = dict(self.caught)
        for tap, (kind, place) in self.places.items():
            if kind == "hidden":
                values[tap] = output.hidden_states[place]
            elif kind == "attention":
                values[tap] = output.attentions[place]
        if isinstance(output, Tensor):
            return output, values
        if not hasattr(output, "logits"):
            raise UserError(
                f"{type(self.model).__name__}.forward() gives a {type(output).__name__}: let it return the logits, or "
                "an object that has them as .logits."
            )
        return output.logits, values

    def read(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """As :func:`read`, once the hooks hang."""
        self.caught.clear()  # here, where it is not compiled: a graph is only good for what it was compiled for
        self.calls.clear()
        logits, values = self.run(**batch.inputs)
        for tap, (kind, _) in self.places.items():
            if tap not in values:
                raise UserError(
                    f"The tap '{tap}' names a module that {type(self.model).__name__} never runs: choose another."
                )
            if kind == "attention":
                values[tap] = values[tap][..., -batch.length :]  # without the virtual keys of peft=prefix and prompt
            elif kind != "hidden":
                values[tap] = (_one_token if kind == "pooled" else _real_tokens)(self.model, batch, values[tap])
        return logits, {tap: values[tap] for tap in self.places}


AXES = {
    "embedding": ("row", "token", "width"),
    "hidden": ("row", "token", "width"),
    **dict.fromkeys(KINDS, ("row", "token", "width")),
    "attention": ("row", "head", "token", "token"),
    "pooled": ("row", "width"),
}


def axes(model: nn.Module, tap: str) -> tuple[str, ...] | None:
    """The names of a tap's axes, such as ``("row", "token", "width")``; None: nobody declares them.

    A model declares those of its own places in an attribute ``axes``, a dict by tap such as
    ``{"module:stage": ("row", "channel", "height", "width")}``.
    """
    declared = getattr(model, "axes", {})
    return declared.get(tap) or AXES.get(tap.partition(".")[0])


_ACTIVE: WeakKeyDictionary[nn.Module, TapReader] = WeakKeyDictionary()


def available(model: nn.Module) -> list[str]:
    """The named taps of ``model``, from the bottom; besides these, ``module:<path>`` reads any submodule."""
    layers = depth(model)
    names = ["embedding", *(f"hidden.{index}" for index in range(layers))] if layers is not None else []
    names += [f"{kind}.{index}" for kind in projections(model) for index in range(layers or 0)]
    if layers is not None and hasattr(model.config, "num_attention_heads"):
        names += [f"attention.{index}" for index in range(layers)]
    return names + (["pooled"] if _find_final_linear(model) else [])


def final_linear(model: nn.Module) -> tuple[str, nn.Linear]:
    """Dotted path and module of the last linear layer with as many outputs as the model has labels.

    Raises:
        UserError: there is none.
    """
    found = _find_final_linear(model)
    if found is None:
        raise UserError(f"{type(model).__name__} has no final linear classifier, which is what was asked for.")
    return found


def _find_final_linear(model: nn.Module) -> tuple[str, nn.Linear] | None:
    labels = getattr(getattr(model, "config", None), "num_labels", None)
    found = None
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and labels in (None, module.out_features):
            found = name, module
    return found


def depth(model: nn.Module) -> int | None:
    """How many layers the model has; None where it is no stack of layers."""
    return getattr(getattr(model, "config", None), "num_hidden_layers", None)


def classifier(model: nn.Module) -> nn.Linear | None:
    """The final linear layer, which turns the tap ``pooled`` into logits; None where there is none."""
    found = _find_final_linear(model)
    return None if found is None else found[1]


def heads(model: nn.Module) -> int:
    """How many attention heads a layer has; 0 where it has none."""
    return int(getattr(getattr(model, "config", None), "num_attention_heads", None) or 0)


def _place(model: nn.Module, tap: str) -> tuple[str, Any]:
    """What to read for a tap: ("hidden" | "attention", index in the output), ("pooled" | "module", dotted path), or
    ("query" | "key" | "value", layer)."""
    if tap.startswith("module:"):
        path = tap.removeprefix("module:")
        if path and path in dict(model.named_modules()):
            return "module", path
    elif tap == "pooled":
        if (found := _find_final_linear(model)) is not None:
            return "pooled", found[0]
    elif (layers := depth(model)) is not None:
        kind, _, number = tap.partition(".")
        if tap == "embedding":
            return "hidden", 0
        if (
            kind in ("hidden", "attention", *KINDS)
            and number.removeprefix("-").isdecimal()
            and -layers <= int(number) < layers
        ):
            index = int(number) % layers
            if kind == "hidden":
                return "hidden", index + 1
            if hasattr(model.config, "num_attention_heads") and (kind == "attention" or projections(model)):
                return kind, index
    raise UserError(
        f"{type(model).__name__} has no tap '{tap}': choose among {', '.join(available(model))} (negative numbers "
        "count from the top), or module:<dotted path> of a submodule."
    )


def _use_eager_attention(model: nn.Module) -> None:
    if isinstance(model, PreTrainedModel) and model.config._attn_implementation != "eager":
        log.info(
            "%s: attention taps need attention probabilities, so attention is switched from %s to eager (slower).",
            type(model).__name__,
            model.config._attn_implementation,
        )
        model.set_attn_implementation("eager")


def _catch(module: nn.Module, tap: str, kind: str, caught: dict[str, Tensor]) -> torch.utils.hooks.RemovableHandle:
    """Keep what enters (pooled) or leaves (module) ``module`` under ``tap`` until the returned handle is removed."""
    if kind == "pooled":

        def enter(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            caught[tap] = args[0]

        return module.register_forward_pre_hook(enter)

    def leave(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        caught[tap] = output if isinstance(output, Tensor) else output[0]

    return module.register_forward_hook(leave)


def _one_token(model: nn.Module, batch: Batch, values: Tensor) -> Tensor:
    """``[B, D]``: where the classifier runs on every token (decoders), the last token that is not padding."""
    if values.ndim == 2:
        return values
    ids = batch.inputs["input_ids"]
    real = ids != getattr(model.config, "pad_token_id", None)
    last = (torch.arange(ids.shape[1], device=ids.device) * real).argmax(-1)
    return values[torch.arange(len(ids), device=ids.device), last]


def _real_tokens(model: nn.Module, batch: Batch, values: Tensor) -> Tensor:
    """``values`` without the places of the virtual tokens that peft=prompt puts before every text."""
    virtual = getattr(model, "virtual_tokens", 0)
    longer = values.ndim > 2 and values.shape[1] == virtual + batch.length
    return values[:, virtual:] if virtual and longer else values
