"""News articles: what is read of the file, and what is left out."""

import csv

import pytest

from kdlab.datamodule.news import OPENING, SHORT, News
from kdlab.error import UserError


def written(path, rows, fields=("title", "text")):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def article(number: int) -> str:
    return f"{number} ships left the harbour. " * 30


def test_whole_articles_are_read_once_each(tmp_path):
    rows = [{"title": f"Title {number}", "text": article(number)} for number in range(30)]
    rows += [
        {"title": "A later version", "text": article(3) + "More."},
        {"title": "Short", "text": "x" * (SHORT - 1)},
        {"title": 'It"?s damaged', "text": article(50)},
        {"title": "Damaged", "text": article(51) + "\ufffd"},
        {"title": "", "text": article(60)},
    ]
    data = News(path=written(tmp_path / "a.csv", rows), tokenizer="train:wordpiece:200", max_length=16)
    data.setup()
    assert data.values[0] == f"Title 0\n\n{article(0).strip()}"
    assert len(data.values) == 31 and data.values[-1] == article(60).strip()
    openings = {name: {data.values[row][-OPENING:] for row in rows} for name, rows in data.splits.items()}
    assert not openings["train"] & openings["test"] and not openings["train"] & openings["val"]
    assert data.labels == [] and data.describe()["tokens_max"] == 16


def test_another_table_is_refused(tmp_path):
    path = written(tmp_path / "b.csv", [{"text": article(1)}], ("text",))
    with pytest.raises(UserError, match="has no column 'title'"):
        News(path=path, tokenizer="train:wordpiece:200").setup()
