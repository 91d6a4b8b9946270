"""What every loss keeps to, whatever it computes; each law takes the loss and fails with an assertion."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kdlab.loss.term import Term
from kdlab.output import Output

Pure = Callable[[Tensor, Tensor], Tensor]
TAPS = ("embedding", "hidden.0", "hidden.-1", "pooled")
LENGTH = 5
HEADS = 2
HALVES = (torch.bfloat16, torch.float16)
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))
GARBAGE = (7.0, torch.nan, torch.inf, -torch.inf)


def output(
    rows: int = 4,
    classes: int = 3,
    seed: int = 0,
    width: int = 6,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
    mask: Sequence[bool] | None = None,
    taps: Iterable[str] = TAPS,
    multi_label: bool = False,
    device: str = "cpu",
) -> Output:
    """Random logits and taps that ask for gradients; every row has at least one real token, most have padding.

    Every row has a label, or some of several. The numbers are the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)

    tokens = torch.arange(LENGTH) < torch.tensor([1 + (3 * i + 1) % LENGTH for i in range(rows)])[:, None]

    def leaf(*shape: int, attention: bool = False) -> Tensor:
        values = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        if attention:  # probabilities, 0 for keys that are padding
            values = values.masked_fill(~tokens[:, None, None], -torch.inf).softmax(-1)
        return values.to(device, dtype).requires_grad_()

    label = torch.arange(rows) % classes
    if multi_label:
        label = (torch.arange(rows)[:, None] + torch.arange(classes)) % 2
    return Output(
        logits=leaf(rows, classes),
        mask=torch.ones(rows, dtype=torch.bool, device=device) if mask is None else torch.tensor(mask, device=device),
        taps={name: leaf(rows, *shape(name, width, classes), attention=name.startswith("attention.")) for name in taps},
        tokens=tokens.to(device),
        label=label.to(device),
        row=torch.arange(rows, device=device) + 1,
    )


def shape(tap: str, width: int, classes: int) -> tuple[int, ...]:
    """The shape of a tap without its rows."""
    if tap.startswith("logits."):
        return (classes,)
    if tap.startswith("attention."):
        return HEADS, LENGTH, LENGTH
    return (width,) if tap == "pooled" else (LENGTH, width)


def real(name: str, tap: Tensor, tokens: Tensor) -> Tensor:
    """Where a tap speaks of real tokens, of as many dimensions as the tap."""
    if name.startswith("attention."):
        return tokens[:, None, :, None] & tokens[:, None, None]
    return tokens[..., None] if tap.ndim == 3 else torch.ones_like(tap, dtype=torch.bool)


def leaves(out: Output) -> dict[str, Tensor]:
    """Everything in an output that a gradient can reach."""
    return {"logits": out.logits, **out.taps}


def gradients(value: Tensor, out: Output) -> dict[str, Tensor]:
    """The gradient by leaf; zeros where there is none."""
    if not value.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves(out).items()}
    found = torch.autograd.grad(value, list(leaves(out).values()), allow_unused=True, retain_graph=True)
    return {
        n: torch.zeros_like(leaf) if g is None else g for (n, leaf), g in zip(leaves(out).items(), found, strict=True)
    }


def cut(out: Output, start: int, stop: int, count: float) -> Output:
    """The rows from start to stop as a micro-batch of its own."""
    return replace(
        out,
        logits=out.logits[start:stop],
        mask=out.mask[start:stop],
        taps={name: tap[start:stop] for name, tap in out.taps.items()},
        tokens=None if out.tokens is None else out.tokens[start:stop],
        count=count,
        label=None if out.label is None else out.label[start:stop],
        row=None if out.row is None else out.row[start:stop],
    )


def pair(seed: int, classes: int = 3, rows: int = 4) -> tuple[Tensor, Tensor]:
    """Two different random logits ``[rows, classes]``."""
    return output(rows, classes, seed).logits, output(rows, classes, seed + 1).logits


