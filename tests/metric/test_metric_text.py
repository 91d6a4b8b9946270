"""Scores of texts against the libraries called directly, and the laws that each keeps."""

import string

import jiwer
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.metric.text import catalogue
from kdlab.metric.text.base import Written
from kdlab.metric.text.bleu import bleu
from kdlab.metric.text.catalogue import chosen, scores
from kdlab.metric.text.cer import character_error_rate
from kdlab.metric.text.chrf import chrf
from kdlab.metric.text.repetition import repetition
from kdlab.metric.text.rouge import rouge
from kdlab.metric.text.wer import error_rate
from kdlab.metric.text.words import words

NAMES = sorted(scores())
ASCII = st.text(alphabet=string.printable, max_size=30)
PAIRS = st.lists(st.tuples(ASCII, ASCII), min_size=1, max_size=5)
ANSWERS = ["the cat sat on the mat", "a man", "", "the same as before"]
REFERENCES = ["the cat sat on a mat today", "a man went home", "nothing", "the same as before"]


def written(answers, references, tokens=None):
    ids = tokens or [[ord(char) for char in text] for text in answers]
    rows = list(range(len(answers)))
    expected = [[ord(char) for char in text] for text in references]
    return Written(rows, [""] * len(rows), answers, references, ids, expected, [bool(text) for text in answers])


def values(name, answers, references):
    return scores()[name]().compute(written(answers, references))


@given(PAIRS)
def test_rouge_of_ascii_texts_is_the_library_s(pairs):
    answers, references = map(list, zip(*pairs, strict=True))
    found = rouge(answers, references)
    from rouge_score.rouge_scorer import RougeScorer  # before, its log handler would close pytest's own stream

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for kind, value in found.items():
        direct = [scorer.score(reference, answer)[kind].fmeasure for answer, reference in pairs]
        assert value == pytest.approx(sum(direct) / len(direct))


def test_corpus_scores_are_the_libraries():
    assert bleu(ANSWERS, REFERENCES)[0] == sacrebleu.corpus_bleu(ANSWERS, [REFERENCES]).score
    assert chrf(ANSWERS, REFERENCES)[0] == sacrebleu.corpus_chrf(ANSWERS, [REFERENCES]).score
    assert error_rate(ANSWERS, REFERENCES) == jiwer.wer(REFERENCES, ANSWERS)
    assert character_error_rate(ANSWERS, REFERENCES) == jiwer.cer(REFERENCES, ANSWERS)
    assert "tok:13a" in bleu(ANSWERS, REFERENCES)[1] and "version:" in chrf(ANSWERS, REFERENCES)[1]


def test_a_corpus_score_is_no_mean_over_rows():
    one, two = error_rate(["a"], ["a b c"]), error_rate(["x"], ["x"])
    assert error_rate(["a", "x"], ["a b c", "x"]) == pytest.approx(2 / 4) != (one + two) / 2


@pytest.mark.parametrize("name", NAMES)
def test_a_score_of_equal_texts_is_the_best_there_is(name):
    texts = ["one two three four five", "six seven eight nine ten"]
    best, other = values(name, texts, texts), values(name, ["one six", "x"], texts)
    assert set(best) == set(scores()[name].higher_is_better) and scores()[name].primary in best
    for key, more in scores()[name].higher_is_better.items():
        assert best[key] >= other[key] if more else more is None or best[key] <= other[key]
    expected = {"exact_match": 1, "rouge": 1, "bleu": 100, "chrf": 100, "cer": 0, "wer": 0, "per": 0, "length": 1}
    assert best[scores()[name].primary] == pytest.approx(expected.get(name, best[scores()[name].primary]))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_rows_changes_nothing(name):
    backwards = values(name, ANSWERS[::-1], REFERENCES[::-1])
    assert values(name, ANSWERS, REFERENCES) == pytest.approx(backwards)


@pytest.mark.parametrize("name", NAMES)
def test_empty_answers_are_scored_and_no_rows_are_nan(name):
    nothing = values(name, [""], ["some words"])
    worst = {"exact_match": 0, "rouge": 0, "bleu": 0, "chrf": 0, "cer": 1, "wer": 1, "per": 1, "length": 0, "ended": 0}
    if name in worst:
        assert nothing[scores()[name].primary] == worst[name]
    assert all(value != value for value in values(name, [], []).values())


@pytest.mark.parametrize("name", ["cer", "wer", "per", "length"])
def test_references_without_anything_are_nan_alone_and_count_their_insertions_with_others(name):
    primary = scores()[name].primary
    assert values(name, ["a"], [""])[primary] != values(name, ["a"], [""])[primary]
    both = values(name, ["a", "b"], ["", "b"])[primary]
    assert both == (2 if name == "length" else 1)


@pytest.mark.parametrize("name", ["exact_match", "rouge", "bleu", "chrf", "cer", "wer"])
def test_chinese_texts_are_compared_by_their_characters(name):
    texts = ["我爱你们大家好", "今天天气很好啊"]
    better = scores()[name].higher_is_better[scores()[name].primary]
    ends = [
        values(name, some, texts)[scores()[name].primary]
        for some in (texts, ["我爱他们大家好", "今天天气很好啊"], ["没有", "别的"])
    ]
    assert ends == sorted(ends, reverse=bool(better)) and len(set(ends)) > 1
    assert ends[0] == pytest.approx(0 if not better else 100 if name in ("bleu", "chrf") else 1)
    if name == "wer":
        assert ends[1] == pytest.approx(1 / 14)
    if name == "bleu":
        assert "tok:zh" in bleu(texts, texts)[1]


def test_other_scripts_have_words():
    assert words("Für größere Übung, здравствуй мир") == ["für", "größere", "übung", "здравствуй", "мир"]
    assert rouge(["здравствуй мир"], ["здравствуй мир"])["rougeL"] == 1


@given(st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=4), st.integers(1, 4))
def test_repetition_is_what_a_loop_finds(rows, length):
    again = every = 0
    for row in rows:
        seen = set()
        for start in range(len(row) - length + 1):
            part = tuple(row[start : start + length])
            again, every = again + (part in seen), every + 1
            seen.add(part)
    found = repetition(rows, length)
    assert found == pytest.approx(again / every) if every else found != found


def test_the_rows_of_several_processes_are_those_of_one():
    whole = written(ANSWERS, REFERENCES)
    parts = [Written(*[line[part] for line in whole._lists()]) for part in (slice(1, 4, 2), slice(0, 4, 2))]
    assert Written.merged(parts) == whole == Written.merged([*parts, parts[0]])


def test_names_are_those_of_files_and_others_are_refused(monkeypatch):
    assert {"exact_match", "rouge", "bleu", "chrf", "cer", "wer", "per", "length", "ended", "repetition"} <= {*NAMES}
    assert list(chosen(["wer", "bleu"])) == ["wer", "bleu"]
    for names, sentence in (
        (["rougeL"], "choose among bleu"),
        ([], "is empty"),
        (["wer", "wer"], "names a score twice"),
    ):
        with pytest.raises(UserError, match=sentence):
            chosen(names)
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package sacrebleu.*kdlab\[text\].*exact_match"):
        chosen(["exact_match", "bleu"])
    assert list(chosen(["exact_match", "repetition"])) == ["exact_match", "repetition"]
