"""The images of a folder as rows of one column, their paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import final

import pyarrow as pa

from kdlab.datamodule.chunk import Chunk, Fields
from kdlab.datamodule.image_file import image
from kdlab.datamodule.stream import ROWS, Stream
from kdlab.error import UserError


@final
class Listing(Stream):
    """All images in a folder and the folders in it, by path.

    Args:
        folder: is looked through once.
        where: its name in messages.
        name: of the column.

    Raises:
        UserError: it has no image, or a file that is none.
    """

    unit = "image"

    def __init__(self, folder: Path, where: str, name: str) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        self.where, self.names = where, [name]
        self.paths = [str(image(path).relative_to(folder)) for path in files]
        self.total = len(self.paths)
        if not self.paths:
            raise UserError(f"{where} has no image: give a folder with images, or a table with a column of paths")

    def chunks(self, size: int = ROWS, skip: int = 0) -> Iterator[Chunk]:
        for start in range(skip, len(self.paths), size):
            part = self.paths[start : start + size]
            yield Fields(self.names, range(start + 1, start + 1 + len(part)), [[path] for path in part])

    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self.names])
