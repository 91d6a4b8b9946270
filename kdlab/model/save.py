"""A trained model on disk in ``save_pretrained`` layout, written completely or not at all, and loaded bit for bit."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from kdlab.error import UserError
from kdlab.file import full, put, sha256, sync
from kdlab.model.family.base import WEIGHTS
from kdlab.model.family.find import family
from kdlab.model.pretrained import UNREADABLE, kind, read_config, read_model
from kdlab.model.quiet import quiet

FINGERPRINT = "_kdlab_fingerprint"  # the attribute of a tokenizer that keeps its fingerprint


class Saves(Protocol):
    """A processor of kdlab or of transformers, such as a tokenizer."""

    def save_pretrained(self, folder: Any) -> Any:
        """Write the files that are needed to read rows again."""
        ...


def save(model: nn.Module, processor: Saves | None, folder: str | Path) -> Path:
    """Write ``model`` and its processor into ``folder``, whose earlier content is replaced.

    A transformers model gives config.json and model.safetensors, any other module only the latter. Everything is
    written beside ``folder`` first, so a crash leaves the old one or none.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    fresh.mkdir()
    try:
        _write(model, processor, fresh)
        if folder.exists():
            old = folder.with_name(f"{fresh.name}.old")
            folder.rename(old)
            put(fresh, folder)
            shutil.rmtree(old)
        else:
            put(fresh, folder)
    except SafetensorError as problem:
        raise full(problem, folder) from problem
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _write(model: nn.Module, processor: Saves | None, folder: Path) -> None:
    """Write all files into a new folder, and sync them to the disk."""
    family(model).write(model, folder)
    if processor is not None:
        _unset(getattr(processor, "tokenizer", processor))
        with quiet():
            processor.save_pretrained(folder)
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(folder.stat().st_mode & 0o666)  # safetensors writes files that only their owner can read
        sync(file)
    sync(folder)


def _unset(tokenizer: Any) -> None:
    """Forget the truncation of the last call, which would be saved; where rows come from a cache, there is none."""
    if (fast := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        fast.no_truncation()
        fast.no_padding()


def load(
    folder: str | Path, build: Callable[[], nn.Module] | None = None
) -> tuple[nn.Module, PreTrainedTokenizerBase | None]:
    """The model in ``folder``, in eval mode, and its tokenizer (None if none was saved).

    Args:
        build: makes a fresh model of the saved shape, whose weights are then all taken from the file. Needed for a
            module that is no transformers model, or one with a head of its own.

    Raises:
        UserError: nothing there, a corrupt file, or weights of another model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no saved model at '{folder}': give the model/ directory of a finished run.")
    model: nn.Module
    if build is None:
        config = read_config(str(folder))
        model = read_model(str(folder), config, new_head=False, task=kind(config))
    else:
        model = build()
        try:
            load_model(model, folder / WEIGHTS, strict=True)
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"The weights in '{folder / WEIGHTS}' do not fill a {type(model).__name__} ({reason}): the file is "
                "missing, corrupt, or of another model; train that run again or name the right one."
            ) from error
    return model.eval(), load_tokenizer(folder)


def size_bytes(folder: str | Path) -> int:
    """Bytes of the weight files in ``folder``; the tokenizer and the configuration do not count."""
    return sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))


def weights_sha256(model: nn.Module) -> str:
    """A hash of the names, types, shapes and bytes of the whole state; the same on every device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint(folder: Path) -> str:
    """A hash of the weights and the shape of the model saved in ``folder``; nothing is loaded.

    Raises:
        UserError: there are no weights.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    if not files:
        raise UserError(
            f"The weights at '{folder}' cannot be read: model.safetensors is missing; give the model/ directory of a "
            "finished run."
        )
    shape = [path for path in (folder / "config.json",) if path.exists()]
    return _digest(tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in [*files, *shape]))


@lru_cache
def _digest(stamp: tuple[tuple[str, int, int], ...]) -> str:
    return hashlib.sha256(" ".join(sha256(Path(name)) for name, _, _ in stamp).encode()).hexdigest()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of the vocabulary and the special tokens: equal where two models can read the same ``input_ids``."""
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    state = (len(tokenizer), json.dumps(special, sort_keys=True))
    if (known := getattr(tokenizer, FINGERPRINT, None)) is not None and known[0] == state:
        return str(known[1])
    content: list[Any] = [sorted(tokenizer.get_vocab().items()), special, sorted(tokenizer.all_special_ids)]
    found = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    setattr(tokenizer, FINGERPRINT, (state, found))  # of a large vocabulary it takes a tenth of a second
    return found


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    if not (folder / "tokenizer_config.json").exists():
        return None
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except BaseException as error:  # the tokenizers library raises bare Exception on a corrupt file, or panics
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise UserError(
            f"The tokenizer in '{folder}' cannot be read ({type(error).__name__}): its files are corrupt; train that "
            "run again or copy the tokenizer's files from where they came."
        ) from error
