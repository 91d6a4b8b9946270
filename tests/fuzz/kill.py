"""`make test-kill`: kills commands at random moments, gives them again, and compares what they leave with whole runs.

    python -m tests.fuzz.kill --kills 300 --seed 0 --minutes 30

Ends with a table by what the killed process was doing, and with 1 where anything was lost, duplicated, different or
left behind; the folder of such a chain is kept, and ``--only NUMBER`` does it again alone. Linux.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.attempt import adopt
from tests.fuzz.chain import MOST, RESUME, SWEEPS, Chain, chain
from tests.fuzz.commands import commands
from tests.fuzz.judge import KINDS
from tests.fuzz.watch import PHASES

VARIABLES = {  # as for all tests: offline, one thread, no GPU; two jobs of a sweep side by side
    "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
    "WANDB_MODE": "offline", "KDLAB_JOBS": "2", "COLUMNS": "200",
}  # fmt: skip
NAMES = {"job": "a job of a sweep", "driver": "the driver of a sweep", "tree": "a sweep's driver and its jobs"}


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.kill", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30.0, help="begin no chain after so many")
    parser.add_argument("--folder", type=Path, help="where it is done; default: a temporary one")
    parser.add_argument("--only", type=int, nargs="*", help="the numbers of the chains to do")
    return parser.parse_args(words)


def fuzz(args: argparse.Namespace, folder: Path) -> list[Chain]:
    """Chains until there are as many kills as asked for, or the time is over."""
    begun, done = time.monotonic(), []
    known = commands(folder)
    print(f"the commands alone: {time.monotonic() - begun:.0f} s", flush=True)
    number = 0
    while (left := args.kills - sum(len(one.kills) for one in done)) > 0:
        if time.monotonic() - begun > 60 * args.minutes or (args.only and number > max(args.only)):
            break
        if not args.only or number in args.only:
            done.append(one := chain(number, args.seed, known, folder, min(left, MOST)))
            for fault in one.faults:
                print(f"chain {number} ({one.command}, {one.begin}): {fault}\n  {'; '.join(one.strikes)}", flush=True)
            if args.only:
                print(f"chain {number}: {one.command}, {one.begin}: {'; '.join(one.strikes)}", flush=True)
        number += 1
    print(f"{len(done)} chains, {time.monotonic() - begun:.0f} s", flush=True)
    return done


def table(chains: Sequence[Chain]) -> str:
    """Kills by what the process was doing, then those of sweeps by who was killed, and what became of the runs."""
    lines = ["| killed | kills | of these at a file operation | in a command given again |", "|---|---|---|---|"]
    kills = [kill for one in chains for kill in one.kills]
    rows = [(phase, [kill for kill in kills if kill.phase == phase]) for phase in (*PHASES, RESUME)]
    rows += [("**all**", kills)]
    rows += [(f"of these {NAMES[victim]}", [kill for kill in kills if kill.victim == victim]) for victim in SWEEPS]
    for name, some in rows:
        at, again = sum(bool(kill.moment) for kill in some), sum(kill.again for kill in some)
        lines.append(f"| {name} | {len(some)} | {at} | {again} |")
    faults = Counter(fault.kind for one in chains for fault in one.faults)
    head = ["runs", *KINDS]
    values = [sum(one.runs for one in chains), *(faults[kind] for kind in KINDS)]
    return "\n".join(
        [*lines, "", f"| {' | '.join(head)} |", "|---" * len(head) + "|", f"| {' | '.join(map(str, values))} |"]
    )


def main(words: Sequence[str] | None = None) -> int:
    args = arguments(words)
    os.environ |= VARIABLES
    adopt()
    folder = Path(tempfile.mkdtemp(prefix="kdlab-kill-", dir=args.folder))
    done = fuzz(args, folder)
    print(table(done))
    if bad := [one for one in done if one.faults]:
        print(f"{len(bad)} chains with faults, kept in {folder}/chain: {', '.join(str(one.number) for one in bad)}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
