"""Changes to the config of a run that someone else made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml


def change(run: Path, edit: Callable[[dict], object]) -> None:
    """Edit the config of a run."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    edit(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def put(config: dict, place: str, node: object) -> None:
    """Set a value at a dotted place."""
    *path, last = place.split(".")
    for name in path:
        config = config[name]
    config[last] = node
