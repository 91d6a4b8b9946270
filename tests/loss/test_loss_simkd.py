import laws
import pytest
import torch
from torch.nn.functional import mse_loss

from kdlab.error import UserError
from kdlab.loss.feature.simkd import SimKD
from kdlab.loss.term import ModelSpec


def test_is_the_mean_squared_difference_of_what_the_classifier_reads():
    s, t = laws.output(), laws.output(seed=1)
    torch.testing.assert_close(SimKD()(s, t, 0.0), mse_loss(s.taps["pooled"], t.taps["pooled"]))
    assert SimKD()(s, s, 0.0) == 0
    assert laws.gradients(SimKD()(s, t, 0.0), s)["logits"].abs().sum() == 0, "labels and logits play no part"


def test_masked_rows_do_not_matter():
    laws.masked_rows_do_not_matter(SimKD(), laws.output(mask=[True, False, True, True]), laws.output(seed=1))


def test_a_student_with_a_classifier_of_its_own_is_told_how_to_get_the_teachers():
    SimKD().build_adapters(ModelSpec({"pooled": 6}), ModelSpec({"pooled": 6}), 8)
    with pytest.raises(UserError, match=r"reads 6 features, but the student's reads 4: .*model@student=simkd"):
        SimKD().build_adapters(ModelSpec({"pooled": 4}), ModelSpec({"pooled": 6}), 8)
