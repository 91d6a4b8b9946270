"""A user's own evaluators: one Python file and one YAML each outside the repository, and nothing else edited."""

from __future__ import annotations

import ast
import csv
import json
from pathlib import Path
from textwrap import dedent

import pytest

from kdlab.__main__ import conf
from kdlab.config.direction import installed

ROOT = Path(__file__).parents[1]
FILES = {
    "saliency.py": '''
        """How much the logits hang on single word embeddings: the norm of their gradient, in the mean."""
        import torch
        import torchmetrics

        from kdlab.metric.base import Evaluator

        class Saliency(Evaluator):
            """The mean norm of d(largest logit) / d(embedding) over the real tokens: less is smoother.

            Source: Simonyan et al. 2014, arXiv:1312.6034, section 3.
            """

            higher_is_better = {"saliency": False, "model/embeddings": False}
            primary = "saliency"
            costs = {"model/embeddings": "counted"}
            needs = ("gradients",)
            taps = ("embedding",)

            def __init__(self):
                super().__init__()
                self.mean = torchmetrics.MeanMetric()

            def update(self, student, batch, teacher=None):
                (found,) = torch.autograd.grad(student.logits.max(-1).values.sum(), student.taps["embedding"])
                self.mean.update(found.norm(dim=-1)[batch.tokens])

            def compute(self):
                return {"saliency": float(self.mean.compute())}

            def examine(self, model, data, batches=()):
                return {"model/embeddings": float(model.get_input_embeddings().weight.numel())}
        ''',
    "conf/metric/saliency.yaml": """
        # The mean norm of the gradient at the word embeddings
        saliency:
          _target_: saliency.Saliency
        """,
    "gap.py": '''
        """How differently well groups of rows are served: the accuracy of the best one less that of the worst."""
        from kdlab.metric.base import Evaluator

        class Gap(Evaluator):
            """Args: column: of the table, whose values are the groups."""

            higher_is_better = {"group_gap": False}
            primary = "group_gap"
            needs = ("labels", "groups")

            def __init__(self, column):
                super().__init__()
                self.column = column
                self.reset()

            def setup(self, task, data):
                super().setup(task, data)
                self.groups = data.column(self.column)

            def reset(self):
                self.right = {}

            def update(self, student, batch, teacher=None):
                right = student.logits.argmax(-1) == batch.target["label"]
                for row, one in zip(batch.row.tolist(), right.tolist()):
                    self.right.setdefault(self.groups[row], []).append(one)

            def compute(self):
                shares = [sum(found) / len(found) for found in self.right.values()]
                return {"group_gap": max(shares) - min(shares)}
        ''',
    "conf/metric/gap.yaml": """
        # Accuracy of the best group of rows less that of the worst
        gap:
          _target_: gap.Gap
          column: source   # of the table
        """,
}


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """The user's folder, outside the repository."""
    folder = tmp_path / "mine"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text).lstrip())
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def words(mine, tiny, reviews) -> list[str]:
    """A sweep on the made-up reviews with a further column."""
    first, *rows = reviews.read_text().splitlines()
    file = mine / "grouped.csv"
    file.write_text("\n".join([f"{first},source", *(f"{row},{'ab'[place % 3 > 0]}" for place, row in enumerate(rows))]))
    own = [word for word in tiny["distill"] if not word.startswith(("trainer.max_epochs", "datamodule.path"))]
    own = [word.replace(str(reviews), str(file)) for word in own]
    return ["--config-dir", str(mine / "conf"), *own, f"datamodule.path={file}", "trainer.max_epochs=1", "logger=none"]


