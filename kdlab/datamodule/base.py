"""What all text datasets share: splits, few-shot labels, tokens and batches."""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from lightning import LightningDataModule

from kdlab.datamodule import split, tokenizer
from kdlab.datamodule.augment.base import Augment
from kdlab.datamodule.batch import Batches, Deck, EvalLoader, TrainLoader, within
from kdlab.datamodule.corpus import Corpus, counted, labelled
from kdlab.datamodule.curriculum.base import Curriculum
from kdlab.datamodule.cut import ByRows, ByTokens, Cut
from kdlab.datamodule.odd import odd, unknown
from kdlab.datamodule.rows import Rows, repeated, sample, stored
from kdlab.datamodule.seen import Seen
from kdlab.datamodule.select.base import Select
from kdlab.datamodule.view import View
from kdlab.error import UserError
from kdlab.value import Count, Seed, Share, Whole

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class TextData(LightningDataModule, ABC):
    """Texts with labels. A dataset says how it is read, in :meth:`corpus`; the rest is here.

    Args:
        tokenizer: a folder, ``package:…``, a hub id, or ``train:wordpiece:8000``; after setup the tokenizer.
        max_length: tokens; longer texts are cut.
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
        labels: names, in the order of the logits.
        label_counts: labelled training rows of each.
        multi_label: whether a row may have several labels.
        fingerprint: a hash of texts, tokenizer and max_length; not of labels and splits.
        splits: row ids of ``train``, ``val`` and ``test``; a row's id is its position in the data.
        texts: all of them, by row id.
        notices: what is odd about the data, a sentence each; logged as warnings.
    """

    tokenizer: Any
    max_length: Count = 128
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
    texts: list[str] = field(init=False)
    notices: list[str] = field(init=False)
    deck: Deck | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__init__()
        self.tokenizer_spec, self.notices = str(self.tokenizer), []
        if self.overlap not in ("refuse", "drop", "allow"):
            raise UserError(f"datamodule.overlap is '{self.overlap}', and must be refuse, drop or allow")
        if self.unlabelled not in ("keep", "drop"):
            raise UserError(f"datamodule.unlabelled is '{self.unlabelled}', and must be keep or drop")
        if self.per_class is not None and self.budget is not None:
            raise UserError("datamodule.per_class and datamodule.budget both say how many labels there are: set one")
        counts = (
            "max_length",
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

    def setup(self, stage: str | None = None) -> None:
        """Read, split and tokenise; the second call does nothing."""
        if self.deck is not None:
            return
        corpus = self.corpus()
        corpus.check()
        self.source, self.labels, self.multi_label = corpus.where, corpus.order(), corpus.multi_label
        self._notice(*corpus.notices)
        codes = corpus.codes()
        classes = np.where(labelled(codes), 0, -1) if self.multi_label else codes
        if not labelled(codes).any():
            classes = np.zeros_like(classes)  # of texts alone, any may be evaluated
        order = split.priority(corpus.texts, self.split_seed, "split")
        if self.whole:
            whole = split.whole(classes, corpus.split)
        else:
            whole = split.cut(classes, corpus.split, order, self.val_fraction, self.test_fraction)
            self._part(whole, order, corpus)
        self._notice(*odd(corpus, codes, self.labels, whole))
        caps = {"train": self.train_rows, "val": self.val_rows, "test": self.test_rows}
        self.splits = {
            name: split.take(rows, classes, len(rows) if (cap := caps[name]) is None else cap, order)
            for name, rows in whole.items()
        }
        self._known, self._whole = codes, self.splits["train"]
        # all training rows, so that capped and few-shot runs share the tokenizer and what is stored under it
        texts = [corpus.texts[row] for row in whole["train"]]
        self.tokenizer = tokenizer.load(self.tokenizer_spec, texts, self.download)
        self.texts = corpus.texts
        self.fingerprint, rows = self._tokens(self.tokenizer)
        few = self.per_class is not None or self.budget is not None
        order = split.priority(corpus.texts, self.seed, "few") if few else order
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
        shape = (len(self.texts), len(labels)) if self.multi_label else (len(self.texts),)
        self._known = np.full(shape, -1, np.float32 if self.multi_label else np.int64)
        self.label_counts = [0] * len(labels)
        self.deck = replace(self._deck(), codes=self._known)

    @property
    def scored(self) -> bool:
        """Whether validation has labels to compare predictions with."""
        return bool(labelled(self._deck().codes[self.splits["val"]]).any())

    def choose(self, score: np.ndarray) -> None:
        """Let other rows keep their labels.

        Args:
            score: of each of :attr:`used`; those of the highest come first.
        """
        order = np.full(len(self.texts), np.inf)
        order[self.used] = -score
        self._label(self._deck().rows, order, drop=True)

    def _label(self, rows: Rows, order: np.ndarray, drop: bool) -> None:
        """Deal with the labels that are kept, those of least ``order``; until they are final, no row is dropped."""
        train = self._whole
        codes = self._few(order)
        known = labelled(codes)
        self.splits["train"] = train = train[known[train]] if drop and self.unlabelled == "drop" else train
        counted = codes[train[known[train]]]
        self.label_counts = (
            counted.sum(0).astype(int) if self.multi_label else np.bincount(counted, minlength=len(self.labels))
        ).tolist()
        self.deck = Deck(rows, codes, self.tokenizer.pad_token_id or 0)

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
        self.curriculum.grade(logits, self._deck().codes[self.used], self.used, len(self.texts))

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
        """A hash of the test rows, texts and labels, whatever their order: results on different ones do not compare."""
        deck, names = self._deck(), np.array(self.labels, dtype=object)

        def said(row: int) -> str:
            code = deck.codes[row]
            known = list(names[code == 1]) if self.multi_label else [names[code]] if code >= 0 else []
            return hashlib.sha256(json.dumps([self.texts[row], known]).encode()).hexdigest()

        return hashlib.sha256("".join(sorted(said(row) for row in self.splits["test"])).encode()).hexdigest()[:12]

    @property
    def used(self) -> np.ndarray:
        """The ids of all rows that are in a split, in order."""
        marked = np.zeros(len(self._deck().rows), bool)
        for rows in self.splits.values():
            marked[rows] = True
        return np.flatnonzero(marked)

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
            "vocabulary": len(self.tokenizer),
            "tokens_mean": round(float(lengths.mean()), 2),
            "tokens_max": int(lengths.max()),
            "fingerprint": self.fingerprint,
        }

    def _few(self, order: np.ndarray) -> np.ndarray:
        """The labels, without those of the training rows that ``per_class`` or ``budget`` do not choose."""
        codes, train = self._known, self._whole
        if self.per_class is None and self.budget is None:
            if self.select is not None:
                raise UserError("datamodule.select needs a number of labels: set datamodule.budget or per_class")
            return codes
        if self.multi_label:
            which = "budget" if self.per_class is None else "per_class"
            raise UserError(f"datamodule.{which} needs one label a row: use train_rows with multi_label=true")
        if self.per_class is not None:
            kept = split.few(train, codes, self.per_class, order, self.labels)
        else:
            kept = split.afford(train[codes[train] >= 0], self.budget, order)
        codes = codes.copy()
        codes[np.setdiff1d(train, kept)] = -1
        return codes

    def view(self, own: Any) -> View:
        """The same rows in the tokens of another tokenizer."""
        fingerprint, rows = self._tokens(own)
        deck = Deck(rows, self._deck().codes, own.pad_token_id or 0)
        return View(own, self.labels, self.multi_label, fingerprint, self.used, deck, self.augmented)

    def _tokens(self, own: Any) -> tuple[str, Rows]:
        """The texts in the tokens of a tokenizer, and a hash of all that decides what they are."""
        known = hashlib.sha256(f"1 {self.max_length} {tokenizer.digest(own)}".encode())
        for text in self.texts:
            known.update(hashlib.sha256(text.encode()).digest())
        fingerprint = known.hexdigest()[:32]
        some = sample(fingerprint, len(self.texts))
        if some is None:
            encode = partial(tokenizer.encode, own, self.texts, self.max_length)
            rows = stored(fingerprint, len(self.texts), encode)
        else:
            found = list(tokenizer.encode(own, [self.texts[row] for row in some], self.max_length))
            rows = repeated(found, len(self.texts))
            self._notice(f"{len(some):,} of the {len(rows):,} rows were tokenised as a sample that stands for all")
        if own is not self.tokenizer or not self.tokenizer_spec.startswith("train:"):
            self._notice(*unknown(rows, own))
        return fingerprint, rows

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
