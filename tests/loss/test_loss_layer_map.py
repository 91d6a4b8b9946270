import laws
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from kdlab.error import UserError
from kdlab.loss.feature.attention import Attention as AttentionTerm
from kdlab.loss.feature.hidden import Hidden
from kdlab.loss.feature.hint import squared_difference
from kdlab.loss.layer_map.attention import Attention
from kdlab.loss.layer_map.choose import LEARNED, choose
from kdlab.loss.layer_map.emd import EMD, cost_attention, transport
from kdlab.loss.layer_map.fixed import NAMED
from kdlab.loss.term import ModelSpec
from kdlab.output import Output

depths = st.integers(1, 12)


def pairs(choice, student, teacher):
    return choose(choice).pairs(student, teacher)


def mapped(choice, student=2, teacher=4, width=4, wider=6, seed=0, rows=4, **settings):
    """A term over such a map, connected, and two outputs with the taps that it reads."""
    torch.manual_seed(seed)
    term = Hidden(layer_map=choice, **settings)
    term.resolve_layers(student, teacher)
    sides = [ModelSpec(dict.fromkeys(term.taps[r], w)) for r, w in (("student", width), ("teacher", wider))]
    term.build_adapters(*sides, rows=8)
    s = laws.output(seed=seed, rows=rows, width=width, taps=term.taps["student"])
    return term.double(), s, laws.output(seed=seed + 1, rows=rows, width=wider, taps=term.taps["teacher"])


def test_the_maps_of_the_papers():
    """Layers are counted from 0 here and from 1 in the papers."""
    assert pairs("skip", 6, 12) == [(i, m - 1) for i, m in enumerate([2, 4, 6, 8, 10, 12])], "PKD-Skip, section 4.2"
    assert pairs("last", 6, 12) == [(i, m - 1) for i, m in enumerate([7, 8, 9, 10, 11, 12])], "PKD-Last"
    assert pairs("uniform", 4, 12) == [(i, m - 1) for i, m in enumerate([3, 6, 9, 12])], "TinyBERT4: g(m) = 3 m"
    assert pairs("top", 3, 12) == [(2, 11)]
    assert pairs("uniform", 5, 12) == [(0, 2), (1, 4), (2, 7), (3, 9), (4, 11)]
    assert pairs("skip", 5, 12) == [(0, 1), (1, 3), (2, 5), (3, 7), (4, 9)]
    assert pairs("uniform", 4, 2) == [(0, 0), (1, 0), (2, 1), (3, 1)]


@settings(max_examples=60, deadline=None)
@given(depths, depths, st.sampled_from([*NAMED, *LEARNED]))
def test_every_map_names_layers_that_exist_bottom_up_and_each_once(student, teacher, name):
    if name in ("last", "skip") and student > teacher:
        with pytest.raises(UserError, match="as many layers"):
            pairs(name, student, teacher)
        return
    found = pairs(name, student, teacher)
    assert len(set(found)) == len(found) > 0
    assert all(0 <= mine < student and 0 <= theirs < teacher for mine, theirs in found)
    assert [mine for mine, _ in found] == sorted(mine for mine, _ in found)
    if name not in LEARNED:
        assert [theirs for _, theirs in found] == sorted(theirs for _, theirs in found), "no layer overtakes another"
    if name in ("top", "last", "uniform"):
        assert found[-1] == (student - 1, teacher - 1), "the top learns from the top"
    if student == teacher and name in ("last", "skip", "uniform"):
        assert found == [(layer, layer) for layer in range(student)]


def test_explicit_maps_count_from_either_end():
    assert pairs([1, -1], 2, 4) == [(0, 1), (1, 3)]
    assert pairs([[-1, -1], [0, 2]], 3, 4) == [(2, 3), (0, 2)]
    assert pairs([[0, 0], [0, 1]], 3, 4) == [(0, 0), (0, 1)]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ([1, 9], "names layer 9, which the teacher lacks"),
        ([1, -5], "names layer -5, which the teacher lacks"),
        ([[2, 0]], "names layer 2, which the student lacks"),
        ([0, 1, 2], "names 3 of the teacher's layers, one for each of the student's 2"),
        ([[0, 1], [-2, 1]], "names a pair twice"),
    ],
)
def test_a_map_that_does_not_fit_shows_both_lists_of_layers(choice, said):
    with pytest.raises(UserError, match=said) as caught:
        pairs(choice, 2, 4)
    assert "the student's layers are [0, 1] and the teacher's [0, 1, 2, 3]" in str(caught.value)


@pytest.mark.parametrize("choice", [*NAMED, *LEARNED])
def test_a_model_without_layers_is_told(choice):
    for student, teacher in ((0, 4), (2, 0)):
        with pytest.raises(UserError, match=r"the student's layers are \["):
            pairs(choice, student, teacher)


@pytest.mark.parametrize("choice", ["unifrom", [], 3, [1.5], [[0, 1, 2]], ["a"], [True], [[0, 1], 2]])
def test_what_is_no_map_is_told_at_construction(choice):
    with pytest.raises(UserError, match=r"top, last, skip, uniform, emd, attention"):
        Hidden(layer_map=choice)


