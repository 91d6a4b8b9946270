"""The short README beside an exported model: the lines that load it, and how far it is the same."""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.datamodule.processor.base import Processor
from kdlab.format.base import Format
from kdlab.format.parity import Parity
from kdlab.outcome import Bernoulli, Outcome


def code(form: Format, processor: Processor, names: Sequence[str], outcome: Outcome) -> str:
    """Python lines that load an exported model from the folder of the file and print decisions."""
    load, run = form.usage(names)
    chosen = (
        "[[label for label, yes in zip(labels, row > 0) if yes] for row in logits]"
        if isinstance(outcome, Bernoulli)
        else "[labels[number] for number in logits.argmax(-1)]"
    )
    lines = [
        "import json", "from pathlib import Path", "", 'folder = Path(".")  # that of this file', load,
        'labels = json.loads((folder / "labels.json").read_text())', "", processor.usage(), run, f"print({chosen})",
    ]  # fmt: skip
    return "\n".join(lines)


def readme(run: str, form: Format, processor: Processor, names: Sequence[str], outcome: Outcome, found: Parity) -> str:
    """The whole text, Markdown."""
    quality = ""
    if found.exported.accuracy is not None:
        quality = (
            f" Its accuracy on them is {found.exported.accuracy:.4f}, the original's {found.original.accuracy:.4f}."
        )
    notes = "".join(f"\n{note}\n" for note in form.notes())
    return f"""# {run}

```python
{code(form, processor, names, outcome)}
```
The batch and, where rows have tokens, the length may have any size. Logits are float32, in the order of `labels.json`.
{notes}
On {found.rows:,} rows {100 * found.equal_decisions:.2f} % of the decisions equal those of the original model; the
largest difference of two logits is {found.largest_difference:.2g}.{quality} One row takes
{found.exported.row_ms:.3g} ms, with the original {found.original.row_ms:.3g} ms; `parity.json` has all numbers and the
machine.
"""
