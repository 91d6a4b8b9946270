"""Models in a GGUF file, which are converted once into an ordinary directory of the cache."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from kdlab import manifest
from kdlab.error import UserError
from kdlab.fetch import cache, once
from kdlab.file import sha256
from kdlab.model.quiet import quiet

ENDING = ".gguf"
NEEDED = ("gguf", "accelerate")  # packages with which transformers reads such a file
VERSION = 1  # of the conversion


def is_gguf(path: str) -> bool:
    """Whether a path names a GGUF file.

    Example:
        >>> is_gguf("models/SmolLM2.Q4_1.gguf"), is_gguf("models/smollm2")
        (True, False)
    """
    return path.endswith(ENDING)


def converted(file: Path) -> Path:
    """A directory with the causal language model of a GGUF file in bfloat16, and its tokenizer.

    It is made at the first use, and kept in the cache under the checksum of the file. Quantised weights are expanded;
    bfloat16 rounds them by at most 1 part in 256, which is less than what the quantisation itself lost.

    Raises:
        UserError: a package that reads the file is missing, or the file holds no causal language model.
    """
    stat = file.stat()
    return _kept(file, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _kept(file: Path, size: int, changed: int) -> Path:
    """The directory, which is looked at once a process."""
    folder = cache() / "gguf" / f"{file.stem}-{VERSION}-{sha256(file)[:16]}"
    if not folder.exists():
        if missing := [name for name in NEEDED if find_spec(name) is None]:
            raise UserError(
                f"reading {file.name} needs {' and '.join(missing)}: pip install 'kdlab[lm]'; afterwards the model is "
                "in the cache and neither is needed"
            )
        print(f"kdlab: converting {file.name}, once, into {cache() / 'gguf'}", file=sys.stderr, flush=True)
    once(folder, lambda new: _convert(file, new))
    if name := manifest.changed(folder):
        raise UserError(
            f"{folder / name} in the cache is not as it was converted, so it is not used: remove {folder}, and it is "
            f"made again from {file.name}"
        )
    return folder


def _convert(file: Path, new: Path) -> None:
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
            model = _dense(file)
    except Exception as error:  # of a torn file each reader raises its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{file} cannot be read as a causal language model in GGUF ({reason}): give a file that transformers "
            "reads, or a directory with config.json and model.safetensors"
        ) from error
    with quiet():
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
    manifest.write(new)


def _dense(file: Path) -> PreTrainedModel:
    """The model with ordinary weights. Loaded from GGUF it counts as quantised, and could not be saved."""
    packed = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True, trust_remote_code=False, dtype=torch.bfloat16,
        **_expanded(),
    )  # fmt: skip
    config = packed.config
    vars(config).pop("quantization_config", None)
    vars(config)["_name_or_path"] = ""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(packed.state_dict())
    return model


def _expanded() -> dict:
    """The argument that expands quantised weights, where transformers would keep them as they are in the file."""
    try:
        from transformers import GgufConfig  # not in all releases of transformers 5
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}
