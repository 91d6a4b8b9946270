"""Files that are whole or absent, whatever happens to the machine; locks; full disks."""

import errno
import fcntl
import hashlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from kdlab import file
from kdlab.artifact.run import claim, sweep_up
from kdlab.callback.checkpoint import Synced
from kdlab.error import UserError
from kdlab.file import full, lock, put, write_json
from kdlab.model import save as saving


class Disk:
    """Notes what was synced, and what is moved without being synced as it is: a power loss would tear that."""

    def __init__(self, monkeypatch) -> None:
        self.synced: dict[Path, str] = {}
        self.torn: list[Path] = []
        self.moved: list[Path] = []
        real_sync, real_move = os.fsync, Path.replace

        def fsync(number: int) -> None:
            real_sync(number)
            path = Path(f"/proc/self/fd/{number}").readlink()
            if path.is_file():
                self.synced[path] = digest(path)

        def replace(source: Path, target: Path) -> Path:
            files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
            self.torn += [path for path in files if self.synced.get(path.resolve()) != digest(path)]
            self.moved.append(Path(target))
            self.synced |= {Path(target).resolve(): known} if (known := self.synced.get(source.resolve())) else {}
            return real_move(source, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", replace)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_move_without_a_sync_is_noticed(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    (tmp_path / "a").write_text("x")
    put(tmp_path / "a", tmp_path / "b")
    assert disk.torn == [tmp_path / "a"]


def test_what_a_run_moves_into_place_is_on_the_disk_before(kdlab, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    disk = Disk(monkeypatch)
    words = [*tiny["finetune"], "callback=default", "callback.checkpoint.every_n_steps=2", "logger=none"]
    code, _, err = kdlab("finetune", *words)
    assert code == 0, err
    assert {path.name for path in disk.moved} >= {"last.ckpt", "best.ckpt", "model", "done.json", "metrics.json"}
    assert {path.name for path in disk.torn if "outputs/finetune" in str(path.resolve())} == set()


def tiny_bert() -> BertForSequenceClassification:
    config = BertConfig(
        vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
        max_position_embeddings=4,
    )  # fmt: skip
    return BertForSequenceClassification(config)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The system's own limit, which writers meet as they meet a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_while_a_model_is_saved_is_named(tmp_path):
    with pytest.raises(OSError) as told, no_file_larger_than(1000):
        saving.save(tiny_bert(), None, tmp_path / "model")
    assert told.value.errno == errno.EFBIG
    assert told.value.filename == str(tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [10, 10**6])
def test_a_full_disk_while_a_checkpoint_is_written_is_named(size):
    with pytest.raises(OSError) as told:
        Synced().save_checkpoint({"state_dict": {"a": torch.zeros(size)}}, "/dev/full")
    assert told.value.errno == errno.ENOSPC


def test_another_problem_stays_itself():
    problem = RuntimeError("shapes differ")
    assert full(problem, Path("x")) is problem


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_sentence(tmp_path, monkeypatch, code):
    def flock(*_) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"without locks .*outputs=FOLDER"), lock(tmp_path / ".lock", "a run"):
        pass


def test_what_killed_processes_left_is_gone_when_the_run_is_claimed(tmp_path):
    folder = tmp_path / "run"
    (folder / ".model.1234").mkdir(parents=True)
    (folder / ".model.1234" / "model.safetensors").write_text("half")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.part").write_text("half")
    (folder / "checkpoints" / "last.ckpt").write_text("whole")
    host = file.socket.gethostname()
    (folder / f".done.json.{host}.{2**22 + 1}.part").write_text("half")
    (folder / f".done.json.{host}.{os.getpid()}.part").write_text("being written")
    (folder / ".sweep.json.other-node.7.part").write_text("being written there")
    (folder / ".config.yaml.other-node.7.part").write_text("left there long ago")
    os.utime(folder / ".config.yaml.other-node.7.part", (0, 0))
    with claim(folder):
        left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    mine = f".done.json.{host}.{os.getpid()}.part"
    assert left == sorted([mine, ".sweep.json.other-node.7.part", ".lock", "checkpoints/last.ckpt"])
    sweep_up(folder)


def test_a_half_written_file_is_left_behind_though_its_process_number_is_used_again(tmp_path):
    part = tmp_path / f".done.json.{file.socket.gethostname()}.{os.getpid()}.part"
    part.write_text("of another process, that had this number")
    os.utime(part, (1, 1))
    sweep_up(tmp_path)
    assert not part.exists()


def test_a_half_written_file_of_a_process_that_ended_is_left_behind_though_nobody_asked_how(tmp_path):
    ended = subprocess.Popen(["true"])
    while Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    part = tmp_path / f".done.json.{file.socket.gethostname()}.{ended.pid}.part"
    part.write_text("half")
    sweep_up(tmp_path)
    ended.wait()
    assert not part.exists()


def test_a_written_file_is_whole(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_file_that_is_not_there_is_named_with_one_that_is(tmp_path):
    (tmp_path / "feedback.csv").touch()
    (tmp_path / "other.txt").touch()
    meant = file.absent(tmp_path / "fedback.csv")
    assert meant == f"there is no file {tmp_path / 'fedback.csv'}: did you mean {tmp_path / 'feedback.csv'}?"
    assert file.absent(tmp_path / "nothing") == f"there is no file {tmp_path / 'nothing'}"
