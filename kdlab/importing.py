"""Imports without the garbage collector, which would look again and again at half a million objects that all stay."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MANY = 200  # modules


@contextmanager
def importing() -> Iterator[None]:
    """Import inside of this: a fifth faster, and later collections leave out what there is after very many imports.

    Example:
        >>> with importing():
        ...     import json
    """
    before, collecting = len(sys.modules), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) - before > MANY:
            gc.freeze()
        if collecting:
            gc.enable()