def ignores_shifts(pure: Pure, student: Tensor, teacher: Tensor) -> None:
    """A number added to all logits of a row, on either side, changes nothing: a softmax does not see it."""
    shift = torch.linspace(-3, 5, len(student), dtype=student.dtype)[:, None]
    torch.testing.assert_close(pure(student + shift, teacher - 2 * shift), pure(student, teacher))


def all_differ(terms: Iterable[Term], student: Output, teacher: Output) -> None:
    """Every one of these settings of a term gives another value and another gradient."""
    values = [term(student, teacher, 0.5) for term in terms]
    slopes = [gradients(value, student)["logits"].norm() for value in values]
    for seen in (values, slopes):
        assert len({round(number.item(), 9) for number in seen}) == len(values), seen


def zero_at_equality(pure: Pure, values: Tensor) -> None:
    """Nothing to learn from a copy: value and gradient are 0."""
    student = values.detach().clone().requires_grad_()
    loss = pure(student, values.detach())
    torch.testing.assert_close(loss, torch.zeros_like(loss), atol=1e-12, rtol=0)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-10, rtol=0)


def never_negative(pure: Pure, student: Tensor, teacher: Tensor) -> None:
    """A divergence is at least 0, and above it where the two differ."""
    loss = pure(student, teacher)
    assert (loss > -1e-9).all()
    assert loss.sum() > 0


def gradient_is_right(pure: Pure, student: Tensor, teacher: Tensor) -> None:
    """The gradient agrees with finite differences in float64, on both sides."""
    assert torch.autograd.gradcheck(pure, (student.double(), teacher.double()), atol=1e-6)


def stays_finite(pure: Pure, student: Tensor, teacher: Tensor) -> None:
    """Values and gradients are finite at inputs up to 1e4 of either sign; half precision is computed in float32, and so
    is everything under autocast."""
    for dtype in (torch.float32, torch.bfloat16):
        for s, t in ((1e4, 1e4), (1e4, -1e4), (1e4, 0.0), (0.0, 1e4), (1.0, 1.0)):
            own = (s * student.tanh()).to(dtype).detach().requires_grad_()
            goal = (t * teacher.tanh()).to(dtype).detach()
            loss = pure(own, goal)
            (gradient,) = torch.autograd.grad(loss.sum(), own)
            assert loss.dtype == torch.float32, "computed in half precision"
            torch.testing.assert_close(loss, pure(own.float(), goal.float()))
            assert loss.isfinite().all() and gradient.isfinite().all(), (dtype, s, t)
            for half in HALVES:
                with torch.autocast("cpu", half):
                    same = pure(own, goal)
                assert torch.equal(same, loss), f"{half}: {same} instead of {loss}"
                assert torch.equal(torch.autograd.grad(same.sum(), own)[0], gradient), half


def same_under_autocast(term: Term, student: Output, teacher: Output, half: torch.dtype) -> None:
    """Under autocast value and gradients are bit by bit those without it, also those of what the term learns."""

    def found(autocast: bool) -> list[Tensor]:
        torch.manual_seed(0)
        own = copy.deepcopy(term)
        with torch.autocast(student.logits.device.type, half, enabled=autocast):
            value = own(student, teacher, 0.5)
        learned = [*leaves(student).values(), *own.parameters()]
        return [value, *torch.autograd.grad(value, learned, allow_unused=True, materialize_grads=True)]

    plain, mixed = found(False), found(True)
    assert plain[0].dtype == mixed[0].dtype == torch.float32
    assert plain[0].isfinite() and any(slope.any() for slope in plain[1:])
    for one, two in zip(plain, mixed, strict=True):
        identical(one, two, str(half))


def rounds_half_once(term: Term, student: Output, teacher: Output, half: torch.dtype) -> None:
    """Outputs in half precision, as models give them under autocast, are computed with as if they were float32."""

    def like(out: Output, dtype: torch.dtype) -> Output:
        taps = {name: tap.detach().to(half).to(dtype).requires_grad_() for name, tap in out.taps.items()}
        return replace(out, logits=out.logits.detach().to(half).to(dtype).requires_grad_(), taps=taps)

    wide, narrow = like(student, torch.float32), like(student, half)
    value = value_of(term, wide, like(teacher, torch.float32))
    with torch.autocast(wide.logits.device.type, half):
        same = value_of(term, narrow, like(teacher, half))
    identical(same, value, str(half))
    for (name, one), two in zip(gradients(value, wide).items(), gradients(same, narrow).values(), strict=True):
        identical(one.to(half), two, name)


