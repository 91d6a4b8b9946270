"""One latency for an architecture, not one for each measurement of it on a machine that was busy more or less."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdlab.report.read import Record

LATENCY = "perf/latency_ms"
COSTS = (
    "model/parameters", "model/macs", "model/size_mb", LATENCY, "perf/samples_per_second", "seconds",
)  # fmt: skip


def architecture(record: Record) -> tuple:
    """A key that is equal for runs whose models take as long on the same machine."""
    shape = tuple(record.metrics.get(name) for name in ("model/parameters", "model/macs"))
    return record.choice.get("student") or record.choice.get("model"), record.host, *shape


def latencies(records: Sequence[Record]) -> dict[Path, float]:
    """The least latency in ms of any run of the same architecture on the same machine, by the folder of each run."""
    least: dict[tuple, float] = {}
    for record in records:
        if LATENCY in record.metrics:
            kind = architecture(record)
            least[kind] = min(record.metrics[LATENCY], least.get(kind, float("inf")))
    return {record.folder: least[architecture(record)] for record in records if LATENCY in record.metrics}


def costs(records: Sequence[Record], measured: Sequence[str]) -> list[str]:
    """The costs that quality may be drawn against: counted ones first, and latency only between architectures."""
    several = len({architecture(record)[2:] for record in records if LATENCY in record.metrics}) > 1
    known = [name for name in COSTS if name in measured or (name == "seconds" and any(run.seconds for run in records))]
    return [name for name in known if name != LATENCY or several]
