"""The picture of a bisection, self-contained: the error of every step, and where it leaves what is allowed."""

from collections.abc import Iterator

from vitport.axes import Plot
from vitport.bisect import Outcome
from vitport.rendering import growth
from vitport.svg import element, line_down, picture, text

WIDTH, HEIGHT = 880, 420
PLOT = Plot(left=60, right=860, top=78, bottom=340)

STYLE = (
    growth.STYLE
    + """\
.first { stroke: var(--fail); stroke-width: 1.5; }
.word { fill: var(--fail); font-weight: 600; }
"""
)


def draw(outcome: Outcome) -> str:
    """The picture."""
    curves = {name: [getattr(step, name) for step in outcome.steps] for name in growth.MEANING}
    taps = [step.tap for step in outcome.steps]
    return picture(
        WIDTH,
        HEIGHT,
        STYLE,
        element("title", f"{outcome.name}: error of {outcome.suspect} step by step"),
        text(PLOT.left, 32, f"{outcome.name}: {outcome.suspect} beside {outcome.against}, step by step", "title"),
        *growth.legend(list(curves), PLOT),
        *growth.draw(taps, curves, PLOT),
        *_first(outcome, taps),
        text(PLOT.left, HEIGHT - 14, outcome.cause, "muted"),
    )


def _first(outcome: Outcome, taps: list[str]) -> Iterator[str]:
    """Where it leaves, with words on the side where there is room."""
    if outcome.first:
        index = taps.index(outcome.first)
        x, late = growth.across(index, len(taps), PLOT), index > len(taps) / 2
        yield line_down("first", x, PLOT.top, PLOT.bottom)
        yield text(x - 6 if late else x + 6, PLOT.top + 14, outcome.first, "word end" if late else "word")
