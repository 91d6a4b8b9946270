"""What W&B's logs of a run have lost: its service writes every 15 seconds, and may be killed together with the run."""

from __future__ import annotations

import csv
import glob
from pathlib import Path

from kdlab.logger.wandb_log import logs, read

STEP = "trainer/global_step"


def lost(root: Path, run: str, history: Path) -> list[dict[str, float]]:
    """The rows of history.csv, or what of them is in none of the run's offline logs, as W&B takes them.

    None where a log of the run went to a server, which may have more than is on disk.

    Args:
        root: ``<outputs>/wandb``.
        run: the id.
    """
    folders = sorted(root.glob(f"*run-*-{glob.escape(run)}"))
    if not history.exists() or not all(folder.name.startswith("offline-") for folder in folders):
        return []
    known: dict[int, set[str]] = {}
    for path in [path for folder in folders for path in logs(folder)]:
        for row in read(path).history:
            if isinstance(row.get(STEP), (int, float)):
                known.setdefault(int(row[STEP]), set()).update(row)
    rows = []
    with history.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            values = {name: float(value) for name, value in row.items() if value}
            if values.keys() - known.get(step, set()):
                told = {name: value for name, value in values.items() if name not in known.get(step, set())}
                rows.append(told | {STEP: step} | ({"epoch": int(values["epoch"])} if "epoch" in values else {}))
    return rows
