"""The pictures of a report's page: each says in words too what it shows, and works without colour."""

import math
from collections.abc import Iterator, Sequence

from vitport.axes import WIDEST, Axis, Plot, around, ten_to
from vitport.chart import ERF_GELU
from vitport.parity.run_schema import Flip, Histogram, Run
from vitport.rendering import growth, summary
from vitport.rendering.summary import number
from vitport.svg import Pixels, element, inline, line_down, text
from vitport.wording import micro, one_line

WIDTH, HEIGHT = 400, 250
"""Pixels of a picture, which is shown about as wide as a phone."""

PLOT = Plot(left=46, right=388, top=24, bottom=202)

STYLE = (
    growth.STYLE
    + """\
.bar { fill: var(--dot); }
.point { fill: none; stroke: var(--dot); stroke-width: 5; stroke-linecap: round; stroke-opacity: .55; }
.flip { fill: none; stroke: var(--fail); stroke-width: 2.5; stroke-linecap: round; }
.flippable { fill: var(--beyond); }
.beyond { fill: var(--beyond); }
.limit { stroke: var(--fail); stroke-width: 1.5; fill: none; }
.reference { stroke: var(--yardstick); stroke-width: 5; }
.erf { stroke: var(--muted); stroke-width: 1.5; stroke-dasharray: 1 4; stroke-linecap: round; }
.rms { stroke: var(--jax); stroke-width: 1.5; stroke-dasharray: 4 3; }
.good { fill: var(--dot); stroke: var(--paper); stroke-width: 1.5; }
.bad { fill: none; stroke: var(--fail); stroke-width: 3; stroke-linecap: round; }
.track { fill: var(--row); }
.word { fill: var(--fail); font-weight: 600; }
"""
)

ROW, TRACK = 44, 18
"""Heights of a row of the errors, and of the stripe in it."""


def histogram(run: Run, shown: Histogram, limit: float | None) -> str:
    """How large the differences are, over the spread, on a logarithmic axis."""
    bins = [each for each in zip(shown.edges, shown.edges[1:], shown.counts, strict=False) if each[2] > 0]
    low = max(math.floor(min((low for low, _, _ in bins), default=-9)), -400)
    high = min(math.ceil(max((high for _, high, _ in bins), default=-5)), 400)
    marks = [math.log10(value) for value in (limit, run.relative and run.relative.rms) if value and value > 0]
    high = max([high, low + 1, *(math.ceil(mark) for mark in marks)])
    across = Axis(max(low, high - WIDEST), high, PLOT.left, PLOT.right)
    return inline(
        WIDTH,
        HEIGHT,
        _histogram_in_words(run, shown),
        *PLOT.frame(across, None, ("|Δ| ÷ spread; height: outputs", "")),
        *_bars(bins, across),
        *_lines(run, limit, across),
    )


def _histogram_in_words(run: Run, shown: Histogram) -> str:
    size = run.relative
    numbers = (
        f": median {number(size.p50)}, 99.9 % at most {number(size.p999)}, largest {number(size.max)}" if size else ""
    )
    exact = f"; {shown.zeros:,} outputs are the oracle's exactly" if shown.zeros else ""
    return f"Histogram of |difference| ÷ spread of {summary.name(run)}{numbers}{exact}"


def _bars(bins: Sequence[tuple[float, float, int]], across: Axis) -> Iterator[str]:
    tallest = max((count for _, _, count in bins), default=1)
    for low, high, count in bins:
        start, end = across.at(low), across.at(high)
        height = round((PLOT.bottom - PLOT.top - 18) * (count / tallest), 1)
        hint = element("title", f"{count:,} outputs from 10^{low:g} to 10^{high:g}")
        y, width = round(PLOT.bottom - height, 1), max(round(end - start - 1, 1), 1)
        yield element("rect", hint, class_="bar", x=start, y=y, width=width, height=height)


def _lines(run: Run, limit: float | None, across: Axis) -> Iterator[str]:
    """RMS and limit, over the bars, with words on the side where there is room."""
    rms = run.relative and run.relative.rms
    for row, (class_, name, value) in enumerate((("limit", "limit of RMS", limit), ("rms", "RMS", rms))):
        if value and value > 0:
            x = across.of(value)
            side = -1 if x > (PLOT.left + PLOT.right) / 2 else 1
            yield line_down(class_, x, PLOT.top, PLOT.bottom)
            yield text(x + 5 * side, PLOT.top - 12 + 16 * row, name, "muted end" if side < 0 else "muted")


def scatter(run: Run) -> str:
    """Each image: by how much its class wins, and how far its logits are off. Above the line the class can change."""
    points = [
        (each.margin, each.delta) for each in run.points if each.margin and each.margin > 0 and each.delta is not None
    ]
    across = PLOT.across(margin for margin, _ in points)
    lowest = min((margin / 2 for margin, _ in points), default=0.0)
    up = PLOT.up([lowest, *(delta for _, delta in points)])
    flipped = {flip.image for flip in run.flips}
    left = len(run.points) - len(points)
    words = (
        f"Margin against largest |difference| of {summary.name(run)}: {len(points):,} images, "
        f"{sum(delta > margin / 2 for margin, delta in points)} above the flip boundary Δ = margin ÷ 2, "
        f"{summary.many(len(flipped), 'flip')}" + (f", {left:,} not shown for want of a number" if left else "")
    )
    return inline(
        WIDTH,
        HEIGHT,
        words,
        *_boundary(across, up),
        *PLOT.frame(
            across, up, ("margin of the oracle's best class, logits", "largest |Δ|; shaded: the class can change")
        ),
        element("path", class_="point", d=_dots(points, across, up)),
        *(_flip(each, across, up) for each in run.flips if each.margin and each.delta),
    )


