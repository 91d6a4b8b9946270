"""`kdlab report`: one self-contained HTML page over any set of runs."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from kdlab.command.runs import chosen, writable
from kdlab.error import UserError
from kdlab.report.column import tested
from kdlab.report.compare import company
from kdlab.report.page import page
from kdlab.report.read import records


def main(cfg: DictConfig) -> Path:
    """Write the page and return its path. Errors: UserError where there are no runs, or the metric is nowhere."""
    options = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(options, dict)
    return run(**{str(key): value for key, value in options.items()})


def run(
    outputs: str,
    select: str | Sequence[str] | None,
    file: str | None,
    by: str | None,
    title: str | int | None,
    open: bool,
) -> Path:
    """The same with plain arguments; they are explained in conf/report.yaml."""
    if file is None:
        raise UserError("file is null, but a report is a page: name it, such as file=report.html")
    found = chosen(outputs, select)
    beside = company(found, records(Path(outputs).absolute())) if select is not None else []
    by = tested(found) if by is None else by
    measured = sorted({name for record in found if record.state == "finished" for name in record.metrics})
    if measured and by not in measured:
        raise UserError(f"by={by}: none of the {len(found)} runs measured it; they have {', '.join(measured)}.")
    groups = sorted({record.group for record in found if record.group})
    heading = str(title or "") or (f"Sweep {groups[0]}" if len(groups) == 1 else f"{len(found)} runs")
    path = writable(file)
    draft = path.with_name(path.name + ".part")
    draft.write_text(page([*found, *beside], by, heading, str(Path(outputs))), encoding="utf-8")
    draft.replace(path)
    more = f" and {len(beside)} that they are held against" if beside else ""
    print(f"{len(found)} runs{more} in {path} ({path.stat().st_size / 1e3:.0f} kB)")
    if open:
        webbrowser.open(path.absolute().as_uri())
    return path


def interrupted(words: list[str]) -> str:
    """What the same command does after an interruption."""
    return "reads the runs anew"
