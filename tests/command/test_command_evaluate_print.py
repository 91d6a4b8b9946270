"""The table per class fits a terminal, however many classes there are."""

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from kdlab.command.evaluate import _from_teacher
from kdlab.metric.report import report
from kdlab.report.evaluation import _print_classes, show


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


COUNTS = {"parameters": 17_391_362, "macs": 1_234_567_890}
COSTS = COUNTS | {"size_mb": 69.6, "latency_ms": 1.234, "rows_per_second": 1234.5}


def compared(from_teacher: bool) -> str:
    result = {"accuracy": 0.912, "f1_macro": 0.9, "ece": 0.05, "agreement": 0.95} | COSTS
    results = dict.fromkeys(("untrained", "without teacher", "trained", "teacher"), result)
    console = Console(record=True, width=120)
    show(console, "messages-s0-12345678 on test, 12 rows", results, [], list(result), from_teacher=from_teacher)
    return console.export_text()


def test_large_counts_are_short_so_that_nothing_is_cut():
    text = compared(False)
    assert "17.4 M" in text and "1.23 G" in text and "parameters" in text and "…" not in text
    assert "come from the trained teacher" not in text


def test_a_student_of_the_teachers_layers_begins_with_its_weights():
    assert "these come from the trained teacher" in " ".join(compared(True).split())


@pytest.mark.parametrize(
    ("student", "begins"),
    [
        ({"_target_": "kdlab.model.layers_of_teacher.layers_of_teacher"}, True),
        ({"_target_": "kdlab.model.layers_of_teacher.layers_of_teacher", "pretrained": False}, False),
        ({"_target_": "kdlab.model.mlp.mlp"}, False),
        (None, False),
    ],
)
def test_only_a_pretrained_student_of_the_teachers_layers_begins_with_its_weights(student, begins):
    stored = {} if student is None else {"student": student}
    assert _from_teacher(OmegaConf.create(stored)) == begins
