"""Laws for all logit terms at once, from disk."""

from dataclasses import replace
from pathlib import Path

import laws
import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from kdlab.error import UserError
from kdlab.loss.objective import Objective
from kdlab.loss.term import ModelSpec, Term
from kdlab.outcome import Bernoulli, Choice, Real
from kdlab.output import Output

CONF = Path(__file__).parents[2] / "conf/loss/term"
NODES = {path.stem: OmegaConf.load(path) for path in sorted(CONF.glob("*.yaml"))}
NODES = {name: node for name, node in NODES.items() if node._target_.startswith("kdlab.loss.logit.")}
EARLY, LATE = 0.02, 0.5


def settings(name) -> dict:
    """The settings of a term's YAML, where ``${loss.temperature}`` is 2."""
    root = OmegaConf.create({"loss": {"temperature": 2.0}, "term": NODES[name]})
    found = OmegaConf.to_container(root, resolve=True)["term"]
    return {key: value for key, value in found.items() if key != "_target_"}


def make(name, classes=5, **changed) -> Term:
    torch.manual_seed(0)
    kind = get_class(NODES[name]._target_)
    term = kind(**settings(name) | changed)
    classes = 1 if term.outcome is Real else classes
    term.build_adapters(ModelSpec(classes=classes), ModelSpec(classes=classes), 64)
    return term.double()


def outputs(term, rows=12):
    kind = {"rows": rows, "classes": 1 if term.outcome is Real else 5, "multi_label": term.outcome is Bernoulli}
    members = ("logits.one", "logits.three", "logits.two") if term.several_teachers else ()
    return laws.output(seed=0, taps=(), **kind), laws.output(seed=1, taps=members, **kind)


def changed(teacher, how):
    """The teacher, or all the teachers of an ensemble, with other logits."""
    return replace(
        teacher, logits=how(teacher.logits), taps={name: how(logits) for name, logits in teacher.taps.items()}
    )


def effect(term, student, teacher):
    """Value and gradients, of the student and of what the term learns, early and late in a run."""
    found = []
    for progress in (EARLY, LATE):
        value = term(student, teacher, progress)
        found += [value, *torch.autograd.grad(value, [student.logits, *term.parameters()], retain_graph=True)]
    return torch.cat([x.detach().flatten() for x in found])


KNOBS = [
    (name, key)
    for name in NODES
    for key, value in settings(name).items()
    if key not in ("weight", "lr", "weight_decay") and isinstance(value, (int, float)) and not isinstance(value, bool)
]


@pytest.mark.parametrize(("name", "key"), KNOBS)
def test_every_number_of_a_term_does_something(name, key):
    value, seen = settings(name)[key], 0
    plain = effect(make(name), *outputs(make(name)))
    for other in (0.9 * value, value / 5, 3 * value, value + 1, 2):
        try:
            term = make(name, **{key: other})
        except UserError:
            continue
        seen += not torch.allclose(effect(term, *outputs(term)), plain, rtol=1e-6, atol=1e-9)
    assert seen, f"{key} of {name} changes nothing"


@pytest.mark.parametrize("name", NODES)
def test_labels_matter_exactly_to_the_terms_that_say_so(name):
    term = make(name)
    student, teacher = outputs(term)
    moved = 1 - student.label if term.outcome is Bernoulli else (student.label + 1) % 5
    plain, other = (term(replace(student, label=label), teacher, LATE) for label in (student.label, moved))
    assert torch.equal(plain, other) != term.reads_labels
    none = replace(student, label=-torch.ones_like(student.label))
    assert term(none, teacher, LATE).isfinite()
    if not term.reads_labels:
        assert torch.equal(term(replace(student, label=None), teacher, LATE), plain)


@pytest.mark.parametrize("name", NODES)
def test_the_teacher_matters_exactly_to_the_terms_that_say_so(name):
    term = make(name)
    student, teacher = outputs(term)
    other = changed(teacher, lambda logits: logits.flip(0))
    assert torch.equal(term(student, teacher, LATE), term(student, other, LATE)) != term.needs_teacher


@pytest.mark.parametrize("name", NODES)
def test_the_order_of_the_classes_does_not_matter(name):
    term = make(name)
    student, teacher = outputs(term)
    if term.outcome is Real or any(parameter.ndim > 1 for parameter in term.parameters()):
        pytest.skip("there is no order, or a net has learned it")
    order = torch.tensor([3, 0, 4, 1, 2])
    where = order.argsort()
    label = student.label[:, order] if term.outcome is Bernoulli else where[student.label]
    moved = replace(student, logits=student.logits[:, order], label=label)
    value = term(moved, changed(teacher, lambda logits: logits[:, order]), LATE)
    torch.testing.assert_close(value, term(student, teacher, LATE))