def test_either_layers_or_places_are_compared():
    for settings_ in ({"layer_map": None}, {"taps": {"student": "pooled", "teacher": "pooled"}}):
        with pytest.raises(UserError, match="exactly one"):
            Hidden(**settings_)
    term = Hidden(layer_map=None, taps={"student": "pooled", "teacher": "embedding"})
    assert not term.maps_layers
    term.resolve_layers(0, 0)
    assert term.taps == {"student": ("pooled",), "teacher": ("embedding",)}


def test_only_the_taps_of_the_map_are_read_and_the_kind_is_known_before():
    term = AttentionTerm()
    assert term.taps == {"student": ("attention.-1",), "teacher": ("attention.-1",)}, "so that a store refuses it early"
    term.resolve_layers(2, 6)
    assert term.taps == {"student": ("attention.0", "attention.1"), "teacher": ("attention.2", "attention.5")}


def test_a_fixed_map_is_the_mean_over_its_pairs():
    term, s, t = mapped([[0, 3], [1, 1], [1, 2]], width=6)
    values = [s.mean(squared_difference(s.taps[f"hidden.{i}"], t.taps[f"hidden.{j}"])) for i, j in term.pairs]
    torch.testing.assert_close(term(s, t, 0.0), sum(values) / 3)


def test_maps_differ_in_value_and_gradient():
    seen = []
    for choice in ("top", "last", "skip", "uniform", "emd", "attention", [0, 1]):
        term, s, t = mapped(choice, student=2, teacher=5, width=6)
        for j in range(5):
            t.taps[f"hidden.{j}"] = laws.output(seed=50 + j, taps=["hidden.0"]).taps["hidden.0"].detach()
        for i in range(2):
            s.taps[f"hidden.{i}"] = laws.output(seed=60 + i, taps=["hidden.0"]).taps["hidden.0"]
        value = term(s, t, 0.0)
        gradient = torch.stack(list(laws.gradients(value, s).values())[1:]).norm()
        seen.append((round(value.item(), 9), round(gradient.item(), 9)))
    assert len({value for value, _ in seen}) == len({gradient for _, gradient in seen}) == 7, seen


@pytest.mark.parametrize(("choice", "number"), [("uniform", 2), ([[0, 0], [0, 1]], 2), ("emd", 2), ("attention", 2)])
def test_adapters_are_one_a_pair_or_one_a_student_layer_where_all_meet(choice, number):
    term, s, t = mapped(choice)
    assert len(term.adapters) == number
    assert {tuple(adapter.weight.shape) for adapter in term.adapters} == {(6, 4)}
    term(s, t, 0.0).backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in term.parameters())


@pytest.mark.parametrize("choice", LEARNED)
def test_learned_maps_obey_the_laws_of_masks(choice):
    term, s, t = mapped(choice)
    mask = torch.tensor([True, False, True, True])
    laws.masked_rows_do_not_matter(term.eval(), Output(s.logits, mask, s.taps, s.tokens), t)


def test_attention_adds_up_over_micro_batches_and_says_that_transport_does_not():
    term, s, t = mapped("attention", rows=6)
    laws.micro_batches_add_up(term, s, t, [1, 3, 2])
    assert term.row_wise and not mapped("emd")[0].row_wise


# learned: attention


def test_each_teacher_layer_spreads_one_over_the_students():
    term, s, t = mapped("attention")
    own, goal = (list(out.taps.values()) for out in (s, t))
    share = term.layer_map.share(own, goal, s)
    assert share.shape == (4, 2, 4) and (share > 0).all()
    torch.testing.assert_close(share.sum(1), torch.ones(4, 4, dtype=torch.float64))


def test_attention_is_the_formula_of_the_paper():
    term, s, t = mapped("attention", width=6)
    learned: Attention = term.layer_map
    rows = []
    for b in range(4):
        real = s.tokens[b]
        total = 0
        for j in range(4):
            query = learned.query[j](t.taps[f"hidden.{j}"][b][real].mean(0))
            keys = [learned.key[i](s.taps[f"hidden.{i}"][b][real].mean(0)) for i in range(2)]
            scores = [query @ key + learned.teacher_place[j] @ learned.student_place[i] for i, key in enumerate(keys)]
            weight = (torch.stack(scores) / 8).softmax(0)
            for i in range(2):
                total += weight[i] * (s.taps[f"hidden.{i}"][b][real] - t.taps[f"hidden.{j}"][b][real]).square().mean()
        rows.append(total / 4)
    torch.testing.assert_close(term(s, t, 0.0), torch.stack(rows).mean())


