"""What all data sets share, whatever a row is: splits, few-shot labels, order and batches."""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning import LightningDataModule

from kdlab.datamodule import split
from kdlab.datamodule.augment.base import Augment
from kdlab.datamodule.batch import Batches, Deck, EvalLoader, TrainLoader, within
from kdlab.datamodule.corpus import Corpus, counted, labelled
from kdlab.datamodule.curriculum.base import Curriculum
from kdlab.datamodule.cut import ByRows, ByTokens, Cut
from kdlab.datamodule.processor.base import Encoded, Processor
from kdlab.datamodule.seen import Seen
from kdlab.datamodule.select.base import Select
from kdlab.datamodule.target import Labels, Target
from kdlab.datamodule.view import View
from kdlab.error import UserError
from kdlab.value import Count, Seed, Share, Whole

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class Data(LightningDataModule, ABC):
    """Rows with answers. A data set implements :meth:`corpus`, which reads it, and :meth:`make_processor`, which
    decides what a model reads of a row; the rest is here.

    Args:
        batch_size: rows of an optimizer step, over all devices and accumulated micro-batches.
        tokens_per_batch: tokens of an optimizer step, over all devices and accumulated micro-batches, padding included:
            many short texts, or few long ones. ``batch_size`` is not used then. None: ``batch_size`` rows.
        eval_batch_size: rows of a batch in validation and test.
        val_fraction, test_fraction: of the labelled rows, for splits that the data does not have.
        split_seed: of the splits and the caps. Apart from ``seed``, so that all seeds of a sweep share a test set.
        train_rows, val_rows, test_rows: at most so many rows of a split, in the proportion of the classes.
        per_class: labels kept for so many training rows of each class, chosen by ``seed``; others become unlabelled.
        budget: labels kept for so many training rows in all; not together with ``per_class``.
        unlabelled: ``keep`` or ``drop`` the training rows without a label.
        seed: of the order of batches and the choice of ``per_class``.
        download: whether what is not in the cache may be fetched.
        augment: what happens to a training row each time the student reads it; None: nothing.
        select: who says which rows keep their labels, in :meth:`choose`; None: ``seed``.
        curriculum: in what order rows are learned from; None: all the same.
        whole: whether the data is only measured: no row is cut off for another split.
        overlap: what to do where splits that the data has share texts: ``refuse`` it, ``drop`` the training rows (and
            of two evaluated splits the validation rows), or ``allow`` it. Splits that are cut here never share any.

    Attributes (after :meth:`setup`):
        source: what to call the data in a message.
        labels: names of the answers, in the order of the logits.
        label_counts: how often each is an answer of a training row.
        multi_label: whether a row may have several labels.
        fingerprint: a hash of all values and of the processor; not of labels and splits.
        processor: turns values into inputs.
        splits: row ids of ``train``, ``val`` and ``test``; a row's id is its position in the data.
        values: the raw values of all rows, by row id.
        keys: what tells the content of each row from that of others.
        notices: what is odd about the data, a sentence each; logged as warnings.
    """

    batch_size: Count = 32
    tokens_per_batch: Count | None = None
    eval_batch_size: Count = 128
    val_fraction: Share = 0.1
    test_fraction: Share = 0.1
    split_seed: Seed = 0
    train_rows: Count | None = None
    val_rows: Count | None = None
    test_rows: Count | None = None
    per_class: Whole | None = None
    budget: Whole | None = None
    unlabelled: Literal["keep", "drop"] = "keep"
    seed: Seed = 0
    download: bool = False
    augment: Augment | None = None
    select: Select | None = None
    curriculum: Curriculum | None = None
    whole: bool = False
    overlap: str = "refuse"
    source: str = field(init=False)
    labels: list[str] = field(init=False)
    label_counts: list[int] = field(init=False)
    multi_label: bool = field(init=False)
    fingerprint: str = field(init=False)
    splits: dict[str, np.ndarray] = field(init=False)
    values: list[Any] = field(init=False)
    keys: list[str] = field(init=False)
    processor: Processor = field(init=False)
    notices: list[str] = field(init=False)
    deck: Deck | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__init__()
        self.notices = []
        if self.overlap not in ("refuse", "drop", "allow"):
            raise UserError(f"datamodule.overlap is '{self.overlap}', and must be refuse, drop or allow")
        if self.unlabelled not in ("keep", "drop"):
            raise UserError(f"datamodule.unlabelled is '{self.unlabelled}', and must be keep or drop")
        if self.per_class is not None and self.budget is not None:
            raise UserError("datamodule.per_class and datamodule.budget both say how many labels there are: set one")
        counts = (
            "batch_size",
            "tokens_per_batch",
            "eval_batch_size",
            "train_rows",
            "val_rows",
            "test_rows",
        )
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"datamodule.{name} is {value}, and must be 1 or more")

    @abstractmethod
    def corpus(self) -> Corpus:
        """Read the data."""

    @abstractmethod
    def make_processor(self, values: Sequence[Any]) -> Processor:
        """What turns values into inputs.

        Args:
            values: those of the training rows, before any is capped.
        """

    def make_target(self, corpus: Corpus) -> Target:
        """What is to be predicted: by default the labels, one a row, or with ``multi_label`` any number."""
        return Labels(tuple(corpus.order()), corpus.codes())

    def key(self, value: Any) -> str:
        """What tells the content of a row from that of others, such as a hash of a file; by default the value."""
        return str(value)

    def check_rows(self, corpus: Corpus) -> None:
        """Refuse rows that cannot be read, before anything is split.

        Raises:
            UserError: such a row.
        """

    def oddities(self, corpus: Corpus) -> list[str]:
        """What its user should know of the data, a sentence each."""
        return []

    def setup(self, stage: str | None = None) -> None:
        """Read, split and encode; the second call does nothing."""
        if self.deck is not None:
            return
        corpus = self.corpus()
        if not corpus.texts:
            raise UserError(f"{corpus.where} has no rows")
        self.check_rows(corpus)
        self._known = self.make_target(corpus)
        codes = self._known.codes
        self.source, self.labels, self.multi_label = corpus.where, list(self._known.names), self._known.several
        self._notice(*corpus.notices)
        self.values, self.keys = corpus.texts, [self.key(value) for value in corpus.texts]
        classes = np.where(labelled(codes), 0, -1) if self.multi_label else codes
        if not labelled(codes).any():
            classes = np.zeros_like(classes)  # of texts alone, any may be evaluated
        order = split.priority(self.keys, self.split_seed, "split")
        if self.whole:
            whole = split.whole(classes, corpus.split)
        else:
            whole = split.cut(classes, corpus.split, order, self.val_fraction, self.test_fraction)
            self._part(whole, order, corpus)
        self.splits = whole
        self._notice(*self.oddities(corpus))
        caps = {"train": self.train_rows, "val": self.val_rows, "test": self.test_rows}
        self.splits = {
            name: split.take(rows, classes, len(rows) if (cap := caps[name]) is None else cap, order)
            for name, rows in whole.items()
        }
        self._whole = self.splits["train"]
        # all training rows, so that capped and few-shot runs share the tokenizer and what is stored under it
        self.processor = self.make_processor([self.values[row] for row in whole["train"]])
        self.fingerprint, rows = self._encoded(self.processor)
        self._notice(*self.processor.notices(rows))
        few = self.per_class is not None or self.budget is not None
        order = split.priority(self.keys, self.seed, "few") if few else order
        self._label(rows, order, drop=self.select is None)

    def _notice(self, *told: str) -> None:
        for one in told:
            if one not in self.notices:
                self.notices.append(one)
                log.warning("%s: %s", self.source, one)

    def _part(self, splits: dict[str, np.ndarray], order: np.ndarray, corpus: Corpus) -> None:
        """Let no two splits have a text in common, or say that they do.

        Args:
            splits: of all rows; changed in place.
            order: a number for each row that is the same for the same text.
        """
        given = set() if corpus.split is None else set(corpus.split)
        for first, second in (("val", "test"), ("train", "val"), ("train", "test")):
            rows = splits[first]
            both = np.isin(order[rows], order[splits[second]])
            if not (count := int(np.count_nonzero(both))) or self.overlap == "allow":
                continue
            shown = f"first: {corpus.place(int(rows[both][0]))}"
            if self.overlap == "refuse" and {first, second} <= given:
                raise UserError(
                    f"{corpus.where}: {counted(count, f'{first} row has', f'{first} rows have')} a text of the "
                    f"{second} split too ({shown}), which makes results look better than they are: set "
                    "datamodule.overlap=drop to leave them out, or allow"
                )
            splits[first] = rows[~both]
            told = counted(count, f"{first} row is", f"{first} rows are")
            self._notice(f"{told} left out: the {second} split has the same texts ({shown})")
            if not len(splits[first]):
                raise UserError(f"{corpus.where}: no {first} row is left that has not a text of the {second} split too")

    def check_labels(self) -> None:
        """Raise UserError where there are not two classes to tell apart."""
        if len(self.labels) < 2 and not self.multi_label:
            found = f"only the label '{self.labels[0]}'" if self.labels else "no labels"
            raise UserError(f"{self.source} has {found}, and classification needs two or more")

    def adopt(self, labels: Sequence[str]) -> None:
        """Take the names of a teacher's labels, where no row has a label and none are named."""
        self.labels = list(labels)
        shape = (len(self.values), len(labels)) if self.multi_label else (len(self.values),)
        self._known = Labels(tuple(labels), np.full(shape, -1, np.float32 if self.multi_label else np.int64))
        self.label_counts = [0] * len(labels)
        self.deck = Deck(self._deck().rows, self._known)

    @property
    def scored(self) -> bool:
        """Whether validation has labels to compare predictions with."""
        return bool(labelled(self._deck().codes[self.splits["val"]]).any())

    def choose(self, score: np.ndarray) -> None:
        """Let other rows keep their labels.

        Args:
            score: of each of :attr:`used`; those of the highest come first.
        """
        order = np.full(len(self.values), np.inf)
        order[self.used] = -score
        self._label(self._deck().rows, order, drop=True)

    def _label(self, rows: Encoded, order: np.ndarray, drop: bool) -> None:
        """Deal with the labels that are kept, those of least ``order``; until they are final, no row is dropped."""
        train, target = self._whole, self._few(order)
        self.splits["train"] = train = train[target.known[train]] if drop and self.unlabelled == "drop" else train
        self.label_counts = target.counts(train)
        self.deck = Deck(rows, target)

    def train_dataloader(self) -> TrainLoader:
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        shuffle = not (self.trainer and self.trainer.overfit_batches)  # type: ignore[attr-defined]
        loader = TrainLoader(
            self._deck(), self.splits["train"], self.batch_size, self.seed, *self._place(), accumulate, shuffle,
            self.augment, self._cut(), self._pins(),
        )  # fmt: skip
        if self.curriculum is not None:
            hard = self.curriculum.difficulty(self._deck().rows.lengths)[self.splits["train"]]
            epochs = self._epochs(loader.steps)
            loader.group(partial(self.curriculum.groups, hard, self.rows_per_step, self.seed, epochs), epochs)
        return loader

    def _cut(self) -> Cut:
        """What makes an optimizer step."""
        if self.tokens_per_batch is None:
            return ByRows(self.batch_size)
        return ByTokens(self.tokens_per_batch, self._longest)

    def check_steps(self, devices: int, accumulate: int) -> None:
        """Raise UserError where a step cannot be dealt out to so many devices and micro-batches on each."""
        train = self.splits["train"]
        cut = self._cut()
        count = cut.count(self._deck().rows.lengths[train], devices * accumulate)
        cut.check(len(train), count, devices, accumulate)

    @property
    def _longest(self) -> int:
        return int(self._deck().rows.lengths[self.splits["train"]].max(initial=0))

    @property
    def rows_per_step(self) -> int:
        """Training rows of an optimizer step, in the mean."""
        if self.tokens_per_batch is None:
            return self.batch_size
        train = self.splits["train"]
        return max(1, len(train) // max(1, self._cut().count(self._deck().rows.lengths[train], 1)))

    @property
    def tokens_per_step(self) -> int:
        """Tokens of the largest optimizer step, padding included."""
        return self.tokens_per_batch or self.batch_size * self._longest

    def _epochs(self, steps: int) -> float:
        """How many epochs of so many optimizer steps the run has; 1 where nothing says so."""
        if self.trainer is None:
            return 1.0
        most, last = self.trainer.max_epochs or -1, self.trainer.max_steps
        return min([float(most)] * (most > 0) + [last / steps] * (last > 0), default=1.0)

    def grade(self, logits: np.ndarray) -> None:
        """Tell the curriculum what a trained model says ``[M, C]`` of each of :attr:`used`."""
        assert self.curriculum is not None
        self.curriculum.grade(logits, self._deck().codes[self.used], self.used, len(self.values))

    def val_dataloader(self) -> EvalLoader:
        return EvalLoader(self._deck(), self.splits["val"], self.eval_batch_size, *self._place(), self._pins())

    def test_dataloader(self) -> EvalLoader:
        return EvalLoader(self._deck(), self.splits["test"], self.eval_batch_size, *self._place(), self._pins())

    def evaluate_rows(self, name: str) -> EvalLoader:
        """The labelled rows of any split, as validation sees its own; all rows where none has a label."""
        deck, rows = self._deck(), self.splits[name]
        known = labelled(deck.codes[rows])
        rows = rows[known] if known.any() else rows
        return EvalLoader(deck, rows, self.eval_batch_size, *self._place(), self._pins())

    @property
    def test_set(self) -> str:
        """A hash of the test rows, contents and answers, whatever their order: results on others do not compare."""
        target = self.target

        def digest(row: int) -> str:
            return hashlib.sha256(json.dumps([self.keys[row], target.answer(row)]).encode()).hexdigest()

        found = sorted(digest(row) for row in self.splits["test"].tolist())
        return hashlib.sha256("".join(found).encode()).hexdigest()[:12]

    @property
    def used(self) -> np.ndarray:
        """The ids of all rows that are in a split, in order."""
        marked = np.zeros(len(self._deck().rows), bool)
        for rows in self.splits.values():
            marked[rows] = True
        return np.flatnonzero(marked)

    @property
    def target(self) -> Target:
        """What is to be predicted, as far as the run knows it."""
        return self._known if self.deck is None else self.deck.target

    @property
    def codes(self) -> np.ndarray:
        """The labels that the run knows, by row id: ``[N]`` class ids, or multi-label ``[N, C]``; -1: none."""
        return self._deck().codes

    @property
    def lengths(self) -> np.ndarray:
        """How many tokens each row of the data has, by row id; 0 for the rows in no split."""
        every = self._deck().rows.lengths
        lengths = np.zeros_like(every)
        for rows in self.splits.values():
            lengths[rows] = every[rows]
        return lengths

    def every_row(self, tokens_per_batch: int = 16384) -> Batches:
        """All rows of all splits once, longest first; a batch has at most so many tokens, padding included."""
        return within(self._deck(), self.used, tokens_per_batch)

    @property
    def augmented(self) -> bool:
        """Whether teachers read the augmented rows that the student reads."""
        return self.augment is not None and self.augment.teacher == "augmented"

    def seen(self, epoch: int) -> Seen:
        """The training rows as the student, and its teacher, read them in an epoch.

        Raises:
            UserError: that cannot be known before.
        """
        assert self.augment is not None
        if not isinstance(getattr(self.augment, "seed", None), int):
            raise UserError(
                f"{type(self.augment).__name__} has no seed, so that what it makes of a row is not known before: give "
                "it a whole number `seed`, or use teacher=live or datamodule.augment.teacher=clean"
            )
        return Seen(self._deck(), np.sort(self.splits["train"]), self.augment, epoch)

    def describe(self) -> dict:
        """What is good to know about the data of a run: flat, plain values."""
        deck = self._deck()
        lengths, train = deck.rows.lengths, self.splits["train"]
        return {
            "rows": len(lengths),
            **{name: len(rows) for name, rows in self.splits.items()},
            "labelled": int(labelled(deck.codes[train]).sum()),
            "labels": len(self.labels),
            **self.processor.describe(),
            "tokens_mean": round(float(lengths.mean()), 2),
            "tokens_max": int(lengths.max()),
            "fingerprint": self.fingerprint,
        }

    def _few(self, order: np.ndarray) -> Target:
        """The labels, without those of the training rows that ``per_class`` or ``budget`` do not choose."""
        codes, train = self._known.codes, self._whole
        if self.per_class is None and self.budget is None:
            if self.select is not None:
                raise UserError("datamodule.select needs a number of labels: set datamodule.budget or per_class")
            return self._known
        if self.multi_label:
            which = "budget" if self.per_class is None else "per_class"
            raise UserError(f"datamodule.{which} needs one label a row: use train_rows with multi_label=true")
        if self.per_class is not None:
            kept = split.few(train, codes, self.per_class, order, self.labels)
        else:
            kept = split.afford(train[codes[train] >= 0], self.budget, order)
        return self._known.hidden(np.setdiff1d(train, kept))

    def view(self, other: Processor) -> View:
        """The same rows as another processor encodes them."""
        fingerprint, rows = self._encoded(other)
        self._notice(*other.notices(rows))
        return View(other, self.labels, fingerprint, self.used, Deck(rows, self.target), self.augmented)

    def read_by(self, folder: Path) -> Data | View:
        """The rows as the model in a folder reads them: this data, or a view of it.

        Args:
            folder: of a saved model, where its processor may lie as well.
        """
        other = self.processor.saved(folder)
        return self if other is None or self.processor.equals(other) else self.view(other)

    def _encoded(self, processor: Processor) -> tuple[str, Encoded]:
        """All rows as a processor encodes them, and a hash of all that decides how."""
        known = hashlib.sha256(processor.digest.encode())
        for key in self.keys:
            known.update(hashlib.sha256(key.encode()).digest())
        fingerprint = known.hexdigest()[:32]
        return fingerprint, processor.encode(self.values, fingerprint)

    def _deck(self) -> Deck:
        if self.deck is None:
            self.setup()
        assert self.deck is not None
        return self.deck

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _pins(self) -> bool:
        """Whether batches go to a GPU."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
