"""The table per class fits a terminal, however many classes there are."""

import pytest
import torch
from rich.console import Console

from kdlab.metric.report import report
from kdlab.report.evaluation import _print_classes


def printed(classes: int, multi_label: bool = False) -> str:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, classes, generator=generator)
    target = torch.randint(0, 2 if multi_label else classes, (300, classes) if multi_label else (300,))
    labels = [f"label{number}" for number in range(classes)]
    console = Console(record=True, width=120)
    _print_classes(console, report(logits.sigmoid(), target, labels), labels)
    return console.export_text()


@pytest.mark.parametrize(("classes", "lines"), [(3, 3), (30, 30), (90, 30), (400, 30)])
@pytest.mark.parametrize("multi_label", [False, True])
def test_many_classes_are_a_short_table(classes, lines, multi_label):
    text = printed(classes, multi_label)
    assert sum(line.startswith("│ label") for line in text.splitlines()) == lines
    assert max(map(len, text.splitlines())) <= 120
    assert ("were predicted as" in text) == (classes > 12 and not multi_label)
    assert ("with the lowest F1" in text) == (classes > 30)