def identical(one: Tensor, two: Tensor, where: str) -> None:
    """The same bits; on a GPU, which adds in an order of its own, as near as float32 is."""
    if one.device.type == "cpu":
        assert torch.equal(one, two), f"{where}: {two} instead of {one}"
    else:
        torch.testing.assert_close(two, one, msg=lambda text: f"{where}: {text}")


def keeps_its_device(term: Term, student: Output, teacher: Output) -> None:
    """All that it makes is on the device of its inputs, which a GPU asks for: what names no device is made elsewhere
    here, where nothing has a value, and value and gradients are those without."""
    plain = value_of(term, student, teacher)
    slopes = gradients(plain, student)
    torch.manual_seed(0)
    own = copy.deepcopy(term)
    with torch.device("meta"):
        value = own(student, teacher, 0.5)
    assert value.device == student.logits.device, f"a value on {value.device}"
    assert torch.equal(value, plain)
    for name, slope in gradients(value, student).items():
        assert torch.equal(slope, slopes[name]), name


def value_of(term: Term, student: Output, teacher: Output) -> Tensor:
    """What the term says in the state that it is in, which is left as it was; what it draws is the same each time."""
    torch.manual_seed(0)
    return copy.deepcopy(term)(student, teacher, 0.5)


def masked_rows_do_not_matter(term: Term, student: Output, teacher: Output) -> None:
    """What stands in rows outside the mask, and in padding, changes neither value nor gradient, and gets none; be it
    other numbers, NaN or infinite."""
    assert not student.mask.all(), "the law needs a masked row"
    for value in GARBAGE:
        garbage_does_not_matter(term, student, teacher, value)


def garbage_does_not_matter(term: Term, student: Output, teacher: Output, much: float) -> None:
    value = value_of(term, student, teacher)
    before = gradients(value, student)

    def spoil(out: Output) -> Output:
        def garbage(name: str, leaf: Tensor) -> Tensor:
            noise = much * torch.ones_like(leaf) + torch.arange(leaf.shape[-1], dtype=leaf.dtype) ** 2
            keep = student.mask.view(-1, *[1] * (leaf.ndim - 1))
            if out.tokens is not None:
                keep = keep & real(name, leaf, out.tokens)
            return leaf.detach().where(keep, noise).requires_grad_()

        return replace(
            out, logits=garbage("logits", out.logits), taps={name: garbage(name, tap) for name, tap in out.taps.items()}
        )

    changed = spoil(student)
    other = value_of(term, changed, spoil(teacher))
    torch.testing.assert_close(other, value)
    for name, gradient in gradients(other, changed).items():
        torch.testing.assert_close(gradient, before[name], msg=lambda m, name=name: f"{name}: {m}")
        assert (gradient[~student.mask] == 0).all(), f"{name}: a masked row gets a gradient"
        if student.tokens is not None:
            padding = ~real(name, gradient, student.tokens).expand_as(gradient)
            assert (gradient[padding] == 0).all(), f"{name}: padding gets a gradient"


def micro_batches_add_up(term: Term, student: Output, teacher: Output, sizes: Sequence[int]) -> None:
    """The mean over micro-batches, however unequal, is the loss of the whole, and so is its gradient."""
    rows = len(student.mask)
    assert sum(sizes) == rows and student.mask.all()
    whole = term(student, teacher, 0.5)
    count, start, parts = rows / len(sizes), 0, []
    for size in sizes:
        ends = start, start + size
        parts.append(term(cut(student, *ends, count), cut(teacher, *ends, count), 0.5))
        start += size
    mean = torch.stack(parts).mean()
    torch.testing.assert_close(mean, whole)
    after = gradients(mean, student)
    for name, gradient in gradients(whole, student).items():
        torch.testing.assert_close(after[name], gradient)
