"""Every recipe and every term on disk composes, and gives a finite loss and gradient."""

import copy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import laws
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdlab.error import UserError
from kdlab.loss.objective import Objective
from kdlab.loss.term import ModelSpec
from kdlab.outcome import Bernoulli, Real
from kdlab.schedule.base import Schedule
from kdlab.schedule.cosine import Cosine
from kdlab.schedule.linear import Linear

CONF = Path(__file__).parents[2] / "conf"
RECIPES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
TERMS = sorted(path.stem for path in (CONF / "loss/term").glob("*.yaml"))
MEMBERS = ("logits.one", "logits.three", "logits.two")
LAYERS = {"student": 2, "teacher": 4}
SCHEDULES = sorted(path.stem for path in (CONF / "schedule").glob("*.yaml"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root config with nothing but a loss, so that the test depends on no command."""
    folder = tmp_path_factory.mktemp("conf")
    (folder / "root.yaml").write_text(
        f"defaults: [loss: kd, _self_]\nhydra: {{searchpath: ['file://{CONF}']}}\n", encoding="utf-8"
    )
    with initialize_config_dir(str(folder), version_base="1.3"):
        yield


def objective(*overrides) -> Objective:
    return instantiate(compose("root", list(overrides)).loss)


def only(term) -> Objective:
    return objective("loss=ce", "loss.alpha=1", f"+loss/term@loss.terms.extra={term}")


def classes(built) -> int:
    """How many logits the models have: as many as a term wants, where it wants so many."""
    return 1 if any(term.outcome is Real for term in built.terms.values()) else 3


def outputs(built, width=4, wider=6, **kind):
    wider = width if same_width(built) else wider
    several = any(term.outcome is Bernoulli for term in built.terms.values())
    kind = {"classes": classes(built), "multi_label": several} | kind
    student = laws.output(seed=0, width=width, taps=sorted(built.taps["student"]), **kind)
    several = any(term.several_teachers for term in built.terms.values())
    taps = sorted({*built.taps["teacher"], *(MEMBERS if several else ())})
    return student, laws.output(seed=1, width=wider, taps=taps, **kind)


def same_width(built):
    """Whether a term takes features as they are, so that both sides must have as many."""
    return any(term.same_width for term in built.terms.values())


def connected(built, width=4, wider=6):
    torch.manual_seed(0)
    wider = width if same_width(built) else wider
    built.resolve_layers(LAYERS["student"], LAYERS["teacher"])
    sides = [
        ModelSpec(
            dict.fromkeys(built.taps[role], wide), LAYERS[role], classes(built), laws.HEADS, partial(nn.Linear, wide, 3)
        )
        for role, wide in (("student", width), ("teacher", wider))
    ]
    built.build_adapters(*sides, rows=64)
    return built


@pytest.fixture(scope="module")
def terms(root):
    """A loss of one term, made once, in train mode; it is not to be changed."""
    return cache(lambda term: connected(only(term)))


def on(device, built):
    """A copy on a device; the loss itself on the CPU."""
    return built if device == "cpu" else copy.deepcopy(built).to(device)


def draws(term, student, teacher) -> bool:
    """Whether two states of the random numbers give two values."""
    values = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        values.append(copy.deepcopy(term)(student, teacher, 0.5))
    return not torch.equal(*values)


def mapped(term, chosen):
    """A term whose layers a layer map chooses."""
    extra = [f"+loss/term@loss.terms.extra={term}", f"loss.terms.extra.layer_map={chosen}"]
    return connected(objective("loss=ce", "loss.alpha=1", *extra))


@pytest.mark.sampled(25, tried=90)
@pytest.mark.parametrize("width", [4, 6])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_gives_a_finite_loss_and_gradient(root, recipe, width):
    finite(recipe, width, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_gives_a_finite_loss_and_gradient_on_a_gpu(root, recipe):
    finite(recipe, 4, "cuda")


def finite(recipe: str, width: int, device: str) -> None:
    built = connected(objective(f"loss={recipe}"), width).to(device)
    student, teacher = outputs(built, width, dtype=torch.float32, device=device)
    supervised = student.logits.square().mean()
    total, parts = built(supervised, student, teacher if built.needs_teacher else None, 0.5)
    total.backward()
    assert total.isfinite() and set(parts) == {"supervised", *built.terms}
    for name, leaf in laws.leaves(student).items():
        if name == "logits" and built.alpha == 1 and leaf.grad is None:
            continue  # neither labels nor a term look at them
        assert leaf.grad.isfinite().all() and leaf.grad.abs().sum() > 0, name
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in built.parameters())


@pytest.mark.sampled(12, tried=45)
@pytest.mark.parametrize("term", TERMS)
def test_every_term_obeys_the_laws_of_masks(root, term):
    built = connected(only(term)).double()
    student, teacher = outputs(built, mask=[True, False, True, True])
    laws.masked_rows_do_not_matter(built.terms["extra"], student, teacher)


@pytest.mark.sampled(8, tried=30)
@pytest.mark.parametrize("term", TERMS)
@settings(max_examples=3, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_every_row_wise_term_adds_up_over_micro_batches(root, term, sizes):
    built = connected(only(term)).double()
    if not built.terms["extra"].row_wise:
        pytest.skip("relates the rows of a batch")
    student, teacher = outputs(built, rows=sum(sizes))
    laws.micro_batches_add_up(built.terms["extra"], student, teacher, sizes)


@pytest.mark.sampled(15, tried=45)
@pytest.mark.parametrize("term", TERMS)
def test_every_row_wise_term_weighs_its_rows(root, term):
    """A row that counts twice counts as if it were there twice, and one that counts nothing as if it were not there."""
    built = connected(only(term)).double()
    if not built.terms["extra"].row_wise:
        pytest.skip("relates the rows of a batch")
    student, teacher = outputs(built)
    weight = torch.tensor([0.0, 1.0, 2.0, 0.5], dtype=torch.float64)
    got = laws.value_of(built.terms["extra"], replace(student, weight=weight), teacher)
    singles = [
        laws.value_of(built.terms["extra"], laws.cut(student, row, row + 1, 4.0), laws.cut(teacher, row, row + 1, 4.0))
        for row in range(4)
    ]
    torch.testing.assert_close(got, (weight * torch.stack(singles)).sum())


@pytest.mark.sampled(15, tried=45)
@pytest.mark.parametrize("term", TERMS)
def test_every_term_computes_wide_under_half_precision(root, term):
    built = connected(only(term)).bfloat16()
    for scale in (1.0, 1e4):
        student, teacher = outputs(built, dtype=torch.bfloat16, scale=scale)
        value = built.terms["extra"](student, teacher, 0.5)
        assert value.dtype == torch.float32 and value.isfinite()
        assert all(gradient.isfinite().all() for gradient in laws.gradients(value, student).values())


@pytest.mark.sampled(50, tried="all")
@pytest.mark.parametrize("half", laws.HALVES, ids=str)
@pytest.mark.parametrize("device", laws.DEVICES)
@pytest.mark.parametrize("term", TERMS)
def test_every_term_computes_in_float32_under_autocast(terms, term, device, half):
    built = on(device, terms(term))
    student, teacher = outputs(built, dtype=torch.float32, scale=3.0, device=device)
    laws.same_under_autocast(built.terms["extra"], student, teacher, half)
    laws.rounds_half_once(built.terms["extra"], student, teacher, half)


@pytest.mark.parametrize("chosen", ["emd", "attention"])
@pytest.mark.parametrize("half", laws.HALVES, ids=str)
@pytest.mark.parametrize("device", laws.DEVICES)
def test_every_layer_map_computes_in_float32_under_autocast(root, device, half, chosen):
    for term in ("hidden", "ft"):
        built = mapped(term, chosen).to(device)
        student, teacher = outputs(built, dtype=torch.float32, device=device)
        laws.same_under_autocast(built.terms["extra"], student, teacher, half)
        laws.rounds_half_once(built.terms["extra"], student, teacher, half)


@pytest.mark.parametrize("balance", sorted(path.stem for path in (CONF / "loss/balance").glob("*.yaml")))
@pytest.mark.parametrize("half", laws.HALVES, ids=str)
@pytest.mark.parametrize("device", laws.DEVICES)
def test_the_whole_loss_is_the_same_under_autocast(root, device, half, balance):
    found = []
    for mixed in (False, True):
        built = connected(objective("loss=tinybert", f"+loss/balance@loss.balance={balance}")).to(device)
        student, teacher = outputs(built, dtype=torch.float32, device=device)
        with torch.autocast(device, half, enabled=mixed):
            total, _ = built(student.logits.square().mean(), student, teacher, 0.5)
        found.append([total, *laws.gradients(total, student).values()])
    for one, two in zip(*found, strict=True):
        laws.identical(one, two, balance)
    assert found[0][0].dtype == torch.float32


@pytest.mark.sampled(30, tried="all")
@pytest.mark.parametrize("term", TERMS)
def test_every_term_keeps_to_the_device_of_its_inputs(terms, term):
    built = terms(term)
    student, teacher = outputs(built, dtype=torch.float32)
    laws.keeps_its_device(built.terms["extra"], student, teacher)


@pytest.mark.parametrize("chosen", ["emd", "attention"])
@pytest.mark.parametrize("term", ["hidden", "ft"])
def test_every_layer_map_keeps_to_the_device_of_its_inputs(root, term, chosen):
    built = mapped(term, chosen)
    laws.keeps_its_device(built.terms["extra"], *outputs(built, dtype=torch.float32))


@pytest.mark.gpu
@pytest.mark.parametrize("term", TERMS)
def test_every_term_is_the_same_on_a_gpu(terms, term):
    """But for what it draws, which every kind of device does in its own way."""
    built = copy.deepcopy(terms(term)).double()
    if draws(built.terms["extra"], *outputs(built, scale=3.0)):
        pytest.skip("draws random numbers")
    found = []
    for device in ("cpu", "cuda"):
        built = copy.deepcopy(terms(term)).to(device).double()
        student, teacher = outputs(built, scale=3.0, device=device)
        value = laws.value_of(built.terms["extra"], student, teacher)
        assert value.device.type == device
        found.append({"value": value, **laws.gradients(value, student)})
    for name, one in found[0].items():
        torch.testing.assert_close(found[1][name].cpu(), one, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("term", TERMS)
def test_no_term_computes_in_less_than_what_it_is_given(terms, term):
    """Numbers in float64 meet no float32 on the way."""

    class Narrow(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for one in tree_leaves(result):
                narrow = isinstance(one, torch.Tensor) and one.is_floating_point() and one.dtype != torch.float64
                assert not narrow, f"{function} gives {one.dtype}"
            return result

    built = copy.deepcopy(terms(term)).double()
    student, teacher = outputs(built)
    with Narrow():
        assert built.terms["extra"](student, teacher, 0.5).dtype == torch.float64


@pytest.mark.sampled(15, tried=45)
@pytest.mark.parametrize("term", TERMS)
def test_every_term_on_disk_can_join_a_recipe(root, term):
    built = objective("loss=kd", f"+loss/term@loss.terms.extra={term}", "loss.terms.extra.weight=0.25")
    assert set(built.terms) == {"kl", "extra"} and built.terms["extra"].weight == 0.25


def test_one_temperature_sets_them_all(root):
    built = objective("loss=kd", "loss.temperature=7")
    assert built.temperature == built.terms["kl"].temperature == 7


def test_a_schedule_takes_the_place_of_a_number(root):
    built = objective("+schedule@loss.alpha=linear", "loss.alpha.start=0.9", "loss.alpha.end=0.1")
    assert isinstance(built.alpha, Linear) and (built.alpha(0), built.alpha(1)) == (0.9, 0.1)
    assert set(compose("root", ["+schedule@loss.alpha=linear"]).loss.alpha) == {"_target_", "start", "end"}


def test_a_scheduled_temperature_reaches_the_terms(root):
    built = objective("+schedule@loss.temperature=cosine", "loss.temperature.start=8", "loss.temperature.end=1")
    for temperature in (built.temperature, built.terms["kl"].temperature):
        assert isinstance(temperature, Cosine) and (temperature(0), temperature(1)) == (8, 1)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_mounts_on_a_weight(root, schedule):
    built = objective(f"+schedule@loss.terms.kl.weight={schedule}")
    assert isinstance(built.terms["kl"].weight, Schedule) and "kl.weight" in built.current(0.0)


def test_a_typo_in_an_override_fails(root):
    with pytest.raises(Exception, match="alhpa"):
        objective("loss.alhpa=0.3")


def test_the_error_of_a_bad_argument_survives_instantiation(root):
    with pytest.raises(Exception, match="alpha") as caught:
        objective("loss.alpha=3")
    assert isinstance(caught.value, UserError) or isinstance(caught.value.__cause__, UserError)
