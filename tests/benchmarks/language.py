"""Distilling a language model: kdlab against TRL and Hugging Face's Trainer, side by side.

    python -m tests.benchmarks.language                        # all, about half an hour on two cores
    python -m tests.benchmarks.language --share 0.5 --rows 64  # less
    python -m tests.benchmarks.language --rows 16 --share 1 --epochs 1 --length 48 --new-tokens 4   # does it run?

A student of 4 of the 30 layers of SmolLM2-135M-Instruct learns from dialogues. ``off``: the texts of the data, the
teacher's pass included, from the start of the process to its end. ``own``: texts that the student writes, a step.
``memory``: the largest resident memory of a run in batches of 32 rows, for kdlab with the teacher's outputs stored.
``equal``: the values of kdlab's divergences are those of TRL.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise, takewhile
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks import clock, environment, machine
from tests.benchmarks.ratio import extrapolated, interleaved, ratios, spread

LAYERS = (0, 1, 14, 29)
HELD = 8  # dialogues for validation, and as many for the test: they are no part of what is compared
OFF = [(peer, column) for peer in ("trl", "hf_trainer") for column in ("documented", "best")]
OWN = [("trl_own", "documented"), ("trl_own", "best")]
LARGE = 32  # rows of a batch whose memory is measured
AIMS = {"trl/documented": 3.0, "trl/best": 1.3}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=["off", "own", "memory", "equal"])
    parser.add_argument("--rows", type=int, default=160, help="dialogues to train on")
    parser.add_argument("--share", type=float, default=0.3, help="of the dialogues that peers are measured on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--length", type=int, default=128, help="most tokens of a dialogue")
    parser.add_argument("--new-tokens", type=int, default=32, help="most tokens that the student writes")
    parser.add_argument("--steps", type=int, default=6, help="on the student's own texts")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args(words)
    args.parts = args.parts or ["off", "own", "memory", "equal"]
    args.steps = min(args.steps, args.rows // args.batch_size)
    if args.steps < 2 and "own" in args.parts:
        parser.error(f"--rows {args.rows} are fewer than two batches, of which the first is not measured")
    return args


def fitting(rows: Iterable[list[dict[str, str]]], size: Any, length: int) -> Iterator[list[dict[str, str]]]:
    """The first exchanges of each dialogue that fit into ``length`` tokens; dialogues of which none fits are left out.

    Args:
        rows: dialogues of a user and an assistant, who alternate.
        size: counts the tokens of a dialogue.
    """
    for row in rows:
        fits = takewhile(lambda end, row=row: size(row[:end]) <= length, range(2, len(row) + 1, 2))  # type: ignore[misc]
        if ends := list(fits):
            yield row[: ends[-1]]


def material(args: argparse.Namespace) -> tuple[Path, Path, int]:
    """The teacher's run, the file of dialogues, and the tokens of those to train on."""
    place = machine.results() / "language"
    file = place / f"{args.rows}-{args.length}.jsonl"
    made = sorted((place / "teacher").glob("finetune/*/done.json"))
    if not made:
        words = ["experiment=smollm2_teacher", "datamodule.val_rows=8", "datamodule.test_rows=8", "logger=none"]
        machine.alone(machine.kdlab("finetune", *words, f"outputs={place / 'teacher'}"))
        made = sorted((place / "teacher").glob("finetune/*/done.json"))
    teacher = made[0].parent
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(teacher / "model")

    def size(messages: list[dict[str, str]]) -> int:
        return len(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))

    if not file.exists():
        from kdlab.datamodule.chitchat import ChitChat

        values = ChitChat(tokenizer="none", download=True).corpus().values
        dialogues = [[{"role": one.role, "content": one.content} for one in value.messages] for value in values]
        chosen = list(islice(fitting(dialogues, size, args.length), args.rows + 2 * HELD))
        splits = ["train"] * args.rows + ["val"] * HELD + ["test"] * HELD
        lines = [json.dumps({"messages": one, "split": name}) for one, name in zip(chosen, splits, strict=True)]
        file.write_text("\n".join(lines) + "\n")
    rows = [json.loads(line)["messages"] for line in file.read_text().splitlines()]
    return teacher, file, sum(map(size, rows[: args.rows]))


def words(args: argparse.Namespace, teacher: Path, file: Path, outputs: Path) -> list[str]:
    """What all runs of kdlab share."""
    return [
        "experiment=smollm2", "datamodule=chat", f"datamodule.path={file}", "datamodule.split_column=split",
        "datamodule.answers=last", f"datamodule.max_length={args.length}", f"datamodule.batch_size={args.batch_size}",
        "datamodule.train_rows=null", "datamodule.val_rows=null", "datamodule.test_rows=null",
        "datamodule.overlap=allow", f"teacher.run={teacher}", f"outputs={outputs}", "logger=none", "rerun=true",
        "student.layers=[" + ",".join(map(str, LAYERS)) + "]",
    ]  # fmt: skip


def peer(args: argparse.Namespace, name: str, column: str, teacher: Path, file: Path, rows: int) -> machine.Finished:
    given = {"peer": name, "column": column, "teacher": teacher / "model", "data": file, "rows": rows}
    given |= {"epochs": args.epochs, "batch-size": args.batch_size, "length": args.length}
    given |= {"new-tokens": args.new_tokens}
    command = [str(environment.python()), "-m", "tests.benchmarks.peer.text_trainer"]
    command += [word for key, value in given.items() for word in (f"--{key}", str(value))]
    return machine.alone([*command, "--layers", *map(str, LAYERS)])


