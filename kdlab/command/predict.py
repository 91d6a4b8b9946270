"""`kdlab predict`: what a finished run makes of every row of a file: labels and probabilities, or a text."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from kdlab.command.runs import writable
from kdlab.config.check import fault, shown
from kdlab.config.located import located
from kdlab.config.trust import Trust
from kdlab.datamodule.columns import text_columns
from kdlab.datamodule.listing import Listing
from kdlab.datamodule.part import Part
from kdlab.datamodule.prompts import Dialogues, Texts, Values, format_of
from kdlab.datamodule.sink import TextSink, check_kind
from kdlab.datamodule.source import Source, mark
from kdlab.datamodule.stream import Piped, Stream, stream
from kdlab.error import UserError
from kdlab.fetch import local
from kdlab.file import read_json
from kdlab.importing import importing
from kdlab.terminal import announce

if TYPE_CHECKING:
    from kdlab.artifact.answerer import Answerer
    from kdlab.artifact.predictor import Predictor
    from kdlab.artifact.tagger import Tagger

SAMPLING = {"max_new_tokens": "Count", "temperature": "NonNegative", "top_p": "Part", "top_k": "Whole", "seed": "Seed"}


def main(cfg: DictConfig) -> None:
    """Predict and write. Errors: UserError, before torch is imported where the file cannot be read or written."""
    for key, meaning in (("run", "a run id or a run directory"), ("path", "a file of rows, or - for standard input")):
        if OmegaConf.is_missing(cfg, key):
            raise UserError(f"{key} has no value; give {meaning}: kdlab predict run=ID path=new.csv file=predicted.csv")
    trust = Trust.of(cfg)
    folder, _ = located(str(cfg.run), Path(cfg.outputs), "run")
    stored = trust.read(folder) if (folder / "config.yaml").exists() else None
    options: Mapping[str, Any] = {} if stored is None else stored.datamodule
    column = _text_column(cfg.text_column, options)
    sampling = {name: cfg[name] for name in SAMPLING} | {"seed": cfg.seed or None}
    for name, kind in SAMPLING.items():
        if must := fault(f"{kind} | None", cfg[name]):
            raise UserError(f"{name} is {shown(cfg[name])}, but must be {must}")
    if cfg.calibrated not in (None, "run") and (must := fault("Positive", cfg.calibrated)):
        raise UserError(f"calibrated is {shown(cfg.calibrated)}, but must be {must}, or run, for what its test fitted")
    path = None if cfg.path == "-" else Path(local(str(cfg.path), cfg.download))
    rows = (
        Listing(path, str(cfg.path), text_columns(column)[0])
        if path is not None and path.is_dir()
        else stream(Source(path, str(cfg.path), cfg.encoding, cfg.separator, prefix=""))
        if path is not None
        else Piped(
            partial(os.read, 0, 2**16),
            list(dict.fromkeys(text_columns(column))),
            mark(cfg.separator, "\t", ""),
            cfg.encoding,
        )
    )
    writes, talks = _writes(folder, stored)
    if writes and cfg.calibrated is not None:
        raise UserError(
            f"calibrated is about probabilities of labels, and run {folder.name} writes texts: leave it out"
        )
    if cfg.text_column is None and writes:
        column = _prompt_column(column, options, rows.names, talks)
    values = _values(rows, column, options, talks)
    file = None if cfg.file in (None, "-") else writable(str(cfg.file))
    if file is not None:
        check_kind(file)
        if path is not None and file.exists() and file.samefile(path):
            raise UserError(f"file={cfg.file} is the file that is read: name another")
        if file.exists() and not cfg.overwrite:
            raise UserError(f"file={cfg.file} is there already: name another, or set overwrite=true")
    if rows.total == 0:
        raise UserError(f"{cfg.path} has no rows")
    check_names(rows, [] if writes else ["predicted"], file)
    values.check(rows)

    with importing():
        from kdlab.artifact.classifier import predictor_of  # which imports torch
        from kdlab.artifact.predictor import Predictor
        from kdlab.artifact.trained import named
        from kdlab.artifact.work import work_of

    subject = named(str(folder), Path(cfg.outputs), trust)
    base = Path() if path is None else path if path.is_dir() else path.parent
    model = predictor_of(subject, cfg.max_length, base)
    if isinstance(model, Predictor):
        model = replace(model, scale=_scale(cfg.calibrated, folder))
    if isinstance(rows, Listing) and getattr(model, "images", None) is None:
        raise UserError(f"{cfg.path} is a folder, and run {subject.id} reads texts: give a file of rows")
    work = work_of(model, rows, values, sampling)
    check_names(rows, work.columns(), file)
    separator = work.separator or str(options.get("label_separator", ";"))
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
            "encoding": cfg.encoding, "separator": cfg.separator, **work.settings(), "new": list(work.columns()),
        }  # fmt: skip
        part = Part(file, state, resumes=path is not None)
        if part.rows:
            announce(f"going on after row {part.rows:,}, where it was interrupted")
        work.into(part.opened(work.columns(), separator, rows.schema), part)
        part.finish()
    work.conclude(file)


def load(run: str, outputs: str = "outputs", trust: Sequence[str] = ()) -> Predictor | Tagger | Answerer:
    """The model of a finished run, ready to predict.

    Args:
        run: a run id, a run directory, or a folder that transformers' ``save_pretrained`` wrote.
        outputs: where runs are kept.
        trust: what the run's config may name besides what installed options name.
    """
    from kdlab.artifact.classifier import predictor_of
    from kdlab.artifact.trained import named

    return predictor_of(named(run, Path(outputs), Trust(patterns=tuple(trust))))


def _scale(asked: Any, folder: Path) -> float:
    """The temperature that logits are divided by: a number, or that of the run's own test.

    Raises:
        UserError: the run has fitted none.
    """
    if asked is None:
        return 1.0
    if asked != "run":
        return float(asked)
    from kdlab.metric.calibration import TEMPERATURE  # which imports torch

    path = folder / "metrics.json"
    found = read_json(path, "", dict).get(f"test/{TEMPERATURE}") if path.exists() else None
    if not isinstance(found, int | float) or not found > 0:
        raise UserError(
            f"calibrated=run needs a run that was tested with metric=[classification,calibration], and {folder.name} "
            "fitted no temperature: give the number calibration/temperature that `kdlab evaluate run=ID "
            "metric=calibration` prints"
        )
    return float(found)


def _text_column(asked: Any, options: Mapping[str, Any]) -> str | list[str]:
    """The column of the texts, or the two of a pair, or a template, as for the run's own data."""
    image = options.get("image_column", "image" if "image_processor" in options else None)
    own = options.get("text_column", options.get("source_column", image))
    given = asked if asked is not None else own if own is not None else "text"
    return [str(name) for name in given] if OmegaConf.is_list(given) else str(given)


