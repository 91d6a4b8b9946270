"""`kdlab sync`: runs that were logged offline to a W&B server, checked before and after."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from kdlab.error import UserError
from kdlab.file import lock
from kdlab.report.parse import clean
from kdlab.report.pick import select as pick
from kdlab.report.read import Record, records

MISSING = ("refuse", "send")


def main(cfg: DictConfig) -> None:
    """Send what the server lacks; exits with 1 where anything is left. Errors: UserError where there is nothing."""
    options = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(options, dict)
    if not run(**{str(key): value for key, value in options.items()}):
        raise SystemExit(1)


def run(
    outputs: str, select: str | Sequence[str] | None, missing: str, check: bool, at_once: int, seconds: float,
    entity: str | None = None,
) -> bool:  # fmt: skip
    """The same with plain arguments, which are explained in conf/sync.yaml; whether nothing is left to send."""
    from kdlab.logger import server as wandb_server
    from kdlab.logger.sync import Sync
    from kdlab.logger.sync_plan import SyncPlan, sync_plans
    from kdlab.logger.wandb import place

    if missing not in MISSING:
        raise UserError(f"missing={missing} is unknown: choose one of {', '.join(MISSING)}.")
    if at_once < 1 or seconds <= 0:
        raise UserError(f"at_once={at_once} seconds={seconds}: give at least one run and more than no time.")
    root = Path(outputs) / "wandb"
    if not root.is_dir():
        raise UserError(f"There is no folder {root.absolute()}: name the one that holds wandb/ with outputs=FOLDER.")
    known = {record.id: record for record in records(outputs)}
    steps = {name: _steps(record) for name, record in known.items() if record.history}
    found = sync_plans(Path(outputs), steps)
    standing = {plan.id: known.get(plan.id) or _unknown(plan) for plan in found}
    wanted = {record.id for record in pick(standing.values(), select)}
    found = [plan for plan in found if plan.id in wanted]
    if not found:
        raise UserError(f"select={select} fits none of the {len(standing)} runs with a W&B log in {root.absolute()}.")
    url = wandb_server.address()
    if wandb_server.key(url) is None:
        raise UserError(f"There is no key for {url}: set WANDB_API_KEY, or call `wandb login`.")

    tally: Counter[str] = Counter()

    def print_plan(plan: SyncPlan, left: str) -> None:
        tally["left" if left else "sent"] += 1
        rows = "1 row" if plan.rows == 1 else f"{plan.rows} rows"
        line = f"left  {plan.id}: {left}" if left else f"sent  {plan.id}: {rows} to {sync.where(plan)}"
        print(clean(line.replace("\n", " ")), flush=True)

    place(Path(outputs))
    with lock(root / ".sync.lock", f"the sync of {root}"):
        sync = Sync(
            wandb_server.Server(url, seconds), root, at_once, print_plan, entity or os.environ.get("WANDB_ENTITY", "")
        )
        try:
            sync.begin()
            queue = []
            for plan in found:
                if against := sync.refuses(plan):
                    print_plan(plan, against)
                    continue
                status = sync.there(plan)
                if not (lacking := plan.lacks(status)):
                    tally["there"] += 1
                elif standing[plan.id].state == "running":
                    print_plan(plan, "it still runs")
                elif plan.faults and missing == "refuse":
                    print_plan(plan, f"{'; '.join(plan.faults)} (missing=send sends what there is)")
                elif check:
                    print_plan(plan, lacking)
                else:
                    queue.append((plan, status))
            sync.send(queue)
        except wandb_server.NoServerError as error:
            rest = len(found) - tally.total()
            tally["left"] += rest
            print(f"left  {rest} runs: {error}", flush=True)
    if tally["there"] == len(found):
        print(f"nothing to send: {len(found)} runs are whole at {url}")
    else:
        counts = ", ".join(f"{tally[word]} {what}" for word, what in _WORDS.items() if tally[word])
        print(f"{len(found)} runs at {url}: {counts}" + ("; the same command goes on" if tally["left"] else ""))
    return not tally["left"]


_WORDS = {"sent": "sent", "there": "were there already", "left": "left"}


def _steps(record: Record) -> set[int]:
    return {int(step) for step in record.history.get("step", []) if step is not None}


def _unknown(plan) -> Record:
    """A run whose directory is gone: it can still be named by its id, its group and its command."""
    return Record(plan.id, Path(plan.id), plan.command, "unreadable", group=plan.group)


def interrupted(words: list[str]) -> str:
    """What the same command does after an interruption."""
    return "sends what is left"
