"""How the error grows through a network: a curve over its steps, in order, in powers of ten."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from vitport.axes import Axis, Plot
from vitport.rendering.summary import number
from vitport.svg import Pixels, element, line_down, text

STYLE = """
.growth .error { stroke: var(--dot); stroke-width: 2; fill: none; }
.growth .rounding { stroke: var(--yardstick); stroke-width: 4; fill: none; }
.growth .limit { stroke: var(--fail); stroke-width: 1.2; stroke-dasharray: 4 3; fill: none; }
.knot { fill: var(--dot); }
"""

MEANING = {"rounding": "NumPy in float32", "limit": "allowed", "error": "this backend"}
"""Of the curves, in the order in which they are drawn: the error lies over the others."""

NAMES = ("encoder block", "RMS Δ ÷ spread of the step")

BLOCK = "encoderblock_"

LETTERS = 20
"""Pixels of a block's number and the gap after it."""

Curves = Mapping[str, Sequence[float | None]]
"""Some of `MEANING` → a value for each step; what is no number is drawn at the top."""


def draw(taps: Sequence[str], curves: Curves, plot: Plot) -> Iterator[str]:
    """The curves over their steps, with the parts of the network below."""
    up = plot.up(value for curve in curves.values() for value in curve if value)
    yield from plot.frame(None, up, NAMES)
    yield from _parts(taps, plot)
    shown = (_curve(name, curves[name], up, plot) for name in MEANING if name in curves)
    yield element("g", *shown, class_="growth")
    yield from _knots(taps, curves["error"], up, plot)


def across(index: int | float, count: int, plot: Plot) -> Pixels:
    """Where the step `index` of `count` lies; half a step before it another part may begin."""
    return round(plot.left + (plot.right - plot.left) * (index + 0.5) / count, 1)


def legend(names: Sequence[str], plot: Plot) -> Iterator[str]:
    """Samples and their meaning on one line above the plot, to the right."""
    for place, name in enumerate(reversed(names)):
        x, y = plot.right - 150 * (place + 1), plot.top - 10
        yield element("g", element("line", class_=name, x1=x, x2=x + 22, y1=y - 4, y2=y - 4), class_="growth")
        yield text(x + 28, y, MEANING[name], "muted")


def _curve(name: str, values: Sequence[float | None], up: Axis, plot: Plot) -> str:
    points = "L".join(f"{x} {y}" for x, y in _points(values, up, plot))
    return element("path", class_=name, d=f"M{points}")


def _points(values: Sequence[float | None], up: Axis, plot: Plot) -> Iterator[tuple[Pixels, Pixels]]:
    for index, value in enumerate(values):
        yield across(index, len(values), plot), up.of(math.nan if value is None else value)


def _knots(taps: Sequence[str], errors: Sequence[float | None], up: Axis, plot: Plot) -> Iterator[str]:
    """A dot a step that says what it is; smaller where there are many."""
    radius = round(min(3.5, 0.4 * (plot.right - plot.left) / len(taps)), 1)
    for tap, error, (x, y) in zip(taps, errors, _points(errors, up, plot), strict=True):
        hint = element("title", f"{tap}: {number(error)}")
        yield element("circle", hint, class_="knot", cx=x, cy=y, r=radius)


def _parts(taps: Sequence[str], plot: Plot) -> Iterator[str]:
    """A line where a part of the network begins, and the numbers of its blocks, as many as there is room for."""
    free, index = plot.left, 0
    for head, group in groupby(tap.partition("/")[0] for tap in taps):
        yield line_down("grid", across(index - 0.5, len(taps), plot), plot.top, plot.bottom + 6)
        count = len(list(group))
        x = across(index + (count - 1) / 2, len(taps), plot)
        if head.startswith(BLOCK) and x >= free:
            yield text(x, plot.bottom + 18, head.removeprefix(BLOCK), "muted middle")
            free = x + LETTERS
        index += count
