"""Which run a config describes: a readable slug and a hash of all that can change its result."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdlab.datamodule.processor.key import PROCESSORS
from kdlab.error import UserError
from kdlab.file import sha256
from kdlab.precision import fastest

NEUTRAL = frozenset(
    {"hydra", "outputs", "rerun", "group", "logger", "cluster", "choice", "command", "check", "trust", "allow_overlap"}
)
NEUTRAL_ANYWHERE = frozenset(
    {"download", "progress", "lr_monitor", "every_n_steps", "keep_optimizer", "log_every_n_steps", "profiler"}
)
COUNTED = frozenset({"limit_train_batches", "limit_val_batches", "limit_test_batches", "val_check_interval"})
# options that read any data, and the key that names it
OPEN_DATA = {"table": "path", "hub": "name", "chat": "path", "pairs": "path"}
LEAST = 6  # characters of the inside of an id that stand for it
LONGEST_NAME = 32  # characters of it in an id
# keys whose value, where it names a file or folder, stands for what is in it
CONTENT = frozenset({"path", "name", "pretrained_embedding", *PROCESSORS})
TRAINED = frozenset({"run", "other", "start"})  # likewise, for the model of a run that lies there
MODELS = frozenset({"model", "student", "inner"})  # nodes whose ``lr`` is a recommendation; what is used is elsewhere


def identity(config: Mapping[str, Any]) -> str:
    """Eight hex digits that are equal exactly where the results must be equal."""
    kept = essential({key: value for key, value in config.items() if key not in NEUTRAL})
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def essential(value: Any, key: str = "") -> Any:
    """What results depend on of a part of a config: files by their content, and nothing such as ``download``."""
    if isinstance(value, Mapping):
        left_out = NEUTRAL_ANYWHERE | {"lr"} if key in MODELS else NEUTRAL_ANYWHERE
        return {str(k): essential(v, str(k)) for k, v in value.items() if k not in left_out}
    if isinstance(value, (list, tuple)):
        return [essential(item) for item in value]
    if key in COUNTED and isinstance(value, int) and value == 1:
        return "one batch"  # and 1.0 is all of them: the only numbers whose type says what they mean
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 2 and 2.0 are the same number
    if key in CONTENT and isinstance(value, str) and value and Path(value).exists():
        return _content(value, but=WEIGHTS if key in PROCESSORS else ())
    if key in TRAINED and isinstance(value, str) and (found := trained_folder(value)) is not None:
        return _content(str(found[1]))
    return value


WEIGHTS = (".safetensors", ".bin")  # of a model beside its tokenizer


def trained_folder(name: str | Path) -> tuple[Path, Path] | None:
    """The folder of the run, or of the model from elsewhere, that lies at ``name``, and that with its weights.

    Args:
        name: a run directory, a model directory, or a checkpoint in a run directory.
    """
    folder = Path(name)
    if folder.suffix == ".ckpt" and folder.is_file():
        folder = folder.parent.parent
    if (folder / "config.yaml").is_file():
        return folder, folder / "model"
    return (folder, folder) if (folder / "config.json").is_file() else None


def _content(path: str, but: tuple[str, ...] = ()) -> str:
    files = [Path(path)] if Path(path).is_file() else sorted(p for p in Path(path).rglob("*") if p.is_file())
    stamp = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files if p.suffix not in but)
    return _digest(stamp, path)


@lru_cache
def _digest(stamp: tuple[tuple[str, int, int], ...], root: str) -> str:
    digest = hashlib.sha256()
    for name, _, _ in stamp:
        digest.update(os.path.relpath(name, root).encode())
        digest.update(sha256(Path(name)).encode())
    return digest.hexdigest()


def data_name(choices: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """What to call the data of a run: the name of its option, or that of the file where the option reads any file.

    Args:
        choices: the names of the selected options.
        config: the composed config, resolved.

    Example:
        >>> data_name({"datamodule": "table"}, {"datamodule": {"path": "../mine/tweets 2024.csv"}})
        'tweets_2024'
    """
    option, node = choices.get("datamodule"), config.get("datamodule")
    place = node.get(OPEN_DATA.get(str(option), "")) if isinstance(node, Mapping) else None
    if not isinstance(place, str):
        return option
    stem = re.split(r"[/\\:]", place.rstrip("/\\"))[-1].split(".")[0]
    return re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_")[:LONGEST_NAME] or option


def matching(name: str, ids: Iterable[str]) -> list[str]:
    """The run ids that a name stands for: itself, else those that end or begin with it, else those that have it inside.

    Example:
        >>> matching("d4f03024", ["tweets-bert_tiny-kd-none-s0-d4f03024", "tweets-bert_tiny-kd-none-s1-06d8928d"])
        ['tweets-bert_tiny-kd-none-s0-d4f03024']
    """
    known = sorted(set(ids))
    if name in known or not name:
        return [name] if name else []
    ways: tuple[Callable[[str], bool], ...] = (
        lambda one: one.endswith(name), lambda one: one.startswith(name), lambda one: len(name) >= LEAST and name in one
    )  # fmt: skip
    return next((found for fits in ways if (found := [one for one in known if fits(one)])), [])


def shown(id: str) -> str:
    """The end of a run id that tables show: its hash, with its seed, without which some hashes would read as numbers.

    Example:
        >>> shown("tweets-bert_tiny-kd-none-s0-1234e567")
        's0-1234e567'
    """
    parts = id.rsplit("-", 2)
    return "-".join(parts[1:]) if len(parts) == 3 and re.fullmatch(r"s\d+", parts[1]) else id[-8:]


def resolved(name: str, ids: Iterable[str]) -> str | None:
    """The one run id that a name stands for; None where it stands for none.

    Raises:
        UserError: it stands for several.
    """
    found = matching(name, ids)
    if len(found) > 1:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise UserError(
            f"'{name}' is the end or the beginning of {len(found)} run ids ({', '.join(found[:5])}{more}): "
            "give more of it"
        )
    return found[0] if found else None


def slug(choices: Mapping[str, Any], seed: Any, data: str | None = None) -> str:
    """The readable half of an id, from the names of the selected options and, where it is given, of the data."""
    groups = ("datamodule", "model", "model@student", "loss", "freeze")
    words = [data if data and group == "datamodule" else choices.get(group) for group in groups]
    stages = [str(choices["stages"])] if choices.get("stages") not in (None, "none") else []
    return "-".join([str(word) for word in words if word] + stages + [f"s{seed}"])


def run_id(root: DictConfig) -> str:
    """The id of the run that a composed config describes; the resolver ``${run_id:}``."""
    plain = OmegaConf.masked_copy(root, [str(key) for key in root if key != "hydra"])
    config: Any = OmegaConf.to_container(plain, resolve=True)
    return named(root.hydra.runtime.choices if "hydra" in root else {}, config)


def named(choices: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The id of a run: its slug and a hash of its config.

    Args:
        choices: the names of the selected options.
        config: the composed config, resolved, without Hydra's own node.
    """
    return f"{slug(choices, config.get('seed'), data_name(choices, config))}-{identity(config)}"


OmegaConf.register_new_resolver("run_id", lambda _root_: run_id(_root_), replace=True)
OmegaConf.register_new_resolver("cpu_precision", fastest, replace=True)
