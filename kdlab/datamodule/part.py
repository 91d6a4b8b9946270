"""A file that is written chunk after chunk, and gone on with where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdlab.datamodule.sink import Sink, check_kind, sink
from kdlab.error import UserError
from kdlab.file import read_json, write_json


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