def off(args: argparse.Namespace, teacher: Path, file: Path) -> dict[str, list[dict[str, float]]]:
    """Seconds of the whole job and MB at the peak, by contender and repeat; of peers from two shares of the rows."""
    found: dict[str, list[dict[str, float]]] = {}
    for repeat, one in interleaved([("kdlab", "its own"), *OFF], args.repeats):
        key = "/".join(one)
        if one[0] == "kdlab":
            outputs = machine.results() / "language" / "fresh"
            shutil.rmtree(outputs, ignore_errors=True)
            given = [*words(args, teacher, file, outputs), f"trainer.max_epochs={args.epochs}"]
            done = machine.alone(machine.kdlab("distill", *given))
            result = {"seconds": done.seconds, "peak_mb": done.peak_mb}
        else:
            sizes = [max(args.batch_size, round(args.share * args.rows * part)) for part in (1, 0.5)]
            runs = [peer(args, *one, teacher, file, rows) for rows in sizes[: 1 if args.share == 1 else 2]]
            seconds = [float(run.answer["training_seconds"]) for run in runs]
            whole = extrapolated(seconds[0], seconds[-1], args.share) if args.share < 1 else seconds[0]
            result = {"seconds": runs[0].seconds - seconds[0] + whole, "peak_mb": runs[0].peak_mb}
        found.setdefault(key, []).append(result)
        print(f"off, repeat {repeat + 1}: {key} {result['seconds']:.0f} s, {result['peak_mb']:.0f} MB", flush=True)
    return found


def own(args: argparse.Namespace, teacher: Path, file: Path) -> dict[str, list[float]]:
    """Median seconds of a step on the student's own texts, the first left out, by contender and repeat."""
    found: dict[str, list[float]] = {}
    rows = args.steps * args.batch_size
    for repeat, one in interleaved([("kdlab", "its own"), *OWN], args.repeats):
        if one[0] == "kdlab":
            place = machine.results() / "language"
            given = [
                *words(args, teacher, file, place / "own"), "module=on_policy", "module.lmbda=1", "teacher.top_k=null",
                f"module.samples.max_new_tokens={args.new_tokens}", "loss=kd", "loss.temperature=1",
                f"trainer.max_steps={args.steps}", "trainer.max_epochs=-1", *clock.words(place / "own.json"),
            ]  # fmt: skip
            machine.alone(machine.kdlab("distill", *given))
            epochs = json.loads((place / "own.json").read_text())["epochs"]  # between two of them it validates
            steps = [after - before for ends in epochs for before, after in pairwise(ends)]
        else:
            single = argparse.Namespace(**(vars(args) | {"epochs": 1}))
            steps = peer(single, *one, teacher, file, rows).answer["steps"][1:]
        found.setdefault("/".join(one), []).append(median(steps))
        print(f"own, repeat {repeat + 1}: {'/'.join(one)} {median(steps):.2f} s a step", flush=True)
    return found


def memory(args: argparse.Namespace, teacher: Path, file: Path) -> dict[str, float]:
    """MB at the peak of a run in batches of ``LARGE`` rows: kdlab's with the outputs of the teacher in the store, and
    those of peers at their best, which ask it."""
    outputs = machine.results() / "language" / "memory"
    single = argparse.Namespace(**(vars(args) | {"epochs": 1, "batch_size": min(LARGE, args.rows)}))
    given = [*words(single, teacher, file, outputs), "trainer.max_epochs=1", "metric=[causal_lm]"]
    peaks = {"kdlab": [machine.alone(machine.kdlab("distill", *given)).peak_mb for _ in range(2)][1]}
    for name, column in OFF:
        if column == "best":
            peaks[name] = peer(single, name, column, teacher, file, 2 * single.batch_size).peak_mb
    return peaks


def equal() -> bool:
    """Whether kdlab's divergences and alignments are TRL's, in the environment that has TRL."""
    options = ["-q", "-o", "addopts=", "--noconftest", "-p", "no:cacheprovider", "tests/loss/test_loss_trl.py"]
    path = {"PYTHONPATH": f"{machine.ROOT}:{machine.ROOT / 'tests'}"}
    done = machine.alone([str(environment.python()), "-m", "pytest", *options], extra=path)
    print("equal to TRL: " + done.said.strip().splitlines()[-1], flush=True)
    return "skipped" not in done.said


def main() -> None:
    args = arguments()
    environment.ensure()
    found: dict[str, Any] = {"settings": vars(args)}
    if "equal" in args.parts:
        found["equal"] = equal()
    if {"off", "own", "memory"} & set(args.parts):
        teacher, file, tokens = material(args)
        found["tokens"] = tokens * args.epochs
    if "off" in args.parts:
        found["off"] = off(args, teacher, file)
        ours = [one["seconds"] for one in found["off"]["kdlab/its own"]]
        print(f"off: kdlab {found['tokens'] / spread(ours).median:.0f} tokens a second")
        for name, results in found["off"].items():
            if not name.startswith("kdlab"):
                aim = f" (aim: {AIMS[name]})" if name in AIMS else ""
                print(f"off: {name} took {ratios([one['seconds'] for one in results], ours)} times as long{aim}")
    if "own" in args.parts:
        found["own"] = own(args, teacher, file)
        for name in map("/".join, OWN):
            print(
                f"own: {name} took {ratios(found['own'][name], found['own']['kdlab/its own'])} times as long (aim: 1)"
            )
    if "memory" in args.parts:
        found["memory"] = memory(args, teacher, file)
        for name, peak in found["memory"].items():
            share = found["memory"]["kdlab"] / peak
            print(f"memory: {name} {peak:.0f} MB; kdlab {share:.2f} of it" + ("" if name == "kdlab" else " (aim: 0.5)"))
    machine.write("language", found)


if __name__ == "__main__":
    main()
