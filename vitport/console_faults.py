"""What a person sees of faults: the steps of a bisection with their bars, and the table of a self-test."""

import math
from typing import Any

from vitport.console import table
from vitport.wording import harmless

BAR, DECADES = 24, 8
"""Characters of a full bar, and the powers of ten above rounding that fill it."""


def bisection(outcome: Any) -> None:
    """A line a step with a bar of its error above what rounding makes, the first divergence, and the cause."""
    rows = [
        (
            step.tap,
            _number(step.error),
            _number(step.rounding),
            _number(step.limit),
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
    print(f"\n{outcome.suspect} ({outcome.variant}) beside {outcome.against}: {where}.\n{harmless(outcome.cause)}")
    print(
        f"\nerror: RMS difference over the step's own spread, of {outcome.how}. rounding: the same of NumPy in float32."
    )


def _mark(step: Any, first: str | None) -> str:
    return "← first" if step.tap == first else "✗" if step.diverged else ""


def _bar(step: Any) -> str:
    if step.error is None or step.rounding is None:
        return "NaN"
    decades = math.log10(max(step.error, 1e-30) / max(step.rounding, 1e-30))
    return "█" * round(BAR * min(max(decades, 0.0), DECADES) / DECADES)


def _number(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.1e}"


def selftest(outcome: Any) -> None:
    """Faults by places, each cell what caught it; below it everything that was missed."""
    places = list(dict.fromkeys(row.place for row in outcome.rows))
    faults = list(dict.fromkeys(row.fault for row in outcome.rows))
    cells = {(row.fault, row.place): _caught(row) for row in outcome.rows}
    rows = [(fault, *(cells.get((fault, place), "") for place in places)) for fault in faults]
    table(("fault", *places), rows, text=("fault", *places))
    for row in outcome.rows:
        if not row.passed:
            print(f"\nMISSED  {row.place}, {row.fault}: {row.sentence}. {row.reason}".rstrip())
    for name, reason in outcome.missing.items():
        print(f"\nNOT RUN  {name}: {reason}")
    planted = [row for row in outcome.rows if row.fault != "none"]
    caught = sum(row.passed for row in planted)
    print(f"\n{'PASS' if outcome.passed else 'FAIL'}  {caught} of {len(planted)} faults were caught")
    print("A cell: the first gate that failed, and how many more; a cause in brackets where the run did not end well.")


def _caught(row: Any) -> str:
    if row.fault == "none":
        return "passes" if row.passed else "FAILS"
    if not row.passed:
        return "MISSED"
    more = f" +{len(row.caught) - 1}" if len(row.caught) > 1 else ""
    return f"{row.caught[0]}{more}"
