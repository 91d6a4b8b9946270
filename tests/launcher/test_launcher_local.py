"""Jobs side by side as forks: the same runs as one after the other, and one that is killed takes none with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deadly import offered
from safetensors.torch import load_file

from kdlab.launcher.local import at_a_time

ROOT = Path(__file__).parents[2]


def kdlab(folder: Path, jobs: int, *words: str) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"KDLAB_JOBS": str(jobs), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "kdlab", *words, "logger=none"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def runs(folder: Path, command: str) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in folder.glob(f"outputs/{command}/*/done.json")}


@pytest.mark.slow
def test_side_by_side_is_one_after_the_other_bit_for_bit(tiny, tmp_path):
    words = ["distill", "-m", *tiny["distill"], "trainer.max_epochs=1", "loss.temperature=1,4", "freeze=none,head"]
    both = {jobs: kdlab(tmp_path / str(jobs), jobs, *words) for jobs in (1, 2)}
    for jobs, done in both.items():
        assert done.returncode == 0, done.stderr
        assert "4 runs: 4 finished" in " ".join(done.stdout.split())
        assert len(runs(tmp_path / str(jobs), "finetune")) == 1, "one teacher for all"
    one, two = (runs(tmp_path / str(jobs), "distill") for jobs in (1, 2))
    assert one.keys() == two.keys() and len(one) == 4
    for name, folder in one.items():
        mine, theirs = (load_file(path / "model/model.safetensors") for path in (folder, two[name]))
        assert all((mine[key] == theirs[key]).all() for key in mine)
    begun = [json.loads((folder / "environment.json").read_text()) for folder in two.values()]
    assert len({one["pid"] for one in begun}) == 4, "each job is a process of its own"


@pytest.mark.slow
def test_jobs_are_prepared_before_there_is_a_place_for_them(tiny, tmp_path):
    done = kdlab(tmp_path, 2, "finetune", "-m", *tiny["finetune"], "trainer.max_epochs=60", "seed=1,2,3,4")
    assert done.returncode == 0, done.stderr
    folders = runs(tmp_path, "finetune").values()
    starts = sorted(json.loads((one / "environment.json").read_text())["started_unix"] for one in folders)
    ends = sorted((one / "done.json").stat().st_mtime for one in folders)
    assert starts[3] < ends[0]
    alone = [json.loads((one / "done.json").read_text())["seconds"] for one in folders]
    assert max(alone) < 2 * min(alone), "to wait for one's turn is no part of a run's time"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("send", "by", "finished"),
    [
        (os.killpg, signal.SIGINT, 0), (os.kill, signal.SIGINT, 0), (os.kill, signal.SIGTERM, 0),
        (os.kill, signal.SIGKILL, 0),
    ],
    ids=["ctrl-c", "the driver alone", "the driver asked to end", "the driver killed"],
)  # fmt: skip
def test_an_interrupted_sweep_begins_no_job_that_waited_for_its_turn(tiny, tmp_path, send, by, finished):
    words = ["finetune", "-m", *tiny["finetune"], "trainer.max_epochs=200", "seed=1,2,3,4", "logger=none"]
    command = [sys.executable, "-m", "kdlab", *words]
    environment = os.environ | {"KDLAB_JOBS": "2", "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(
        command, cwd=tmp_path, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background
    )  # fmt: skip
    end = time.monotonic() + 120
    while len(list(tmp_path.glob("outputs/finetune/*/environment.json"))) < 4:
        assert time.monotonic() < end and driver.poll() is None
        time.sleep(0.1)
    time.sleep(1)
    send(driver.pid, by)
    said = "".join(driver.communicate(timeout=120))  # which waits for every process that could say something
    assert driver.returncode == (-by if by == signal.SIGKILL else 130), said
    assert by == signal.SIGKILL or "Traceback" not in said
    assert len(runs(tmp_path, "finetune")) == finished
    assert not list(tmp_path.glob("outputs/finetune/*/failed.json"))


@pytest.mark.slow
def test_a_job_may_learn_from_a_later_one_that_has_begun_before_its_turn(tiny, tmp_path):
    """Each generation has the one before it as teacher: the first job waits for the last, which waits for its turn."""
    words = ["distill", "-m", *tiny["distill"], "trainer.max_epochs=1", "teacher.generations=2,1,0"]
    done = kdlab(tmp_path, 2, *words)
    assert done.returncode == 0, done.stderr
    assert len(runs(tmp_path, "distill")) == 3


@pytest.mark.slow
def test_a_killed_job_is_named_and_the_others_end_and_the_same_command_goes_on(tiny, tmp_path):
    words = ["finetune", "-m", *offered(tmp_path), *tiny["finetune"], "seed=1,2,3"]
    done = kdlab(tmp_path, 2, *words)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1, done.stderr
    assert "3 runs: 2 finished, 1 failed" in said and "SIGKILL" in done.stdout + done.stderr
    assert sorted(name.split("-")[-2] for name in runs(tmp_path, "finetune")) == ["s1", "s3"]
    (lost,) = tmp_path.glob("outputs/finetune/*-s2-*/failed.json")
    assert "SIGKILL" in json.loads(lost.read_text())["error"]
    (tmp_path / "spared").touch()
    before = {name: (folder / "done.json").stat().st_mtime_ns for name, folder in runs(tmp_path, "finetune").items()}
    again = kdlab(tmp_path, 2, *words)
    assert again.returncode == 0, again.stderr
    assert len(runs(tmp_path, "finetune")) == 3
    after = {name: (folder / "done.json").stat().st_mtime_ns for name, folder in runs(tmp_path, "finetune").items()}
    assert before.items() <= after.items(), "what was finished is not done again"


@pytest.mark.parametrize(("asked", "gpus", "jobs"), [(None, 0, 16), (3, 0, 3), (None, 2, 2), (1, 2, 1)])
def test_a_core_or_a_gpu_has_a_job(asked, gpus, jobs):
    assert at_a_time(asked, gpus, present=16) == jobs


@pytest.mark.slow
def test_a_sweep_on_the_cpu_leaves_the_gpu_to_others_and_takes_the_cores(tiny, tmp_path):
    """Both jobs run at once, where the machine pretends to have one GPU, and neither takes it."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "4", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    environment.pop("KDLAB_JOBS")
    words = ["finetune", "-m", *tiny["finetune"], "trainer.max_epochs=1", "seed=0,1", "logger=none"]
    command = [sys.executable, "-c", TWO_CORES, *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "places").read_text() == "2"
    assert not list(tmp_path.glob("kdlab-gpus-*/*"))


