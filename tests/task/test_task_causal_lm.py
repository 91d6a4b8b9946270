"""Next tokens: what counts, what it is compared with, and that logits made in parts are the same."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small import options
from transformers import (
    BertConfig,
    BertLMHeadModel,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from kdlab.config import conf
from kdlab.error import UserError
from kdlab.loss.chunk import summed
from kdlab.loss.logit.kl import KL
from kdlab.loss.objective import Objective
from kdlab.outcome import Choice, Outcome, Tokens
from kdlab.output import Output
from kdlab.task.causal_lm import CausalLM
from tests.batches import text


def model(seed=0, **more):
    torch.manual_seed(seed)
    shape = {"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 13, "n_positions": 8}
    shape |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**shape | more))


def batch(lengths=(6, 1, 4), **more):
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(0, 13, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    return text({"input_ids": ids, "attention_mask": mask}, **more)


def test_what_stands_at_a_token_speaks_of_the_next_and_padding_counts_nowhere():
    task, own, data = CausalLM(), model(), batch()
    out = task.read(own, data)
    assert out.mask.sum(1).tolist() == [5, 0, 3]
    assert (
        out.label[0].tolist() == [*data.inputs["input_ids"][0, 1:].tolist(), -1] and (out.label[~out.mask] == -1).all()
    )
    reference = own(
        **data.inputs,
        labels=data.inputs["input_ids"].where(data.tokens, -100),
    ).loss
    torch.testing.assert_close(task.supervised(out, data), reference)


def test_micro_batches_add_up_to_the_mean_over_all_tokens():
    task, own, whole = CausalLM(label_smoothing=0.1), model(), batch()
    parts = [replace(whole.rows(torch.tensor(rows)), size={"tokens": 8 / 2}) for rows in ([0], [1, 2])]
    values = [task.supervised(task.read(own, part), part) for part in parts]
    torch.testing.assert_close(torch.stack(values).mean(), task.supervised(task.read(own, whole), whole))


@pytest.mark.parametrize("size", [1, 3, 8, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("teaches", ["model", "top_k"])
def test_logits_made_in_parts_give_the_loss_and_the_gradients_of_all_at_once(size, dtype, teaches):
    from kdlab.loss.logit.top_k_kl import TopKKL
    from kdlab.store.logits import largest

    own, other, data = model().to(dtype), model(1, n_embd=16).to(dtype).requires_grad_(False), batch(tokens=7.0)
    loss = Objective(0.7, terms={"term": KL(temperature=2.0) if teaches == "model" else TopKKL(temperature=2.0)})
    found = []
    for chunk in (None, size):
        task = CausalLM(chunk=chunk)

        def step(student, teacher, task=task):
            return loss(task.supervised(loss.labels(student, teacher, 0.0), data), student, teacher, 0.0)

        teacher = task.read(other, data)
        teacher = teacher if teaches == "model" else largest(teacher, chunk, 4, [1, 2])
        total, values = summed(step, chunk, task.read(own, data), teacher)
        own.zero_grad()
        total.backward()
        found.append((total.detach(), values, {name: p.grad.clone() for name, p in own.named_parameters()}))
    torch.testing.assert_close(*found)
    assert found[0][2]["transformer.h.0.attn.c_attn.weight"].abs().sum() > 0


def test_logits_made_in_parts_are_the_same_under_autocast():
    own, data, found = model(), batch(), []
    for chunk in (None, 3):
        task = CausalLM(chunk=chunk)
        with torch.autocast("cpu", torch.bfloat16):
            total, _ = summed(lambda out, task=task: (task.supervised(out, data), {}), chunk, task.read(own, data))
        own.zero_grad()
        total.backward()
        found.append((total.detach(), own.transformer.wte.weight.grad.clone()))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0.05, atol=2e-3)  # sums of parts, each in bfloat16


def test_never_all_logits_of_a_batch_at_once(monkeypatch):
    seen, own = [], model()
    own.lm_head.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    task = CausalLM(chunk=3)
    out = task.read(own, batch())
    assert out.logits.shape[-1] == 8 and not seen
    total, _ = summed(lambda part: (task.supervised(part, batch()), {}), 3, out)
    total.backward()
    assert [shape[0] for shape in seen] == [3, 3, 2]
    assert own.get_output_embeddings() is own.lm_head


def flat(out: Output) -> Output:
    """Positions as rows of their own."""
    places = torch.arange(out.mask.numel())
    return Output(out.logits.flatten(0, 1), out.mask.flatten(), label=out.label.flatten(), row=places)


def row_wise():
    for name in options("loss/term"):
        node = OmegaConf.load(conf() / f"loss/term/{name}.yaml")
        node = {key: 1.0 if OmegaConf.is_interpolation(node, key) else node[key] for key in node if key != "defaults"}
        term = instantiate(node)
        alone = not any(term.taps.values()) and not term.maps_layers and not term.several_teachers
        if alone and term.row_wise and term.outcome in (Outcome, Choice):
            yield pytest.param(node, id=name)


@pytest.mark.parametrize("node", row_wise())
def test_every_logit_term_treats_positions_as_it_treats_rows(node):
    """A token is a row of its own: what every loss says of rows holds for language models."""
    from kdlab.loss.term import ModelSpec

    terms = [instantiate(node).double() for _ in range(2)]
    task, data, outs = CausalLM(), batch(), []
    for seed in (0, 1):
        outs.append(task.read(model(seed).double(), data))
    torch.manual_seed(0)
    for term in terms:
        term.build_adapters(ModelSpec(classes=13), ModelSpec(classes=13), 64)
    terms[1].load_state_dict(terms[0].state_dict())
    values = [
        terms[0](*outs, 0.5) if terms[0].needs_teacher else terms[0](outs[0], None, 0.5),
        terms[1](*map(flat, outs), 0.5) if terms[1].needs_teacher else terms[1](flat(outs[0]), None, 0.5),
    ]
    assert values[0].isfinite()
    torch.testing.assert_close(values[0], values[1])


def test_what_relates_rows_or_reads_taps_is_refused_early():
    from kdlab.loss.balance.uncertainty import Uncertainty
    from kdlab.loss.feature.hint import Hint
    from kdlab.loss.logit.dist import DIST

    with pytest.raises(UserError, match="relates the rows"):
        Objective(0.5, terms={"dist": DIST()}).check(Tokens(), "token")
    hint = Objective(0.5, terms={"hint": Hint(taps={"student": "hidden.0", "teacher": "hidden.0"})})
    hint.check(Tokens(), "token")
    with pytest.raises(UserError, match=r"task\.chunk=null"):
        hint.check(Tokens(), "token", chunk=8)
    with pytest.raises(UserError, match="loss/balance"):
        Objective(0.5, terms={"kl": KL()}, balance=Uncertainty(lr=0.1)).check(Tokens(), "token", chunk=8)


def test_only_a_causal_language_model_will_do():
    task = CausalLM()
    assert task.attach(own := model()) is own and own.training
    with pytest.raises(UserError, match="no logits of a next token"):
        task.attach(torch.nn.Linear(2, 2))
    shape = {"vocab_size": 13, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    with pytest.raises(UserError, match="looks at later tokens"):
        task.attach(BertLMHeadModel(BertConfig(**shape, intermediate_size=8)))


def test_a_model_that_changes_its_logits_afterwards_is_not_cut():
    class Capped(GPT2LMHeadModel):
        def forward(self, *args, **named):
            out = super().forward(*args, **named)
            return SimpleNamespace(logits=5 * out.logits + 1)

    capped = Capped(model().config)
    CausalLM().attach(capped)
    with pytest.raises(UserError, match=r"task\.chunk=null"):
        CausalLM(chunk=2).attach(capped)


def of_family(kind):
    """A tiny decoder with random weights; Gemma 2 caps its logits, Cohere scales them."""
    shape = {"vocab_size": 13, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 4}
    shape |= {"num_key_value_heads": 1, "intermediate_size": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    return {
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**shape, final_logit_softcapping=30.0)),
        "cohere": lambda: CohereForCausalLM(CohereConfig(**shape, logit_scale=0.0625)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**shape)),
    }[kind]()


def test_a_family_that_caps_its_logits_is_read_as_a_whole_or_refused():
    """Random weights give logits far below the cap, which training would reach."""
    own, data = of_family("gemma2"), batch()
    CausalLM().attach(own)
    torch.testing.assert_close(CausalLM().read(own, data).logits, own(**data.inputs).logits)
    with pytest.raises(UserError, match=r"task\.chunk=null"):
        CausalLM(chunk=2).attach(own)
    assert not own.get_output_embeddings()._forward_hooks


@pytest.mark.parametrize("kind", ["llama", "cohere"])
def test_a_family_that_scales_its_logits_has_the_same_ones_in_parts(kind):
    own, data = of_family(kind).eval(), batch()
    out = CausalLM(chunk=2).read(CausalLM(chunk=2).attach(own), data)
    torch.testing.assert_close(out.head(out.logits), own(**data.inputs).logits)


def test_an_end_token_that_is_the_padding_token_counts_where_it_is_real():
    """SmolLM2 and GPT-2 pad with the token that ends a text: the mask follows the lengths."""
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    ids = torch.tensor([[5, 2, 7, 2], [6, 2, 2, 2]])  # 2 ends and pads
    data = text({"input_ids": ids, "attention_mask": mask})
    out = CausalLM().read(model(), data)
    assert out.label.tolist() == [[2, 7, 2, -1], [2, -1, -1, -1]]


def test_numbers_out_of_range_are_told():
    for wrong in ({"chunk": 0}, {"label_smoothing": 1.0}):
        with pytest.raises(UserError, match="task"):
            CausalLM(**wrong)