def test_attention_learns_which_layer_is_like_which():
    term, s, t = mapped("attention", student=2, teacher=2, width=6, rows=12)
    for i in range(2):
        t.taps[f"hidden.{i}"] = s.taps[f"hidden.{1 - i}"].detach()
    optimizer = torch.optim.Adam(term.parameters(), lr=0.05)
    first = term(s, t, 0.0).item()
    for _ in range(60):
        optimizer.zero_grad()
        term(s, t, 0.0).backward()
        optimizer.step()
    share = term.layer_map.share(list(s.taps.values()), list(t.taps.values()), s).mean(0)
    assert term(s, t, 0.0) < 0.1 * first
    assert share[0, 1] > 0.9 and share[1, 0] > 0.9


def test_attention_needs_vectors():
    term = AttentionTerm(layer_map="attention")
    term.resolve_layers(2, 4)
    sides = [ModelSpec(dict.fromkeys(term.taps[role], laws.LENGTH)) for role in ("student", "teacher")]
    term.build_adapters(*sides, rows=8)
    s, t = (laws.output(seed=i, taps=term.taps[role]) for i, role in enumerate(("student", "teacher")))
    with pytest.raises(UserError, match="layer_map=emd"):
        term.double()(s, t, 0.0)


# learned: transport


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_transport_is_nearly_the_linear_programs(m, n, seed, scale):
    draw = np.random.default_rng(seed)
    cost = scale * draw.uniform(0.1, 1, (m, n))
    a, b = draw.dirichlet(np.full(m, 5.0)), draw.dirichlet(np.full(n, 5.0))
    rows = np.kron(np.eye(m), np.ones(n))
    columns = np.kron(np.ones(m), np.eye(n))
    best = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b])).fun
    flow = transport(*(torch.tensor(x) for x in (cost, a, b)))
    torch.testing.assert_close(flow.sum(0), torch.tensor(b))
    torch.testing.assert_close(flow.sum(1), torch.tensor(a))
    assert (flow >= -1e-15).all() and best * 0.999 <= (flow.numpy() * cost).sum() <= best * 1.1


@pytest.mark.parametrize("value", [0.0, 1e8])
def test_transport_of_equal_costs_is_even_and_finite(value):
    even = torch.full((2,), 0.5), torch.full((4,), 0.25)
    torch.testing.assert_close(transport(torch.full((2, 4), value), *even), torch.full((2, 4), 0.125))


def test_emd_is_the_cost_of_the_flow():
    term, s, t = mapped("emd", width=6)
    cost = torch.stack([
        torch.stack([
            s.mean(squared_difference(s.taps[f"hidden.{i}"], t.taps[f"hidden.{j}"])) for j in range(4)
        ]) for i in range(2)
    ])  # fmt: skip
    flow = transport(cost.detach(), torch.full((2,), 0.5).double(), torch.full((4,), 0.25).double())
    value = term(s, t, 0.0)
    torch.testing.assert_close(value, (flow * cost).sum() / flow.sum())
    own = torch.autograd.grad(value, s.taps["hidden.0"], retain_graph=True)[0]
    torch.testing.assert_close(own, torch.autograd.grad((flow * cost).sum() / flow.sum(), s.taps["hidden.0"])[0])


def test_emd_finds_the_layers_that_are_alike_and_weighs_them_more():
    term, s, t = mapped("emd", student=2, teacher=3, width=6)
    for i, j in ((0, 2), (1, 0)):
        t.taps[f"hidden.{j}"] = (s.taps[f"hidden.{i}"] + 0.1).detach()
    learned: EMD = term.layer_map
    first = term(s, t, 0.0)
    assert (learned.teacher_weight[1] < learned.teacher_weight[[0, 2]]).all(), "the layer that is like none counts less"
    assert term(s, t, 0.0) < first
    assert learned.teacher_weight.sum().item() == pytest.approx(1) and set(term.state_dict()) >= {
        "layer_map.student_weight", "layer_map.teacher_weight"
    }  # fmt: skip


def test_cost_attention_is_the_papers_rule():
    flow, cost = torch.rand(2, 3, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64)
    weight = torch.tensor([0.3, 0.7], dtype=torch.float64)
    unit = [sum(flow[i, j] * cost[i, j] for j in range(3)) / weight[i] for i in range(2)]
    expected = torch.stack([sum(unit) / u / 2.5 for u in unit]).softmax(0)
    torch.testing.assert_close(cost_attention(flow, cost, weight, 2.5), expected)


def test_emd_leaves_no_trace_in_eval_mode_and_inf_keeps_the_weights_equal():
    term, s, t = mapped("emd")
    before = {name: value.clone() for name, value in term.state_dict().items()}
    with torch.no_grad():
        one = term.eval()(s, t, 0.0)
    assert all(torch.equal(value, before[name]) for name, value in term.state_dict().items())
    torch.testing.assert_close(term.train()(s, t, 0.0), one)
    term, s, t = mapped(EMD(temperature=float("inf")))
    term(s, t, 0.0)
    torch.testing.assert_close(term.layer_map.teacher_weight, torch.full((4,), 0.25).double())


@pytest.mark.parametrize("wrong", [lambda: EMD(0.0), lambda: EMD(-1.0), lambda: Attention(0)])
def test_settings_out_of_range_are_told(wrong):
    with pytest.raises(UserError, match="layer_map"):
        wrong()
