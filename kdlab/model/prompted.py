"""A causal language model as a classifier: it compares how likely the word of each label is after a prompt."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jinja2.exceptions import TemplateError
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kdlab.error import UserError
from kdlab.model.architecture.prompted import Prompted, PromptedConfig, looks_ahead
from kdlab.model.examples import Examples, drawn
from kdlab.model.label import name_labels
from kdlab.value import Seed, Whole

TEXT, LABEL = "{text}", "{label}"
MARK = "\ue000"  # of a private area: stands for a text or a word while a template renders


def prompted(
    inner: Callable[..., nn.Module],
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    examples: Examples | None = None,
    template: str = "{text}\nLabel: {label}",
    words: Mapping[str, str] | None = None,
    shots: Whole = 0,
    shot_seed: Seed = 0,
    separator: str = "\n\n",
    chat: bool = False,
    system: str | None = None,
    calibration: Sequence[str] | None = None,
    mean: bool = False,
) -> PreTrainedModel:
    """A language model that classifies, zero-shot or with examples in its prompt; in train mode.

    The template, the text and the word of a label are encoded apart, so that a text has the tokens that it has
    everywhere else. A space before ``{label}`` belongs to the word.

    Args:
        inner: makes a causal language model from ``labels``, ``tokenizer`` and ``task="causal_lm"``.
        examples: training rows that ``shots`` are drawn from.
        template: the prompt of a text, with ``{text}`` and then ``{label}``.
        words: for each label its word; None: the name of the label.
        shots: number of examples of each label before a text.
        shot_seed: draws them.
        separator: between two examples.
        chat: whether the prompt is a dialogue of the tokenizer's chat template: what is before ``{label}`` is the
            user's, the rest the assistant's.
        system: the system prompt of such a dialogue.
        calibration: texts without content, such as ``N/A``; where the text is one of them, all labels are equally
            likely. An empty text is the correction by the likelihood of a word without a text. None: no calibration.
        mean: whether the likelihood of a word is by token, as words of many tokens are less likely.

    Raises:
        UserError: a template without its places, a label without a word, too few training rows, or a model that is no
            causal language model or has too few positions.

    Source: Brown et al. 2020, arXiv:2005.14165; see :class:`kdlab.model.architecture.prompted.Prompted`.
    """
    before, between, after = split(template)
    if system is not None and not chat:
        raise UserError("system is a turn of a dialogue: set chat=true, or write it into the template")
    chosen = words_of(words, labels)
    few = drawn(examples or Examples(), labels, shots, shot_seed)
    pieces = (
        dialogue(tokenizer, len(few), before, between, after, system)
        if chat
        else plain(len(few), before, between, after, separator)
    )
    first, last = special(tokenizer)
    limit = examples.max_length if examples else None
    prefix = [] if chat else list(first)  # a chat template writes the begin of a text itself
    for place, (text, code) in enumerate(few):
        start, context, _ = pieces[2 * place], *cut(pieces[2 * place + 1])
        prefix += [*encoded(tokenizer, start), *encoded(tokenizer, text)[:limit], *encoded(tokenizer, context)]
        prefix += word_ids(tokenizer, pieces[2 * place + 1], chosen[code])
    prefix += encoded(tokenizer, pieces[-2])
    ids = [word_ids(tokenizer, pieces[-1], word) for word in chosen]
    check_words(labels, chosen, ids)
    model = language_model(inner, tokenizer)
    config = PromptedConfig(
        inner=model.config.to_dict(), prefix=prefix, between=encoded(tokenizer, cut(pieces[-1])[0]), words=ids,
        blank=[encoded(tokenizer, text) for text in calibration or ()], ends=[len(first), len(last)], mean=mean,
    )  # fmt: skip
    name_labels(config, labels)
    if not config.between:
        raise UserError(f"the template '{template}' has nothing between text and label: write what the word follows")
    with torch.device("meta"):
        made = Prompted(config)
    made.inner = model
    if made.room is not None and made.room <= sum(config.ends):
        raise UserError(
            f"the prompt with shots={shots} has {len(prefix) + len(config.between)} tokens, but "
            f"{type(model).__name__} has {config.inside().max_position_embeddings} positions: set fewer shots, or a "
            "smaller datamodule.max_length, which cuts the examples"
        )
    return made.train()


def split(template: str) -> tuple[str, str, str]:
    """What a template has before the text, from the text to the label, and after the label.

    Raises:
        UserError: it has not each of its places once, the text before the label.

    Example:
        >>> split("Review: {text} It was {label}.")
        ('Review: ', ' It was ', '.')
    """
    before, _, rest = template.partition(TEXT)
    between, _, after = rest.partition(LABEL)
    if [template.count(TEXT), template.count(LABEL), rest.count(LABEL)] != [1, 1, 1]:
        raise UserError(
            f"the template '{template}' must have {TEXT} once and after it {LABEL} once, such as "
            f"'Review: {TEXT} Sentiment: {LABEL}'"
        )
    return before, between, after


def words_of(words: Mapping[str, str] | None, labels: Sequence[str]) -> list[str]:
    """The word of each label, in the order of the labels.

    Raises:
        UserError: a label without a word, or a word of no label.

    Example:
        >>> words_of({"positive": "great", "negative": "bad"}, ["negative", "positive"])
        ['bad', 'great']
    """
    given = {label: label for label in labels} if words is None else {str(key): str(one) for key, one in words.items()}
    if set(given) != set(labels) or not all(one.strip() for one in given.values()):
        raise UserError(
            f"words has one for {', '.join(key for key, one in given.items() if one.strip()) or 'no label'}, but the "
            f"labels are {', '.join(labels)}: give each of them a word, such as {{{labels[0]}: WORD, …}}"
        )
    return [given[label].strip() for label in labels]


def plain(count: int, before: str, between: str, after: str, separator: str) -> list[str]:
    """The pieces around the texts and words of ``count`` examples and of the row: ``2 * count + 2`` texts.

    Example:
        >>> plain(1, "", " ->", ".", "|")
        ['', ' ->', '.|', ' ->']
    """
    return [before, *[between, f"{after}{separator}{before}"] * count, between]


def dialogue(tokenizer: Any, count: int, before: str, between: str, after: str, system: str | None) -> list[str]:
    """As :func:`plain`, by the chat template of a tokenizer.

    Raises:
        UserError: there is none, or it changes or refuses what it is given.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError("chat=true needs a chat template, but the tokenizer has none: set chat=false")
    user = {"role": "user", "content": f"{before}{MARK}{between.rstrip()}"}
    turns = [user, {"role": "assistant", "content": f"{MARK}{after}"}] * count + [user]
    given = turns if system is None else [{"role": "system", "content": system}, *turns]
    try:
        text = str(tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=True))
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as problem:
        raise UserError(
            f"the chat template of the tokenizer refuses the prompt ({' '.join(str(problem).split())[:160]}): leave "
            "system out, or set chat=false"
        ) from problem
    pieces = text.split(MARK)
    if len(pieces) != 2 * count + 2:
        raise UserError("the chat template leaves out or repeats a turn of the prompt: set chat=false")
    return pieces


