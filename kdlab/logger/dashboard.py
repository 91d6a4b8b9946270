"""The comparison workspace of W&B as code: what a report shows, on the dashboard, for the runs of a group.

Built by wandb-workspaces, which is an extra. What W&B makes of it was not seen: there was a protocol stub, no server.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdlab.error import UserError

STEP, EPOCH = "trainer/global_step", "epoch"
GRADIENT = ((0, "#440154"), (50, "#21918c"), (100, "#fde725"))  # viridis


@dataclass(frozen=True)
class Comparison:
    """The runs that are compared.

    Attributes:
        groups: of the runs; empty: all runs of the project.
        swept: config keys that differ, dotted; numbers: those of them whose values are numbers.
        metric, cost: summary names: quality, against what it costs.
        less: whether less of the metric is better.
        curves: names of the history.
        measured: summary names, for the columns of the table.
    """

    name: str
    groups: tuple[str, ...]
    swept: tuple[str, ...]
    numbers: tuple[str, ...]
    metric: str
    cost: str
    less: bool
    curves: tuple[str, ...]
    measured: tuple[str, ...]


def workspace(entity: str, project: str, what: Comparison) -> dict[str, Any]:
    """The workspace as W&B stores it: entity, project, name, display_name, and ``spec``.

    Sections: the sweep (parallel coordinates, a heat map a pair of swept keys, importance), quality against cost,
    curves a swept key, and what differs between runs.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    try:
        logging.getLogger("wandb").setLevel(logging.ERROR)
        import wandb_workspaces.reports.v2 as panel
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise UserError(
            "kdlab dashboard needs the package wandb-workspaces: run `pip install 'kdlab[dashboard]'`."
        ) from None

    shades = [colour for _, colour in GRADIENT][:: -1 if what.less else 1]  # the bright end is the better one
    colours = [
        panel.GradientPoint(color=colour, offset=offset) for (offset, _), colour in zip(GRADIENT, shades, strict=True)
    ]
    config, best = panel.Config, panel.SummaryMetric(what.metric)
    columns = [panel.ParallelCoordinatesPlotColumn(metric=config(key), display_name=_label(key)) for key in what.swept]
    columns.append(panel.ParallelCoordinatesPlotColumn(metric=best, display_name=what.metric))
    sweep: list[Any] = [
        panel.ParallelCoordinatesPlot(
            title="Parallel coordinates", columns=columns, gradient=colours, layout=panel.Layout(w=24, h=9)
        )
    ]
    for place, (x, y) in enumerate(_pairs(what)):
        sweep.append(
            panel.ScatterPlot(
                title=f"Heat map: {what.metric} over {_label(x)} and {_label(y)}",
                x=config(x),
                y=config(y),
                z=best,
                gradient=colours,
                layout=panel.Layout(x=8 * (place % 3), y=9, w=8),
            )
        )
    sweep.append(panel.ParameterImportancePlot(with_respect_to=what.metric, layout=panel.Layout(y=15, w=24)))
    quality = [
        panel.ScatterPlot(
            title=f"{what.metric} against {what.cost}", x=panel.SummaryMetric(what.cost), y=best,
            running_ymin=what.less, running_ymax=not what.less, layout=panel.Layout(w=16, h=9),
        ),
        panel.BarPlot(title=what.metric, metrics=[best], groupby="Group", layout=panel.Layout(x=16, w=8, h=9)),
    ]  # fmt: skip
    curves = [
        panel.LinePlot(
            title=f"{curve} by {_label(key)}", x=STEP, y=[curve], groupby=config(key), groupby_aggfunc="mean",
            groupby_rangefunc="stddev", layout=panel.Layout(x=8 * (column % 3), y=6 * row, w=8),
        )
        for row, curve in enumerate(what.curves)
        for column, key in enumerate(what.swept[:3])
    ] or [panel.LinePlot(title=curve, x=STEP, y=[curve]) for curve in what.curves]  # fmt: skip
    compare = [panel.RunComparer(diff_only=True, layout=panel.Layout(w=24, h=12))]
    sections = {"Sweep": sweep, "Quality against cost": quality, "Curves": curves, "What differs": compare}
    pinned = [f"config:{key}" for key in what.swept[:6]] + [f"summary:{name}" for name in what.measured[:8]]
    groups = ", ".join(repr(group) for group in what.groups)
    made = ws.Workspace(
        entity=entity,
        project=project,
        name=what.name,
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=f"Group in [{groups}]" if groups else "",
            order=[ws.Ordering(ws.Summary(what.metric), ascending=what.less)],
            pinned_columns=["run:displayName", *pinned],
        ),
    )
    view = made._to_model()
    spec = view.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    key = hashlib.sha256(f"{entity}/{project}/{what.name}".encode()).hexdigest()[:11]  # so that a push replaces
    made_up = {"entity": entity, "project": project, "name": f"nw-{key}-v", "display_name": what.name}
    return made_up | {"spec": _numbered(spec, key)}


def _pairs(what: Comparison) -> list[tuple[str, str]]:
    """The pairs of swept keys, numbers first; at most three heat maps."""
    keys = [*what.numbers, *(key for key in what.swept if key not in what.numbers)]
    return [(x, y) for place, x in enumerate(keys) for y in keys[place + 1 :]][:3]


def _label(key: str) -> str:
    return key.removeprefix("choice.")


def _numbered(value: Any, seed: str) -> Any:
    """The same workspace gives the same JSON: W&B's random ids become numbers."""
    found: dict[str, str] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: renamed(item) if key in ("__id__", "id") else walk(item) for key, item in node.items()}
        return [walk(item) for item in node] if isinstance(node, list) else node

    def renamed(item: Any) -> Any:
        if not isinstance(item, str) or not item:
            return walk(item)
        return found.setdefault(item, hashlib.sha256(f"{seed} {len(found)}".encode()).hexdigest()[:11])

    walked = walk(value)
    text = json.dumps(walked)
    for old, new in found.items():  # where one part names another
        text = text.replace(json.dumps(old), json.dumps(new))
    return json.loads(text)


def curves(names: Sequence[str], shown: Sequence[str] = ()) -> tuple[str, ...]:
    """The curves worth a panel: the losses of training and validation, and what is measured in validation.

    Args:
        shown: the metrics that matter most, without their split, the first one first.
    """
    first, rest = [f"val/{name}" for name in shown[:1]], [f"val/{name}" for name in shown[1:]]
    wanted = [name for name in (*first, "val/loss", "train/loss", *rest) if name in names]
    rest = [name for name in names if name.startswith("val/") and name not in wanted]
    return tuple((wanted + rest)[:4])
