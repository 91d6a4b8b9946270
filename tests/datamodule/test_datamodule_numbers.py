"""Numbers as answers: cells that are none, rows without one, and rated texts."""

import numpy as np
import pytest
import torch

from kdlab.datamodule.corpus import Corpus
from kdlab.datamodule.rated import Rated
from kdlab.datamodule.target import NUMBER, Numbers
from kdlab.error import UserError


def test_hidden_rows_have_no_number_and_the_others_keep_theirs():
    target = Numbers.of(np.array([1.5, np.nan, -2.0], np.float32))
    assert target.known.tolist() == [True, False, True] and target.counts(np.arange(3)) == [2]
    less = target.hidden(np.array([2]))
    label = less.batch(np.arange(3), 0)["label"]
    assert label[0] == 1.5 and label[1:].isnan().all() and less.answer(2) == [] and target.answer(2) == ["-2.0"]
    assert label.dtype == torch.float32


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"labels": ["1", "low"]}, "mine: row 2 has the label 'low', which is no number"),
        ({"labels": ["1", "inf"]}, "row 2 has the label 'inf'"),
        ({"labels": ["1", "1e99"]}, "row 2 has the label '1e99'"),
        ({"labels": ["1", "2"], "names": ["1", "2"]}, "label_names is about classes"),
        ({"labels": [["1"], ["2"]], "multi_label": True}, "multi_label"),
    ],
    ids=["word", "infinite", "large", "names", "several"],
)
def test_what_is_no_number_is_one_sentence(more, error):
    with pytest.raises(UserError, match=error):
        Corpus("mine", ["a", "b"], **more).numbers()


@pytest.fixture
def ratings(tmp_path):
    path = tmp_path / "ratings.txt"
    path.write_text("1\t2.0\tgood\n2\t-1.5\tbad\n3\t0.2\tso so\n4\t3.0\tgood\n")
    return path


def test_ratings_are_numbers_or_classes_as_the_task_asks(ratings):
    data = Rated(tokenizer="train:wordpiece:200", path=str(ratings), domain="tweets")
    assert (data.corpus().values, data.corpus().labels) == (["good", "bad"], ["positive", "negative"])
    data.asked = NUMBER
    assert (data.corpus().values, data.corpus().labels) == (["good", "bad", "so so"], ["2.5", "-1.5", "0.2"])


def test_a_torn_line_and_an_unknown_domain_are_one_sentence(ratings):
    ratings.write_text("1\t2.0\n")
    with pytest.raises(UserError, match="line 1 of"):
        Rated(tokenizer="x", path=str(ratings)).corpus()
    with pytest.raises(UserError, match="domain is 'songs', but must be one of movies, products, tweets, editorials"):
        Rated(tokenizer="x", domain="songs")
