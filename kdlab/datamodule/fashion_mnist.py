"""Pictures of clothes, in the format of MNIST."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from kdlab import manifest
from kdlab.datamodule.corpus import Corpus
from kdlab.datamodule.image_data import ImageData
from kdlab.datamodule.processor.image import Drawn, Image
from kdlab.error import UserError
from kdlab.fetch import cache, once, permitted

PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
FILES = {"train": "train", "test": "t10k"}
NAMES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
MAGIC = {"images": 2051, "labels": 2049}


@dataclass(kw_only=True, eq=False, repr=False)
class FashionMNIST(ImageData):
    """60,000 training and 10,000 test images of 28 x 28 gray pixels, ten classes; validation rows are cut off.

    Args:
        path: a folder with the four files; None: that of the Debian package, installed, or unpacked into the cache.

    Source: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747; MIT.
    """

    own: ClassVar[Image] = Image(28, 1, (0.2860,), (0.3530,))
    path: str | None = None

    def corpus(self) -> Corpus:
        folder = Path(self.path).expanduser() if self.path is not None else found(self.download)
        values: list[Drawn] = []
        labels: list[str] = []
        split: list[str] = []
        for word, name in FILES.items():
            pixels = idx(folder / f"{name}-images-idx3-ubyte.gz", "images")
            codes = idx(folder / f"{name}-labels-idx1-ubyte.gz", "labels")
            if len(pixels) != len(codes) or codes.max(initial=0) >= len(NAMES):
                raise UserError(f"{folder}: the {name} images and labels do not belong together: fetch them again")
            values += [Drawn(one, f"{name} image {number + 1}") for number, one in enumerate(pixels)]
            labels += [NAMES[code] for code in codes]
            split += [word] * len(codes)
        return Corpus("fashion_mnist", values, labels, NAMES, split, thing="image")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.overlap = "drop"  # some pictures are there twice


def idx(path: Path, kind: str) -> np.ndarray:
    """The numbers in a file of MNIST's format with gzip: ``[N, H, W]`` or ``[N]`` uint8.

    Args:
        kind: ``images`` or ``labels``.

    Raises:
        UserError: there is no such file, or it is none of these.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except OSError as problem:
        raise UserError(f"{path} cannot be read ({type(problem).__name__}): {_advice()}") from problem
    axes = 3 if kind == "images" else 1
    head = np.frombuffer(content[: 4 * (axes + 1)], ">u4")
    shape = tuple(int(size) for size in head[1:])
    if len(head) != axes + 1 or head[0] != MAGIC[kind] or len(content) - 4 * (axes + 1) != np.prod(shape):
        raise UserError(f"{path} is no file of MNIST's {kind}: {_advice()}")
    return np.frombuffer(content, np.uint8, offset=4 * (axes + 1)).reshape(shape)


def found(download: bool) -> Path:
    """The folder of the package's files: where it is installed, or in the cache, fetched if that is allowed.

    Raises:
        UserError: it is nowhere, and may not or cannot be fetched.
    """
    if INSTALLED.is_dir():
        return INSTALLED
    target = cache() / "debian" / PACKAGE
    if not target.exists() and not permitted(download):
        raise UserError(
            f"Fashion-MNIST is neither in {INSTALLED} nor in the cache at {target}: add download=true to fetch it once "
            f"with apt-get, or {_advice()}"
        )
    folder = once(target, _fetch)
    if changed := manifest.changed(folder):
        raise UserError(f"{folder / changed} is not as it was fetched: remove {folder}, and fetch it again")
    return folder


def _fetch(new: Path) -> None:
    """Download the package without root, and take its files."""
    if lacking := [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]:
        raise UserError(f"{lacking[0]} is not installed here, with which Fashion-MNIST is fetched: {_advice()}")
    folder = new.with_name("download")
    folder.mkdir()
    fetched = subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, capture_output=True, text=True)
    archives = list(folder.glob("*.deb"))
    if fetched.returncode or len(archives) != 1:
        reason = (fetched.stderr.strip().splitlines() or ["no file came"])[-1]
        raise UserError(f"apt-get could not fetch {PACKAGE} ({reason[:200]}): {_advice()}")
    unpacked = folder / "unpacked"
    subprocess.run(["dpkg-deb", "-x", str(archives[0]), str(unpacked)], check=True, capture_output=True)
    new.mkdir()
    for path in (unpacked / INSTALLED.relative_to("/")).glob("*.gz"):
        shutil.copy(path, new / path.name)
    manifest.write(new)


def _advice() -> str:
    return (
        f"on Debian or Ubuntu `sudo apt-get install {PACKAGE}`, or set datamodule.path to a folder with its four files"
    )
