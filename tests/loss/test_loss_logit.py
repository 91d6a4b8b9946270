"""Laws for all logit terms at once, from disk."""

from dataclasses import replace
from pathlib import Path

import laws
import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from kdlab.error import UserError
from kdlab.loss.term import Side, Term

CONF = Path(__file__).parents[2] / "conf/loss/term"
NODES = {path.stem: OmegaConf.load(path) for path in sorted(CONF.glob("*.yaml"))}
NODES = {name: node for name, node in NODES.items() if node._target_.startswith("kdlab.loss.logit.")}
EARLY, LATE = 0.02, 0.5


def settings(name) -> dict:
    """The settings of a term's YAML, where ``${loss.temperature}`` is 2."""
    root = OmegaConf.create({"loss": {"temperature": 2.0}, "term": NODES[name]})
    found = OmegaConf.to_container(root, resolve=True)["term"]
    return {key: value for key, value in found.items() if key != "_target_"}


def make(name, **changed) -> Term:
    torch.manual_seed(0)
    kind = get_class(NODES[name]._target_)
    term = kind(**settings(name) | changed)
    classes = term.outputs or 5
    term.connect(Side(classes=classes), Side(classes=classes), 64)
    return term.double()


def outputs(term, rows=12):
    kind = {"rows": rows, "classes": term.outputs or 5, "multi_label": term.multi_label is True}
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
    if key != "weight" and isinstance(value, (int, float)) and not isinstance(value, bool)
]


@pytest.mark.parametrize(("name", "key"), KNOBS)
def test_every_number_of_a_term_does_something(name, key):
    value, seen = settings(name)[key], 0
    plain = effect(make(name), *outputs(make(name)))
    for other in (0.9 * value, value / 5, 3 * value, value + 1):
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
    moved = 1 - student.label if term.multi_label else (student.label + 1) % 5
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
    if term.outputs or any(parameter.ndim > 1 for parameter in term.parameters()):
        pytest.skip("there is no order, or a net has learned it")
    order = torch.tensor([3, 0, 4, 1, 2])
    where = order.argsort()
    label = student.label[:, order] if term.multi_label else where[student.label]
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
