"""Names for the linear maps of a transformer's layer, whatever the family calls them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D

from kdlab.error import UserError
from kdlab.model.block import blocks
from kdlab.transform.base import FAMILIES

PLACES = {  # the ends of the dotted paths: BERT and its relatives, DistilBERT, ALBERT, Llama, GPT-2
    "query": ("query", "q_lin", "q_proj", "c_attn"),
    "key": ("key", "k_lin", "k_proj", "c_attn"),
    "value": ("value", "v_lin", "v_proj", "c_attn"),
    "attention_output": (
        "attention.output.dense", "attention.out_lin", "attention.dense", "self_attn.o_proj", "attn.c_proj",
    ),
    "intermediate": ("intermediate.dense", "ffn.lin1", "ffn", "up_proj", "gate_proj", "c_fc"),
    "output": ("output.dense", "ffn.lin2", "ffn_output", "down_proj", "mlp.c_proj"),
}  # fmt: skip


def find(model: nn.Module, places: Collection[str], who: str) -> dict[str, nn.Module]:
    """The modules at the named places of every layer, by dotted path, from the bottom.

    Args:
        places: keys of :data:`PLACES`.
        who: name of the transform, for the message.

    Raises:
        UserError: the model's layers have none of them.
    """
    inside = {
        id(part)
        for block in blocks(model)
        if block.name.startswith("layer.")
        for module in block.modules
        for part in module.modules()
    }
    found: dict[str, nn.Module] = {
        name: module
        for name, module in model.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear | Conv1D) and at(name) & set(places)
    }
    if absent := [place for place in places if not any(place in at(name) for name in found)]:
        raise UserError(
            f"{who} needs the place '{absent[0]}' in every layer, which {type(model).__name__} does not have: use "
            f"{FAMILIES}; or peft=none"
        )
    return found


def at(path: str) -> set[str]:
    """The places that a dotted path ends in; the longest end decides, and a fused map is at several places."""
    ends = [(end, place) for place, names in PLACES.items() for end in names if f".{path}".endswith(f".{end}")]
    longest = max((len(end) for end, _ in ends), default=0)
    return {place for end, place in ends if len(end) == longest}


def known(words: Sequence[str]) -> list[str]:
    """``[all]`` as the names of all places.

    Raises:
        UserError: there is no such place, or none is named.
    """
    if list(words) == ["all"]:
        return list(PLACES)
    if unknown := [word for word in words if word not in PLACES]:
        raise UserError(f"modules names the place '{unknown[0]}': choose among {', '.join(PLACES)}, or [all]")
    if not words:
        raise UserError(f"modules is empty: choose at least one of {', '.join(PLACES)}, or [all]")
    return list(words)
