"""`make bench`: kdlab against its peers on one piece of work, interleaved; a table, a plot and a JSON file.

    python -m tests.benchmarks --case sweep_tiny --peers hf_trainer plain_torch --repeats 3 --share 0.1 --points 2

Each measurement is appended to ``outputs/benchmark/peers.jsonl`` when it is made, so that the command can be stopped
(``--minutes 9``) and given again: it goes on with what is missing. ``--fresh`` begins anew.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import environment, machine, setting, table
from tests.benchmarks.contender import PEERS, Case, Contender, Kdlab, Measurement, contenders
from tests.benchmarks.ratio import interleaved

GRID = {"temperatures": (1.0, 2.0, 4.0, 8.0), "alphas": (0.1, 0.5, 0.9)}
CASES = {
    "sweep_tiny": Case("sweep_tiny", "bert_tiny", **GRID),
    "sweep_layers": Case("sweep_layers", "two_layers", **GRID),
    "one_tiny": Case("one_tiny", "bert_tiny", (2.0,), (0.5,)),
}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the training rows that peers are measured on")
    parser.add_argument("--points", type=int, help="grid points that peers are measured on; default: all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no measurement after so many")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    small = parser.add_argument_group("trying it: everyone does less, kdlab too")
    small.add_argument("--rows", type=int, help="training rows")
    small.add_argument("--epochs", type=int)
    small.add_argument("--temperatures", type=float, nargs="+")
    small.add_argument("--alphas", type=float, nargs="+")
    return parser.parse_args(words)


def chosen(args: argparse.Namespace) -> list[Case]:
    """The cases, as small as was asked for."""
    less = {name: getattr(args, name) for name in ("epochs", "temperatures", "alphas") if getattr(args, name)}
    less = {name: tuple(value) if isinstance(value, list) else value for name, value in less.items()}
    return [replace(CASES[name], **less) for name in args.case]


def plan(args: argparse.Namespace) -> list[tuple[int, Case, Contender]]:
    """Every measurement in its order: case by case, and within a case repeat by repeat, kdlab among the others."""
    todo = []
    for case in chosen(args):
        everyone = [
            Kdlab(rows=args.rows, device=args.device),
            *contenders(args.peers, case, share=args.share, points=args.points, device=args.device),
        ]
        todo += [(repeat, case, one) for repeat, one in interleaved(everyone, args.repeats)]
    return todo


def known(path: Path, settings: dict) -> list[Measurement]:
    """What was measured before under the same settings."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    fields = Measurement.__dataclass_fields__
    return [
        Measurement(**{key: value for key, value in line.items() if key in fields})
        for line in lines
        if line["settings"] == settings
    ]


def measured(args: argparse.Namespace, path: Path) -> tuple[list[Measurement], int]:
    """All measurements of the plan, those of before included; and how many are still to do."""
    settings = {name: getattr(args, name) for name in ("share", "points", "device", "rows", "epochs")}
    settings |= {name: getattr(args, name) for name in ("temperatures", "alphas")}
    if args.fresh:
        path.unlink(missing_ok=True)
    have = known(path, settings)
    done = {(one.case, one.repeat, f"{one.contender}/{one.column}/{one.way}") for one in have}
    todo = [(repeat, case, one) for repeat, case, one in plan(args) if (case.name, repeat, one.key) not in done]
    begun = time.perf_counter()
    while todo and time.perf_counter() - begun < 60 * args.minutes:
        repeat, case, one = todo.pop(0)
        given = setting.material(args.rows, sorted({each.student for each in chosen(args)}))
        result = one.measure(case, given, repeat)
        have.append(result)
        with path.open("a") as stream:
            stream.write(json.dumps(result.plain() | {"settings": settings, "machine": machine.describe()}) + "\n")
        print(f"{case.name}, repeat {repeat + 1}: {one.key} {result.seconds:.1f} s", flush=True)
    return have, len(todo)


def main(words: list[str] | None = None) -> None:
    args = arguments(words)
    environment.ensure()
    have, left = measured(args, machine.results() / "peers.jsonl")
    rows = table.rows(have)
    table.show(rows)
    if left:
        print(f"{left} measurements are still to do: the same command goes on")
    machine.write("peers", {"rows": [row.plain() for row in rows], "measurements": [one.plain() for one in have]})
    if rows:
        print(f"drew {table.draw(rows, machine.results() / 'peers.png')}")


if __name__ == "__main__":
    main()
