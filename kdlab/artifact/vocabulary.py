"""A student and its teachers of one family, whose vocabularies are padded to different sizes."""

from __future__ import annotations

import logging
from collections.abc import Collection

from torch import nn

from kdlab.artifact.trained import Trained
from kdlab.model.family.find import family

log = logging.getLogger(__name__)


def cut_to_common_ids(student: nn.Module, teachers: Collection[Trained]) -> bool:
    """Cut word embeddings and logits of language models to the token ids that all of them have, in place.

    They read the same tokens, so that the ids which some lack are padding, as in Qwen2.5: 151,936 rows in small models
    and 152,064 in large ones, of which the tokenizer uses 151,665.

    Returns:
        Whether the student was cut.
    """
    own = family(student).vocabulary(student)
    sizes = {one.id: one.vocabulary for one in teachers}
    known = [size for size in sizes.values() if size is not None]
    if own is None or not known or set(known) == {own}:
        return False
    common = min(own, *known)
    shown = " and ".join(f"teacher {name} {size:,}" for name, size in sizes.items() if size is not None)
    log.warning("the student has %s token ids, %s: all are cut to the first %s", f"{own:,}", shown, f"{common:,}")
    for one in teachers:
        one.keep_ids(common)
    if own > common:
        family(student).keep_ids(student, common)
    return own > common
