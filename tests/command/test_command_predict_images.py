"""`kdlab predict` on images: a folder, a table with paths, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from picture import CLASSES, folder_of_images


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    return folder_of_images(tmp_path_factory.mktemp("images") / "shapes", 30)


def rows_of(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def test_a_folder_and_a_table_of_images_are_labelled_alike(shapes, kdlab, tmp_path):
    words = ["datamodule=images", f"datamodule.path={shapes}", "datamodule.size=8", "model=image_mlp", "model.depth=1"]
    words += ["trainer.max_steps=2", "trainer.max_epochs=-1", "logger=none", "callback=none"]
    code, _, shown = kdlab("finetune", *words)
    assert code == 0, shown
    (run,) = Path("outputs/finetune").iterdir()
    code, _, shown = kdlab("predict", f"run={run.name}", f"path={shapes}", "file=folder.csv")
    assert code == 0 and "predicted 30 rows" in shown, shown
    folder = rows_of("folder.csv")
    assert [row["image"] for row in folder] == sorted(row["image"] for row in folder)
    assert {row["predicted"] for row in folder} <= set(CLASSES)
    lines = ["image", *[row["image"] for row in folder], '""']
    (shapes / "new.csv").write_text("\n".join(lines))
    code, _, shown = kdlab("predict", f"run={run.name}", f"path={shapes / 'new.csv'}", "file=table.csv")
    (shapes / "new.csv").unlink()
    table = rows_of("table.csv")
    assert code == 0 and table[:30] == folder, shown
    (tmp_path / "empty").mkdir()
    code, _, shown = kdlab("predict", f"run={run.name}", f"path={tmp_path / 'empty'}")
    assert code == 2 and "empty has no image" in shown
    (tmp_path / "empty" / "a.txt").write_text("hello")
    code, _, shown = kdlab("predict", f"run={run.name}", f"path={tmp_path / 'empty'}")
    assert code == 2 and "a.txt has no ending of an image" in shown and "Traceback" not in shown
