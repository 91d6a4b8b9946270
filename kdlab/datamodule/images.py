"""Images of your own: a folder for each class, or a table with paths and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab.datamodule.columns import WORDS, Reading
from kdlab.datamodule.corpus import Corpus, counted
from kdlab.datamodule.frame import Frame, read
from kdlab.datamodule.image_data import ImageData
from kdlab.datamodule.image_file import image
from kdlab.error import UserError
from kdlab.fetch import local
from kdlab.value import Label


@dataclass(kw_only=True, eq=False, repr=False)
class Images(ImageData):
    """A folder, or a csv, tsv, jsonl, json, parquet or xlsx file.

    A folder has a folder for each class, or ``train``, ``val`` and ``test`` with one for each class in each of them.
    Images that lie beside the folders of the classes have no label. A table has a row for each image.

    Args:
        path: the folder or the table, or a package path.
        image_column: of a table, the column of the paths, relative to the table's folder.
        label_column: of a table, the column of the labels; None: there are none.
        label_names: the labels, in the order of the logits; None: those found, sorted.
        label_map: names for the labels of the table.
        split_column: of a table, the column with train, val or test; None: cut by fractions.
        encoding, separator: of a table's text, see :class:`kdlab.datamodule.table.Table`.
    """

    path: str
    image_column: str = "image"
    label_column: str | None = "label"
    label_names: Sequence[Label] | None = None
    label_map: Mapping[Any, Any] | None = None
    split_column: Any = None
    encoding: str | None = None
    separator: str | None = None

    def corpus(self) -> Corpus:
        place = Path(local(self.path, self.download))
        if not place.exists():
            raise UserError(
                f"datamodule.path={self.path} is not there: give a folder with a folder for each class, or a table"
            )
        return self._of_folder(place) if place.is_dir() else self._of_table(place)

    def check_rows(self, corpus: Corpus) -> None:
        self.check_classes(corpus)

    def column(self, name: str) -> list[Any]:
        place = Path(local(self.path, self.download))
        return super().column(name) if place.is_dir() else list(self._frame(place).column(name, "path"))

    def _of_folder(self, folder: Path) -> Corpus:
        rows, split = listed(folder, self.path)
        given = None if self.label_names is None else [str(name) for name in self.label_names]
        names = given or sorted({label for _, label in rows if label is not None})
        labels = [label for _, label in rows]
        notices = []
        if (unlabelled := sum(label is None for label in labels)) and names:
            notices.append(f"{counted(unlabelled, 'image lies', 'images lie')} in no class's folder and has no label")
        paths = [str(path) for path, _ in rows]
        return Corpus(
            self.path, paths, labels, names or None, split, row_name=paths.__getitem__, notices=notices, thing="image"
        )

    def _of_table(self, place: Path) -> Corpus:
        frame = self._frame(place)
        reading = Reading(
            text_column=self.image_column, label_column=self.label_column, label_names=self.label_names,
            label_map=self.label_map,
        )  # fmt: skip
        if self.image_column not in frame.names:
            raise UserError(
                f"datamodule.image_column='{self.image_column}' is not in {self.path}, which has: "
                f"{', '.join(frame.names)[:300]}: set it to the column of the paths"
            )
        split = None if self.split_column is None else reading.splits(frame, self.split_column)
        found = reading.gathered(frame, split)
        paths = located(place.parent, found.values, frame)
        return Corpus(
            self.path,
            paths,
            found.labels,
            found.names,
            split,
            row_name=frame.row_name,
            notices=found.notices,
            thing="image",
        )

    def _frame(self, place: Path) -> Frame:
        return read(place, self.path, self.encoding, self.separator).without_empty()


def listed(folder: Path, where: str) -> tuple[list[tuple[Path, str | None]], list[str] | None]:
    """The images of a folder with their labels, and the split of each where there are folders of splits.

    Raises:
        UserError: no image, a class without one, a file that is none, or a split of classes that others lack.
    """
    parts = {
        one: WORDS[one.name.lower()] for one in sorted(folder.iterdir()) if one.is_dir() and one.name.lower() in WORDS
    }
    if "train" not in parts.values():
        return images_of(folder, where), None
    if doubled := [one.name for one in parts if list(parts.values()).count(parts[one]) > 1]:
        raise UserError(f"{where} has the folders {' and '.join(doubled)} for one split: put them into one")
    if beside := [one.name for one in _visible(folder) if one not in parts]:
        raise UserError(
            f"{where} has '{beside[0]}' beside the folders of splits ({', '.join(one.name for one in parts)}): move it "
            "into one of them"
        )
    rows: list[tuple[Path, str | None]] = []
    split: list[str] = []
    for one, word in parts.items():
        own = images_of(one, f"{where}/{one.name}")
        rows, split = rows + own, split + [word] * len(own)
    return rows, split


def images_of(folder: Path, where: str) -> list[tuple[Path, str | None]]:
    """The images of the folders of classes, and those beside them, which have no label. Errors: as :func:`listed`."""
    rows: list[tuple[Path, str | None]] = []
    for one in _visible(folder):
        if not one.is_dir():
            rows.append((image(one), None))
            continue
        own = sorted(path for path in one.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not own:
            raise UserError(f"{where}/{one.name} has no image: put the images of the class there, or remove the folder")
        rows += [(image(path), one.name) for path in own]
    if not rows:
        raise UserError(f"{where} has no image: put a folder for each class there, with its images")
    return rows


def located(folder: Path, names: Sequence[str], frame: Frame) -> list[str]:
    """The paths of a table's images, relative to its folder.

    Raises:
        UserError: a row without a path, or with that of no image.
    """
    found = []
    for row, name in enumerate(names):
        if not name:
            raise UserError(f"{frame.where}: {frame.row_name(row)} has no path of an image: fill it or remove the row")
        path = folder / Path(name).expanduser()
        if not path.is_file():
            raise UserError(
                f"{frame.where}: {frame.row_name(row)} names {name}, which is not there (looked for {path}): correct "
                "it, or write paths that begin at the folder of the table"
            )
        found.append(str(image(path)))
    return found


def _visible(folder: Path) -> list[Path]:
    return [one for one in sorted(folder.iterdir()) if not one.name.startswith(".")]
