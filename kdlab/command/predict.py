"""`kdlab predict`: the label and the probabilities of every row of a file, from a finished run."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from kdlab.command.runs import writable
from kdlab.config.located import located
from kdlab.config.trust import Trust
from kdlab.datamodule.chunk import Chunk
from kdlab.datamodule.columns import joined, text_columns
from kdlab.datamodule.sink import Added, Sink, TextSink, check_kind, sink
from kdlab.datamodule.source import Source, mark
from kdlab.datamodule.stream import ROWS, Piped, Stream, stream
from kdlab.error import UserError
from kdlab.fetch import local
from kdlab.file import read_json, write_json
from kdlab.importing import importing
from kdlab.meter import Meter
from kdlab.terminal import announce, clock, counted

if TYPE_CHECKING:
    from kdlab.artifact.predictor import Predictor

DIGITS = 6  # of a probability


def main(cfg: DictConfig) -> None:
    """Predict and write. Errors: UserError, before torch is imported where the file cannot be read or written."""
    for key, meaning in (("run", "a run id or a run directory"), ("path", "a file of rows, or - for standard input")):
        if OmegaConf.is_missing(cfg, key):
            raise UserError(f"{key} has no value; give {meaning}: kdlab predict run=ID path=new.csv file=predicted.csv")
    trust = Trust.of(cfg)
    folder, _ = located(str(cfg.run), Path(cfg.outputs), "run")
    stored = trust.read(folder) if (folder / "config.yaml").exists() else None
    column = _text_column(cfg.text_column, stored)
    path = None if cfg.path == "-" else Path(local(str(cfg.path), cfg.download))
    rows = (
        stream(Source(path, str(cfg.path), cfg.encoding, cfg.separator, prefix=""))
        if path is not None
        else Piped(
            partial(os.read, 0, 2**16),
            list(dict.fromkeys(text_columns(column))),
            mark(cfg.separator, "\t", ""),
            cfg.encoding,
        )
    )
    numbers = [rows.number(name, "text_column") for name in text_columns(column, rows.names)]
    file = None if cfg.file in (None, "-") else writable(str(cfg.file))
    if file is not None:
        check_kind(file)
        if path is not None and file.exists() and file.samefile(path):
            raise UserError(f"file={cfg.file} is the file that is read: name another")
        if file.exists() and not cfg.overwrite:
            raise UserError(f"file={cfg.file} is there already: name another, or set overwrite=true")
    if rows.total == 0:
        raise UserError(f"{cfg.path} has no rows")
    check_names(rows, ["predicted"], file)
    rows.check(numbers)

    with importing():
        from kdlab.artifact.classifier import predictor_of  # which imports torch
        from kdlab.artifact.trained import named

    subject = named(str(folder), Path(cfg.outputs), trust)
    predictor = predictor_of(subject, cfg.max_length)
    new = columns(predictor)
    check_names(rows, new, file)
    separator = str(stored.datamodule.get("label_separator", ";")) if stored is not None else ";"
    work = Work(predictor, rows, column, numbers)
    for notice in rows.notices:
        announce(f"{cfg.path}: {notice}")
    if file is None:
        try:
            work.into(TextSink(sys.stdout.buffer, ".csv", separator))
        except BrokenPipeError:  # such as `kdlab predict … | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
    else:
        state = {
            "model": subject.fingerprint, "path": str(path and path.absolute()), "column": column,
            "stamp": path and [path.stat().st_size, path.stat().st_mtime_ns],
            "encoding": cfg.encoding, "separator": cfg.separator, "max_length": predictor.max_length, "new": list(new),
        }  # fmt: skip
        part = Part(file, state, resumes=path is not None)
        if part.rows:
            announce(f"going on after row {part.rows:,}, where it was interrupted")
        work.into(part.opened(new, separator, rows.schema), part)
        part.finish()
    work.conclude(file)


def load(run: str, outputs: str = "outputs", trust: Sequence[str] = ()) -> Predictor:
    """The model of a finished run, ready to predict.

    Args:
        run: a run id, a run directory, or a folder that transformers' ``save_pretrained`` wrote.
        outputs: where runs are kept.
        trust: what the run's config may name besides what installed options name.
    """
    from kdlab.artifact.classifier import predictor_of
    from kdlab.artifact.trained import named

    return predictor_of(named(run, Path(outputs), Trust(patterns=tuple(trust))))


def columns(predictor: Predictor) -> dict[str, type]:
    """The new columns and the type of each."""
    several = predictor.several
    decided = {f"predicted_{label}": bool for label in predictor.labels} if several else {}
    return (
        {"predicted": list if several else str}
        | decided
        | {f"probability_{label}": float for label in predictor.labels}
    )


class Work:
    """Predicts chunk after chunk, counts the results, and shows the progress."""

    def __init__(self, predictor: Predictor, rows: Stream, column: str | list[str], numbers: Sequence[int]) -> None:
        self.predictor, self.rows, self.column, self.numbers = predictor, rows, column, numbers
        self.done = self.empty = self.skipped = 0
        self.counts: Counter[str] = Counter()
        self.began = time.perf_counter()

    def into(self, out: Sink, part: Part | None = None) -> None:
        skip = self.skipped = part.rows if part is not None else 0
        with Meter("predicting", self.rows.total, skip) as meter:
            for chunk in self.rows.chunks(ROWS, skip):
                out.write(chunk, self._added(chunk, meter))
                self.done += len(chunk)
                if part is not None:
                    part.note(skip + self.done)
        out.close()

    def _added(self, chunk: Chunk, meter: Meter) -> Added:
        names = text_columns(self.column, self.rows.names)
        texts = joined(self.column, names, [self.rows.texts(chunk, number) for number in self.numbers])
        predictor = self.predictor
        logits, real = predictor.logits(texts, meter.more)
        meter.more(int((~real).sum()))
        probabilities = predictor.task.outcome.probabilities(logits)
        decided = predictor.decide(logits)
        for label, yes in zip(decided, real.tolist(), strict=True):
            self.counts.update(() if not yes else label if isinstance(label, list) else [label])
        self.empty += int((~real).sum())

        def there(values: Sequence[Any]) -> list[Any]:
            return [value if yes else None for value, yes in zip(values, real.tolist(), strict=True)]

        added = {"predicted": there(decided)}
        if predictor.several:
            added |= {
                f"predicted_{label}": there((logits[:, index] > 0).tolist())
                for index, label in enumerate(predictor.labels)
            }
        return added | {
            f"probability_{label}": there([float(f"{value:.{DIGITS}g}") for value in probabilities[:, index].tolist()])
            for index, label in enumerate(predictor.labels)
        }

    def conclude(self, file: Path | None) -> None:
        """Print a summary of the predictions."""
        seconds = time.perf_counter() - self.began
        counts = ", ".join(f"{count:,} {label}" for label, count in self.counts.most_common(8))
        more = f" and {len(self.counts) - 8} labels more" if len(self.counts) > 8 else ""
        where = f" -> {file}" if file is not None else ""
        took = clock(seconds) if round(seconds) else "<1 s"
        announce(f"predicted {counted(self.done, 'row')} in {took}: {counts}{more}{where}")
        if self.empty:
            announce(f"rows without a text, of which nothing is predicted: {self.empty:,}")


class Part:
    """An output that is not whole yet: beside the file, with a note of how far it is, so that it can be gone on with.

    Attributes:
        rows: that are in it already.
    """

    def __init__(self, file: Path, state: dict[str, Any], resumes: bool = True) -> None:
        self.file, self.state = file, state
        self.path, self.known = (file.with_name(f".{file.name}.{end}") for end in ("part", "json"))
        self.rows = self.size = 0
        self.resumes = resumes and file.suffix.lower() != ".parquet"
        if self.resumes and self.path.is_file() and self.known.is_file():
            with suppress(UserError):
                recorded = read_json(self.known, "", dict)
                if recorded.get("of") == state and self.path.stat().st_size >= recorded["size"]:
                    self.rows, self.size = recorded["rows"], recorded["size"]

    def opened(self, new: dict[str, type], separator: str, schema: Callable[[], Any]) -> Sink:
        """What writes the rows that are left."""
        if not self.rows:
            self.path.unlink(missing_ok=True)
        return sink(self.path, check_kind(self.file), new, separator, schema, self.size)

    def note(self, rows: int) -> None:
        """Count rows that are written."""
        if self.resumes:
            write_json(self.known, {"of": self.state, "rows": rows, "size": self.path.stat().st_size})

    def finish(self) -> None:
        """Put the file where it belongs."""
        self.path.replace(self.file)
        self.known.unlink(missing_ok=True)


def _text_column(asked: Any, stored: DictConfig | None) -> str | list[str]:
    """The column of the texts, or the two of a pair, or a template, as for the run's own data."""
    own = None if stored is None else stored.datamodule.get("text_column", stored.datamodule.get("source_column"))
    given = asked if asked is not None else own if own is not None else "text"
    return [str(name) for name in given] if OmegaConf.is_list(given) else str(given)


def check_names(rows: Stream, new: Iterable[str], file: Path | None) -> None:
    """Errors: UserError where columns would come twice."""
    if taken := [name for name in new if name in rows.names]:
        raise UserError(f"{rows.where} has a column named '{taken[0]}', which predict writes: rename it")
    twice = [name for number, name in enumerate(rows.names) if name in rows.names[:number]]
    if twice and file is not None and check_kind(file) not in (".csv", ".tsv"):
        raise UserError(
            f"{rows.where} has two columns named '{twice[0]}', which {file.suffix} cannot hold: rename one, or write "
            "to a .csv file"
        )


def interrupted(words: list[str]) -> str:
    """What the same command does after an interruption.

    Example:
        >>> interrupted(["run=1a2b", "path=new.csv", "file=predicted.csv"])
        'goes on after the rows that were written'
    """
    values = dict(word.split("=", 1) for word in words if "=" in word)
    resumes = values.get("path") != "-" and values.get("file", "-") not in ("-", "null", "")
    return "goes on after the rows that were written" if resumes else "begins anew"
