"""The points of a sweep as Hydra will compose them, all of them before any runs.

Hydra composes a job from the files anew. What differs between the points of a sweep are mostly single values, so here
each choice of options is composed once, and values are then set by the function that Hydra sets them with.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdlab.config.early import check, parse
from kdlab.config.job import Job, chosen
from kdlab.error import UserError

MANY = 240  # points of a grid; of a larger one, each value is composed once
FEW = 24  # numbers of a key in such a grid; more are sampled: what allows both ends allows the rest
NUMBERS = ("loss", "optimizer", "scheduler")  # nodes whose numbers change what is learned, but not what there is


@dataclass(frozen=True)
class Point:
    """One point of a sweep.

    Attributes:
        number: its place among the sweep's jobs, from 0.
        words: its command line.
        swept: what sets it apart, by key.
        job: what would be run; None where it does not compose.
        problem: why not.
    """

    number: int
    words: list[str]
    swept: dict[str, str]
    job: Job | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        return ", ".join(self.swept.values()) or "this command line"


@dataclass
class Grid:
    """All points of one command line.

    Args:
        verb: the command.
        words: its overrides, sweeps included.
        master: the config composed from those that are no sweeps, with Hydra's own node.
        loader: where configs come from.
    """

    verb: str
    words: Sequence[str]
    master: DictConfig
    loader: ConfigLoaderImpl
    _parsed: dict[str, Override] = field(default_factory=dict)
    _based: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)

    @cached_property
    def values(self) -> dict[str, list[str]]:
        """Every key on the command line with the words it is given in turn; the last of two equal keys counts."""
        params = OmegaConf.select(self.master, "hydra.sweeper.params") or {}
        words = [f"{key}={value}" for key, value in params.items()] + list(self.words)
        parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(words)
        return {one.get_key_element(): _choices(one, word) for one, word in zip(parsed, words, strict=True)}

    @property
    def swept(self) -> dict[str, list[str]]:
        return {key: words for key, words in self.values.items() if len(words) > 1}

    @property
    def jobs(self) -> int:
        """How many jobs the sweep has: the trials of a sweeper that searches, else the size of the grid."""
        trials = OmegaConf.select(self.master, "hydra.sweeper.n_trials")
        size = 1
        for words in self.swept.values():
            size *= len(words)
        return int(trials) if trials and self.swept else size

    def points(self, most: int | None = None, progress: Callable[[str], None] = lambda text: None) -> list[Point]:
        """Every point, composed.

        Args:
            most: of a grid with more points than this only those that differ from the first in one key, and this number
                others that each differ from all before them in more than numbers, see :func:`outline`. Of a key with
                very many numbers the first, the least, the greatest and some between are looked at.
            progress: says how far it is.
        """
        size = 1
        for words in self.swept.values():
            size *= len(words)
        rows = [list(row) for row in itertools.product(*self.values.values())] if most is None or size <= most else []
        if not rows:
            first = [words[0] for words in self.values.values()]
            rows = [first]
            for place, words in enumerate(self.values.values()):
                rows += [[*first[:place], word, *first[place + 1 :]] for word in _few(words)[1:]]
            rows += itertools.islice(self._structures(rows), most)
        points = []
        for number, row in enumerate(rows):
            progress(f"composing point {number + 1} of {len(rows)}")
            points.append(self._point(number, row))
        return points

    def _structures(self, known: Sequence[list[str]]) -> Iterator[list[str]]:
        """A row for each structure that no known row has."""
        seen = {outline(dict(zip(self.values, row, strict=True))) for row in known}
        few = [
            list({outline({key: word}): word for word in reversed(words)}.values())[::-1]
            for key, words in self.values.items()
        ]
        for row in itertools.product(*few):
            if outline(dict(zip(self.values, row, strict=True))) not in seen:
                yield list(row)

    def _point(self, number: int, words: list[str]) -> Point:
        swept = {key: word for key, word in zip(self.values, words, strict=True) if key in self.swept}
        try:
            return Point(number, words, swept, self._composed(words))
        except (HydraException, OmegaConfBaseException) as problem:
            return Point(number, words, swept, problem=" ".join(str(problem).split()))

    def _composed(self, words: list[str]) -> Job:
        """The job of what ``hydra.compose`` gives for these words."""
        options = tuple(word for word in words if not self._sets_a_value(self._parse(word)))
        if options not in self._based:
            own = [str(word) for word in self.master.hydra.overrides.hydra]
            self._based[options] = self.loader.load_configuration(
                self.master.hydra.job.config_name, list(dict.fromkeys([*own, *options])), RunMode.RUN
            )
        base = self._based[options]
        cfg = OmegaConf.masked_copy(base, [str(key) for key in base if key != "hydra"])
        OmegaConf.set_struct(cfg, True)
        ConfigLoaderImpl._apply_overrides_to_config(
            [parsed for word in words if self._sets_a_value(parsed := self._parse(word))], cfg
        )
        return chosen(self.verb, cfg, base.hydra.runtime.choices, words)

    def _parse(self, word: str) -> Override:
        if word not in self._parsed:
            self._parsed[word] = OverridesParser.create().parse_override(word)
        return self._parsed[word]

    def _sets_a_value(self, override: Override) -> bool:
        key = override.key_or_group
        if override.package is not None or "/" in key or key.split(".")[0] == "hydra":
            return False
        return "." in key or (key in self.master and not OmegaConf.is_dict(self.master[key]))


def _choices(override: Override, word: str) -> list[str]:
    """The words that a word of the command line stands for; of an interval its two ends."""
    if not override.is_sweep_override():
        return [word]
    key = override.get_key_element()
    if override.is_discrete_sweep():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    interval: Any = override.value()
    assert isinstance(interval, IntervalSweep)
    return [f"{key}={interval.start}", f"{key}={interval.end}"]


def outline(swept: Mapping[str, str]) -> tuple[str, ...]:
    """The words of a point without what changes no structure: its seed, and numbers of loss, optimizer and schedule.

    A number of 0 or 1 may switch something off, so it stays.

    Example:
        >>> outline({"seed": "seed=3", "loss.alpha": "loss.alpha=0.5", "freeze": "freeze=head"})
        ('loss.alpha=number', 'freeze=head')
    """
    found = []
    for key, word in swept.items():
        if key == "seed":
            continue
        value = word.partition("=")[2]
        found.append(f"{key}=number" if key.split(".")[0] in NUMBERS and _between(value) else word)
    return tuple(found)


def _few(words: list[str]) -> list[str]:
    """The words of a key without most of its numbers where it has very many: the ends and some between stay."""
    numbers: dict[tuple[str, ...], list[int]] = {}
    for place, word in enumerate(words):
        key, _, value = word.partition("=")
        if outline({key: word}) != (word,) and _number(value) is not None:
            numbers.setdefault((*outline({key: word}), str(value.isdigit())), []).append(place)
    left_out: set[int] = set()
    for places in numbers.values():
        ranked = sorted(places, key=lambda place: _number(words[place].partition("=")[2]) or 0.0)
        last = len(ranked) - 1
        left_out |= set(ranked) - {ranked[last * step // (FEW - 1)] for step in range(FEW)} if last >= FEW else set()
    return [word for place, word in enumerate(words) if place == 0 or place not in left_out]


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _between(value: str) -> bool:
    """Whether a word is a number other than 0 and 1."""
    return _number(value) not in (None, 0.0, 1.0)


def folders(points: Sequence[Point]) -> dict[Path, list[Point]]:
    """The run directories of the points; two points with the same are the same run."""
    found: dict[Path, list[Point]] = {}
    for point in points:
        if point.job is not None:
            found.setdefault(point.job.folder, []).append(point)
    return found


def of_sweep(config: DictConfig) -> list[Point]:
    """The points of the multirun that Hydra is about to start.

    Args:
        config: the sweep's config, as Hydra's callbacks get it.
    """
    words = [str(word) for word in config.hydra.overrides.task]
    loader: Any = GlobalHydra.instance().config_loader()
    HydraConfig.instance().set_config(config.copy())  # where a recipe looks for options of the user's own
    return Grid(config.hydra.job.config_name, words, config, loader).points(MANY)


def quick(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The problems of points that are found without importing torch, each with its points."""
    found: dict[str, list[Point]] = {}
    for point in points:
        if problem := point.problem or _quick(point):
            found.setdefault(problem, []).append(point)
    return found


def _quick(point: Point) -> str:
    from kdlab.config import conf

    job = point.job
    if job is None:
        return ""
    try:
        check(job.command, [parse(word) for word in point.words], job.cfg, job.choices, conf())
    except UserError as problem:
        return str(problem)
    return ""


def sentence(found: dict[str, list[Point]], count: int) -> str:
    """The first problem with its point, and how many points have one."""
    problem, points = next(iter(found.items()))
    bad = sum(len(points) for points in found.values())
    more = f" ({bad} of the {count} points have a mistake)" if bad > 1 else ""
    where = f"point {points[0].number + 1} of {count} ({points[0].name}): " if count > 1 else ""
    return f"{where}{problem}{more}"
