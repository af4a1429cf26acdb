"""The pictures of a report's page: each says in words too what it shows, and works without colour."""

import math
from collections.abc import Iterator, Sequence

from vitport.chart import ERF_GELU
from vitport.parity.run_schema import Flip, Growth, Histogram, Run
from vitport.rendering import axes, summary
from vitport.rendering.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis
from vitport.rendering.summary import number
from vitport.svg import Pixels, element, inline, line_down, text
from vitport.wording import micro, one_line

STYLE = """
.bar { fill: var(--dot); }
.point { fill: none; stroke: var(--dot); stroke-width: 5; stroke-linecap: round; stroke-opacity: .55; }
.flip { fill: none; stroke: var(--fail); stroke-width: 2.5; stroke-linecap: round; }
.flippable { fill: var(--beyond); }
.beyond { fill: var(--beyond); }
.limit { stroke: var(--fail); stroke-width: 1.5; fill: none; }
.reference { stroke: var(--yardstick); stroke-width: 5; }
.erf { stroke: var(--muted); stroke-width: 1.5; stroke-dasharray: 1 4; stroke-linecap: round; }
.rms { stroke: var(--jax); stroke-width: 1.5; stroke-dasharray: 4 3; }
.curve { fill: none; stroke: var(--dot); stroke-width: 2; }
.baseline { fill: none; stroke: var(--yardstick); stroke-width: 2; stroke-dasharray: 4 3; }
.knot { fill: var(--dot); }
.good { fill: var(--dot); stroke: var(--paper); stroke-width: 1.5; }
.bad { fill: none; stroke: var(--fail); stroke-width: 3; stroke-linecap: round; }
.track { fill: var(--row); }
.word { fill: var(--fail); font-weight: 600; }
"""

ROW, TRACK = 44, 18
"""Heights of a row of the errors, and of the stripe in it."""


