"""Queries, keys and values of self-attention: the modules that compute them in transformers' text models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from kdlab.model.family.origin import ModuleOutput, Origin

KINDS = ("query", "key", "value")
SEPARATE = (  # the names of three linear modules side by side
    KINDS,  # BERT, RoBERTa, ELECTRA, ALBERT and their relatives
    ("q_lin", "k_lin", "v_lin"),  # DistilBERT
)
FUSED = "c_attn"  # GPT-2: one module computes all three, one after the other


def projections(model: nn.Module, separate: Sequence[tuple[str, ...]] = SEPARATE) -> dict[str, Origin]:
    """The taps ``query.i``, ``key.i`` and ``value.i``; none where attention modules are not known, one for each layer.

    Args:
        separate: the names that the three modules may have, where they are three.

    Layers that share an attention module (ALBERT) share its projections: layer i is the i-th run of any of them.
    """
    config: Any = model.config
    depth = getattr(config, "num_hidden_layers", None) or 0
    found = list(_attentions(model, getattr(config, "hidden_size", 0), separate))
    shared = getattr(config, "num_hidden_groups", None) if getattr(config, "inner_group_num", 1) == 1 else 0
    if not found or len(found) != (depth if shared is None else shared):
        return {}
    taps: dict[str, Origin] = {}
    for number, kind in enumerate(KINDS):
        part, parts = (number, 3) if len(found[0]) == 1 else (0, 1)
        paths = [one[0] if len(one) == 1 else one[number] for one in found]
        for layer in range(depth):
            which, run = ((paths[layer],), None) if shared is None else (tuple(paths), layer)
            taps[f"{kind}.{layer}"] = ModuleOutput(which, run, part, parts)
    return taps


def _attentions(model: nn.Module, size: int, separate: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """For each attention module from the bottom the paths of its three projections, or of the one that is all three."""
    for path, module in model.named_modules():
        children = dict(module.named_children())
        inside = f"{path}." if path else ""
        for names in separate:
            parts = [children[name] for name in names if name in children]
            if len(parts) == len(names) and all(hasattr(part, "out_features") for part in parts):
                yield tuple(f"{inside}{name}" for name in names)
        fused = children.get(FUSED)
        if fused is not None and size and getattr(fused, "nf", getattr(fused, "out_features", 0)) == 3 * size:
            yield (f"{inside}{FUSED}",)
