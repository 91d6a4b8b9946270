"""The whole loss: labels against teacher, and the sum over terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.loss.balance.base import Balance
from kdlab.loss.balance.none import Plain
from kdlab.loss.chunk import summed
from kdlab.loss.term import ModelSpec, Term, enough_classes
from kdlab.outcome import Bernoulli, Choice, Classes, Outcome, Real
from kdlab.output import Output, at_least_float32
from kdlab.precision import exact
from kdlab.schedule.base import Schedule, bounds, format_range, positive, row_values_at, value_at, within
from kdlab.task.base import Task
from kdlab.top_k import checked, temperature_index
from kdlab.value import Count, Fraction

FITTING: dict[type[Outcome], tuple[str, str]] = {  # by the meaning of logits: such tasks, and losses that fit them
    Bernoulli: ("a multi-label task", "loss=kd_binary"),
    Real: ("a task of numbers, which have no classes", "loss=mse or loss=regression"),
    Outcome: ("a single-label task", "loss=kd"),
}
RESERVED = {"supervised", "alpha", "temperature", "beta"}


class Objective(nn.Module):
    """``(1 - alpha) * supervised + alpha * sum_k weight_k * term_k``.

    Parts that are constantly 0 are not computed: terms of weight 0, all terms at alpha 0 (then no teacher is needed),
    and at alpha 1 the labels, which may be missing. Weights are taken as they are, never normalised.

    Args:
        alpha: the teacher's share, in [0, 1]; a number or a schedule.
        temperature: > 0, what terms refer to as ``${loss.temperature}``; the objective itself only checks it.
        terms: by name, which is also the name in the log.
        balance: factors of the parts beside alpha and the weights; None: 1.
        beta: in [0, 1], what terms refer to as ``${loss.beta}``: 0 is KL, 1 reverse KL; None: no term does.
        top_k: number of the teacher's largest logits that its terms compare, and that ``teacher.top_k`` follows;
            None: all.

    Raises:
        UserError: an argument out of its range, or alpha above 0 without a term of weight above 0.
    """

    def __init__(
        self, alpha: float | Schedule, temperature: float | Schedule = 1.0, terms: Mapping[str, Term] | None = None,
        balance: Balance | None = None, beta: Fraction | Schedule | None = None, top_k: Count | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.alpha, self.temperature, self.beta = alpha, temperature, beta
        low, share = bounds(alpha, "loss.alpha", by_row=True)
        if not 0 <= low <= share <= 1:
            raise UserError(
                f"loss.alpha {format_range(low, share)}, but is the teacher's share of the loss and must "
                "stay in [0, 1]: "
                "0 is labels only, 1 teacher only; raise a term's weight to make it stronger."
            )
        positive(temperature, "loss.temperature")
        if beta is not None:
            within(beta, 0, 1, "loss.beta", "0 is KL, 0.5 Jensen-Shannon, 1 reverse KL")
        terms = dict(terms or {})
        for name, term in terms.items():
            if name in RESERVED or "." in name or hasattr(nn.ModuleDict(), name):
                raise UserError(f"loss.terms has a term named '{name}', which has a meaning of its own: rename it.")
            if not isinstance(term, Term):
                raise UserError(
                    f"loss.terms.{name} is {term!r}, but must be a loss term: add one with "
                    f"+loss/term@loss.terms.{name}=kl."
                )
            least, _ = bounds(term.weight, f"loss.terms.{name}.weight", by_row=True)
            if not 0 <= least < float("inf"):
                raise UserError(
                    f"loss.terms.{name}.weight goes down to {least:g}, but a weight must be a number from 0 up: 0 "
                    "switches the term off."
                )
        active = {
            name: term for name, term in terms.items() if share > 0 and bounds(term.weight, name, by_row=True)[1] > 0
        }
        if share > 0 and not active:
            raise UserError(
                f"loss.alpha is {share:g}, but there is no term with a weight above 0 that it could weigh: "
                "set loss.alpha=0, or add a term with +loss/term@loss.terms.kl=kl."
            )
        self.terms = nn.ModuleDict(active)
        self.balance = Plain() if balance is None else balance
        self.parts = [*(["supervised"] if low < 1 else []), *active]  # what ever counts
        self.balance.connect(self.parts)
        self.seen: dict[str, Tensor] = {}  # the mean over the last batch of what each row has its own value of
        alone = [name for name, value in self._levels.items() if isinstance(value, Schedule) and value.by_row]
        if alone and active and not self.needs_teacher:
            raise UserError(
                f"loss.{alone[0]} asks how sure the teacher is of a row, but no term of this loss has a teacher: give "
                "it a number, or choose a loss with a teacher, such as loss=kd."
            )

    @property
    def _levels(self) -> dict[str, float | Schedule]:
        weights = {f"{name}.weight": term.weight for name, term in self.terms.items()}
        shared = {"alpha": self.alpha, "temperature": self.temperature, "beta": self.beta}
        return {name: value for name, value in (shared | weights).items() if value is not None}  # type: ignore[misc]

    @property
    def needs_teacher(self) -> bool:
        """Whether any term that reads a teacher is computed at any time."""
        return any(term.needs_teacher for term in self._terms())

    @property
    def taps(self) -> dict[str, frozenset[str]]:
        """The taps that some term reads, by role."""
        return {
            role: frozenset(name for term in self._terms() for name in term.taps[role])
            for role in ("student", "teacher")
        }

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's parameter groups of the terms: adapters, and parameters that have a rate of their own."""
        rated, found = [], []
        for name, term in self.terms.items():
            assert isinstance(term, Term)
            if term.scalars is not None:
                rated += term.learned
                found.append(term.scalars.group(term.learned, f"terms.{name}"))
        apart = {id(one) for one in rated}
        adapters = [one for one in self.terms.parameters() if one.requires_grad and id(one) not in apart]
        return ([{"params": adapters, "name": "adapters"}] if adapters else []) + found + self.balance.groups

    def check_other_tokens(self, teacher: str, remedy: str) -> None:
        """Check that a teacher may have other tokens than the student.

        Args:
            teacher: its name, for the message.
            remedy: what gives the student the teacher's tokens, for the message.

        Raises:
            UserError: a term compares token by token, or a weight follows the teacher at each of the student's tokens.
        """
        for name, term in self.terms.items():
            if term.needs_teacher and not term.aligned:
                raise UserError(
                    f"loss.terms.{name} ({type(term).__name__}) compares token by token, but teacher {teacher} has "
                    f"another tokenizer than the student: use loss=gold or loss=uld, or set {remedy}"
                )
        for name, value in self._levels.items():
            if isinstance(value, Schedule) and value.by_row:
                raise UserError(
                    f"loss.{name} asks how sure the teacher is of a token, but teacher {teacher} has other tokens than "
                    f"the student: give it a number, or set {remedy}"
                )

    def _terms(self) -> list[Term]:
        return [term for term in self.terms.values() if isinstance(term, Term)]

    def check(self, outcome: Outcome, unit: str = "row", chunk: int | None = None) -> None:
        """Check that every term fits the task, before a model is built.

        Args:
            outcome: the meaning of the task's logits.
            unit: the owner of a vector of logits: a ``row``, or a ``token`` or the like.
            chunk: number of positions whose logits are in memory at a time; None: all.

        Raises:
            UserError: a term is for the other kind of labels, or relates what the task does not show together.
        """
        for name, term in self.terms.items():
            assert isinstance(term, Term)
            term_name = f"loss.terms.{name} ({type(term).__name__})"
            if not isinstance(outcome, term.outcome):
                kind, fitting = next(words for one, words in FITTING.items() if isinstance(outcome, one))
                raise UserError(f"{term_name} does not fit {kind}: use one that does, such as {fitting}.")
            if unit != "row" and not term.row_wise:
                raise UserError(
                    f"{term_name} relates the rows of a batch, but this task has a value a {unit}: use a term that "
                    "looks at one at a time, such as loss=kd."
                )
            more = any(term.taps.values()) or term.maps_layers or term.aligned or any(True for _ in term.buffers())
            if chunk is not None and more:
                raise UserError(
                    f"{term_name} reads more than logits of one position at a time, but task.chunk={chunk} shows no "
                    "more: set task.chunk=null, or leave the term out."
                )
        alone = [name for name, value in self._levels.items() if isinstance(value, Schedule) and value.by_row]
        if alone and not isinstance(outcome, Classes):
            raise UserError(
                f"loss.{alone[0]} asks how sure the teacher is of a row, but numbers have no probabilities: give it a "
                "number, or a schedule of time such as schedule=linear."
            )
        if chunk is not None and not isinstance(self.balance, Plain):
            raise UserError(
                f"loss/balance weighs the parts of a whole batch, but task.chunk={chunk} shows some positions: set "
                "task.chunk=null, or loss/balance=none."
            )

    def check_kept(self, top_k: int | None, temperatures: Sequence[float]) -> None:
        """Check that every term makes do with what is kept of the teacher's logits.

        Args:
            top_k: number of the largest logits; None: all.
            temperatures: at which the mass of the others is known.

        Raises:
            UserError: a term reads more, or at another temperature.
        """
        checked(top_k, temperatures)
        for name, term in self.terms.items():
            if top_k is None or not term.needs_teacher:
                continue
            if not term.reads_top_k:
                raise UserError(
                    f"loss.terms.{name} ({type(term).__name__}) reads all of the teacher's logits, but "
                    f"teacher.top_k={top_k} keeps the largest: use loss=kd_top_k or another with _top_k, or set "
                    "teacher.top_k=null."
                )
            temperature_index(float(term.temperature), temperatures)  # type: ignore[arg-type]
        alone = [name for name, value in self._levels.items() if isinstance(value, Schedule) and value.by_row]
        if top_k is not None and alone:
            raise UserError(
                f"loss.{alone[0]} asks how sure the teacher is of a row, which needs all of its logits, but "
                f"teacher.top_k={top_k} keeps the largest: give it a number, or set teacher.top_k=null."
            )

    @property
    def maps_layers(self) -> bool:
        """Whether some term derives its taps from the numbers of layers."""
        return any(term.maps_layers for term in self._terms())

    def resolve_layers(self, student: int, teacher: int) -> None:
        """Decide the taps of the terms that map layers, given how many layers the two models have."""
        for name, term in self.terms.items():
            try:
                term.resolve_layers(student, teacher)  # type: ignore[operator]
            except UserError as problem:
                raise UserError(f"loss.terms.{name}: {problem}") from problem

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        """Make the adapters of all terms. Called once before the optimizer is made.

        Raises:
            UserError: a term is for models of another number of logits.
        """
        for name, term in self.terms.items():
            if term.outcome is Real and student.classes != 1:
                raise UserError(
                    f"loss.terms.{name} ({type(term).__name__}) is for models that give 1 number a row, "
                    f"but the student gives {student.classes}: use a term for classes, such as kl."
                )
            if term.outcome is Choice:
                enough_classes(student.classes, f"loss.terms.{name}")
            term.build_adapters(student, teacher, rows)  # type: ignore[operator]

    def current(self, progress: float) -> dict[str, float | Tensor]:
        """The values that change, for the log: ``alpha``, ``temperature``, ``<term>.weight`` and ``balance.<part>``.

        Where each row has a value of its own, the mean over the last batch.
        """
        scheduled = {name: value for name, value in self._levels.items() if isinstance(value, Schedule)}
        balanced = {f"balance.{name}": value for name, value in self.balance.current.items()}
        return {name: self.seen.get(name, value(progress)) for name, value in scheduled.items()} | balanced

    def labels(self, student: Output, teacher: Output | None, progress: float) -> Output:
        """The student's output as the labels look at it: rows count by what alpha leaves to their labels."""
        return student.with_row_weights(1 - row_values_at(self.alpha, progress, teacher))[0]

    def step(
        self, task: Task, student: Output, teacher: Output | None, batch: Batch, progress: float, labelled: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total of one batch and its parts, as :meth:`forward` returns them, with the task's loss on the labels.

        Where ``task.chunk`` is set, the logits of this number of positions are in memory at a time.

        Args:
            student, teacher: the outputs of both models for the batch; no teacher where :attr:`needs_teacher` is False.
            labelled: whether the loss on the labels counts; if not, it is 0, and the terms have the weights that they
                always have.
        """

        def part(student: Output, teacher: Output | None = None) -> tuple[Tensor, dict[str, Tensor]]:
            student = replace(student, logits=at_least_float32(student.logits))  # once, for all that read them
            supervised = student.logits.new_zeros(())
            if labelled:
                supervised = task.supervised(self.labels(student, teacher, progress), batch)
            return self(supervised, student, teacher, progress)

        return summed(part, task.chunk, student, *([] if teacher is None else [teacher]))

    @exact()
    def forward(
        self, supervised: Tensor, student: Output, teacher: Output | None, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, and its parts, unweighted and detached: ``supervised`` and each term by name.

        Args:
            supervised: the task's loss against the labels, a scalar, from what :meth:`labels` gives.
            teacher: may be None where :attr:`needs_teacher` is False.
        """
        if self.needs_teacher and teacher is None:
            raise UserError(
                f"loss.alpha is {value_at(self.alpha, progress):g}, but no teacher was read: name one with "
                "teacher.run=…, or set loss.alpha=0."
            )
        taught, alpha = student.with_row_weights(row_values_at(self.alpha, progress, teacher))
        values, levels = {"supervised": supervised}, {"alpha": alpha}
        share = {"supervised": 1 - alpha}
        for name, term in self.terms.items():
            seen, weight = taught.with_row_weights(row_values_at(term.weight, progress, teacher))  # type: ignore[arg-type]
            values[name] = term(seen if term.row_wise else student, teacher, progress)
            share[name], levels[f"{name}.weight"] = alpha * weight, weight
        self.seen = {name: level for name, level in levels.items() if isinstance(level, Tensor)}
        total = self.balance({name: values[name] for name in self.parts}, share, progress)
        return total, {name: value.detach() for name, value in values.items()}
