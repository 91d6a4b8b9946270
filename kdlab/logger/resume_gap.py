"""The rows that W&B's logs of a run lack: its service writes every 15 seconds, and may be killed with the run."""

from __future__ import annotations

import csv
import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdlab.logger.wandb_log import logs, read

STEP = "trainer/global_step"


Known = dict[int, dict[str, Any]]  # step -> the values that W&B's logs have of it


def known(root: Path, run: str) -> Known | None:
    """The rows of a run's offline logs; None where one went to a server, which may have more than is on disk.

    Args:
        root: ``<outputs>/wandb``.
        run: the id.
    """
    folders = sorted(root.glob(f"*run-*-{glob.escape(run)}"))
    if not all(folder.name.startswith("offline-") for folder in folders):
        return None
    found: Known = {}
    for path in [path for folder in folders for path in logs(folder)]:
        for row in read(path).history:
            if isinstance(row.get(STEP), (int, float)):
                found.setdefault(int(row[STEP]), {}).update(row)
    return found


def unknown(known: Known, step: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row that the logs lack: a resumed run repeats the steps after its checkpoint, to the same bits.

    Of a time that was measured the first counts.

    Example:
        >>> unknown({3: {"train/loss": 0.5, "epoch": 1}}, 3, {"train/loss": 0.5, "epoch": 1, "val/loss": 0.7})
        {'val/loss': 0.7, 'epoch': 1}
        >>> unknown({3: {"train/loss": 0.5, "epoch": 1}}, 3, {"train/loss": 0.5, "epoch": 1})
        {}
    """
    there = known.get(step, {})
    left = {
        name: value
        for name, value in row.items()
        if name not in there or not (name.startswith("perf/") or name == "epoch" or float(value) == there[name])
    }
    return left | {"epoch": row["epoch"]} if left and "epoch" in row else left


def lost(known: Known, history: Path) -> list[dict[str, float]]:
    """The rows of history.csv, or what of them W&B's logs do not have, as W&B takes them."""
    if not history.exists():
        return []
    rows = []
    with history.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            values = {name: float(value) for name, value in row.items() if value}
            if new := {name: value for name, value in values.items() if name not in known.get(step, {})}:
                rows.append(new | {STEP: step} | ({"epoch": int(values["epoch"])} if "epoch" in values else {}))
    return rows
