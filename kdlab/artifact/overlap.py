"""The texts of a run, by hash, so that no student is measured on rows that its teachers were trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from kdlab.artifact.chain import asks_a_teacher, splits_key
from kdlab.artifact.find import teacher_nodes, wanted
from kdlab.artifact.run import read_done
from kdlab.artifact.trained import Trained, teachers_of
from kdlab.config import build, instantiate
from kdlab.config.job import Job
from kdlab.config.node import Node
from kdlab.datamodule.corpus import labelled
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.file import put, sync

FILE = "trained_on.npy"  # of a run directory
KEPT = 4  # data sets whose hashes stay in memory
_digests: dict[str, np.ndarray] = {}  # by the fingerprint of the data, which copies of a data module share


def digests(texts: Iterable[str]) -> np.ndarray:
    """``[N]`` uint64: a hash of each text.

    Example:
        >>> int((digests(["a", "b"]) == digests(["a", "c"])).sum())
        1
    """
    found = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(found), np.uint64)


def known_digests(data: Data) -> np.ndarray:
    """``[N]`` uint64: the hash of each text of a data module; made once, by a sweep's driver for all its forks."""
    if data.fingerprint not in _digests:
        for oldest in list(_digests)[: 1 - KEPT]:
            del _digests[oldest]
        _digests[data.fingerprint] = digests(data.questions)
    return _digests[data.fingerprint]


def learns(cfg: Node) -> bool:
    """Whether a run's model has learned from rows: with ``trainer.max_steps=0`` and no ``start`` it has not."""
    return bool(cfg.trainer.get("max_steps", -1) != 0 or cfg.get("start") is not None)


def write(folder: Path, data: Data, learns: bool = True) -> None:
    """Write the hashes of the texts that train into a run directory: 8 bytes a text.

    Args:
        learns: whether the run's model learns from them.
    """
    part = folder / f".{FILE}.part"
    with part.open("wb") as file:
        np.save(file, training(data)[: None if learns else 0], allow_pickle=False)
    sync(part)
    put(part, folder / FILE)


def training(data: Data) -> np.ndarray:
    """The hashes of the texts that train, each once, sorted."""
    found = digests(data.contents("train")) if data.packs else known_digests(data)[data.splits["train"]]
    found = np.sort(found)
    return found[np.append(True, found[1:] != found[:-1])] if len(found) else found


def check_teachers(job: Job, data: Data) -> None:
    """Refuse teachers that learned, or are going to, from rows that the student is validated or tested on.

    Raises:
        UserError: such rows.
    """
    measured = np.concatenate([data.splits["val"], data.splits["test"]])
    scored = labelled(data.codes[measured]).any() or not instantiate.make(job.cfg.task).uses_labels
    if job.cfg.allow_overlap or not scored:  # texts without a label are measured by agreement alone
        return
    for place, node in teacher_nodes(job.cfg.teacher).items():
        found = wanted(job, place, node)
        for name, known in chain(found, splits_key(job.cfg)):
            check(name, known, data)


def check(name: str, known: np.ndarray, data: Data) -> None:
    """Refuse a model that learned from rows of ``data`` that are to be validated or tested on.

    A text that the data themselves have in other rows too, for training, does not count.

    Args:
        name: the model's, for the message.
        known: the hashes of the texts that it learned from.

    Raises:
        UserError: such rows.
    """
    own = known_digests(data)
    measured = np.concatenate([data.splits["val"], data.splits["test"]])
    seen = own[measured][_among(own[measured], known)]
    count = len(seen) and int((~_among(seen, np.delete(own, measured))).sum())
    if count:
        raise UserError(
            f"{name} was trained on {count} of the {len(measured)} rows that this run is validated and tested on, so "
            "what is measured would be too good: give both the same datamodule.split_seed, val_fraction and "
            "test_fraction, or set allow_overlap=true"
        )


def _among(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of the values are known: ``np.isin``, but quick for few values and very many that are known."""
    ranked = np.sort(known)
    place = np.searchsorted(ranked, values)
    return (place < len(ranked)) & (np.append(ranked, np.uint64(0))[place] == values)


def chain(found: Trained | Job, same: str) -> Iterator[tuple[str, np.ndarray]]:
    """Of a teacher, and of all that taught it: the name, and the hashes of the texts that it learns from.

    Args:
        same: the splits of the student, see :func:`kdlab.artifact.chain.splits_key`; a teacher that is still to be
            trained on the same ones learns from no other row.
    """
    if isinstance(found, Job) and read_done(found.folder) is not None:
        found = Trained(found.folder, found.folder / "model", found.folder.name)
    if isinstance(found, Trained):
        if (rows := of_run(found)) is not None:
            yield f"teacher {found.id}", rows
        for folder in map(Path, teachers_of(found.folder).values()):
            if (folder / "config.yaml").is_file():
                yield from chain(Trained(folder, folder / "model", folder.name, found.trust), same)
        return
    if splits_key(found.cfg) != same and learns(found.cfg):
        yield f"teacher {found.folder.name}", training(build.data(found.cfg))
    if "teacher" in found.cfg and asks_a_teacher(found):
        for place, node in teacher_nodes(found.cfg.teacher).items():
            yield from chain(wanted(found, place, node), same)


def of_run(trained: Trained) -> np.ndarray | None:
    """The texts of a finished run; None for a model from elsewhere, and where an older run cannot be asked."""
    path = trained.folder / FILE
    if path.exists():
        try:
            found = np.load(path, allow_pickle=False)
            if found.dtype != np.uint64 or found.ndim != 1:
                raise ValueError("it holds no hashes")
            return found
        except (OSError, ValueError) as problem:
            raise UserError(f"{path} is damaged ({problem}); delete it") from problem
    if trained.stored is None:
        return None
    try:
        return training(build.data(trained.stored))
    except UserError as problem:
        print(f"which rows teacher {trained.id} was trained on is not known: {problem}", flush=True)
        return None