def histogram(run: Run, shown: Histogram, limit: float | None) -> str:
    """How large the differences are, over the spread, on a logarithmic axis."""
    bins = [each for each in zip(shown.edges, shown.edges[1:], shown.counts, strict=False) if each[2] > 0]
    low = max(math.floor(min((low for low, _, _ in bins), default=-9)), -400)
    high = min(math.ceil(max((high for _, high, _ in bins), default=-5)), 400)
    marks = [math.log10(value) for value in (limit, run.relative and run.relative.rms) if value and value > 0]
    high = max([high, low + 1, *(math.ceil(mark) for mark in marks)])
    across = Axis(max(low, high - axes.WIDEST), high, LEFT, RIGHT)
    return inline(
        WIDTH,
        HEIGHT,
        _histogram_in_words(run, shown),
        *axes.frame(across, None, ("|Δ| ÷ spread; height: outputs", "")),
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
        height = round((BOTTOM - TOP - 18) * (count / tallest), 1)
        hint = element("title", f"{count:,} outputs from 10^{low:g} to 10^{high:g}")
        box = {"x": start, "y": round(BOTTOM - height, 1), "width": max(round(end - start - 1, 1), 1), "height": height}
        yield element("rect", hint, class_="bar", **box)


def _lines(run: Run, limit: float | None, across: Axis) -> Iterator[str]:
    """RMS and limit, over the bars, with words on the side where there is room."""
    rms = run.relative and run.relative.rms
    for row, (class_, name, value) in enumerate((("limit", "limit of RMS", limit), ("rms", "RMS", rms))):
        if value and value > 0:
            x = across.of(value)
            side = -1 if x > (LEFT + RIGHT) / 2 else 1
            yield line_down(class_, x, TOP, BOTTOM)
            yield text(x + 5 * side, TOP - 12 + 16 * row, name, "muted end" if side < 0 else "muted")


def scatter(run: Run) -> str:
    """Each image: by how much its class wins, and how far its logits are off. Above the line the class can change."""
    points = [
        (each.margin, each.delta) for each in run.points if each.margin and each.margin > 0 and each.delta is not None
    ]
    across = axes.around((margin for margin, _ in points), LEFT, RIGHT)
    lowest = min((margin / 2 for margin, _ in points), default=0.0)
    up = axes.around([lowest, *(delta for _, delta in points)], BOTTOM, TOP)
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
        *axes.frame(
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
    corners = [(across.at(across.low), up.at(first - half)), *ends, (ends[1][0], TOP), (LEFT, TOP)]
    yield element("path", class_="flippable", d=f"{_path(corners)}z")
    yield element(
        "path", element("title", "Δ = margin ÷ 2: above it a class can change"), class_="limit", d=_path(ends)
    )


def _flip(flip: Flip, across: Axis, up: Axis) -> str:
    words = f"{flip.image}: {flip.expected} became {flip.found}, margin {number(flip.margin)}, Δ {number(flip.delta)}"
    return element(
        "path", element("title", words), class_="flip", d=_cross(across.of(flip.margin), up.of(flip.delta), 4)
    )


def growth(run: Run) -> str:
    """The error from tap to tap, and that of NumPy in float32 where it was measured."""
    rounding = [each.model_copy(update={"relative": each.rounding}) for each in run.growth if each.rounding is not None]
    curves = [("baseline", rounding), ("curve", run.growth)]
    up = axes.around((each.relative or 0 for _, curve in curves for each in curve), BOTTOM, TOP)
    last = run.growth[-1]
    words = (
        f"Error growth of {summary.name(run)} over {len(run.growth)} taps: {number(run.growth[0].relative)} at "
        f"{run.growth[0].tap}, {number(last.relative)} at {last.tap}"
    )
    return inline(
        WIDTH,
        HEIGHT,
        words,
        *axes.frame(None, up, ("tap, from the image to the head", "RMS Δ ÷ spread of the tap")),
        *(element("path", class_=class_, d=_path(list(_knots(curve, up)))) for class_, curve in curves if curve),
        *_named_knots(run.growth, up),
    )


def _knots(curve: Sequence[Growth], up: Axis) -> Iterator[tuple[Pixels, Pixels]]:
    """Where each tap lies; one without a number is left out."""
    step = (RIGHT - LEFT - 20) / max(len(curve) - 1, 1)
    for index, each in enumerate(curve):
        if each.relative is not None:
            yield round(LEFT + 10 + step * index, 1), up.of(each.relative)


def _named_knots(curve: Sequence[Growth], up: Axis) -> Iterator[str]:
    shown = [each for each in curve if each.relative is not None]
    for each, (x, y) in zip(shown, _knots(curve, up), strict=True):
        hint = element("title", f"{each.tap}: {number(each.relative)}")
        yield element("circle", hint, class_="knot", cx=x, cy=y, r=3.5)
    step = (RIGHT - LEFT - 20) / max(len(curve) - 1, 1)
    for index in dict.fromkeys((0, len(curve) // 3, 2 * len(curve) // 3, len(curve) - 1)):
        side = "muted" if index == 0 else "muted end" if index == len(curve) - 1 else "muted middle"
        x = LEFT if index == 0 else RIGHT if index == len(curve) - 1 else LEFT + 10 + step * index
        yield text(round(x, 1), BOTTOM + 18, one_line(curve[index].tap.replace("encoderblock_", "block "), 14), side)


def errors(title: str, rows: Sequence[tuple[Run, float | None, bool]]) -> str:
    """RMS errors of one variant, precision and device beside their limits: (run, limit, passed), a row each."""
    measured = [run.relative and run.relative.rms for run, _, _ in rows]
    reference = next(filter(None, (summary.reference(run) for run, _, _ in rows)), None)
    shown = [value for value in (*measured, *(limit for _, limit, _ in rows), reference, ERF_GELU) if value]
    across = axes.around((value * factor for value in shown for factor in (0.7, 1.4)), 8, WIDTH - 8)
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
        *(text(across.at(power), height - 8, axes.ten_to(power), _side(power, across)) for power in across.ticks()),
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
