"""Queries, keys and values of self-attention: where the families of models make them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

KINDS = ("query", "key", "value")
SEPARATE = (  # the names of three linear modules side by side
    KINDS,  # BERT, RoBERTa, ELECTRA, ALBERT and their relatives
    ("q_lin", "k_lin", "v_lin"),  # DistilBERT
)
FUSED = "c_attn"  # GPT-2: one module makes all three, one after the other


@dataclass(frozen=True)
class Projection:
    """The module that makes a kind of vector in one attention module, and which part of its output that is."""

    module: nn.Module
    part: int = 0
    parts: int = 1


def projections(model: nn.Module) -> dict[str, list[Projection]]:
    """By kind, what makes it in each attention module, from the bottom; nothing where they are not one a layer.

    Layers that share an attention module (ALBERT) share its projections: the i-th time that one of the list runs is
    layer i.
    """
    config = getattr(model, "config", None)
    layers = getattr(config, "num_hidden_layers", None)
    found = list(_attentions(model, getattr(config, "hidden_size", 0)))
    shared = getattr(config, "num_hidden_groups", None) if getattr(config, "inner_group_num", 1) == 1 else 0
    if not found or len(found) != (layers if shared is None else shared):
        return {}
    return {kind: [one[index] for one in found] for index, kind in enumerate(KINDS)}


def _attentions(model: nn.Module, size: int) -> Iterator[tuple[Projection, Projection, Projection]]:
    for module in model.modules():
        children = dict(module.named_children())
        for names in SEPARATE:
            parts = [children[name] for name in names if name in children]
            if len(parts) == len(names) and all(hasattr(part, "out_features") for part in parts):
                query, key, value = map(Projection, parts)
                yield query, key, value
        fused = children.get(FUSED)
        if fused is not None and size and getattr(fused, "nf", getattr(fused, "out_features", 0)) == 3 * size:
            yield Projection(fused, 0, 3), Projection(fused, 1, 3), Projection(fused, 2, 3)


def catch(
    found: Mapping[str, list[Projection]], wanted: Mapping[str, tuple[str, int]], caught: dict[str, Tensor],
    calls: dict[str, int],
) -> Iterator[RemovableHandle]:  # fmt: skip
    """Keep what the projections give in the next forward passes.

    Args:
        found: of :func:`projections`.
        wanted: by tap name, the kind and the layer.
        caught: where ``[B, L, D]`` is put, by tap name.
        calls: how often a kind was made in this pass; to be cleared before each.

    Yields:
        Handles, to be removed afterwards.
    """

    def watch(kind: str, projection: Projection) -> RemovableHandle:
        def leave(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            call = calls.get(kind, 0)
            for tap, place in wanted.items():
                if place == (kind, call):
                    caught[tap] = output.chunk(projection.parts, -1)[projection.part]
            calls[kind] = call + 1

        return projection.module.register_forward_hook(leave)

    for kind in sorted({kind for kind, _ in wanted.values()}):
        for projection in found[kind]:
            yield watch(kind, projection)
