"""Numbers as people read them, and small pictures that need no script."""

from __future__ import annotations

from html import escape

from kdlab.report.setting import text
from kdlab.report.statistic import Difference

LARGE = 10_000  # whole numbers from here on have a unit


def figure(value: float | None, name: str = "") -> str:
    """A number with the digits and the unit that fit its metric name."""
    if value is None:
        return "–"
    last = name.rsplit("/", 1)[-1]
    if abs(value) >= LARGE and value == int(value):
        size, unit = next((pair for pair in [(1e9, " G"), (1e6, " M"), (1e3, " k")] if abs(value) >= pair[0]), (1, ""))
        return f"{value / size:.3g}{unit}"
    if last == "seconds":
        return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"
    if last.endswith(("_ms", "_mb")):
        return f"{value:.3g} {last[-2:].replace('mb', 'MB')}"
    return f"{value:.4f}" if 1e-4 <= abs(value) < 10 or value == 0 else f"{value:.4g}"


def cell(value: object) -> str:
    """A config value, escaped; nothing for a key that the run does not have."""
    return "" if value is None else escape(text(value))


def signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def interval(difference: Difference, reach: float, certain: bool) -> str:
    """The difference and its interval as a small drawing around zero.

    Args:
        reach: the half width of its scale.
        certain: whether it is drawn in the colour of a gain or a loss.
    """

    def x(value: float) -> float:
        return 70 + 66 * max(-1.0, min(1.0, value / reach))

    low = difference.mean if difference.low is None else difference.low
    high = difference.mean if difference.high is None else difference.high
    tips = ""
    if low < -reach:
        tips += '<path d="M1 9l5-4v8z" class="bar-end"/>'
    if high > reach:
        tips += '<path d="M139 9l-5-4v8z" class="bar-end"/>'
    kind = "open" if not certain else "plus" if difference.mean > 0 else "minus"
    return (
        f'<svg class="interval {kind}" viewBox="0 0 140 18" width="140" height="18" aria-hidden="true">'
        '<line x1="70" x2="70" y1="0" y2="18" class="zero"/>'
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="9" y2="9" class="bar"/>{tips}'
        f'<circle cx="{x(difference.mean):.1f}" cy="9" r="4"/></svg>'
    )
