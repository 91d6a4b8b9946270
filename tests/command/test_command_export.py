"""`kdlab export`: what it writes beside the model, its report, the lines that load it, and what it refuses."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pytest
from picture import folder_of_images

from kdlab.artifact.trained import Trained
from kdlab.command.export import _task
from kdlab.command.predict import load
from kdlab.error import UserError

WRONG = """
from kdlab.format.base import Format


class Wrong(Format):
    def __init__(self, exact):
        self.exact = exact

    def write(self, model, example, folder):
        (folder / "numbers").write_bytes(b"12345678")
        self.model = model
        return [folder / "numbers"]

    def load(self, folder, names):
        return lambda inputs: -self.model(**inputs).logits.detach()

    def usage(self, names):
        return "", "logits = None"
"""


@pytest.fixture
def wrong(tmp_path) -> str:
    """A config folder with a format whose logits have the wrong sign."""
    (tmp_path / "mine" / "conf" / "format").mkdir(parents=True)
    (tmp_path / "mine" / "wrong.py").write_text(WRONG)
    lines = "# Wrong\n_target_: wrong.Wrong\nexact: true\n"
    (tmp_path / "mine" / "conf" / "format" / "wrong.yaml").write_text(lines)
    return f"--config-dir={tmp_path / 'mine' / 'conf'}"


def lines_of(folder: Path) -> str:
    """The Python lines of the README of an export."""
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    assert found is not None
    return found[1]


def printed(lines: str, folder: Path) -> list[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(lines.replace('Path(".")', f"Path({str(folder)!r})"), {})
    return json.loads(out.getvalue().replace("'", '"'))


def exported(kdlab, run: Path | str, *words: str) -> tuple[Path, dict, str]:
    code, out, err = kdlab("export", f"run={run}", "folder=made", "repeats=1", *words)
    assert code == 0, err
    return Path("made"), json.loads(Path("made/parity.json").read_text()), out


def test_a_run_is_exported_with_its_tokenizer_labels_report_and_lines(stored_run, kdlab):
    folder, report, out = exported(kdlab, stored_run.name, "format=safetensors")
    assert report["equal_decisions"] == 1 and report["largest_difference"] < 1e-5 and report["rows"] > 10
    assert {shape.split(" x ")[0] for shape in report["shapes"]} == {"1", "2", "7"} and len(report["shapes"]) == 6
    assert report["original"]["accuracy"] == report["exported"]["accuracy"]
    assert "equal decisions 100.00 %" in out and {"tokenizer.json", "labels.json"} <= {
        one.name for one in folder.iterdir()
    }
    wanted = [one.label for one in load(str(stored_run)).predict(["a fine film", "dull"])]
    assert printed(lines_of(folder), folder) == wanted


@pytest.mark.slow
def test_an_export_that_decides_otherwise_is_refused_and_leaves_nothing(stored_run, kdlab, wrong):
    words = [wrong, f"run={stored_run.name}", "format=wrong", "folder=made", "repeats=1"]
    code, _, err = kdlab("export", *words)
    assert code == 2 and "0.00 % of the decisions" in err and "nothing was written" in err
    assert not [one for one in Path().iterdir() if "made" in one.name]
    code, _, err = kdlab("export", *words, "format.exact=false")
    assert code == 0, err
    report = json.loads(Path("made/parity.json").read_text())
    assert report["equal_decisions"] == 0 and report["exported"]["size_mb"] == 8e-6
    code, _, err = kdlab("export", *words, "format.exact=false", "equal_decisions=0.5")
    assert code == 2 and "less than equal_decisions=0.5" in err and Path("made/parity.json").exists()


def test_what_is_no_run_or_no_export_is_refused_before_data_are_read(stored_run, kdlab, tmp_path):
    code, _, err = kdlab("export", f"run={stored_run}/model")
    assert code == 2 and "is no run" in err and err.count("\n") == 1
    Path("notes").mkdir()
    Path("notes/mine.txt").write_text("keep")
    code, _, err = kdlab("export", f"run={stored_run.name}", "folder=notes")
    assert code == 2 and "notes is there already and holds no export" in err and Path("notes/mine.txt").exists()


def test_a_model_that_writes_texts_is_refused(tmp_path):
    targets = {"task": "task.causal_lm.CausalLM", "datamodule": "datamodule.table.Table", "model": "model.gpt.gpt"}
    lines = [f"{name}: {{_target_: kdlab.{target}}}" for name, target in targets.items()]
    (tmp_path / "config.yaml").write_text("\n".join([*lines, "seed: 0"]))
    with pytest.raises(UserError, match=r"writes texts token by token.*kdlab predict"):
        _task(Trained(tmp_path, tmp_path / "model", "x"))


def test_a_missing_library_is_named_with_its_extra(stored_run, kdlab, monkeypatch):
    monkeypatch.setattr("kdlab.format.base.find_spec", lambda name: None)
    code, _, err = kdlab("export", f"run={stored_run.name}")
    assert code == 2 and "needs the library onnx: pip install 'kdlab[export]'" in err


@pytest.mark.slow
def test_onnx_of_a_run_decides_the_same_and_its_lines_run_without_kdlab(stored_run, kdlab):
    pytest.importorskip("onnxscript")
    folder, report, _ = exported(kdlab, stored_run.name)
    assert report["equal_decisions"] == 1 and max(report["shapes"].values()) < 1e-5
    wanted = [one.label for one in load(str(stored_run)).predict(["a fine film", "dull"])]
    assert printed(lines_of(folder), folder) == wanted
    assert "kdlab" not in lines_of(folder)


@pytest.mark.slow
def test_images_are_exported_and_the_lines_read_a_file(kdlab, tmp_path):
    shapes = folder_of_images(tmp_path / "shapes", 30)
    words = ["datamodule=images", f"datamodule.path={shapes}", "datamodule.size=8", "model=cnn_small"]
    words += ["trainer.max_steps=3", "trainer.max_epochs=-1", "logger=none", "callback=none"]
    code, _, shown = kdlab("finetune", *words)
    assert code == 0, shown
    (run,) = Path("outputs/finetune").iterdir()
    folder, report, _ = exported(kdlab, run.name, "format=torch_export")
    assert report["equal_decisions"] == 1 and list(report["shapes"]) == ["1 rows", "2 rows", "7 rows"]
    image = next(shapes.glob("*/*.png"))
    found = printed(lines_of(folder).replace('"image.png"', repr(str(image))), folder)
    from kdlab.artifact.classifier import predictor_of
    from kdlab.artifact.trained import named

    assert found == [predictor_of(named(run.name, Path("outputs"))).predict([str(image)])[0].label]
