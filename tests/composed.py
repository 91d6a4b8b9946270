"""Hydra composes the same options once for all tests of a process: the values of a command line are set afterwards.

Which files a command line chooses, and what they merge to, depends on the options and on the files alone. Both are kept
by these, and copied for each command.
"""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore

MOST = 64  # of what is kept, the oldest goes first: a merged config is up to a megabyte
choose, merge = defaults_list._create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list  # Hydra's own
VALUES = "config_overrides"  # of Hydra's ``Overrides``: those that choose no option


def files(folder: str) -> Iterator[tuple[str, int, int]]:
    """Each YAML file below a folder, with its time and size."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from files(entry.path)
            elif entry.name.endswith((".yaml", ".yml")):
                found = entry.stat()
                yield entry.path, found.st_mtime_ns, found.st_size


def names(node: Any, where: str = "") -> Iterator[str]:
    """Each config that Python code has registered."""
    for key, inner in node.items() if isinstance(node, dict) else ():
        yield f"{where}/{key}"
        yield from names(inner, f"{where}/{key}")


def sources(repo: Any) -> tuple[Any, ...]:
    """All that configs are composed of: the places, in their order, and the files in them."""
    places = [(source.scheme(), source.provider, source.path) for source in repo.get_sources()]
    found = [tuple(sorted(files(path))) for scheme, _, path in places if scheme == "file" and Path(path).is_dir()]
    return tuple(places), tuple(found), tuple(names(ConfigStore.instance().repo))


@contextmanager
def once() -> Iterator[dict[Any, Any]]:
    """Inside, nothing is composed twice; gives what is kept."""
    kept: dict[Any, Any] = {}
    before = defaults_list._create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list

    def keep(key: Any, value: Any) -> None:
        if len(kept) >= MOST:
            del kept[next(iter(kept))]
        kept[key] = value

    def chosen(repo: Any, config_name: Any, overrides: Any, prepend_hydra: bool, skip_missing: bool) -> Any:
        state = {name: value for name, value in vars(overrides).items() if name != VALUES}
        key = (sources(repo), config_name, pickle.dumps(state), prepend_hydra, skip_missing)
        if key not in kept:
            found = choose(repo, config_name, overrides, prepend_hydra=prepend_hydra, skip_missing=skip_missing)
            after = {name: value for name, value in vars(overrides).items() if name != VALUES}
            keep(key, pickle.dumps((found, after)))
        found, after = pickle.loads(kept[key])
        vars(overrides).update(after)
        return found

    def merged(loader: Any, defaults: Any, repo: Any) -> Any:
        key = (sources(repo), pickle.dumps(defaults))
        if key not in kept:
            keep(key, merge(loader, defaults, repo))
        return copy.deepcopy(kept[key])

    defaults_list._create_defaults_list = chosen
    ConfigLoaderImpl._compose_config_from_defaults_list = merged
    try:
        yield kept
    finally:
        defaults_list._create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list = before
