"""The growth curve of a bisection as one self-contained SVG: the error of every step, in order, in powers of ten."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from vitport.bisect import Outcome, Step
from vitport.svg import Pixels, element, line_down, picture, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 880, 420, 60, 860, 78, 340
"""Pixels: of the picture, and the plot's sides."""

LOWEST, HIGHEST = -17, 2
"""Powers of ten between which the axis may lie; what is beyond sits at its end."""

STYLE = """\
.error { stroke: var(--dot); stroke-width: 2; fill: none; }
.rounding { stroke: var(--yardstick); stroke-width: 4; fill: none; }
.limit { stroke: var(--fail); stroke-width: 1.2; stroke-dasharray: 4 3; fill: none; }
.first { stroke: var(--fail); stroke-width: 1.5; }
.word { fill: var(--fail); font-weight: 600; }
"""

Point = tuple[Pixels, Pixels]


def draw(outcome: Outcome) -> str:
    """The picture."""
    low, high = _powers(outcome.steps)
    curves = {name: [_size(getattr(step, name)) for step in outcome.steps] for name in ("rounding", "limit", "error")}
    return picture(
        WIDTH,
        HEIGHT,
        STYLE,
        element("title", f"{outcome.name}: error of {outcome.suspect} step by step"),
        text(LEFT, 32, f"{outcome.name}: {outcome.suspect} beside {outcome.against}, step by step", "title"),
        text(LEFT, 54, "RMS difference over the step's own spread", "muted"),
        *_legend(),
        *_grid(low, high),
        *_places(outcome.steps),
        *(_line(name, values, low, high) for name, values in curves.items()),
        *_first(outcome),
    )


def _size(value: float | None) -> float:
    """What is no number is drawn at the top."""
    return math.inf if value is None else value


def _powers(steps: Sequence[Step]) -> tuple[int, int]:
    values = [value for step in steps for value in (step.error, step.rounding, step.limit) if value]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return max(low, LOWEST), min(max(high, low + 1), HIGHEST)


def _x(index: int, count: int) -> Pixels:
    return round(LEFT + (RIGHT - LEFT) * (index + 0.5) / count, 1)


def _y(value: float, low: int, high: int) -> Pixels:
    power = math.log10(value) if 0 < value < math.inf else (low if value == 0 else high)
    return round(BOTTOM - (BOTTOM - TOP) * (min(max(power, low), high) - low) / (high - low), 1)


def _line(name: str, values: Sequence[float], low: int, high: int) -> str:
    points = " ".join(f"{_x(index, len(values))},{_y(value, low, high)}" for index, value in enumerate(values))
    return element("polyline", class_=name, points=points)


def _grid(low: int, high: int) -> Iterator[str]:
    for power in range(low, high + 1, max((high - low) // 8, 1)):
        y = _y(10.0**power, low, high)
        yield element("line", class_="grid", x1=LEFT, x2=RIGHT, y1=y, y2=y)
        yield text(LEFT - 8, y + 4, f"1e{power}", "muted end")


def _places(steps: Sequence[Step]) -> Iterator[str]:
    """The parts of the network below the plot."""
    heads = [step.tap.partition("/")[0] for step in steps]
    index = 0
    for head, group in groupby(heads):
        count = len(list(group))
        left = round(LEFT + (RIGHT - LEFT) * index / len(steps), 1)
        yield line_down("grid", left, TOP, BOTTOM + 6)
        if head.startswith("encoderblock_"):
            yield text(_x(index, len(steps)), BOTTOM + 20, head.removeprefix("encoderblock_"), "muted")
        index += count
    yield text((LEFT + RIGHT) // 2, BOTTOM + 44, "encoder block", "muted middle")


def _legend() -> Iterator[str]:
    words = {"error": "this backend", "rounding": "NumPy in float32", "limit": "allowed"}
    for index, (name, meaning) in enumerate(words.items()):
        x = 430 + 150 * index
        yield element("line", class_=name, x1=x, x2=x + 22, y1=50, y2=50)
        yield text(x + 28, 54, meaning, "muted")


def _first(outcome: Outcome) -> Iterator[str]:
    """Where it leaves, and why."""
    taps = [step.tap for step in outcome.steps]
    if outcome.first:
        index = taps.index(outcome.first)
        x = _x(index, len(taps))
        yield line_down("first", x, TOP, BOTTOM)
        side = "word end" if index > len(taps) / 2 else "word"
        yield text(x - 6 if index > len(taps) / 2 else x + 6, TOP + 14, outcome.first, side)
    yield text(LEFT, HEIGHT - 14, outcome.cause, "muted")
