"""`kdlab dashboard`: the comparison workspace of W&B, printed as JSON or sent."""

from __future__ import annotations

import json
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from kdlab.command.runs import chosen
from kdlab.config.direction import columns, higher_is_better
from kdlab.direction import gathered
from kdlab.error import UserError
from kdlab.report.column import tested
from kdlab.report.cost import Costs
from kdlab.report.setting import flatten, is_number, swept


def main(cfg: DictConfig) -> None:
    """Print or send the workspace. Errors: UserError where there are no runs, no metric, or no server."""
    options = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(options, dict)
    run(**{str(key): value for key, value in options.items()})


def run(
    outputs: str,
    select: str | Sequence[str] | None,
    by: str | None,
    cost: str | None,
    title: str | int | None,
    project: str,
    entity: str | None,
    push: bool,
    seconds: float,
) -> None:
    """The same with plain arguments; they are explained in conf/dashboard.yaml."""
    from kdlab.logger.dashboard import Comparison, curves, workspace
    from kdlab.logger.server import NoServerError, Server, address, key

    found = chosen(outputs, select)
    by = tested(found) if by is None else by
    cost = (Costs(found).counted or "seconds") if cost is None else cost
    measured = sorted({name for record in found for name in record.metrics})
    for word, name in (("by", by), ("cost", cost)):
        if measured and name not in measured:
            raise UserError(
                f"{word}={name}: none of the {len(found)} runs measured it; they have {', '.join(measured)}."
            )
    keys = swept(found)
    flats = [flatten(record.config) for record in found if record.config]
    numbers = [name for name in keys if all(is_number(flat.get(name)) for flat in flats)]
    groups = sorted({record.group for record in found if record.group})
    what = Comparison(
        name=str(title or "") or (f"Sweep {groups[0]}" if len(groups) == 1 else f"{len(found)} runs"),
        groups=tuple(groups),
        swept=tuple(keys),
        numbers=tuple(numbers),
        metric=by,
        cost=cost,
        less=higher_is_better(by, gathered(record.done for record in found)) is False,
        curves=curves(sorted({name for record in found for name in record.history}), columns(r.done for r in found)),
        measured=tuple(dict.fromkeys([name for name in (by, cost) if name in measured] + measured)),
    )
    if not push:
        print(json.dumps(workspace(entity or "", project, what), indent=1))
        return
    url = address()
    if key(url) is None:
        raise UserError(f"There is no key for {url}: set WANDB_API_KEY, or call `wandb login`.")
    try:
        server = Server(url, seconds)
        entity = entity or server.entity()
        view = workspace(entity, project, what)
        new = server.view(view)
    except NoServerError as error:
        raise UserError(f"{error}; without push=true the workspace is only printed.") from None
    print(f"{'made' if new else 'replaced'} the workspace '{what.name}' of {entity}/{project} at {url}")