def special(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text."""
    whole, bare = tokenizer.encode("a"), encoded(tokenizer, "a")
    start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
    return list(whole[:start]), list(whole[start + len(bare) :])


def encoded(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text without special tokens around it."""
    return list(tokenizer.encode(text, add_special_tokens=False)) if text else []


def cut(piece: str) -> tuple[str, str]:
    """A piece without the spaces at its end, and these.

    Example:
        >>> cut("It was ")
        ('It was', ' ')
    """
    bare = piece.rstrip(" ")
    return bare, piece[len(bare) :]


def word_ids(tokenizer: Any, piece: str, word: str) -> list[int]:
    """The ids of a word as it goes on after a piece of the template."""
    context, space = cut(piece)
    start, whole = encoded(tokenizer, context), encoded(tokenizer, context + space + word)
    return whole[len(start) :] if whole[: len(start)] == start else encoded(tokenizer, space + word)


def check_words(labels: Sequence[str], words: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
    """Refuse words that the model cannot tell apart.

    Raises:
        UserError: such words.
    """
    known: dict[tuple[int, ...], int] = {}
    for place, one in enumerate(ids):
        other = known.setdefault(tuple(one), place)
        if other != place or not one:
            raise UserError(
                f"the words '{words[other]}' of {labels[other]} and '{words[place]}' of {labels[place]} have the same "
                "tokens: give each label a word of its own with words"
            )


def language_model(inner: Callable[..., nn.Module], tokenizer: Any) -> PreTrainedModel:
    """The causal language model that a factory makes.

    Raises:
        UserError: it makes another model, or one in which tokens see later ones.
    """
    makes = inspect.signature(inner).parameters
    model = inner(labels=[], tokenizer=tokenizer, task="causal_lm") if "task" in makes else None
    head = getattr(model, "get_output_embeddings", lambda: None)()
    remedy = "choose a causal language model, such as model@model.inner=smollm2 or hf with a path"
    if head is None or not isinstance(model, PreTrainedModel):
        raise UserError(f"model=prompted reads the likelihood of words, which the model inside does not give: {remedy}")
    if looks_ahead(model):
        raise UserError(f"{type(model).__name__} looks at later tokens, so that it gives no likelihood: {remedy}")
    return model
