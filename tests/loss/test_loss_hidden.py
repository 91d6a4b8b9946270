import laws
import pytest
import torch
from layered import ready
from torch.nn.functional import mse_loss

from kdlab.error import UserError
from kdlab.loss.feature.hidden import Hidden


@pytest.mark.parametrize("width", [4, 6])
def test_is_the_mean_over_layers_rows_and_real_tokens(width):
    term, s, t = ready(Hidden(), width)
    values = []
    for (i, j), adapter in zip([(0, 1), (1, 3)], term.adapters, strict=True):
        own, goal = adapter(s.taps[f"hidden.{i}"]), t.taps[f"hidden.{j}"]
        values += [mse_loss(own[b][real], goal[b][real]) for b, real in enumerate(s.tokens)]
    torch.testing.assert_close(term(s, t, 0.0), torch.stack(values).mean())
    assert len(list(term.parameters())) == (4 if width == 4 else 0), "one projection a layer, only where widths differ"


def test_a_student_of_the_teachers_states_has_nothing_to_learn():
    term, s, t = ready(Hidden(layer_map="last"), width=6)
    for i, j in term.pairs:
        s.taps[f"hidden.{i}"] = t.taps[f"hidden.{j}"]
    assert term(s, t, 0.0) == 0


def test_what_cannot_be_compared_is_told():
    term, s, t = ready(Hidden())
    s.taps["hidden.1"] = s.taps["hidden.1"][:, :1]
    with pytest.raises(UserError, match=r"hidden\.1.*hidden\.3.*same tokenizer"):
        term(s, t, 0.0)
    with pytest.raises(UserError, match=r"student's tap 'hidden\.0'"):
        term(laws.output(taps=[]), t, 0.0)