TWO_CORES = """
import sys
from pathlib import Path
from kdlab.launcher import local
local.cores = lambda jobs: 2 if jobs == 1 else 1
real = local.at_a_time
def told(*given):
    Path("places").write_text(str(real(*given)))
    return real(*given)
local.at_a_time = told
from kdlab.__main__ import main
sys.argv[0] = "kdlab"
main()
"""


READING = """
import os, sys
from kdlab.datamodule.table import Table
read = Table.corpus
def told(self):
    with open("reads", "a") as file:
        print(os.getpid(), file=file)
    return read(self)
Table.corpus = told
from kdlab.__main__ import main
sys.argv[0] = "kdlab"
main()
"""


@pytest.mark.slow
def test_the_data_is_read_once_before_the_jobs_begin(tiny, tmp_path):
    words = ["finetune", "-m", *tiny["finetune"], "trainer.max_epochs=1", "optimizer.lr=0.01,0.02,0.03"]
    environment = os.environ | {"KDLAB_JOBS": "2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", READING, *words, "logger=none", "check=false"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(runs(tmp_path, "finetune")) == 3
    assert len((tmp_path / "reads").read_text().split()) == 1
    subprocess.run([*command, "rerun=true"], cwd=tmp_path, env=environment, capture_output=True, timeout=300)
    assert len((tmp_path / "reads").read_text().split()) == 2
