"""The same values as TRL 1.16: generalised Jensen-Shannon divergence, and GOLD's parts; where TRL is installed."""

from __future__ import annotations

from types import SimpleNamespace

import laws
import numpy as np
import pytest
import torch

from kdlab.alignment import NO_TEXT, groups
from kdlab.loss.logit.aligned import Merged, merged
from kdlab.loss.logit.divergence import kl, mix
from kdlab.loss.logit.gold import matched, unmatched
from kdlab.loss.logit.jsd import jensen_shannon
from kdlab.loss.logit.uld import sorted_distance

pytestmark = pytest.mark.slow  # importing TRL takes seconds
PAIRS = torch.tensor([[0, 2, 5], [1, 3, 0]])  # words that both have, by the ids of student and teacher


@pytest.fixture(scope="module")
def gkd():
    pytest.importorskip("trl", minversion="1.16")
    return pytest.importorskip("trl.experimental.gkd.gkd_trainer").GKDTrainer.generalized_jsd_loss


@pytest.fixture(scope="module")
def gold():
    """TRL's loss with the vocabularies of ``PAIRS``."""
    pytest.importorskip("trl", minversion="1.16")
    kind = pytest.importorskip("trl.experimental.gold.gold_trainer").ULDLoss
    settings = {"crossentropy_weight": 0.0, "distillation_weight": 1.0, "student_temperature": 1.0}
    settings |= {"teacher_temperature": 1.0, "skip_student_eos": False, "skip_teacher_eos": False}
    settings |= {"token_merge_strategy": "observed", "use_hybrid_loss": True}
    config = SimpleNamespace(
        **{f"uld_{name}": value for name, value in settings.items()}, use_extended_uld=True, beta=0.3
    )
    found = kind(config)
    mapping = {theirs: ours for ours, theirs in PAIRS.T.tolist()}
    found._vocab_mapping, found._teacher_matched_ids = mapping, set(mapping)
    found.mapping_tensor = torch.tensor([mapping.get(number, -1) for number in range(max(mapping) + 1)])
    return found


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", [0, 1e-4, 0.3, 0.5, 1])  # near its ends the value is small, at them it jumps
def test_the_divergence_is_theirs_times_the_squared_temperature(gkd, beta, temperature):
    s, t = (one.detach() for one in laws.pair(0, 7))
    theirs = gkd(s, t, beta=beta, temperature=temperature, reduction="none").sum(-1)
    torch.testing.assert_close(jensen_shannon(s, t, temperature, beta), temperature**2 * theirs)


@pytest.mark.parametrize("seed", range(10))
def test_groups_of_whole_texts_are_theirs(gold, seed):
    generator = np.random.default_rng(seed)
    sides = [sorted({*generator.choice(np.arange(1, 30), 12).tolist(), 30}) for _ in range(2)]
    offsets = [list(zip([0, *one], one, strict=False)) for one in sides]
    theirs = gold._align_by_byte_offsets(*offsets)
    found = groups(*[np.array([NO_TEXT, *one]) for one in sides])
    for ours, listed in zip(found, theirs, strict=True):
        assert [np.flatnonzero(ours[1:] == number).tolist() for number in range(len(listed))] == listed


@pytest.mark.parametrize("seed", range(3))
def test_merged_predictions_and_both_parts_of_the_loss_are_theirs_but_for_the_outcome_of_all_else(gold, seed):
    generator = torch.Generator().manual_seed(seed)
    sides, listed, both = [], ([[0, 1], [2], [3, 4, 5]], [[0], [1, 2], [3]]), []
    for classes, members in zip((7, 5), listed, strict=True):
        count = sum(map(len, members))
        logits = torch.randn(count, classes, generator=generator, dtype=torch.float64)
        label = torch.randint(0, classes, (count,), generator=generator)
        group = torch.tensor([number for number, some in enumerate(members) for _ in some])
        found = merged(logits, label, group, len(members))
        theirs = gold._merge_probabilities_with_alignment_groups(logits.softmax(-1), members, label.tolist())
        torch.testing.assert_close(found.probabilities, theirs)
        sides.append(theirs)
        both.append(found)
    student, teacher = both
    total = gold._compute_hybrid_uld_loss(*sides)
    log_s, log_t = (matched(one, index)[..., :-1] for one, index in zip(both, PAIRS, strict=True))
    middle = mix(log_t, log_s, 0.3)
    shared = (0.3 * kl(log_t, middle) + 0.7 * kl(log_s, middle)).mean()
    others = sorted_distance(unmatched(student, PAIRS[0]), unmatched(teacher, PAIRS[1])).mean()
    torch.testing.assert_close(gold.last_matched_loss, shared)
    torch.testing.assert_close(gold.last_unmatched_loss, others)
    torch.testing.assert_close(total, 3 / 5 * shared + 2 / 5 * others)


def test_their_part_of_shared_words_may_be_negative_and_is_not_with_the_outcome_of_all_else(gold):
    """The student gives more to every shared word than the teacher does."""
    p = torch.tensor([[0.1, 0.1, 0.1, 0.35, 0.35]], dtype=torch.float64)
    q = torch.tensor([[0.3, 0.3, 0.3, 0.05, 0.05]], dtype=torch.float64)
    theirs = gold._compute_jsd_loss_for_matched_tokens(q[:, :3], p[:, :3])
    index = torch.arange(3)
    ours = jensen_shannon(*(matched(Merged(one.log(), torch.zeros(1).double()), index) for one in (q, p)), 1.0, 0.0)
    gold.beta = 0
    forward = gold._compute_jsd_loss_for_matched_tokens(q[:, :3], p[:, :3])
    gold.beta = 0.3
    assert forward < 0 < ours.item() and theirs.isfinite()
