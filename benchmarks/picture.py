"""The picture: seconds of each conversion as bars, and images a second of each artifact beside the best peer's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import goals
from benchmarks.contestants import CONVERSIONS, SIZES
from benchmarks.ledger import Ledger
from benchmarks.summary import Summary, summarize, total
from vitport.svg import Pixels, element, line_down, picture, text

WIDTH, LEFT, RIGHT, MARGIN = 880, 330, 770, 24
"""Pixels: of the picture, of the plot's two sides, and around everything."""

HEADER, TITLE_ROW, ROW, GAP, FOOTER = 76, 32, 24, 18, 24
"""Heights of the parts."""

LETTERS = 46
"""Of a label, that fit to the left of the plot in most fonts."""

STYLE = """\
.ours { fill: var(--dot); }
.theirs { fill: var(--yardstick); }
.range { stroke: var(--ink); stroke-width: 1.5; }
.even { stroke: var(--fail); stroke-width: 1.5; stroke-dasharray: 4 3; }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One measurement."""

    label: str
    value: Summary
    ours: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of one unit. even: where a line goes down, None for no line."""

    title: str
    bars: tuple[Bar, ...]
    even: float | None = None

    @property
    def height(self) -> int:
        """Pixels, with the row of its title."""
        return TITLE_ROW + ROW * len(self.bars)

    def x(self, value: float) -> float:
        """Pixels; every panel begins at zero and is as wide as its longest bar."""
        longest = max([bar.value.high for bar in self.bars] + [self.even or 0.0])
        return round(LEFT + (RIGHT - LEFT) * value / longest, 1)


def draw(ledger: Ledger, sizes: Sequence[str]) -> str:
    """The SVG, as text; a panel for all that was measured."""
    panels = [panel for size in sizes for panel in (_conversion(ledger, size), _throughput(ledger, size)) if panel.bars]
    body, y = [], HEADER
    for panel in panels:
        body += _panel(panel, y)
        y += panel.height + GAP
    return picture(
        WIDTH, y - GAP + FOOTER, STYLE, element("title", "Speed of vitport and of its peers"), *_heading(), *body
    )


def _conversion(ledger: Ledger, size: str) -> Panel:
    """Seconds by contestant, and those of the goal's pair."""
    bars = []
    for each in CONVERSIONS:
        value = summarize(goals.seconds(ledger, "convert", size, each.key).values())
        bars += [Bar(each.label, value, each.ours)] if value else []
    pair = goals.pair_of(ledger, size)
    if pair:
        value = summarize(total(*(goals.seconds(ledger, "convert", size, key) for key in pair)).values())
        bars.insert(1, Bar(f"one after the other: {' + '.join(pair)}", value, False))
    return Panel(f"{size.replace('_', '/')}: seconds to convert, whole process (less is better)", tuple(bars))


def _throughput(ledger: Ledger, size: str) -> Panel:
    """Ratio to the best peer's artifact, by format and batch."""
    bars = []
    for each in goals.throughput(ledger, size) if SIZES[size].throughput_rounds else ():
        if each.ratio:
            bars.append(Bar(each.goal.partition(":")[0] + _against(each), each.ratio, True))
    title = f"{size.replace('_', '/')}: images a second, as a multiple of the best peer's (more is better)"
    return Panel(title, tuple(bars), even=1.0)


def _against(verdict: goals.Verdict) -> str:
    peer = verdict.allowed.partition("(")[2].rstrip(")")
    return f" ÷ {peer}"


def _heading() -> Iterator[str]:
    yield text(MARGIN, 36, "Speed of vitport and of its peers", "title")
    yield text(MARGIN, 58, "Medians; a black line goes from the fastest to the slowest round. Blue: vitport.", "muted")


def _panel(panel: Panel, top: Pixels) -> Iterator[str]:
    yield text(MARGIN, top + 20, panel.title, "panel")
    for index, bar in enumerate(panel.bars):
        yield from _bar(panel, bar, top + TITLE_ROW + ROW * index)
    if panel.even is not None:
        yield line_down("even", panel.x(panel.even), top + TITLE_ROW, top + panel.height)


def _bar(panel: Panel, bar: Bar, top: Pixels) -> Iterator[str]:
    value, kind = bar.value, "ours" if bar.ours else "theirs"
    middle, end = top + (ROW - 4) / 2, panel.x(value.median)
    yield element("rect", class_="row", x=MARGIN, y=top, width=WIDTH - 2 * MARGIN, height=ROW - 2, rx=4)
    yield text(
        MARGIN + 8, top + 15, bar.label if len(bar.label) <= LETTERS else f"{bar.label[: LETTERS - 1]}…", "muted"
    )
    hint = element("title", f"{bar.label}: {value.median:.3g}, {value.low:.3g} to {value.high:.3g}")
    yield element("rect", hint, class_=kind, x=LEFT, y=top + 4, width=round(end - LEFT, 1), height=ROW - 10, rx=2)
    yield element("line", class_="range", x1=panel.x(value.low), x2=panel.x(value.high), y1=middle + 1, y2=middle + 1)
    yield text(WIDTH - MARGIN - 10, top + 15, f"{value.median:.3g}", "end")
