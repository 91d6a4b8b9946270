"""A chain of attempts at one command: killed, given again, perhaps killed again, at last left alone and compared."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.attempt import Attempt, attempt, left
from tests.fuzz.commands import Command, prepare
from tests.fuzz.judge import Fault, compare
from tests.fuzz.watch import CHECKPOINT, LAST, MODEL, PHASES, RESULT, START, STORE, STUDENT, TEACHER, Strike

RESUME = "start-up of a command given again"
SWEEPS = ("job", "driver", "tree")
TARGETS = (*PHASES, RESUME, *SWEEPS)  # what a chain is after, in turn; of a sweep any phase
AGAIN = 0.7  # chance that a command given again is killed as well
MOST = 6  # kills of a chain


@dataclass(frozen=True)
class Kill:
    """A kill that struck.

    Attributes:
        phase: in which the process that decided the moment was.
        victim: see :class:`Strike`.
        moment: the file operation that it came before; "": by the clock.
        again: the command had been killed before.
    """

    phase: str
    victim: str
    moment: str
    again: bool


@dataclass
class Chain:
    """What one chain did, and what came of it.

    Attributes:
        runs: that it should have left.
    """

    number: int
    command: str
    begin: str
    kills: list[Kill] = field(default_factory=list)
    strikes: list[str] = field(default_factory=list)
    attempts: int = 0
    runs: int = 0
    faults: list[Fault] = field(default_factory=list)


def chain(number: int, seed: int, commands: Sequence[Command], folder: Path, most: int = MOST) -> Chain:
    """Do the chain of this number; the same seed draws the same strikes.

    Args:
        folder: of the undisturbed commands; the chain's own is left there if something is wrong.
        most: kills.
    """
    draw = random.Random(f"{seed}.{number}")
    target = TARGETS[number % len(TARGETS)]
    command = _command(target, draw, commands)
    begin = _begin(target, command, draw)
    whole, place = folder / "whole" / command.name, folder / "chain" / str(number)
    prepare(begin, whole, place)
    like = "taught" if begin == "taught" else "empty"
    result = Chain(number, command.name, begin, runs=len(list((whole / like).glob("outputs/*/*/done.json"))))
    strike: Strike | None = _strike(STUDENT if target == RESUME else target, command, like, draw)
    while True:
        done = attempt(command.words, place, strike)
        result.attempts += 1
        result.faults += _ending(done, strike)
        if strike is not None:
            result.strikes.append(f"{strike}{'' if done.struck else ' (the command ended first)'}")
            if done.struck:
                again = bool(result.kills)
                phase = RESUME if again and done.struck.phase == START else done.struck.phase
                result.kills.append(Kill(phase, strike.victim, done.struck.strike, again))
        if result.faults or (strike is None and done.code == 0) or result.attempts > 2 * most:
            break
        if len(result.kills) >= most or (strike is None or not done.struck):
            strike = None
        elif len(result.kills) == 1 and target == RESUME:
            strike = _strike(START, command, like, draw)
        else:
            strike = _next(target, result.kills[-1].phase, command, like, draw) if draw.random() < AGAIN else None
    result.faults += [Fault("left behind", f"process {one}") for one in left()]
    if not result.faults:
        result.faults += compare(whole / like, place)
    if not result.faults:
        shutil.rmtree(place)
    return result


def _ending(done: Attempt, strike: Strike | None) -> list[Fault]:
    """What is wrong with how an attempt ended."""
    found = []
    if done.code is None:
        found.append(Fault("lost", f"the command hung: {done.said[-2000:]}"))
    elif done.code > 0 and (strike is None or strike.victim != "job" or not done.struck):
        found.append(Fault("lost", f"the command failed with {done.code}: {done.said[-2000:]}"))
    if "Traceback (most recent call last)" in done.said:
        found.append(Fault("different", f"a traceback: {done.said[-3000:]}"))
    return found


def _command(target: str, draw: random.Random, commands: Sequence[Command]) -> Command:
    if target in SWEEPS:
        return next(one for one in commands if one.sweep)
    fit = [one for one in commands if not one.sweep]
    if target in (TEACHER, STORE):
        fit = [one for one in fit if one.words[0] == "distill"]
    return draw.choice(fit)


def _begin(target: str, command: Command, draw: random.Random) -> str:
    later = target in (STORE, STUDENT, CHECKPOINT, MODEL, RESULT, LAST, RESUME, *SWEEPS)
    if later and "taught" in command.begins and draw.random() < 0.7:
        return "taught"
    return draw.choice(("empty", "ready", "ready", "ready"))


def _strike(target: str, command: Command, begin: str, draw: random.Random) -> Strike:
    """A random moment of a phase, or of a sweep."""
    victim, phase = ("process", target) if target in PHASES else (target, "")
    if not phase:
        phase = draw.choice([one for one in PHASES if command.seconds[begin].get(one)])
    most = command.operations[begin].get(phase, 0)
    if most and draw.random() < 0.5:
        return Strike(phase, victim, operation=draw.randint(1, most))
    spent = command.seconds[begin].get(phase) or [0.1]
    entry = draw.randint(1, len(spent))
    return Strike(phase, victim, entry, draw.uniform(0, spent[entry - 1]))


def _next(target: str, struck: str, command: Command, begin: str, draw: random.Random) -> Strike:
    """A moment that is still ahead of a command that was killed in a phase."""
    if target in SWEEPS:
        return _strike(draw.choice(SWEEPS), command, begin, draw)
    known = PHASES.index(struck) if struck in PHASES else 0
    ahead = [one for one in PHASES[known:] if command.seconds[begin].get(one)]
    return _strike(draw.choice([START, *ahead]), command, begin, draw)
