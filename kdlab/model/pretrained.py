"""Reading a saved transformers model: offline unless download is allowed, and without executing code from it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
)

import kdlab.model.architecture.mlp
import kdlab.model.architecture.simkd  # noqa: F401  (both register their classes with the Auto classes)
from kdlab.error import UserError
from kdlab.fetch import local, permitted
from kdlab.model.block import blocks
from kdlab.model.family.find import auto, family, task_of
from kdlab.model.gguf import converted, is_gguf
from kdlab.model.quiet import quiet

LAYERS, NUMBER = 2048, 2**30  # in a config.json
SPARE = 50_000_000  # parameters of a head that the weights may lack

UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
    AttributeError,
    TypeError,
)


def kind(config: PreTrainedConfig) -> str:
    """The task that a saved model was made for, by its class."""
    names = config.architectures if isinstance(config.architectures, list) and config.architectures else [""]
    return task_of(str(names[0]))


def resolve(path: str, download: bool) -> str:
    """A path that transformers can load: a directory, or a hub id.

    A ``package:`` spec becomes its folder in the cache, a GGUF file the directory that is made of it.
    """
    if Path(path).is_dir():
        return str(path)
    found = local(path, download)
    return str(converted(Path(found))) if is_gguf(found) and Path(found).is_file() else found


def read_config(path: str, download: bool = False) -> PreTrainedConfig:
    """The configuration at ``path`` (a directory or a hub id). UserError where there is none."""
    try:
        with quiet():
            config = AutoConfig.from_pretrained(path, local_files_only=not permitted(download), trust_remote_code=False)
    except (*UNREADABLE, RecursionError, ImportError) as error:
        raise UserError(
            f"There is no transformers model at '{path}' ({_first(error)}): give a directory with config.json and "
            "model.safetensors, a package: spec, or a hub id that is in the cache or may be downloaded (download=true)."
        ) from error
    _check_shape(config, path)
    return config


def read_model(
    path: str,
    config: PreTrainedConfig,
    download: bool = False,
    new_head: bool = True,
    task: str = "sequence_classification",
) -> PreTrainedModel:
    """The model at ``path``, weights in float32, in eval mode.

    Args:
        task: the kind of task, such as ``sequence_classification`` or ``causal_lm``.
        new_head: the head may be missing or of another shape in the file; then it is freshly initialised. Everything
            below the head must always be there and fit.

    Raises:
        UserError: the weights are missing, corrupt, or of another shape than that of ``config``.
    """
    try:
        with quiet():
            model, report = auto(task).from_pretrained(
                path,
                config=config,
                local_files_only=not permitted(download),
                trust_remote_code=False,
                weights_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (*UNREADABLE, ImportError, AssertionError, IndexError) as error:
        raise UserError(
            f"The weights at '{path}' cannot be read ({_first(error)}): the file is missing, corrupt, or needs code to "
            "be run, which is never done; save the model again as model.safetensors."
        ) from error
    absent = {*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])}
    if new_head:
        absent -= _head_names(model)
    elif report["unexpected_keys"]:
        absent |= set(report["unexpected_keys"])
    if absent:
        some = ", ".join(sorted(absent)[:3])
        raise UserError(
            f"The weights at '{path}' are not those of a {type(model).__name__} with this config.json: {len(absent)} "
            f"tensors are missing, extra, or of another shape ({some}…); use the file that belongs to the config"
            + ("." if new_head else ", or pass build= if the model has a head of its own.")
        )
    return model


def _check_shape(config: PreTrainedConfig, path: str) -> None:
    """Check, before any weight is read, that the config neither fills the memory nor runs code.

    Raises:
        UserError: more layers or larger numbers than a model has, a shape that the weights cannot fill, or attention
            from the hub.
    """
    attention = str(getattr(config, "_attn_implementation", None) or "")
    if "/" in attention:
        raise UserError(
            f"config.json at '{path}' asks for attention code of the hub ('{attention}'): remove that line."
        )
    try:
        large = [f"{name}={value}" for name, value in config.to_dict().items() if _is_large(name, value)]
    except UNREADABLE as error:
        raise UserError(f"config.json at '{path}' is damaged ({_first(error)}): save the model again.") from error
    if large:
        raise UserError(f"config.json at '{path}' has {large[0]}, which no model has: save the model again.")
    files = [*Path(path).glob("*.safetensors"), *Path(path).glob("*.bin")] if Path(path).is_dir() else []
    held = sum(file.stat().st_size for file in files)
    try:
        with quiet(), torch.device("meta"):
            model = auto(kind(config)).from_config(config, trust_remote_code=False)
            count = sum(parameter.numel() for parameter in model.parameters())
    except Exception:  # read_model and the model's own factory name the problem
        return
    if files and count > 4 * held + SPARE:
        raise UserError(
            f"config.json at '{path}' describes {count:,} parameters, and the weights beside it hold {held:,} bytes: "
            "they do not belong together; save the model again."
        )


def _is_large(name: str, value: object) -> bool:
    most = LAYERS if name in ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "depth") else NUMBER
    return isinstance(value, int) and value > most


def read_embedding(path: str, download: bool = False) -> torch.Tensor:
    """The word embeddings ``[V, D]`` of the pretrained model at ``path``, float32."""
    config = read_config(path, download)
    try:
        with quiet():
            model = AutoModel.from_pretrained(
                path,
                config=config,
                local_files_only=not permitted(download),
                trust_remote_code=False,
                weights_only=True,
                dtype=torch.float32,
            )
        return model.get_input_embeddings().weight.detach().clone()
    except (*UNREADABLE, NotImplementedError) as error:
        raise UserError(
            f"The word embeddings at '{path}' cannot be read ({_first(error)}): give the directory of a text model."
        ) from error


def check_vocabulary(config: PreTrainedConfig, tokenizer: Any, where: str, size: str = "vocab_size") -> None:
    """UserError if the tokenizer's ids are not the rows of the model's word embeddings (a few spare rows are usual).

    Args:
        size: the name of the number of rows in the config; where it has none of that name, its ``vocab_size`` counts.
    """
    shape = config.get_text_config()
    model, words = getattr(shape, size, None) or shape.vocab_size, len(tokenizer)
    if words > model or model > 1.05 * words + 128:
        raise UserError(
            f"The tokenizer has {words} tokens but the model '{where}' has embeddings for {model}: they do not belong "
            "together; set the tokenizer to the one that the model was trained with."
        )


def _head_names(model: PreTrainedModel) -> set[str]:
    head = {id(parameter) for parameter in blocks(model)[-1].parameters}
    return {name for name, parameter in model.named_parameters(remove_duplicate=False) if id(parameter) in head}


def classifier_name(config: PreTrainedConfig) -> str | None:
    """The name of the weights of the final linear layer of a classifier of this shape; None where it has none."""
    try:
        with quiet(), torch.device("meta"):
            model = auto("sequence_classification").from_config(config, trust_remote_code=False)
        return f"{family(model).find_head(model)[0]}.weight"
    except (*UNREADABLE, UserError):
        return None


@contextmanager
def readable(file: Path) -> Iterator[Any]:
    """An open file of weights, none of which is loaded. UserError where it is corrupt."""
    try:
        opened = safe_open(file, "pt")
    except UNREADABLE as error:
        raise UserError(f"The weights in '{file}' cannot be read ({_first(error)}): save the model again.") from error
    with opened as handle:
        yield handle


def _first(error: BaseException) -> str:
    """The first sentence of an error, short enough for a sentence."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0].split('. ')[0][:160]}"
