"""Fetching once with pip: packages made here, found by pip in a local folder."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from kdlab.error import UserError
from kdlab.fetch import cache, local, once, unpack

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
# a build backend inside the package: pip asks it for metadata, and nothing has to be installed for that
BACKEND = """
import pathlib
def prepare_metadata_for_build_wheel(folder, config=None):
    info = pathlib.Path(folder) / "toysource-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: toysource\\nVersion: 1.0\\n")
    return info.name
def build_wheel(*args, **kwargs): raise RuntimeError
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that pip finds packages in, without a network, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "toywheel-1.0-py3-none-any.whl", "w") as file:
        file.writestr("toywheel/data/a.txt", "hello")
        file.writestr("toywheel-1.0.dist-info/METADATA", METADATA.format(name="toywheel"))
        file.writestr(
            "toywheel-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr("toywheel-1.0.dist-info/RECORD", "")
    source = {
        "toysource-1.0/PKG-INFO": METADATA.format(name="toysource").encode(),
        "toysource-1.0/pyproject.toml": PROJECT.encode(),
        "toysource-1.0/backend.py": BACKEND.encode(),
        "toysource-1.0/extra/data.tar.gz": tar({"data/reviews.txt": "好".encode()}),
    }
    (folder / "toysource-1.0.tar.gz").write_bytes(tar(source))
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_CONFIG_FILE": "/dev/null",
        "KDLAB_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    return folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_wheel_is_fetched_once_and_then_needs_neither_pip_nor_permission(index, capsys):
    spec = "package:toywheel==1.0/toywheel/data/a.txt?sha256=" + sha256(index / "toywheel-1.0-py3-none-any.whl")
    path = Path(local(spec, download=True))
    assert path.read_text() == "hello"
    assert cache() in path.parents
    assert len(capsys.readouterr().err.splitlines()) == 1
    for file in index.iterdir():
        file.unlink()
    assert local(spec, download=False) == str(path)
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"has no 'toywheel/data/b.txt'; beside it there are a.txt"):
        local("package:toywheel==1.0/toywheel/data/b.txt")
    with pytest.raises(UserError, match=r"in the cache has sha256"):
        local(spec[:-64] + "0" * 64)


@pytest.mark.slow
def test_source_distribution_loses_its_top_folder_and_its_archives_open(index):
    spec = "sdist:toysource==1.0/extra/data.tar.gz!data/reviews.txt"
    assert Path(local(spec, download=True)).read_text("utf-8") == "好"
    assert Path(local("sdist:toysource==1.0/backend.py")).read_text() == BACKEND


def test_wrong_hash_keeps_nothing(index):
    with pytest.raises(UserError, match=r"nothing was kept"):
        local("package:toywheel==1.0/toywheel?sha256=" + "0" * 64, download=True)
    assert [path for path in cache().rglob("*") if path.is_file() and path.parent.name != "lock"] == []
    with pytest.raises(UserError, match=r"is not in the cache"):
        local("package:toywheel==1.0/toywheel")


@pytest.mark.parametrize(
    ("spec", "download", "message"),
    [
        ("package:toywheel==1.0/a", False, "is not in the cache at .*add download=true to fetch it once with pip"),
        ("package:toywheel==2.0/a", True, "pip could not fetch toywheel==2.0"),
        ("package:toywheel/a", True, "is not a package path: write package:NAME==VERSION"),
        ("package:toywheel==1.0/a?sha256=12", True, "64 hex digits"),
    ],
)
def test_errors_say_what_to_do(index, spec, download, message):
    with pytest.raises(UserError, match=message):
        local(spec, download=download)


@pytest.mark.slow
def test_processes_that_ask_together_fetch_once(index):
    code = "import sys; from kdlab.fetch import local; print(local('package:toywheel==1.0/toywheel', True))"
    jobs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [job.communicate() for job in jobs]
    assert len({out for out, _ in answers}) == 1
    assert sum(err.count("fetching") for _, err in answers) == 1, answers


def test_other_paths_and_hub_ids_pass_through(tmp_path):
    assert local(str(tmp_path)) == str(tmp_path)
    assert local("google-bert/bert-base-uncased", download=False) == "google-bert/bert-base-uncased"


def test_once_leaves_nothing_of_a_build_that_failed(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path))

    def fail(new: Path) -> None:
        new.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        once(tmp_path / "thing", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    once(tmp_path / "thing", lambda new: new.write_text("whole"))
    once(tmp_path / "thing", fail)
    assert (tmp_path / "thing").read_text() == "whole"


@pytest.mark.parametrize("moved", [False, True])
def test_once_removes_what_a_killed_process_left(tmp_path, monkeypatch, moved):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path))

    def die(new: Path) -> None:
        if moved:
            new.replace(tmp_path / "thing")
        os._exit(9)

    if (child := os.fork()) == 0:
        once(tmp_path / "thing", lambda new: (new.write_text("whole"), die(new)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list(tmp_path.glob(".new-*"))) == 1
    once(tmp_path / "thing", lambda new: new.write_text("whole"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "thing"]
    assert (tmp_path / "thing").read_text() == "whole"


def test_unwritable_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cannot be written .*set KDLAB_CACHE"):
        once(cache() / "thing", lambda new: new.mkdir())


def test_an_archive_cannot_write_outside(tmp_path):
    (tmp_path / "bad.tar.gz").write_bytes(tar({"../outside.txt": b"x"}))
    with pytest.raises(UserError, match=r"bad\.tar\.gz"):
        unpack(tmp_path / "bad.tar.gz", tmp_path / "new")
    assert not (tmp_path / "outside.txt").exists()


def test_a_link_in_an_archive_is_no_way_out(tmp_path):
    with tarfile.open(tmp_path / "bad.tar", "w") as rolled:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, ".."
        rolled.addfile(link)
        rolled.addfile(tarfile.TarInfo("way/outside.txt"))
    unpack(tmp_path / "bad.tar", tmp_path / "new")
    assert not (tmp_path / "outside.txt").exists() and not (tmp_path / "new" / "way").is_symlink()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("kdlab.fetch.PLAIN", 10_000)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "zeros").write_bytes(bytes(4_000_000))
    archive = Path(
        shutil.make_archive(str(tmp_path / "bomb"), {"zip": "zip", "tar.gz": "gztar"}[kind], tmp_path / "in")
    )
    with pytest.raises(UserError, match="more than 100 times its own size"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out" / "zeros").exists()
    monkeypatch.undo()
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "zeros").stat().st_size == 4_000_000
