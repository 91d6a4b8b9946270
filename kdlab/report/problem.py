"""The problem of a run, which is its data with its test rows: only runs of one problem compare with each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from kdlab.config.identity import data_name
from kdlab.report.read import Record

TEST_KEYS = (
    "path", "name", "config", "text_column", "label_column", "split_column", "test_split", "multi_label",
    "test_fraction", "test_rows", "split_seed", "messages_column", "prompt_column", "completion_column", "answers",
)  # fmt: skip


def problems(records: Sequence[Record]) -> dict[Path, str]:
    """The name of each run's data, by its folder: another name where the test rows are others."""
    found = _test_sets(records)
    called = {record.folder: data_name(record.choice, record.config) or "" for record in records}
    sets: dict[str, set[str]] = {name: set() for name in called.values()}
    for record in records:
        if record.state == "finished":  # the test rows of a run without a result are unknown
            sets[called[record.folder]].add(found[record.folder])

    def name(record: Record) -> str:
        own, identity = called[record.folder], found[record.folder]
        if len(sets[own]) <= 1 or identity not in sets[own]:
            return own
        rows = record.metrics.get("test/rows")
        size = f"{rows:.0f} test rows, " if rows else ""
        return f"{own} ({size}set {hashlib.sha256(identity.encode()).hexdigest()[:4]})"

    return {record.folder: name(record) for record in records}


def _test_sets(records: Sequence[Record]) -> dict[Path, str]:
    """A key that is equal for runs with the same test rows, by folder: their hash, where the run wrote it down.

    A run that did not come so far has that of the runs with the same data settings, if these are of one mind; and so
    has one of before there was a hash, unless its data are a file, which may have changed.
    """
    settings: dict[Path, str] = {}
    known: dict[str, set[str]] = {}
    for record in records:
        node = record.config.get("datamodule")
        node = {key: node[key] for key in TEST_KEYS if key in node} if isinstance(node, dict) else node
        decide = json.dumps([record.choice.get("datamodule"), node], sort_keys=True, default=str)
        settings[record.folder] = decide
        if isinstance(record.test.get("set"), str):
            known.setdefault(decide, set()).add(record.test["set"])
    found = {}
    for record in records:
        decide = settings[record.folder]
        sets = known.get(decide, set())
        node = record.config.get("datamodule")
        file = isinstance(node, dict) and "path" in node and record.state == "finished"
        own = record.test.get("set")
        found[record.folder] = own if isinstance(own, str) else decide if file or len(sets) != 1 else min(sets)
    return found


def teacher_run(record: Record) -> str:
    """The id of the run that taught a distill run, or ""."""
    teacher = record.config.get("teacher")
    run = teacher.get("run") if isinstance(teacher, dict) else None
    return record.teacher or (run.rstrip("/").rsplit("/", 1)[-1] if isinstance(run, str) else "")


def teacher_name(record: Record, called: Mapping[Path, str]) -> str:
    """A name for the teacher of a run: its run, or its option, and the data where that can differ."""
    name = teacher_run(record) or record.choice.get("teacher.model") or record.choice.get("teacher") or "teacher"
    data = called.get(record.folder, "")
    return f"{name} on {data}" if data else name
