"""What the keys of the commands themselves may be; those of groups are arguments of what they configure."""

from __future__ import annotations

ROOT = {
    "seed": "Seed", "group": "str | int | None", "outputs": "str", "rerun": "bool", "reuse_frozen": "bool",
    "compile": "bool", "trust": "str | list[str]", "allow_overlap": "bool", "check": "bool", "download": "bool",
    "start": "str | int | None",
    "select": "str | int | list[str | int] | None", "by": "str | None", "cost": "str | None",
    "title": "str | int | None",
    "project": "Project", "entity": "Project | None", "push": "bool", "seconds": "Positive", "run": "str | int",
    "split": "Literal['train', 'val', 'test']", "baseline": "str | int | None", "repeats": "Count",
    "file": "str | None", "open": "bool", "sort": "str | None", "columns": "str | list[str] | None",
    "format": "Literal['table', 'wide', 'csv', 'parquet']", "live": "bool", "every": "Positive",
    "action": "Literal['list', 'verify', 'prune']", "unused_days": "NonNegative | None",
    "older_days": "NonNegative | None", "remove": "bool",
    "missing": "Literal['refuse', 'send']", "at_once": "Count", "cluster.threads": "Count | None",
    "stages.earlier": "list[list[str]]", "datamodule.tokenizer": "str",
    "teacher.run": "str | int | None", "teacher.recipe": "list[str]", "teacher.generations": "Whole",
    "path": "str", "text_column": "str | int | list[str | int] | None", "encoding": "str | None",
    "separator": "str | None", "max_length": "Count | None", "equal_decisions": "Fraction | None",
    "folder": "str | None",
}  # fmt: skip
