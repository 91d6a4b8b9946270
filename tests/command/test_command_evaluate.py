"""What `kdlab evaluate` prints, of what, and what it can do without."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from fork import end, start

from kdlab.command import evaluate

ODD = ("x[/neg]", "[bold]x", "a\x1b]0;owned\x07\x1b[31mb")


@pytest.fixture(scope="module")
def odd(tiny, tmp_path_factory) -> Path:
    """A folder with a run whose labels look like markup, or steer a terminal."""
    folder = tmp_path_factory.mktemp("odd")
    rows = [[f"{'abc'[number % 3]} film {number}", ODD[number % 3]] for number in range(60)]
    with (folder / "odd.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *rows])
    words = [word for word in tiny["finetune"] if not word.startswith("datamodule.path")]
    code, said = end(start(["finetune", *words, "datamodule.path=odd.csv", "logger=none"], folder), folder)
    assert code == 0, said
    return folder


@pytest.mark.slow
def test_labels_are_printed_as_they_are_and_cannot_steer_a_terminal(odd, kdlab, monkeypatch):
    monkeypatch.chdir(odd)
    (run,) = (odd / "outputs" / "finetune").iterdir()
    code, out, err = kdlab("evaluate", f"run={run.name}", "repeats=1")
    assert code == 0, err
    (written,) = (odd / "outputs" / "evaluate").glob("*/report.txt")
    for text in (out, written.read_text()):
        assert "[/neg]" in text and "[bold]x" in text
        assert "predicted x[/neg]" in " ".join(text.split())
        assert not set(text) & set("\x1b\x07")


@pytest.mark.slow
def test_an_error_that_quotes_a_file_cannot_steer_a_terminal(odd, kdlab, monkeypatch):
    monkeypatch.chdir(odd)
    (run,) = (odd / "outputs" / "finetune").iterdir()
    names = "datamodule.label_names=[a,b]"
    code, _, err = kdlab("evaluate", f"run={run.name}", "datamodule=table", "datamodule.path=odd.csv", names)
    assert code == 2
    assert "\x1b" not in err and "[/neg]" in err


@pytest.fixture
def measured(base, tmp_path, kdlab):
    """A copy of a finished teacher and student; what `kdlab evaluate` says of the student, and which models it ran."""
    shutil.copytree(base / "outputs", tmp_path / "outputs")

    def run(*words: str, outputs: str = "outputs") -> tuple[dict, set[str], str]:
        read: set[str] = set()
        real = evaluate.predict

        def spy(task, model, batches, lengths, name):
            read.add(name)
            return real(task, model, batches, lengths, name)

        shutil.rmtree(tmp_path / outputs / "evaluate", ignore_errors=True)
        (student,) = (tmp_path / outputs / "distill").iterdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluate, "predict", spy)
            code, out, err = kdlab("evaluate", f"run={student.name}", "repeats=1", f"outputs={outputs}", *words)
        assert code == 0, err
        (report,) = (tmp_path / outputs / "evaluate").glob("*/report.json")
        return json.loads(report.read_text())["models"], read, out

    return run


def same(one: dict, two: dict) -> None:
    for key in ("accuracy", "f1_macro", "ece", "agreement"):
        assert one[key] == pytest.approx(two[key])
    assert one["confusion"] == two["confusion"]


@pytest.mark.slow
def test_what_the_teacher_answered_is_not_asked_again(measured, tmp_path):
    stored, read, out = measured()
    assert read == {"untrained", "distilled"}
    assert "test, 16 rows" in out
    shutil.rmtree(tmp_path / "outputs" / "store")
    asked, read, _ = measured()
    assert read == {"untrained", "distilled", "teacher"}
    for name, own in asked.items():
        same(stored[name], own)
    assert stored["teacher"]["parameters"] == asked["teacher"]["parameters"]
    assert stored["teacher"]["latency_ms"] > 0


@pytest.mark.slow
def test_a_damaged_store_is_not_believed(measured, tmp_path):
    before, *_ = measured()
    for path in (tmp_path / "outputs" / "store").glob("*/logits.npy"):
        content = bytearray(path.read_bytes())
        content[-4:] = b"\0\0\xc0\x7f"
        path.chmod(0o644)
        path.write_bytes(content)
    after, read, _ = measured()
    assert "teacher" in read
    assert after["teacher"]["confusion"] == before["teacher"]["confusion"]


@pytest.mark.slow
def test_without_the_teachers_folder_its_stored_answers_stand_in(measured, tmp_path):
    whole, *_ = measured()
    (teacher,) = (tmp_path / "outputs" / "finetune").iterdir()
    shutil.rmtree(teacher)
    found, read, out = measured()
    assert f"the teacher {teacher.name} is not there any more: its stored answers stand in for it" in out
    assert read == {"untrained", "distilled"}
    for name, own in whole.items():
        same(found[name], own)
    assert "parameters" not in found["teacher"]
    shutil.rmtree(tmp_path / "outputs" / "store")
    found, _, out = measured()
    assert f"the teacher {teacher.name} is not there any more: nothing is measured of it" in out
    assert list(found) == ["untrained", "distilled"]
    assert all("agreement" not in own for own in found.values())


@pytest.mark.slow
def test_outputs_that_were_moved_together_still_find_the_teacher(measured, tmp_path):
    whole, *_ = measured()
    (tmp_path / "outputs").rename(tmp_path / "elsewhere")
    found, _, out = measured(outputs="elsewhere")
    assert "any more" not in out
    assert found["teacher"]["confusion"] == whole["teacher"]["confusion"]
    assert found["teacher"]["parameters"] == whole["teacher"]["parameters"]


@pytest.mark.slow
def test_another_number_format_than_that_of_the_run_is_named(kdlab, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for precision, named in (("bf16-mixed", True), ("32-true", False)):
        words = [word for word in tiny["finetune"] if not word.startswith("trainer.precision")]
        code, _, err = kdlab(
            "finetune", *words, f"trainer.precision={precision}", f"outputs={precision}", "logger=none"
        )
        assert code == 0, err
        (run,) = (tmp_path / precision / "finetune").glob("*-*")
        code, out, err = kdlab("evaluate", f"run={run}", f"outputs={precision}", "repeats=1")
        assert code == 0, err
        assert (f"the run's own test was in {precision}" in out) == named


@pytest.mark.slow
def test_another_table_is_read_as_the_run_read_its_own(tiny, tmp_path, kdlab, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [[f"{'good' if number % 2 else 'bad'} film {number}", str(number % 2)] for number in range(40)]
    for name in ("first.csv", "second.csv"):
        with Path(name).open("w", newline="") as file:
            csv.writer(file).writerows([["body", "stars"], *rows])
    table = ["datamodule.path=first.csv", "datamodule.text_column=body", "datamodule.label_column=stars"]
    words = [word for word in tiny["finetune"] if not word.startswith("datamodule.path")]
    code, _, err = kdlab("finetune", *words, *table, "datamodule.label_map={0:bad,1:good}", "logger=none")
    assert code == 0, err
    (run,) = Path("outputs/finetune").iterdir()
    other = ["evaluate", f"run={run.name}", "datamodule=table", "datamodule.path=second.csv"]
    code, out, err = kdlab(*other, "repeats=1")
    assert code == 0, err
    assert "label_column=stars" in out and "measures 40 rows" in out
    code, _, err = kdlab(*other, "repeats=1", "datamodule.text_column=text")
    assert code == 2 and "text" in err, "what the command sets is not replaced"
