"""The table of attacks: what somebody else's files or a machine at its limits did once, and the sentence of today.

``ROWS`` are done here, on a finished run that someone else made. ``ELSEWHERE`` names the tests of what needs another
scene: a server, a repository, a full disk, a killed driver.
"""

from __future__ import annotations

import ast
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from stored import change, put

SECRET = "s3cr3t-of-the-environment"
EVALUATE, DISTILL = "evaluate", "distill"  # the run is named to the one, and is the run of the other's command line
HF = {"_target_": "kdlab.model.hf.hf", "path": "sdist:evil==1.0/x", "download": True}
POLICY, HEAD = {"_target_": "kdlab.freeze.head.head"}, {"_target_": "kdlab.task.head.mlp_head"}
LOGGER = {"_target_": "kdlab.logger.wandb.WandB", "mode": "offline", "info": {"id": "evil"}}


@dataclass(frozen=True)
class Attack:
    """One row.

    Attributes:
        group: S code or secrets, R robustness, D load; the number is that of the defect that it showed.
        harm: what is done to the directory of the run; ``outside`` is a folder that nothing may change.
        command: the verb that meets it.
        sentence: what the only line of the error says, as a regular expression.
    """

    group: str
    what: str
    harm: Callable[[Path, Path], object]
    command: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.group} {self.what}"


def config(place: str, node: object) -> Callable[[Path, Path], object]:
    return lambda run, outside: change(run, lambda known: put(known, place, node))


def link(name: str, folder: bool = False) -> Callable[[Path, Path], object]:
    def harm(run: Path, outside: Path) -> None:
        unfinished(run)
        if folder:
            for path in (run / name).iterdir():
                path.unlink()
            (run / name).rmdir()
        else:
            (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside if folder else outside / "precious.txt")

    return harm


def pipe(name: str) -> Callable[[Path, Path], object]:
    def harm(run: Path, outside: Path) -> None:
        unfinished(run)
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return harm


def checkpoint(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], object]:
    def harm(run: Path, outside: Path) -> None:
        unfinished(run)
        last = run / "checkpoints/last.ckpt"
        content = torch.load(last, weights_only=True)
        edit(content)
        torch.save(content, last)

    return harm


def unfinished(run: Path) -> None:
    (run / "done.json").unlink()


def compressed(run: Path, outside: Path) -> None:
    """torch never compresses; what does may unpack to any size."""
    unfinished(run)
    last = run / "checkpoints/last.ckpt"
    with zipfile.ZipFile(last) as source, zipfile.ZipFile("packed", "w", zipfile.ZIP_DEFLATED) as packed:
        for record in source.infolist():
            packed.writestr(record.filename, source.read(record))
    Path("packed").replace(last)


def late(content: dict[str, Any]) -> None:
    content["epoch"] = 10**9
    content["loops"]["fit_loop"]["epoch_progress"]["current"] |= dict.fromkeys(("processed", "completed"), 10**9)


def bytes_in(name: str) -> Callable[[Path, Path], object]:
    def harm(run: Path, outside: Path) -> None:
        unfinished(run)
        (run / name).write_bytes(b"\xff\x00" * 50)

    return harm


ROWS = (
    Attack("S1", "a model that is built by pip, as a head", config("task.head", HF), EVALUATE, r"task\.head"),
    Attack("S1", "the same as a task", config("task", HF), EVALUATE, r"task"),
    Attack("S1", "the same in a list", config("datamodule.label_names", [HF]), EVALUATE, r"datamodule\.label_names"),
    Attack("S2", "a logger as an augmentation", config("datamodule.augment", LOGGER), EVALUATE, r"datamodule\.augment"),
    Attack("S2", "a trainer as a task", config("task", {"_target_": "lightning.pytorch.Trainer"}), EVALUATE, r"task"),
    Attack("S2", "a launcher as a task", config("task", {"_target_": "hydra_plugins.kdlab.Local"}), EVALUATE, r"task"),
    Attack("S2", "a policy as a student", config("student", POLICY), EVALUATE, r"student"),
    Attack("S2", "a head as a student", config("student", HEAD), EVALUATE, r"student"),
    Attack("S7", "run.log as a link", link("run.log"), DISTILL, r"run\.log is .*delete it"),
    Attack("S7", "checkpoints/ as a link", link("checkpoints", True), DISTILL, r"checkpoints is a link.*delete it"),
    Attack("S7", ".lock as a link", link(".lock"), DISTILL, r"\.lock is a link"),
    Attack("S7", "history.csv as a link", link("history.csv"), DISTILL, r"history\.csv is a link.*delete it"),
    Attack("R7", "a seed of 70 bits", config("seed", 2**70), EVALUATE, r"seed"),
    Attack("R7", "a negative seed", config("seed", -1), EVALUATE, r"seed"),
    Attack("R7", "a width of 2**40", config("student.hidden_size", 2**40), EVALUATE, r"student"),
    Attack("R7", "an infinite width", config("student.hidden_size", float("inf")), EVALUATE, r"student"),
    Attack("R7", "a million layers", config("student.layers", 10**6), EVALUATE, r"student"),
    Attack("R7", "a partial task", config("task._partial_", True), EVALUATE, r"task"),
    Attack("R7", "arguments without names", config("datamodule._args_", ["x"]), EVALUATE, r"datamodule"),
    Attack("R7", "a history of bytes", bytes_in("history.csv"), DISTILL, r"history\.csv is damaged.*rerun=true"),
    Attack("R7", "a lock that is a pipe", pipe(".lock"), DISTILL, r"\.lock is no ordinary file"),
    Attack("R8", "last.ckpt as a pipe", pipe("checkpoints/last.ckpt"), DISTILL, r"last\.ckpt is no ordinary file"),
    Attack("R8", "history.csv as a pipe", pipe("history.csv"), DISTILL, r"history\.csv is no ordinary file"),
    Attack("R8", "metrics.json as a pipe", pipe("metrics.json"), DISTILL, r"metrics\.json is no ordinary file"),
    Attack("R8", "a compressed checkpoint", compressed, DISTILL, r"last\.ckpt cannot be read"),
    Attack("R8", "a negative step", checkpoint(lambda c: c.update(global_step=-5)), DISTILL, r"last\.ckpt cannot be"),
    Attack("R8", "a step of 62 bits", checkpoint(lambda c: c.update(global_step=2**62)), DISTILL, r"last\.ckpt cannot"),
    Attack("R8", "an epoch after the last", checkpoint(late), DISTILL, r"last\.ckpt cannot be read"),
)  # fmt: skip

