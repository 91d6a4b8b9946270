"""Tokenizers whose vocabulary is a plain list of the training texts' characters, or of their parts between spaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

CHARACTER = Regex(r"[\s\S]")


def characters(texts: Sequence[str], special: Mapping[str, str]) -> Tokenizer:
    """Each character is a token, spaces and capital letters included; decoding gives the same text back.

    Args:
        special: by role the special tokens, of which ``cls_token`` begins a text and ``sep_token`` ends it.

    Example:
        >>> from kdlab.datamodule.tokenizer import SPECIAL
        >>> made = characters(["ab a"], SPECIAL)
        >>> found = made.encode("a b")
        >>> found.tokens, made.decode(found.ids)
        (['[CLS]', 'a', ' ', 'b', '[SEP]'], 'a b')
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    made = _listed(counts, special)
    made.pre_tokenizer = pre_tokenizers.Split(CHARACTER, "isolated")
    made.decoder = decoders.Fuse()
    return made


def symbols(texts: Sequence[str], special: Mapping[str, str]) -> Tokenizer:
    """Each part of a text between spaces is a token, such as the phonemes of ``k æ t``.

    Args:
        special: as for :func:`characters`.

    Example:
        >>> from kdlab.datamodule.tokenizer import SPECIAL
        >>> made = symbols(["k æ t"], SPECIAL)
        >>> made.encode("t æ").tokens, made.encode("t ð").tokens
        (['[CLS]', 't', 'æ', '[SEP]'], ['[CLS]', 't', '[UNK]', '[SEP]'])
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split())
    made = _listed(counts, special)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def _listed(counts: Mapping[str, int], special: Mapping[str, str]) -> Tokenizer:
    """A tokenizer of these tokens, in their own order, after the special ones."""
    names = [*special.values(), *sorted(set(counts) - set(special.values()))]
    made = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, special["unk_token"]))
    made.add_special_tokens(list(special.values()))
    begin, end = special["cls_token"], special["sep_token"]
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B:1 {end}:1",
        special_tokens=[(name, made.token_to_id(name)) for name in (begin, end)],
    )
    return made
