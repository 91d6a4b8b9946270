"""What a run logged of which nobody declares whether more is better."""

from __future__ import annotations

import json
from pathlib import Path

from kdlab.direction import declaration


def undeclared(run: Path) -> set[str]:
    """Names of metrics.json and history.csv without a declaration in done.json; rates and axes are no metrics."""
    recorded = json.loads((run / "done.json").read_text())["higher_is_better"]
    columns = (run / "history.csv").read_text().splitlines()[0].split(",")
    names = {*json.loads((run / "metrics.json").read_text()), *columns} - {"step", "epoch"}
    return {name for name in names if not name.startswith("lr-") and declaration(name, recorded) is None}
