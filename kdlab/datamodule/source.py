"""A file of rows on disk: its kind, its bytes, and its text, whole or a line at a time."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from kdlab.datamodule import encoding as codes
from kdlab.error import UserError
from kdlab.file import absent

KINDS = {
    ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet",
    ".xlsx": "xlsx",
}  # fmt: skip
BLOCK = 2**20  # bytes or characters that are looked at together


@dataclass(frozen=True)
class Source:
    """A csv, tsv, jsonl, json, parquet or xlsx file, plain or with gzip.

    Attributes:
        path: the file.
        where: its name in messages.
        encoding: of its text; None: UTF-8.
        given: the separator of a csv that the user set; None: a comma, or for a tsv a tab.
        prefix: of the option names ``path``, ``encoding`` and ``separator``.
    """

    path: Path
    where: str
    encoding: str | None = None
    given: str | None = None
    prefix: str = "datamodule."

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise UserError(f"{self.prefix}path: {absent(self.path)}")
        if self._last not in KINDS:
            raise UserError(
                f"{self.prefix}path: {self.where} ends in '{self._last}', and can be .csv, .tsv, .jsonl, .ndjson, "
                ".json, .parquet or .xlsx, each also with .gz"
            )

    @property
    def packed(self) -> bool:
        """Whether it is compressed with gzip."""
        return self.path.suffix.lower() == ".gz"

    @property
    def _last(self) -> str:
        """The extension that names the kind."""
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        return suffixes[-2 if self.packed else -1] if len(suffixes) > self.packed else ""

    @property
    def kind(self) -> str:
        return KINDS[self._last]

    @property
    def separator(self) -> str:
        """Between the fields of a csv. Errors: UserError where what is asked for is no character."""
        return mark(self.given, "\t" if self.kind == "tsv" else ",", self.prefix)

    def content(self) -> bytes:
        """All bytes, decompressed."""
        with self._opened() as file:
            return file.read()

    def text(self) -> str:
        """All of the text. Errors: UserError where it cannot be decoded."""
        return codes.decode(self.content(), self.encoding, self.where, self.prefix)

    def lines(self) -> Iterator[str]:
        """The text, a line at a time, each with its end; memory does not grow with the file.

        Lines end at a line feed, with or without a carriage return before it. A csv without any line feed has lines
        that end at a carriage return, as old Macintosh programs wrote it.

        Raises:
            UserError: it is in another encoding, or no text.
        """
        old = self._old
        first = True
        with self._decoded("\r" if old else "\n") as file:
            for number, line in enumerate(file, 1):
                if "\0" in line:
                    raise codes.no_text(number, self._start(), self.where, self.prefix)
                if first:
                    line, first = line.removeprefix("\ufeff"), False
                if line:
                    yield line[:-1] + "\n" if old and line.endswith("\r") else line

    def _opened(self) -> IO[bytes]:
        return gzip.open(self.path) if self.packed else self.path.open("rb")  # type: ignore[return-value]

    def _start(self) -> bytes:
        with self._opened() as file:
            return file.read(codes.HEAD)

    @contextmanager
    def _decoded(self, newline: str) -> Iterator[IO[str]]:
        with self._opened() as file:
            codes.refuse_other_kinds(file.read(8), self.where)
            file.seek(0)
            try:
                with io.TextIOWrapper(file, self.encoding or "utf-8", newline=newline) as text:
                    yield text
            except UnicodeDecodeError as problem:
                raise self._undecodable() from problem
            except (LookupError, UnicodeError) as problem:
                raise codes.unusable(self.encoding, self.prefix) from problem

    @cached_property
    def _old(self) -> bool:
        """Whether there is no line feed but at the end."""
        if self.kind not in ("csv", "tsv"):
            return False
        with self._decoded("\n") as file:
            begun = False
            while part := file.read(BLOCK):
                at = 0 if begun else part.find("\n")
                begun = at >= 0
                if begun and part[at:].strip("\r\n"):
                    return False
        return True

    def _undecodable(self) -> UserError:
        """Name the first byte that cannot be decoded, and its line."""
        decoder = codecs.getincrementaldecoder(self.encoding or "utf-8")()
        line, block, start = 1, b"", b""
        with self._opened() as file:
            try:
                while block := file.read(BLOCK):
                    start = start or block
                    decoder.decode(block)
                    line += block.count(b"\n")
                decoder.decode(b"", final=True)
            except UnicodeDecodeError as problem:
                line += problem.object.count(b"\n", 0, problem.start)
                byte = problem.object[problem.start]
                return codes.undecodable(byte, line, start, self.encoding, self.where, self.prefix)
        return codes.unusable(self.encoding, self.prefix)


def mark(given: str | None, usual: str, prefix: str) -> str:
    """The character between fields.

    Args:
        given: the user's choice; None: ``usual``.
        prefix: of the option name ``separator``.

    Example:
        >>> mark("\\\\t", ",", ""), mark(None, ",", "")
        ('\\t', ',')
    """
    if given is None:
        return usual
    found = "\t" if given in ("\\t", "tab") else str(given)
    if len(found) != 1 or found in '"\r\n':
        raise UserError(f"{prefix}separator='{given}' must be one character, such as ';', '|' or '\\t'")
    return found


@contextmanager
def readable(source: Source) -> Iterator[None]:
    """Name the file in what its readers raise: json, pyarrow, openpyxl and gzip raise ValueErrors and OSErrors."""
    try:
        yield
    except (ValueError, OSError, EOFError, zlib.error, RecursionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{source.where} cannot be read as {source.kind}: {reason}") from error
