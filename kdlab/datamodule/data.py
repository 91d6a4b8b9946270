"""The base of all data sets, whatever a row is: reading, splits, labels and processors."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kdlab.datamodule import budget, split
from kdlab.datamodule.batch import EncodedRows
from kdlab.datamodule.corpus import Corpus, labelled
from kdlab.datamodule.loading import Loading
from kdlab.datamodule.processor.base import Encoded, Processor
from kdlab.datamodule.retokenized import RetokenizedRows
from kdlab.datamodule.select.base import Select
from kdlab.datamodule.separate import separate
from kdlab.datamodule.target import CLASS, NUMBER, Labels, Numbers, Target, digest
from kdlab.error import UserError
from kdlab.value import Count, Seed, Share, Whole

log = logging.getLogger(__name__)

_logged: set[tuple[str, str]] = set()  # the source and the sentence of each notice that this process has logged


@dataclass(kw_only=True, eq=False, repr=False)
class Data(Loading, ABC):
    """Rows with answers. A data set implements :meth:`corpus`, which reads it, and :meth:`make_processor`, which
    turns values into a model's inputs. The rest is here, and batches are in :class:`kdlab.datamodule.loading.Loading`.

    Args:
        val_fraction, test_fraction: of the labelled rows, for splits that the data does not have.
        split_seed: of the splits and the caps. Apart from ``seed``, so that all seeds of a sweep share a test set.
        train_rows, val_rows, test_rows: most rows of a split, in the proportion of the classes.
        per_class: number of training rows of each class that keep their label, chosen by ``seed``.
        budget: number of training rows in all that keep their label; not together with ``per_class``.
        unlabelled: ``keep`` or ``drop`` the training rows without a label.
        seed: of the order of batches and the choice of ``per_class``.
        download: whether what is not in the cache may be fetched.
        select: scores the rows for :meth:`choose`: those of the highest score keep their labels; None: ``seed``
            decides.
        whole: whether the data is only measured: no row is cut off for another split.
        overlap: where splits that the data has share texts: ``refuse`` it, ``drop`` the training rows (and of two
            evaluated splits the validation rows), or ``allow`` it. Splits that are cut here never share any.

    Attributes:
        asked: what an answer is to the task: :data:`kdlab.datamodule.target.CLASS` or ``NUMBER``; set before
            :meth:`setup`.

    Attributes (after :meth:`setup`):
        source: its name in messages.
        labels: names of the answers, in the order of the logits.
        label_counts: number of training answers of each label.
        multi_label: whether a row may have several labels.
        fingerprint: a hash of all values and of the processor; not of labels and splits.
        processor: turns values into inputs.
        values: the raw values of all rows, by row id.
        keys: the identity of each row's content, by row id: equal where the content is.
        questions: what of each row's content no two splits share, by row id.
        notices: sentences about what is odd in the data; each is logged as a warning, once in a process.
        origin: ``[N]``, the position of the value that each row was made of; None: its own.
    """

    val_fraction: Share = 0.1
    test_fraction: Share = 0.1
    split_seed: Seed = 0
    train_rows: Count | None = None
    val_rows: Count | None = None
    test_rows: Count | None = None
    per_class: Whole | None = None
    budget: Whole | None = None
    unlabelled: Literal["keep", "drop"] = "keep"
    download: bool = False
    select: Select | None = None
    whole: bool = False
    overlap: str = "refuse"
    asked: str = field(init=False, default=CLASS)
    source: str = field(init=False)
    labels: list[str] = field(init=False)
    label_counts: list[int] = field(init=False)
    multi_label: bool = field(init=False)
    fingerprint: str = field(init=False)
    values: list[Any] = field(init=False)
    keys: list[str] = field(init=False)
    questions: list[str] = field(init=False)
    processor: Processor = field(init=False)
    notices: list[str] = field(init=False)
    origin: np.ndarray | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.notices = []
        self.check_counts("train_rows", "val_rows", "test_rows")
        if self.overlap not in ("refuse", "drop", "allow"):
            raise UserError(f"datamodule.overlap is '{self.overlap}', and must be refuse, drop or allow")
        if self.unlabelled not in ("keep", "drop"):
            raise UserError(f"datamodule.unlabelled is '{self.unlabelled}', and must be keep or drop")
        if self.per_class is not None and self.budget is not None:
            raise UserError("datamodule.per_class and datamodule.budget both limit the number of labels: set one")

    @abstractmethod
    def corpus(self) -> Corpus:
        """Read the data."""

    @abstractmethod
    def make_processor(self, values: Sequence[Any]) -> Processor:
        """Make the processor, which turns values into inputs.

        Args:
            values: those of the training rows, before any is capped.
        """

    def make_target(self, corpus: Corpus) -> Target:
        """The answers of all rows: by default the labels, one a row, or with ``multi_label`` any number of them; where
        the task predicts numbers, the labels as numbers."""
        if self.asked == NUMBER:
            return Numbers.of(corpus.numbers())
        return Labels(tuple(corpus.order()), corpus.codes())

    def key(self, value: Any) -> str:
        """The identity of a row's content, such as a hash of a file; by default the value."""
        return str(value)

    def question(self, value: Any) -> str:
        """What of a row's content is in one split alone, such as the source of a pair; by default all of it."""
        return self.key(value)

    def column(self, name: str) -> list[Any]:
        """The values of a further column by row id, such as groups that a metric compares.

        Raises:
            UserError: there is no such column; by default there is none at all.
        """
        raise UserError(
            f"{self.source} has no column '{name}': datamodule=table and datamodule=hub have columns besides values "
            "and labels, and a data set of your own has them with a method column(name)"
        )

    def check_rows(self, corpus: Corpus) -> None:
        """Refuse rows that cannot be read, before anything is split.

        Raises:
            UserError: such a row.
        """

    def check_classes(self, corpus: Corpus) -> None:
        """Refuse labels that look like no classes, where the task needs classes and something is to be trained.

        Raises:
            UserError: such labels.
        """
        if not self.whole and self.asked == CLASS:
            corpus.check_classes()

    def kept(self, encoded: Encoded, corpus: Corpus) -> np.ndarray:
        """``[N]`` bool: the rows that stay in their split once they are encoded; by default all."""
        return np.ones(len(encoded), bool)

    def divided(self, corpus: Corpus) -> Sequence[Sequence[Any]] | None:
        """The values that each value is made into before it is encoded, one or more; None: all stay as they are."""
        return None

    def aligned(self, target: Target, encoded: Encoded) -> Target:
        """The answers at their places on the token axis of the encoded rows; by default they are there."""
        return target

    def packed(self, encoded: Encoded, order: np.ndarray) -> tuple[Encoded, np.ndarray]:
        """The rows of batches, where they are not those of the data, and ``order`` by them.

        Where they are others, splits, keys, questions, target and fingerprint are set accordingly.

        Args:
            order: ``[N]``, a number for each row of the data.
        """
        return encoded, order

    def contents(self, split: str) -> list[str]:
        """The question of each content of a split: by default those of its rows."""
        return [self.questions[row] for row in self.splits[split].tolist()]

    @property
    def packs(self) -> bool:
        """Whether rows are made of several contents, which do not see each other."""
        return False

    def oddities(self, corpus: Corpus) -> list[str]:
        """Sentences about what is odd in the data, for its user."""
        return []

    def setup(self, stage: str | None = None) -> None:
        """Read, split and encode; the second call does nothing."""
        if self.encoded is not None:
            return
        corpus = self.corpus()
        if not corpus.values:
            raise UserError(f"{corpus.where} has no rows")
        self.check_rows(corpus)
        self._target = self.make_target(corpus)
        codes = self._target.codes
        self.source, self.labels, self.multi_label = corpus.where, list(self._target.names), self._target.several
        self._notice(*corpus.notices)
        self.values, self.keys = corpus.values, [self.key(value) for value in corpus.values]
        self.questions = [self.question(value) for value in corpus.values]
        classes = np.where(labelled(codes), 0, -1) if self.multi_label else codes
        if not labelled(codes).any():
            classes = np.zeros_like(classes)  # without any label, every row may be evaluated
        order = split.priority(self.questions, self.split_seed, "split")
        if self.whole:
            whole = split.whole(classes, corpus.split)
        else:
            whole = split.cut(classes, corpus.split, order, self.val_fraction, self.test_fraction)
            self._notice(*separate(whole, order, corpus, self.overlap))
        self.splits = whole
        self._notice(*self.oddities(corpus))
        # all training rows, so that capped and few-shot runs share the tokenizer and what is stored under it
        self.processor = self.make_processor([self.values[row] for row in whole["train"]])
        if (parts := self.divided(corpus)) is not None:
            self.origin = of = np.repeat(np.arange(len(parts)), [len(one) for one in parts])
            corpus = corpus.divided(parts)
            whole = {name: np.flatnonzero(np.isin(of, rows)) for name, rows in whole.items()}
            classes, order, self.questions = classes[of], order[of], [self.questions[row] for row in of]
            self.values, self.keys = corpus.values, [self.key(value) for value in corpus.values]
            self._target, self.splits = self.make_target(corpus), whole
        self.fingerprint, rows = self._encode(self.processor)
        self._target = self.aligned(self._target, rows)
        self._notice(*self.processor.notices(rows))
        kept = self.kept(rows, corpus)
        caps = {"train": self.train_rows, "val": self.val_rows, "test": self.test_rows}
        self.splits = {
            name: split.take(rows, classes, len(rows) if (cap := caps[name]) is None else cap, order)
            for name, rows in ((name, rows[kept[rows]]) for name, rows in whole.items())
        }
        if empty := [name for name, rows in self.splits.items() if not len(rows) and len(whole[name])]:
            raise UserError(
                f"{corpus.where}: no {empty[0]} row is left: raise datamodule.max_length, or keep long rows"
            )
        rows, order = self.packed(rows, order)
        self._whole = self.splits["train"]
        few = self.per_class is not None or self.budget is not None
        order = split.priority(self.keys, self.seed, "few") if few else order
        self._label(rows, order, drop=self.select is None)

    def _notice(self, *sentences: str) -> None:
        for sentence in sentences:
            if sentence not in self.notices:
                self.notices.append(sentence)
                if (self.source, sentence) not in _logged:  # a teacher's data is mostly the student's
                    _logged.add((self.source, sentence))
                    log.warning("%s: %s", self.source, sentence)

    def check_labels(self) -> None:
        """Raise UserError where there are fewer than two classes."""
        if len(self.labels) < 2 and not self.multi_label and self.target.kind == CLASS:
            found = f"only the label '{self.labels[0]}'" if self.labels else "no labels"
            raise UserError(f"{self.source} has {found}, and classification needs two or more")

    def adopt(self, labels: Sequence[str]) -> None:
        """Take over a teacher's label names, where no row has a label and none are named."""
        self.labels = list(labels)
        self._target = self._target.unanswered(labels)
        self.label_counts = [0] * len(labels)
        self.encoded = EncodedRows(self.encoded_rows().rows, self._target)

    def choose(self, score: np.ndarray) -> None:
        """Keep the labels of the rows with the highest scores, as many as ``per_class`` or ``budget``.

        Args:
            score: ``[M]``, one for each row of :attr:`used`.
        """
        order = np.full(len(self.values), np.inf)
        order[self.used] = -score
        self._label(self.encoded_rows().rows, order, drop=True)

    def _label(self, rows: Encoded, order: np.ndarray, drop: bool) -> None:
        """Keep the labels of the rows of least ``order``, and with ``drop`` remove the rows that have none."""
        train = self._whole
        target = budget.limited(self._target, train, order, self.per_class, self.budget, self.select is not None)
        self.splits["train"] = train = train[target.known[train]] if drop and self.unlabelled == "drop" else train
        self.label_counts = target.counts(train)
        self.encoded = EncodedRows(rows, target)

    @property
    def test_set(self) -> str:
        """A hash of the test rows, contents and answers, whatever their order: results on others do not compare."""
        return digest(self.target, self.keys, self.splits["test"])

    @property
    def target(self) -> Target:
        """The answers of all rows, without those that the run does not use."""
        return self._target if self.encoded is None else self.encoded.target

    def describe(self) -> dict:
        """Facts about the data of a run for its log: flat, plain values."""
        encoded = self.encoded_rows()
        lengths, train = encoded.rows.lengths, self.splits["train"]
        return {
            "rows": len(lengths),
            **{name: len(rows) for name, rows in self.splits.items()},
            "labelled": int(labelled(encoded.codes[train]).sum()),
            "labels": len(self.labels),
            **self.processor.describe(),
            "tokens_mean": round(float(lengths.mean()), 2),
            "tokens_max": int(lengths.max()),
            "fingerprint": self.fingerprint,
        }

    def retokenized(self, other: Processor) -> RetokenizedRows:
        """The same rows as another processor encodes them."""
        if self.packs:
            raise UserError(
                "datamodule.pack=true packs the tokens of one tokenizer, but a teacher has another: set "
                "datamodule.pack=false, or give both the same"
            )
        fingerprint, rows = self._encode(other)
        self._notice(*other.notices(rows))
        return RetokenizedRows(
            other, self.labels, fingerprint, self.used, EncodedRows(rows, self.target), self.augmented
        )

    def read_by(self, folder: Path) -> Data | RetokenizedRows:
        """The rows as the model in a folder reads them: this data, or the same rows encoded by another processor.

        Args:
            folder: of a saved model, where its processor may lie as well.
        """
        other = self.processor.saved(folder)
        return self if other is None or self.processor.equals(other) else self.retokenized(other)

    def _encode(self, processor: Processor) -> tuple[str, Encoded]:
        """All rows as a processor encodes them, and a hash of all that decides how."""
        known = hashlib.sha256(processor.digest.encode())
        for key in self.keys:
            known.update(hashlib.sha256(key.encode()).digest())
        fingerprint = known.hexdigest()[:32]
        return fingerprint, processor.encode(self.values, fingerprint)
