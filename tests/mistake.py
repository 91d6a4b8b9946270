"""Mistakes that a user can make in each command, and what must be said about them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def table(labels=("good", "bad"), texts=(), columns="text,label", splits=("",)) -> str:
    """A csv of 60 rows whose labels (and splits) take turns."""
    draw = random.Random(1)
    rows = [columns]
    for number in range(60):
        text = texts[number] if number < len(texts) else f"{draw.choice(['fine', 'dull'])} film {number}"
        rows.append(
            ",".join([text, labels[number % len(labels)], splits[number % len(splits)]][: columns.count(",") + 1])
        )
    return "\n".join(rows)


@dataclass(frozen=True)
class Case:
    """A mistake and what must be said about it.

    Attributes:
        words: overrides after those of the tiny command.
        says: what the sentence must name: what is wrong, where, and what is allowed or what to do.
        file: what is in rows.csv, which is then the data.
        prepare: called beside a copy of the finished runs, which it may damage; gives more overrides.
        late: whether it can only be met in training.
    """

    words: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    file: str | None = None
    prepare: Callable[[], list[str]] | None = None
    late: bool = False


def teacher() -> Path:
    return next(iter(Path("outputs/finetune").glob("reviews-*")))


def student() -> Path:
    return next(iter(Path("outputs/distill").glob("reviews-*")))


def known() -> list[str]:
    """The finished teacher, so that its training is no part of the case."""
    return [f"teacher.run={teacher()}"]


def unfinished() -> list[str]:
    (teacher() / "done.json").unlink()
    return known()


def damaged(path: str, how: str, more: Callable[[], list[str]] = list, done: bool = False) -> Callable[[], list[str]]:
    """A preparation that cuts, empties, alters or removes a file of the finished runs.

    Args:
        done: whether the student's run still counts as done.
    """

    def prepare() -> list[str]:
        (file,) = Path("outputs").glob(path)
        content = file.read_bytes()
        middle = len(content) // 2
        if how == "removed":
            file.unlink()
        else:
            altered = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
            file.write_bytes({"cut": content[:middle], "emptied": b"", "altered": altered}[how])
        if not done:
            (student() / "done.json").unlink()
        return more()

    return prepare


def evaluated() -> list[str]:
    return [f"run={student()}"]


WEIGHTS, LAST = "*/model/model.safetensors", "distill/*/checkpoints/last.ckpt"
HINT = "loss.terms.hint.taps"
CUT, ALLOWED, SPLIT = "cannot be read", "[0, 1]", "datamodule.split_column=split"

CASES: dict[str, dict[str, Case]] = {
    "finetune": {
        "a missing file": Case(("datamodule.path=nowhere.csv",), ("datamodule.path", "nowhere.csv")),
        "a file of another kind": Case(("datamodule.path=file.xls",), ("file.xls", ".csv, .tsv")),
        "a column that is not there": Case(
            ("datamodule.label_column=stars",), ("datamodule.label_column='stars'", "text, label")
        ),
        "an unknown label": Case(
            ("datamodule.label_names=[good,bad]",),
            ("rows.csv: line 4", "'ugly'", "good, bad", "datamodule.label_names"),
            file=table(("good", "bad", "ugly")),
        ),
        "one class only": Case((), ("rows.csv", "only the label 'good'", "two or more"), file=table(("good",))),
        "an empty text": Case((), ("rows.csv", "line 3 is empty", "remove the row"), file=table(texts=["fine", "   "])),
        "no rows": Case((), ("rows.csv has no rows",), file="text,label"),
        "a torn file": Case((), ("rows.csv cannot be read as csv",), file='text,label\n"fine,good\n'),
        "an unknown split": Case(
            (SPLIT,),
            ("line 3", "'later'", "train, val"),
            file=table(columns="text,label,split", splits=("train", "later")),
        ),
        "a split without labelled rows": Case(
            (SPLIT, "datamodule.test_fraction=0"),
            ("test split has no labelled rows", "raise datamodule.test_fraction"),
            file=table(columns="text,label,split", splits=("train", "train", "val")),
        ),
        "more labels than a class has": Case(
            ("datamodule.per_class=1000",), ("datamodule.per_class=1000", "'negative' has 64", "from 0 to")
        ),
        "so many labels a class where a row has several": Case(
            ("datamodule.per_class=2", "datamodule.multi_label=true"),
            ("datamodule.per_class", "use train_rows"),
        ),
        "a budget below a text": Case(
            ("datamodule.tokens_per_batch=4",), ("datamodule.tokens_per_batch=4", "cannot hold a text", "raise it to")
        ),
        "a batch of nothing": Case(
            ("datamodule.batch_size=0",), ("datamodule.batch_size is 0", "a whole number from 1 up")
        ),
        "a word for a number": Case(
            ("datamodule.batch_size=many",), ("datamodule.batch_size is 'many'", "whole number")
        ),
        "a part of a row": Case(("datamodule.batch_size=1.5",), ("datamodule.batch_size is 1.5", "whole number")),
        "one label read as several": Case(
            ("task.multi_label=true",), ("task.multi_label=true", "datamodule.multi_label=false", "set the latter only")
        ),
        "no such tokenizer": Case(("model.tokenizer=nobody/nothing",), ("nobody/nothing", "train:wordpiece")),
        "a typo in a key": Case(("optimizer.learning_rate=1",), ("'optimizer.learning_rate'", "lists all settings")),
        "a typo in an option": Case(
            ("optimizer=adamm",), ("no optimizer=adamm", "Did you mean optimizer=adam", "adafactor, adam, adamw, sgd")
        ),
        "a typo in a group": Case(("optimiser=adamw",), ("'optimiser'", "lists the groups")),
        "a typo in an added key": Case(("+optimizer.lrr=1",), ("optimizer.lrr", "AdamW", "lr, betas")),
        "a mistake in the grammar": Case(("optimizer.lr=[1",), ("optimizer.lr=[1",)),
        "a word for a learning rate": Case(("optimizer.lr=fast",), ("optimizer.lr is 'fast'", "a number")),
        "a negative learning rate": Case(("optimizer.lr=-1",), ("optimizer.lr is -1", "a number from 0 up")),
        "no end": Case(("trainer.max_epochs=-1",), ("never end", "trainer.max_epochs", "trainer.max_steps")),
        "an unknown device": Case(("trainer.accelerator=abacus",), ("trainer", "'abacus'", "Available names")),
        "an unwritable output folder": Case(("outputs=file/sub",), ("file/sub", "outputs=FOLDER")),
        "heads that do not divide the width": Case(("model.heads=3",), ("hidden_size=16", "heads=3")),
        "more layers frozen than there are": Case(
            ("freeze=bottom", "freeze.layers=99"), ("freeze.layers=99", "2 layers", "freeze=head")
        ),
        "a metric that nobody measures": Case(
            ("callback.checkpoint.monitor=val/applause",), ("val/applause", "val/accuracy")
        ),
        "a loss that is no number": Case(
            ("optimizer=sgd", "optimizer.lr=1e30", "trainer.gradient_clip_val=null"),
            ("train/loss became NaN or infinite at step", "lower optimizer.lr"),
            late=True,
        ),
    },
    "distill": {
        "a budget below a text": Case(
            ("datamodule.tokens_per_batch=4",), ("datamodule.tokens_per_batch=4", "cannot hold a text", "raise it to")
        ),
        "softened classes where a row has several": Case(
            ("datamodule.multi_label=true",), ("loss.terms.kl", "multi-label", "loss=kd_binary")
        ),
        "a negative temperature": Case(("loss.temperature=-1",), ("temperature is -1", "above 0")),
        "a share of more than all": Case(("loss.alpha=1.5",), ("loss.alpha is 1.5", "a number from 0 to 1")),
        "a share of less than nothing": Case(("loss.alpha=-0.5",), ("loss.alpha is -0.5", "a number from 0 to 1")),
        "a schedule that leaves its range": Case(
            ("+schedule@loss.alpha=linear", "loss.alpha.end=2"), ("loss.alpha goes from 0 to 2", ALLOWED)
        ),
        "a student's tap that is not there": Case(
            ("loss=hint", f"{HINT}.student=hidden.9"), ("loss.terms.hint of the student", "'hidden.9'", "hidden.1")
        ),
        "a teacher's tap that is not there": Case(
            ("loss=hint", f"{HINT}.teacher=hidden.9"),
            ("loss.terms.hint of the teacher", "'hidden.9'", "hidden.1"),
            prepare=known,
        ),
        "no such teacher": Case(("teacher.run=nobody",), ("'nobody'", "`kdlab runs` lists")),
        "a typo in the teacher's recipe": Case(
            ("teacher.recipe=['optimiser=adamw']",), ("teacher.recipe", "'optimiser'")
        ),
        "less than no generation": Case(
            ("teacher.generations=-1",), ("teacher.generations is -1", "a whole number from 0 up")
        ),
        "an unfinished teacher": Case(
            (), ("finetune/reviews-", "not finished", "run its command again"), prepare=unfinished
        ),
        "a teacher of other labels": Case(
            (),
            ("has the labels ['negative', 'positive']", "['bad', 'good']", "datamodule.label_names"),
            file=table(),
            prepare=known,
        ),
        "a teacher of fewer labels": Case(
            (), ("has the labels ['negative', 'positive']", "['1', '2', '3']"), file=table("123"), prepare=known
        ),
        "a teacher of other words": Case(
            ("loss=hint", "student.tokenizer=train:wordpiece:150"),
            ("different tokenizers", "'hidden.-1'", "set student.tokenizer="),
            prepare=known,
        ),
        "a teacher with torn weights": Case(
            (), ("teacher", "were replaced", "rerun=true"), prepare=damaged(f"finetune/{WEIGHTS}", "cut")
        ),
        "a teacher without weights": Case(
            (), (CUT, "trains it again"), prepare=damaged(f"finetune/{WEIGHTS}", "removed")
        ),
        "a teacher with a torn config": Case(
            (), ("teacher", "were replaced", "rerun=true"), prepare=damaged("finetune/*/model/config.json", "cut")
        ),
        "a teacher with a torn tokenizer": Case(
            (), ("tokenizer", CUT, "train that run again"), prepare=damaged("finetune/*/model/tokenizer.json", "cut")
        ),
        "a teacher with a torn done.json": Case(
            (),
            ("finetune/reviews-", "done.json is damaged", "delete it"),
            prepare=damaged("finetune/*/done.json", "cut"),
        ),
        "a teacher with torn metrics": Case(
            (), ("metrics.json is damaged", "trains it again"), prepare=damaged("finetune/*/metrics.json", "cut")
        ),
        "a torn checkpoint": Case((), ("last.ckpt", CUT, "rerun=true"), prepare=damaged(LAST, "cut")),
        "an empty checkpoint": Case((), ("last.ckpt", CUT, "rerun=true"), prepare=damaged(LAST, "emptied")),
        "an altered checkpoint": Case((), ("last.ckpt", CUT, "rerun=true"), prepare=damaged(LAST, "altered")),
        "a torn best checkpoint": Case(
            (), ("best.ckpt", CUT, "rerun=true"), prepare=damaged("distill/*/checkpoints/best.ckpt", "cut")
        ),
        "a torn done.json": Case(
            (),
            ("distill/reviews-", "done.json is damaged", "delete it"),
            prepare=damaged("distill/*/done.json", "cut", done=True),
        ),
        "a done.json of something else": Case(
            (),
            ("done.json is damaged", "delete it"),
            prepare=lambda: [str((student() / "done.json").write_text("7"))][1:],
        ),
    },
    "evaluate": {
        "a run without a name": Case((), ("run has no value", "kdlab evaluate run=", "`kdlab help run`")),
        "a run that is not there": Case(("run=nobody",), ("'nobody'", "`kdlab runs` lists")),
        "a split that is none": Case(("split=exam",), ("split is 'exam'", "train, val, test"), prepare=evaluated),
        "a run with torn weights": Case((), (CUT,), prepare=damaged(f"distill/{WEIGHTS}", "cut", evaluated, done=True)),
        "a run without a config": Case(
            (),
            ("config.yaml", "delete the run"),
            prepare=damaged("distill/*/config.yaml", "emptied", evaluated, done=True),
        ),
        "a run that is not finished": Case(
            (),
            ("not finished", "run its command again"),
            prepare=damaged("distill/*/history.csv", "removed", evaluated),
        ),
        "a data set without a file": Case(
            ("datamodule=table",), ("datamodule.path has no value", "datamodule.path=VALUE"), prepare=evaluated
        ),
        "data with other labels": Case(
            ("datamodule=table", "datamodule.path=rows.csv"),
            ("unknown label 'good'", "known are negative, positive"),
            table(),
            evaluated,
        ),
    },
    "report": {
        "no runs": Case((), ("no folder", "outputs=FOLDER")),
        "a choice that fits no run": Case(("select=nobody",), ("select=nobody", "a glob"), prepare=list),
        "a metric that no run has": Case(("by=test/applause",), ("test/applause", "test/accuracy"), prepare=list),
    },
    "runs": {
        "no runs": Case((), ("no folder", "outputs=FOLDER")),
        "an unknown format": Case(("format=xml",), ("format is 'xml'", "csv, parquet"), prepare=list),
    },
    "destil": {"a verb that is none": Case((), ("'destil'", "did you mean distill?", "distill, finetune"))},
}