@pytest.mark.slow
def test_evaluators_of_ones_own_are_in_validation_evaluate_sweep_and_report(kdlab, mine, words):
    metric = "metric=[classification,fidelity,saliency,gap]"
    code, out, err = kdlab("distill", "-m", *words, metric, "optimizer.lr=1e-2,1e-3", "freeze=head")
    assert code == 0, out + err
    assert "saliency" in out and "group_gap" in out, "the table of the sweep"
    runs = [path.parent for path in Path("outputs/distill").glob("*/done.json")]
    for run in runs:
        done, metrics = (json.loads((run / name).read_text()) for name in ("done.json", "metrics.json"))
        assert metrics["test/saliency"] > 0 and 0 <= metrics["test/group_gap"] <= 1
        assert {"test/accuracy", "test/f1_macro", "test/ece", "test/fidelity/agreement", "test/fidelity/kl"} <= {
            *metrics
        }
        assert "teacher/test/accuracy" in metrics
        assert metrics["model/embeddings"] > 0 and done["cost"]["model/embeddings"] == "counted"
        assert "model/parameters" not in metrics, "cost is not in the list"
        assert done["metric"] == "val/accuracy" and done["value"] == metrics["best/val/accuracy"]
        assert done["primary"] == ["accuracy", "fidelity/agreement", "saliency", "group_gap"]
        assert done["higher_is_better"]["saliency"] is False and done["higher_is_better"]["group_gap"] is False
        header, *rows = csv.reader((run / "history.csv").open())
        assert any(row[header.index("val/saliency")] for row in rows)
    code, out, err = kdlab("runs", "columns=[id,saliency,group_gap]", "sort=saliency")
    assert code == 0 and "saliency" in out, err
    found = [json.loads((run / "metrics.json").read_text())["test/saliency"] for run in runs]
    assert out.index(runs[found.index(min(found))].name[-8:]) < out.index(runs[found.index(max(found))].name[-8:])
    code, _, err = kdlab("report", "by=test/saliency")
    assert code == 0, err
    page = Path("outputs/report.html").read_text()
    assert "test/saliency" in page and '"costs":["model/embeddings"' in page
    code, out, err = kdlab("evaluate", "--config-dir", str(mine / "conf"), f"run={runs[0].name}", "repeats=1")
    assert code == 0, err
    assert "saliency" in out and "group_gap" in out
    (report,) = Path("outputs/evaluate").glob("*/report.json")
    distilled = json.loads(report.read_text())["models"]["distilled"]
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    assert distilled["group_gap"] == pytest.approx(metrics["test/group_gap"])
    assert distilled["saliency"] == pytest.approx(metrics["test/saliency"], rel=1e-3)
    assert distilled["model/embeddings"] == metrics["model/embeddings"]
    code, out, err = kdlab("evaluate", f"run={runs[0].name}", "repeats=1")
    assert code == 0 and "the run's own metrics are left out" in out, err


@pytest.mark.slow
def test_the_first_evaluator_decides_which_weights_are_kept(kdlab, words):
    code, _, err = kdlab("distill", *words, "metric=[saliency,classification]")
    assert code == 0, err
    (run,) = (path.parent for path in Path("outputs/distill").glob("*/done.json"))
    done, metrics = (json.loads((run / name).read_text()) for name in ("done.json", "metrics.json"))
    assert done["metric"] == "val/saliency" and done["value"] == metrics["best/val/saliency"]
    assert "test/fidelity/agreement" not in metrics, "it is not in the list"


@pytest.mark.sampled(1, tried="all")
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["metric=[gap,classification]", "metric.gap.column=souce"], "souce"),
        (
            ["metric=[saliency,classification]", "callback.checkpoint.mode=max"],
            "less of val/saliency is better",
        ),
        (["metric=[classification]", "callback.checkpoint.monitor=val/saliency"], "is not measured in validation"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_one_sentence_before_a_teacher_is_trained(kdlab, words, more, told):
    code, _, err = kdlab("distill", *words, *more)
    assert code == 2, err
    assert told in err and "Traceback" not in err
    assert not list(Path("outputs/finetune").glob("*/done.json"))


# Names of kdlab's own metrics; what only they own is read from what a run records, not spelled out by a reader.
RULES = {"loss", "schedule", "step", "seconds", "test/rows"}  # what every run has, whatever it measures
OWNED = {*installed(), "agreement"} - RULES
OWNERS = ("kdlab/metric", "kdlab/callback/speed.py", "kdlab/teacher/base.py", "kdlab/module/base.py")


def test_no_metric_is_named_by_who_reads_it():
    found = set()
    for path in sorted((ROOT / "kdlab").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(OWNERS):
            continue
        tree = ast.parse(path.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                words = node.value.split("/", 1)
                if node.value in OWNED or (
                    words[0] in ("val", "test", "best") and words[-1].removeprefix("val/") in OWNED
                ):
                    found.add(name)
    assert not found, f"{sorted(found)} name a metric"
    settings = [path for path in conf().rglob("*.yaml") if path.parent.name not in ("experiment", "metric")]
    named = [path for path in settings for line in path.read_text().splitlines() for word in OWNED
             if f"/{word}" in line.partition("#")[0]]  # fmt: skip
    assert not named
