"""Images and tagged words of the guide, from a folder outside the repository: one Python file and one YAML each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from documents import files
from fork import end, start

from kdlab.config.stored import read_config

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "kdlab" / "guide"
FILES = files(GUIDE / "own_tasks.md") | files(GUIDE / "own_tags.md")
OPTIONS = {
    "images": ["task=images", "datamodule=squares", "model@teacher.model=convolution", "model@student=convolution"],
    "tags": ["task=tags", "datamodule=tagged", "model@teacher.model=tagger", "model@student=tagger"],
}


def squares(folder: Path) -> None:
    """Images with stripes across or along, in folders of these names."""
    random = np.random.default_rng(0)
    for number in range(120):
        image = random.uniform(0, 0.3, (8, 8)).astype(np.float32)
        image[number % 3 :: 3] += 0.7
        path = folder / ("across", "along")[number % 2] / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, image.T if number % 2 else image)


def sentences(path: Path) -> None:
    """Lines in which a number after 'for' is a price."""
    random = np.random.default_rng(0)
    lines = []
    for _ in range(120):
        words = random.choice(["book", "lamp", "sold", "for", "seven", "nine", "old"], random.integers(3, 9)).tolist()
        tags = ["PRICE" if word in ("seven", "nine") else "O" for word in words]
        lines.append(f"{' '.join(words)}\t{' '.join(tags)}")
    path.write_text("\n".join(dict.fromkeys(lines)))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    squares(folder / "squares")
    sentences(folder / "tagged.tsv")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPTIONS)
def test_a_modality_of_ones_own_is_distilled_and_swept_over(kind, mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = mine / {"images": "squares", "tags": "tagged.tsv"}[kind]

    def kdlab(*words: str) -> str:
        code, shown = end(start([*words], tmp_path), tmp_path)
        assert code == 0, shown
        return shown

    words = ["--config-dir", str(mine / "conf"), *OPTIONS[kind], f"datamodule.path={path}", "trainer.max_epochs=6"]
    words += ["logger=none", "student.width=4", "trainer.precision=32-true"]
    assert "No problems found" in kdlab("doctor", "distill", *words)
    shown = kdlab("distill", "-m", *words, "teacher=cached,live", "loss.temperature=1,2")
    assert "4 runs: 4 finished" in shown
    assert "accuracy" in shown, "the sweep's table has the task's own metric"
    folders = [path.parent for path in Path("outputs/distill").glob("*/done.json")]
    results = {}
    for folder in folders:
        cfg, metrics = read_config(folder), json.loads((folder / "metrics.json").read_text())
        assert 0.5 < metrics["test/accuracy"] <= 1 and metrics["best/val/accuracy"] > 0.5
        assert 0.5 < metrics["test/fidelity/agreement"] <= 1 and metrics["perf/latency_ms"] > 0
        assert 0.4 < metrics["test/majority"] < metrics["test/accuracy"], "the commonest class is counted by answer"
        results[cfg.choice.teacher, cfg.loss.temperature] = (metrics["test/loss"], metrics["test/accuracy"])
    for temperature in (1, 2):
        assert results["cached", temperature] == pytest.approx(results["live", temperature], rel=1e-4)
    report = kdlab("report", "open=false")
    assert "report.html" in report and "accuracy" in Path("outputs/report.html").read_text()
    assert "accuracy" in kdlab("runs")
    evaluated = kdlab("evaluate", "--config-dir", str(mine / "conf"), f"run={folders[0].name}", "repeats=2")
    assert "distilled" in evaluated and "teacher" in evaluated


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            "task=sequence_classification datamodule=tagged datamodule.path={folder}/tagged.tsv",
            "SequenceClassification predicts one answer for each row, but tagged has one for each token: choose a task "
            "whose unit is 'token'",
        ),
        (
            "task=tags datamodule=squares datamodule.path={folder}/squares",
            "TokenClassification predicts one answer for each token, but squares has one for each row: choose a task "
            "whose unit is 'row'",
        ),
        (
            "task=causal_lm metric=causal_lm datamodule=squares datamodule.path={folder}/squares",
            "the rows of squares have no input_ids (they have pixel_values): choose a data set of texts",
        ),
    ],
    ids=["rows_of_tags", "tags_of_rows", "text_of_images"],
)
def test_a_task_without_its_answers_is_one_sentence_before_any_training(options, error, mine, kdlab):
    words = [*options.format(folder=mine).split(), "model@teacher.model=tagger", "model@student=tagger", "logger=none"]
    code, _, shown = kdlab("distill", "--config-dir", str(mine / "conf"), *words)
    assert code == 2 and error in shown and "Traceback" not in shown, shown
    assert not Path("outputs/finetune").exists(), "no teacher was trained"


def test_answers_of_tokens_need_rows_with_a_token_axis(mine, kdlab):
    code = (
        (mine / "mylab/tagged.py").read_text().replace('return {"words": ids}, ids > 0', 'return {"words": ids}, None')
    )
    (mine / "bare_rows.py").write_text(code)
    conf = (mine / "conf/datamodule/tagged.yaml").read_text().replace("mylab.tagged", "bare_rows")
    (mine / "conf/datamodule/bare.yaml").write_text(conf)
    words = ["task=tags", "datamodule=bare", f"datamodule.path={mine}/tagged.tsv", "model=tagger", "logger=none"]
    code, _, shown = kdlab("finetune", "--config-dir", str(mine / "conf"), *words)
    assert code == 2 and "tagged has an answer for each token, but its rows have no token axis" in shown, shown