@pytest.mark.parametrize("name", NODES)
def test_positions_may_have_any_shape(name):
    """A token a position, as in language models, is a row a position."""
    term = make(name)
    if term.several_teachers:
        pytest.skip("ensembles are of models that give one row of logits a text")
    student, teacher = outputs(term)
    keep = torch.arange(12) % 5 != 3

    def fold(out):
        shape = (3, 4, *out.label.shape[1:])
        return replace(out, logits=out.logits.view(3, 4, -1), mask=keep.view(3, 4), label=out.label.view(shape))

    flat = term(replace(student, mask=keep), teacher, LATE)
    torch.testing.assert_close(term(fold(student), fold(teacher), LATE), flat)


@pytest.mark.parametrize("name", NODES)
def test_a_teacher_of_other_labels_is_told(name):
    term = make(name)
    student, teacher = outputs(term)
    if not term.needs_teacher:
        return
    with pytest.raises(UserError, match="labels"):
        term(student, changed(teacher, lambda logits: logits[:, :1].repeat(1, 6)), LATE)


def confident(seed, rows, classes, scale, dtype=torch.float64):
    """Logits of a model that is sure: of some of the classes in turn; the others occur in no row."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.nn.functional.one_hot(torch.arange(rows) % max(1, classes // 2), classes)
    return (scale * chosen + torch.randn(rows, classes, generator=generator, dtype=torch.float64)).to(dtype)


def said(term, logits, dtype=None, **known):
    """An output of these logits, with labels; of an ensemble, its members say nearly the same."""
    rows, classes = logits.shape
    label = torch.arange(rows) % classes
    if term.outcome is Bernoulli:
        label = (torch.arange(rows)[:, None] + torch.arange(classes)) % 2
    taps = {f"logits.{name}": logits for name in ("one", "two")} if term.several_teachers else {}
    return Output(logits, torch.ones(rows, dtype=torch.bool), taps=taps, label=label, **known)


LOGITS = [(16, 5, 0.0), (16, 5, 12.0), (16, 5, 30.0), (3, 1000, 0.0), (3, 1000, 12.0), (32, 1000, 4.0), (8, 2, 12.0)]
KINDS = [(name, *kind) for name in NODES for kind in LOGITS]


@pytest.mark.parametrize(("name", "rows", "classes", "scale"), KINDS)
def test_sure_models_and_many_classes_give_in_float32_what_they_give_in_float64(name, rows, classes, scale):
    term = make(name, classes)
    one = 1 if term.outcome is Real else classes
    found = []
    for dtype in (torch.float64, torch.float32):
        student = confident(0, rows, one, scale, dtype).requires_grad_()
        teacher = confident(1, rows, one, scale, dtype)
        value = term.to(dtype)(said(term, student), said(term, teacher), LATE)
        (slope,) = torch.autograd.grad(value, student)
        assert value.isfinite() and slope.isfinite().all()
        found.append((value, slope))
    (value, slope), (less, flatter) = found
    torch.testing.assert_close(less.double(), value, rtol=1e-4, atol=2e-6)
    assert (flatter - slope).norm() <= 1e-3 * slope.norm() + 1e-6


@pytest.mark.parametrize(("name", "rows", "classes", "scale"), KINDS)
def test_a_copy_of_the_teacher_has_nothing_to_learn_however_sure_it_is(name, rows, classes, scale):
    """A term that is 0 at equality for some logits is so for all, and pushes nowhere."""
    term = make(name, classes)
    one = 1 if term.outcome is Real else classes

    def at_equality(scale):
        student = confident(0, rows, one, scale, torch.float32).requires_grad_()
        value = term.float()(said(term, student), said(term, student.detach()), LATE)
        return value.item(), torch.autograd.grad(value, student)[0].norm().item()

    if name in NOT_ZERO:
        return
    for found in (at_equality(0.3), at_equality(scale)):
        assert found == pytest.approx((0, 0), abs=2e-5), found


NOT_ZERO = {"soft_ce", "nkd", "listmle", "pseudo_label", "tf_kd"}


def test_those_that_are_not_zero_at_equality_are_so_by_definition():
    for name in NOT_ZERO:
        term = make(name)
        logits = confident(0, 16, 1 if term.outcome is Real else 5, 0.3).requires_grad_()
        value = term(said(term, logits), said(term, logits.detach()), LATE)
        assert value > 1e-2, name


FORMS = {  # what is banned: of the student's classes 0 and 4, and of the teacher's
    "both": ([4], [4]), "teacher": ([], [4]), "two of both": ([0, 4], [0, 4]), "one of two": ([4], [0, 4]),
}  # fmt: skip
# by definition where the teacher bans more than the student
ENDLESS = {"reverse_kl", "top_k_reverse_kl", "student_top_k", "adaptive_kl", "mse", "margin_mse"}


def banned(logits, columns):
    return logits.index_fill(-1, torch.tensor(columns, dtype=torch.long), -torch.inf)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [name for name in NODES if NODES[name]])
def test_banned_classes_leave_value_and_gradient_finite_where_the_divergence_is(name, form):
    """Logits of minus infinity: 0 log 0 is 0."""
    term = make(name)
    if term.outcome is Real:
        pytest.skip("numbers and no classes")
    ours, theirs = FORMS[form]
    raw, goal = confident(0, 9, 5, 1.0), banned(confident(1, 9, 5, 1.0), theirs)
    raw.requires_grad_()
    label = torch.arange(9) % 3 + 1
    if term.outcome is Bernoulli:
        label = torch.zeros(9, 5, dtype=torch.long).index_fill(1, torch.tensor([1, 2]), 1)
    s, t = (replace(said(term, logits), label=label) for logits in (banned(raw, ours), goal))
    value = term(s, t, LATE)
    if set(ours) != set(theirs) and name in ENDLESS:
        assert value.isinf()
        return
    if name == "tf_kd":
        assert value.isinf() == bool(ours)  # its teacher gives every class something
        return
    assert value.isfinite()
    slopes = torch.autograd.grad(value, [raw, *term.parameters()])
    assert all(slope.isfinite().all() for slope in slopes) and slopes[0].abs().sum() > 0
    near = [torch.where(x.isneginf(), -1e3, x) for x in (s.logits, t.logits)]
    if name not in ("logit_standardisation", "ctkd_instance", "mse", "margin_mse", "listmle", "listnet", "dist"):
        close = term(*(replace(said(term, x), label=label) for x in near), LATE)
        torch.testing.assert_close(value, close, rtol=1e-6, atol=1e-9)


def test_the_value_beside_a_banned_class_is_that_of_the_others():
    s, t = torch.tensor([[1.0, 2.0, 2.0, 0.0]]), torch.tensor([[1.0, 2.0, 3.0, -torch.inf]])
    assert make("kl", temperature=1.0)(said(make("kl"), s), said(make("kl"), t), LATE).item() == pytest.approx(
        0.1752, abs=5e-5
    )
    for name in ("logit_standardisation", "mse", "margin_mse", "listmle"):
        term = make(name)
        s, t = confident(0, 6, 4, 0.0), confident(1, 6, 4, 0.0)
        label = torch.arange(6) % 4
        wide = (torch.cat([x, torch.full((6, 1), -torch.inf)], 1) for x in (s, t))
        more = term(*(replace(said(term, x), label=label) for x in wide), LATE)
        less = term(*(replace(said(term, x), label=label) for x in (s, t)), LATE)
        share = {"mse": 4 / 5, "margin_mse": 3 / 4}.get(name, 1)
        torch.testing.assert_close(more, share * less, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("name", NODES)
def test_one_class_is_told_before_training(name):
    term = make(name)
    logits = torch.zeros(4, 1, dtype=torch.float64, requires_grad=True)
    known = {"label": torch.zeros((4, 1) if term.outcome is Bernoulli else (4,), dtype=torch.long)}
    taps = {f"logits.{one}": logits for one in ("one", "two")} if term.several_teachers else {}
    said = Output(logits, torch.ones(4, dtype=torch.bool), taps, **known)
    if term.outcome is not Choice:
        assert name == "ctkd_instance" or term(said, said, LATE).isfinite()
        return
    with pytest.raises(UserError, match="two or more labels, but the data has one"):
        term(said, said, LATE)
    with pytest.raises(UserError, match="two or more labels, but the data has one"):
        Objective(alpha=1.0, terms={"it": term}).build_adapters(ModelSpec(classes=1), ModelSpec(classes=1), rows=4)
