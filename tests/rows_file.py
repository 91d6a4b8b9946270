"""Files of rows that `kdlab predict` reads and writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet


def run_of(place: Path, command: str = "distill") -> str:
    return next(folder.name for folder in (place / "outputs" / command).iterdir() if (folder / "done.json").exists())


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            how = {"delimiter": "\t" if path.suffix == ".tsv" else ",", "quoting": csv.QUOTE_ALL}
            writer = csv.DictWriter(file, list(rows[0]), **how)
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