def _dots(points: Sequence[tuple[float, float]], across: Axis, up: Axis) -> str:
    """One path for all: a line of no length with round ends is a dot. Dots in one place are one."""
    return "".join(dict.fromkeys(f"M{across.of(margin):g} {up.of(delta):g}h0" for margin, delta in points))


def _boundary(across: Axis, up: Axis) -> Iterator[str]:
    """The line Δ = margin / 2 and what lies above it."""
    half = math.log10(2)
    first, last = max(across.low, up.low + half), min(across.high, up.high + half)
    ends = [(across.at(power), up.at(power - half)) for power in (first, last)]
    corners = [(across.at(across.low), up.at(first - half)), *ends, (ends[1][0], PLOT.top), (PLOT.left, PLOT.top)]
    yield element("path", class_="flippable", d=f"{_path(corners)}z")
    yield element(
        "path", element("title", "Δ = margin ÷ 2: above it a class can change"), class_="limit", d=_path(ends)
    )


def _flip(flip: Flip, across: Axis, up: Axis) -> str:
    words = f"{flip.image}: {flip.expected} became {flip.found}, margin {number(flip.margin)}, Δ {number(flip.delta)}"
    return element(
        "path", element("title", words), class_="flip", d=_cross(across.of(flip.margin), up.of(flip.delta), 4)
    )


def grown(run: Run) -> str:
    """The error from tap to tap, and that of NumPy in float32 where it was measured."""
    first, last = run.growth[0], run.growth[-1]
    words = (
        f"Error growth of {summary.name(run)} over {len(run.growth)} taps: {number(first.relative)} at "
        f"{first.tap}, {number(last.relative)} at {last.tap}"
    )
    curves = {"error": [each.relative for each in run.growth], "rounding": [each.rounding for each in run.growth]}
    shown = {name: curve for name, curve in curves.items() if name == "error" or any(curve)}
    return inline(WIDTH, HEIGHT, words, *growth.draw([each.tap for each in run.growth], shown, PLOT))


def errors(title: str, rows: Sequence[tuple[Run, float | None, bool]]) -> str:
    """RMS errors of one variant, precision and device beside their limits: (run, limit, passed), a row each."""
    measured = [run.relative and run.relative.rms for run, _, _ in rows]
    reference = next(filter(None, (summary.reference(run) for run, _, _ in rows)), None)
    shown = [value for value in (*measured, *(limit for _, limit, _ in rows), reference, ERF_GELU) if value]
    across = around((value * factor for value in shown for factor in (0.7, 1.4)), 8, WIDTH - 8)
    height = ROW * len(rows) + 30
    words = "; ".join(
        f"{run.backend} {micro(rms)}, limit {micro(limit)}" for (run, limit, _), rms in zip(rows, measured, strict=True)
    )
    return inline(
        WIDTH,
        height,
        f"RMS error in millionths of the spread, {title}: {words}",
        *(_track(index, run, limit, passed, across) for index, (run, limit, passed) in enumerate(rows)),
        *(
            line_down(class_, across.of(value), _top(index), _top(index) + TRACK)
            for index in range(len(rows))
            for class_, value in (("reference", reference), ("erf", ERF_GELU))
            if value
        ),
        *(_mark(index, run, limit, passed, across) for index, (run, limit, passed) in enumerate(rows)),
        *(text(across.at(power), height - 8, ten_to(power), _side(power, across)) for power in across.ticks()),
    )


def _track(index: int, run: Run, limit: float | None, passed: bool, across: Axis) -> str:
    """The row's words, its stripe, and the part of it that is not accepted."""
    top, rms = _top(index), run.relative and run.relative.rms
    value = text(WIDTH - 8, top - 6, f"{'' if passed else '✕ '}{micro(rms)} × 10⁻⁶", "end" if passed else "end word")
    stripe = element("rect", class_="track", x=8, y=top, width=WIDTH - 16, height=TRACK, rx=3)
    x = across.of(limit) if limit else WIDTH - 8
    beyond = element("rect", class_="beyond", x=x, y=top, width=round(max(WIDTH - 8 - x, 0), 1), height=TRACK)
    return element("g", text(8, top - 6, one_line(run.backend, 28)), value, stripe, beyond)


def _mark(index: int, run: Run, limit: float | None, passed: bool, across: Axis) -> str:
    """The limit, and a disc or a cross where the run is; NaN is at the far end."""
    top, rms = _top(index), run.relative and run.relative.rms
    x, y = across.of(rms) if rms is not None else across.at(across.high), top + TRACK / 2
    hint = element("title", f"{summary.name(run)}: {micro(rms)} × 10⁻⁶, limit {micro(limit)} × 10⁻⁶")
    mark = element("circle", hint, class_="good", cx=x, cy=y, r=6)
    if not passed:
        mark = element("path", hint, class_="bad", d=_cross(x, y, 5))
    return element("g", *([line_down("limit", across.of(limit), top, top + TRACK)] if limit else []), mark)


def _top(index: int) -> int:
    return ROW * index + 22


def _side(power: int, across: Axis) -> str:
    """Labels at the ends stay within the picture."""
    ends = {across.low: "muted", across.high: "muted end"}
    return ends.get(power, "muted middle")


def _cross(x: Pixels, y: Pixels, arm: Pixels) -> str:
    return f"M{x - arm:g} {y - arm:g}l{2 * arm:g} {2 * arm:g}m0 {-2 * arm:g}l{-2 * arm:g} {2 * arm:g}"


def _path(points: Sequence[tuple[Pixels, Pixels]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
