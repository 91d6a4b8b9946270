"""From measurements to what a reader sees: one row a peer and column, a table in the terminal, a plot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from tests.benchmarks.contender import Measurement
from tests.benchmarks.ratio import Parity, Spread, parity, ratios, spread

AIMS = {  # (case, column) -> kdlab is to be at least so many times faster than the fastest peer
    ("sweep_tiny", "documented"): 12.0,
    ("sweep_tiny", "best"): 4.0,
    ("sweep_layers", "documented"): 4.0,
    ("sweep_layers", "best"): 2.0,
    ("one_tiny", "documented"): 4.0,
    ("one_tiny", "best"): 1.5,
}


@dataclass(frozen=True)
class Row:
    """One peer in one column of one case, at the faster of its ways.

    Attributes:
        ratio: how many times longer it took than kdlab, over the repeats; None where a repeat of kdlab is lacking.
        seconds, ours: of the case.
        note: what was extrapolated, and accuracy parity.
    """

    case: str
    peer: str
    column: str
    way: str
    ratio: Spread | None
    seconds: Spread
    ours: Spread | None
    startup_seconds: float
    training_seconds: float
    evaluation_seconds: float
    share: float
    points: int
    runs: int
    parity: Parity | None
    accuracy: float | None
    our_accuracy: float | None
    fastest: bool = False

    @property
    def extrapolated(self) -> bool:
        return self.share < 1 or self.points < self.runs

    @property
    def note(self) -> str:
        parts = []
        if self.share < 1:
            parts.append(f"extrapolated from {self.share:.0%} of the rows")
        if self.points < self.runs:
            parts.append(f"from {self.points} of {self.runs} runs")
        if self.parity is not None:
            parts.append(f"accuracy: {self.parity.verdict} ({self.parity.difference:+.3f} ± {self.parity.error:.3f})")
        elif self.accuracy is not None and self.our_accuracy is not None:
            parts.append(f"accuracy of one run: {self.accuracy:.3f}, ours {self.our_accuracy:.3f}")
        else:
            parts.append("accuracy not measured")
        return "; ".join(parts)

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {
            "extrapolated": self.extrapolated,
            "verdict": self.parity.verdict if self.parity else None,
            "aim": AIMS.get((self.case, self.column)),
            "note": self.note,
        }


def rows(measurements: Sequence[Measurement]) -> list[Row]:
    """The rows, case by case; of a peer's several ways the one with the smaller median is kept."""
    by_case: dict[str, list[Measurement]] = defaultdict(list)
    for one in measurements:
        by_case[one.case].append(one)
    found = []
    for all_of_case in by_case.values():
        ours = {one.repeat: one for one in all_of_case if one.contender == "kdlab"}
        groups: dict[tuple[str, str], dict[str, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
        for one in all_of_case:
            if one.contender != "kdlab":
                groups[one.contender, one.column][one.way].append(one)
        case_rows = [
            row(min(ways.values(), key=lambda of: spread([one.seconds for one in of]).median), ours)
            for ways in groups.values()
        ]
        fastest = {}
        for each in case_rows:
            if each.column not in fastest or each.seconds.median < fastest[each.column].seconds.median:
                fastest[each.column] = each
        case_rows.sort(key=lambda each: (each.column != "documented", each.seconds.median))
        found += [Row(**{**vars(each), "fastest": fastest[each.column] is each}) for each in case_rows]
    return found


def row(theirs: Sequence[Measurement], ours: dict[int, Measurement]) -> Row:
    pairs = [(one, ours[one.repeat]) for one in theirs if one.repeat in ours]
    first = theirs[0]
    their_runs, our_runs = _accuracies(theirs), _accuracies(list(ours.values()))
    shared = their_runs.keys() & our_runs.keys()
    theirs_at, ours_at = ([runs[point] for point in sorted(shared)] for runs in (their_runs, our_runs))
    return Row(
        case=first.case,
        peer=first.contender,
        column=first.column,
        way=first.way,
        ratio=ratios([a.seconds for a, _ in pairs], [b.seconds for _, b in pairs]) if pairs else None,
        seconds=spread([one.seconds for one in theirs]),
        ours=spread([one.seconds for one in ours.values()]) if ours else None,
        startup_seconds=mean(one.startup_seconds for one in theirs),
        training_seconds=mean(one.training_seconds for one in theirs),
        evaluation_seconds=mean(one.evaluation_seconds for one in theirs),
        share=first.share,
        points=first.points,
        runs=first.runs,
        parity=parity(ours_at, theirs_at),
        accuracy=mean(theirs_at) if theirs_at else None,
        our_accuracy=mean(ours_at) if ours_at else None,
    )


def _accuracies(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Test accuracy by grid point, over the repeats: repeats have the same seed, and are no new runs."""
    found: dict[str, list[float]] = defaultdict(list)
    for one in measurements:
        for point, value in one.accuracies.items():
            found[point].append(value)
    return {point: mean(values) for point, values in found.items()}


def show(found: Sequence[Row]) -> None:
    """The table; in each column of each case the fastest peer is the one that counts, and is marked."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=160)
    for case in dict.fromkeys(each.case for each in found):
        mine = [each for each in found if each.case == case]
        ours = mine[0].ours
        title = f"{case}: {mine[0].runs} runs; kdlab {ours} s" if ours else f"{case}: {mine[0].runs} runs"
        page = Table(title=title)
        for name in (
            "column",
            "peer",
            "way",
            "seconds",
            "times as long as kdlab",
            "aim",
            "a run: start+train+test",
            "note",
        ):
            page.add_column(name, justify="right" if name in ("seconds", "times as long as kdlab", "aim") else "left")
        for each in mine:
            aim = AIMS.get((case, each.column))
            page.add_row(
                each.column, each.peer + (" *" if each.fastest else ""), each.way, str(each.seconds),
                str(each.ratio or "-"), f"{aim:g}" if aim and each.fastest else "",
                f"{each.startup_seconds:.1f}+{each.training_seconds:.1f}+{each.evaluation_seconds:.1f}", each.note,
            )  # fmt: skip
        console.print(page)
    print("* the fastest of its column. Ratios: median over interleaved repeats (least to most).")


def draw(found: Sequence[Row], path: Path) -> Path:
    """Bars of the ratios, a panel a case, whiskers from least to most, the aim as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = list(dict.fromkeys(each.case for each in found))
    figure, axes = plt.subplots(1, len(cases), figsize=(1 + 4.5 * len(cases), 4), squeeze=False, layout="constrained")
    for case, axis in zip(cases, axes[0], strict=True):
        mine = [each for each in found if each.case == case and each.ratio is not None][::-1]
        for place, each in enumerate(mine):
            ratio = each.ratio
            assert ratio is not None
            color = "#8aa8c8" if each.column == "documented" else "#2f5d8a"
            hatch = "//" if each.extrapolated else None
            reach = [[ratio.median - ratio.least], [ratio.most - ratio.median]]
            axis.barh(place, ratio.median, color=color, hatch=hatch, edgecolor="white", xerr=reach, capsize=2)
            axis.text(ratio.most, place, f" {ratio.median:.1f}x", va="center", fontsize=8)
            if each.fastest and (aim := AIMS.get((case, each.column))):
                axis.plot([aim, aim], [place - 0.45, place + 0.45], color="#c0392b", lw=2)
        axis.set_yticks(range(len(mine)), [f"{each.peer}\n{each.column}" for each in mine], fontsize=7)
        axis.axvline(1, color="black", lw=0.8)
        axis.set_xlabel("times as long as kdlab")
        axis.set_title(case)
        axis.margins(x=0.15)
    figure.suptitle("Hatched: extrapolated. Red: the aim against the fastest peer of a column.", fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