def _writes(folder: Path, stored: DictConfig | None) -> tuple[bool, bool]:
    """Whether a run writes texts, and whether it answers dialogues, without importing it."""
    if stored is not None:
        return "chunk" in stored.task, {"system", "answers"} <= {*stored.datamodule}
    named = (read_json(folder / "config.json", "", dict) if (folder / "config.json").exists() else {}).get(
        "architectures"
    ) or [""]
    writes = any(word in str(named[0]) for word in ("CausalLM", "LMHead", "ConditionalGeneration"))
    settings = folder / "tokenizer_config.json"
    template = settings.exists() and "chat_template" in read_json(settings, "", dict)
    return writes, writes and (template or (folder / "chat_template.jinja").exists())


def _prompt_column(
    own: str | list[str], options: Mapping[str, Any], names: Sequence[str], talks: bool
) -> str | list[str]:
    """The column of the prompts in a file with these columns: that of the run's data, else one of a usual name."""
    usual = [options.get("messages_column") or "messages"] if talks else []
    usual += [own] if isinstance(own, str) else []
    usual += [options.get("prompt_column") or "prompt", "text"]
    there = isinstance(own, list) or set(text_columns(own, names)) <= set(names)
    return own if there and not (talks and usual[0] in names) else next((one for one in usual if one in names), own)


def _values(rows: Stream, column: str | list[str], options: Mapping[str, Any], talks: bool) -> Values:
    """What the model reads of each row."""
    numbers = [rows.number(name, "text_column") for name in text_columns(column, rows.names)]
    if not talks or len(numbers) > 1 or rows.names[numbers[0]] != column:
        return Texts(column, numbers)
    return Dialogues(numbers[0], column == (options.get("messages_column") or "messages"), format_of(options))


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
