"""`kdlab doctor COMMAND LINE`: what a `finetune` or `distill` command line would do, before a GPU is asked for."""

from __future__ import annotations

import argparse
import logging
import shlex
import tempfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from kdlab.config import conf, early
from kdlab.config.importable import config_dirs, importable
from kdlab.config.option import composing
from kdlab.config.point import Grid, Point, folders, quick, sentence
from kdlab.config.several import in_shell
from kdlab.config.verb import verbs as known
from kdlab.error import UserError
from kdlab.importing import importing
from kdlab.launcher.verb import sentences

PATIENCE = 2.0  # seconds, after which keys that have shown that they do something are not turned again
MANY = 60  # points of a grid; of a larger one, each value and each structure is looked at once


HELP = """kdlab doctor {verbs} [-m] [--config-dir DIR] [overrides]

What the command line would do, in seconds and without a GPU: composes every point of the sweep, checks every value
against what it configures, shows both models, taps, adapters, labels, and what learns under each freezing policy; takes
a few steps on a few rows and names the swept keys that change nothing; estimates time, memory, disk and jobs.
Ends with 0 where nothing would go wrong, else with 2. An untrained model stands in for a teacher that is not trained.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"kdlab doctor: {message}; it takes a whole command line: kdlab doctor distill -m KEY=A,B")


def main(arguments: list[str]) -> None:
    """Look at a command line, print what it would do, and fail where it would.

    Args:
        arguments: the command line after ``doctor``.

    Raises:
        UserError: what is wrong with it, or that it is none.
    """
    importable(arguments)
    verbs = [name for name, verb in known(list(config_dirs(arguments))).items() if verb.trains]
    if not {"-h", "--help"}.isdisjoint(arguments):
        print(HELP.format(verbs="|".join(verbs)), end="")
        return
    if not arguments or arguments[0] not in verbs:
        named = f"'{arguments[0]}' is no command that trains" if arguments else "it was given none"
        words = (
            arguments
            if arguments and "=" in arguments[0]
            else ["-m", "experiment=movie_reviews", "loss.temperature=1,2,4"]
        )
        raise UserError(
            f"kdlab doctor looks at a command line of {' or '.join(verbs)}, and {named}: "
            f"kdlab doctor distill {' '.join(in_shell(word) if shlex.quote(word) != word else word for word in words)}"
        )
    parser = _Parser(prog="kdlab doctor", add_help=False, allow_abbrev=False)
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("words", nargs="*")
    asked = parser.parse_intermixed_args(arguments[1:])
    with sentences(arguments[0]):
        early.look(
            arguments[0], asked.words, conf(), asked.config_dir, values=False, multirun=asked.multirun, doctor=True
        )
        with _quiet(), _composing(asked.config_dir) as loader:
            look(_grid(arguments[0], asked.words, asked.multirun, loader))


def look(grid: Grid) -> None:
    """Every probe, cheapest first; those that need data and models only where all points can be built.

    Raises:
        UserError: what would go wrong.
    """
    from kdlab.doctor.table import Page

    page = Page()
    progress = page.progress
    points = grid.points(MANY, progress)
    page.jobs(grid.jobs, *_states(points), len(folders(points)))
    if not (found := quick(points)):
        with importing():
            from kdlab.plan.precheck import problems  # which imports torch

        found = problems(points, progress)
    wrong = [sentence(found, len(points))] if found else []
    idle = _idle(points)
    wrong += [
        f"{key} cannot change a run's result: {one.name} and {two.name} are the same run; leave {key} out of the sweep"
        for key, (one, two) in idle.items()
    ]
    if not found:
        with importing():
            from kdlab.doctor.examine import Examination

        with tempfile.TemporaryDirectory(prefix="kdlab-doctor-") as folder:
            swept = {key: words for key, words in grid.swept.items() if key not in idle}
            examination = Examination(swept, _apart(points, idle), Path(folder), page, progress, grid.jobs)
            wrong += examination.carry_out(PATIENCE)
    progress("")
    page.problems(wrong)
    if wrong:
        more = f" (and {len(wrong) - 1} more, above)" if len(wrong) > 1 else ""
        raise UserError(f"{wrong[0]}{more}")


def _idle(points: list[Point]) -> dict[str, tuple[Point, Point]]:
    """Keys that differ between points that are the same run, each with two such points."""
    found: dict[str, tuple[Point, Point]] = {}
    for first, *others in folders(points).values():
        for other in others:
            apart = [key for key in first.swept if first.swept[key] != other.swept[key]]
            if len(apart) == 1:
                found.setdefault(apart[0], (first, other))
    return found


def _apart(points: list[Point], idle: Collection[str]) -> list[Point]:
    """The points without the keys that cannot set them apart."""
    return [
        replace(point, swept={key: word for key, word in point.swept.items() if key not in idle}) for point in points
    ]


def _states(points: list[Point]) -> tuple[int, int]:
    """How many runs are finished, and how many begun."""
    from kdlab.artifact.run import read_done

    found = [one for one in folders(points) if one.is_dir()]
    done = [one for one in found if read_done(one) is not None]
    return len(done), sum(one not in done and (one / "checkpoints" / "last.ckpt").exists() for one in found)


@contextmanager
def _composing(own: Path | None) -> Iterator[Any]:
    with composing(conf(), own) as loader:
        try:
            yield loader
        finally:
            HydraConfig.instance().cfg = None


def _grid(verb: str, words: list[str], multirun: bool, loader: Any) -> Grid:
    master = loader.load_configuration(verb, words, RunMode.MULTIRUN)
    if not multirun and master.hydra.mode != RunMode.MULTIRUN:  # which a sweep=OPTION may have set
        master = loader.load_configuration(verb, words, RunMode.RUN)
    HydraConfig.instance().set_config(master)
    return Grid(verb, [word for word in words if not word.startswith("hydra.searchpath")], master, loader)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning and warnings: the page shows all results."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
