"""A mistake of the user, as one sentence; and jobs that ended without a result."""

from __future__ import annotations

import sys
from typing import NoReturn

from kdlab.text import printable


class UserError(Exception):
    """One sentence: what, where, what is allowed, what to do. Commands print it and exit with 2."""


class JobError(Exception):
    """Jobs of a sweep ended without a result, for reasons that its table names. Commands print it and exit with 1."""


def fail(sentence: str, code: int = 2) -> NoReturn:
    """End the process with a sentence on standard error."""
    print(f"error: {printable(sentence)}", file=sys.stderr)
    sys.exit(code)