ELSEWHERE = {  # what -> file, test
    "S3 monitors and hooks of a repository": (
        "artifact/test_artifact_run.py",
        "test_asking_for_the_commit_runs_nothing_that_a_repository_names",
    ),
    "S4 a server in ./wandb/settings": (
        "logger/test_logger_hostile.py",
        "test_settings_of_the_working_directory_name_no_server_for_the_key",
    ),
    "S5 a log that sends other files": (
        "logger/test_logger_hostile.py",
        "test_a_file_from_outside_of_the_outputs_is_not_sent",
    ),
    "S5 a log that goes to another team": (
        "logger/test_logger_hostile.py",
        "test_a_run_goes_to_no_team_that_only_its_log_names",
    ),
    "S6 a secret on the command line": (
        "test_secret.py",
        "test_no_file_has_a_secret_of_the_command_line",
    ),
    "S8 formulas in a csv": (
        "report/test_report_table.py",
        "test_a_text_is_no_formula_of_a_spreadsheet",
    ),
    "S9 a changed file of a package": (
        "test_manifest.py",
        "test_a_changed_file_of_a_package_is_refused",
    ),
    "S9 changed tokens in the cache": (
        "test_manifest.py",
        "test_damaged_tokens_are_made_again",
    ),
    "R1 what a kill leaves": (
        "fuzz/test_fuzz_kill.py",
        "test_commands_killed_at_random_lose_double_change_and_leave_nothing",
    ),
    "R2 SIGTERM of a driver": (
        "launcher/test_launcher_local.py",
        "test_an_interrupted_sweep_begins_no_job_that_waited_for_its_turn",
    ),
    "R3 a disk that is full while a model is saved": (
        "test_file.py",
        "test_a_full_disk_while_a_model_is_saved_is_named",
    ),
    "R4 the same for a checkpoint": (
        "test_file.py",
        "test_a_full_disk_while_a_checkpoint_is_written_is_named",
    ),
    "R5 no locks": (
        "test_file.py",
        "test_a_file_system_without_locks_is_one_sentence",
    ),
    "R6 the rights of a saved model": (
        "model/test_model_save.py",
        "test_saved_files_follow_the_umask",
    ),
    "R9 markup and control characters of labels": (
        "command/test_command_evaluate.py",
        "test_labels_are_printed_as_they_are_and_cannot_steer_a_terminal",
    ),
    "D1 five thousand classes": (
        "metric/test_metric_confusion.py",
        "test_many_classes_are_counted_without_their_square",
    ),
    "power loss": (
        "test_power_loss.py",
        "test_no_power_loss_tears_a_run",
    ),
}


@pytest.fixture
def outside(tmp_path) -> Iterator[Path]:
    """A folder that no command may change."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious.txt").write_text(SECRET)
    yield folder
    assert [path.name for path in folder.iterdir()] == ["precious.txt"]
    assert (folder / "precious.txt").read_text() == SECRET


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize("attack", ROWS, ids=str)
def test_an_attack_is_one_sentence(kdlab, stored_run, tiny, outside, attack):
    attack.harm(stored_run, outside)
    own = [f"run={stored_run}", "repeats=1", "download=true"] if attack.command == EVALUATE else tiny["distill"]
    code, out, err = kdlab(attack.command, *own, *(["logger=none"] if attack.command == DISTILL else []))
    assert code == 2, err
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert re.search(attack.sentence, line), line
    assert err.strip().endswith(line) and "Traceback" not in out + err
    assert SECRET not in out + err
    assert not Path("wandb").exists()


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_tested_elsewhere_is(name):
    path, test = ELSEWHERE[name]
    tree = ast.parse((Path(__file__).parent / path).read_text())
    assert test in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}


def test_no_row_of_the_table_is_missing():
    known = {attack.group for attack in ROWS} | {name.split()[0] for name in ELSEWHERE} | {"D2"}  # below
    assert known >= {f"S{number}" for number in range(1, 10)} | {f"R{number}" for number in range(1, 10)} | {"D1", "D2"}


def test_d2_a_sweep_that_is_asked_for_its_config_is_one_sentence(kdlab, tiny):
    code, out, err = kdlab("finetune", "-m", *tiny["finetune"], "seed=1,2", "--cfg", "job")
    assert code in (0, 2) and "Traceback" not in out + err
    if code:
        assert err.startswith("error: ") and len(err.strip().splitlines()) == 1
