"""What a person sees of faults: the steps of a bisection with their bars, and the table of a self-test."""

import math
from typing import Any

from vitport.console import table

BAR, DECADES = 24, 8
"""Characters of a full bar, and the powers of ten above rounding that fill it."""


def bisection(outcome: Any) -> None:
    """A line a step with a bar of its error above what rounding makes, the first divergence, and the cause."""
    rows = [
        (
            step.tap,
            _number(step.error),
            f"{step.rounding:.1e}",
            f"{step.limit:.1e}",
            _mark(step, outcome.first),
            _bar(step),
        )
        for step in outcome.steps
    ]
    table(
        ("step", "error", "rounding", "limit", "", "error over rounding"),
        rows,
        text=("step", "", "error over rounding"),
    )
    where = f"first divergence at {outcome.first}" if outcome.first else "no divergence"
    print(f"\n{outcome.suspect} ({outcome.variant}) beside {outcome.against}: {where}.\n{outcome.cause}")
    print(
        f"\nerror: RMS difference over the step's own spread, of {outcome.how}. rounding: the same of NumPy in float32."
    )


def _mark(step: Any, first: str | None) -> str:
    return "← first" if step.tap == first else "✗" if step.diverged else ""


def _bar(step: Any) -> str:
    if step.error is None:
        return "NaN"
    decades = math.log10(max(step.error, 1e-30) / max(step.rounding, 1e-30))
    return "█" * round(BAR * min(max(decades, 0.0), DECADES) / DECADES)


def _number(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.1e}"
