"""Draws the errors of artifacts as one self-contained SVG: a dot a row on a logarithmic axis, panels by variant.

Fixed columns keep text apart from marks whatever the values are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitport.axes import Axis, ten_to
from vitport.svg import Pixels, element, line_down, picture, text
from vitport.wording import micro, one_line

ERF_GELU = 2.5e-4
"""Relative RMS error of the commonest slip, erf in place of tanh in GELU, for orientation. Measured in float64 on the
two fixed images: S/16 with weights of `synthesize`'s realistic profile 2.3e-4 and 2.4e-4, digits 2.6e-4, its hybrid
3.6e-4."""

WIDTH, LEFT, RIGHT, MARGIN = 880, 214, 722, 24
"""Pixels: of the picture, of the plot's two sides, and around everything."""

HEADER, TITLE_ROW, ROW, GAP, FOOTER = 112, 30, 28, 14, 62
"""Heights of the parts, from top to bottom."""

LOWEST, HIGHEST = -10, 2
"""Powers of ten between which the axis may lie; what is beyond sits at its end, with its number beside it."""

GLYPH = 6.9
"""Generous width of a letter of the legend, whose font is the reader's."""

STYLE = """\
.beyond { fill: var(--beyond); }
.limit { stroke: var(--fail); stroke-width: 1.5; }
.yardstick { stroke: var(--yardstick); stroke-width: 5; }
.jax { stroke: var(--jax); stroke-width: 1.5; stroke-dasharray: 4 3; }
.erf { stroke: var(--muted); stroke-width: 1.5; stroke-dasharray: 1 4; stroke-linecap: round; }
.pass { fill: var(--dot); stroke: var(--paper); stroke-width: 1.5; }
.fail { fill: none; stroke: var(--fail); stroke-width: 3; stroke-linecap: round; }
.word { fill: var(--fail); font-weight: 600; }
"""


@dataclass(frozen=True, slots=True)
class Dot:
    """One artifact: its RMS error and the limit, both relative to the spread of the outputs."""

    label: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """The artifacts of one variant, and the relative RMS errors of NumPy float32 and of JAX float32."""

    name: str
    yardstick: float
    jax: float
    dots: tuple[Dot, ...]

    @property
    def height(self) -> int:
        """Pixels, with the row of its name."""
        return TITLE_ROW + ROW * len(self.dots)


def draw(title: str, panels: Sequence[Panel]) -> str:
    """The SVG, as text."""
    axis = _axis(panels)
    bottom = HEADER + sum(panel.height for panel in panels) + GAP * max(len(panels) - 1, 0)
    return picture(
        WIDTH,
        bottom + FOOTER,
        STYLE,
        element("title", one_line(f"{title}: error of each artifact", 120)),
        *_heading(title),
        *_legend(any(not dot.passed for panel in panels for dot in panel.dots)),
        *_panels(panels, axis),
        *_scale(axis, bottom),
    )


def _axis(panels: Sequence[Panel]) -> Axis:
    """Whole powers of ten around everything that is shown, with room for the label of erf GELU."""
    shown = [ERF_GELU]
    for panel in panels:
        shown += [panel.yardstick, panel.jax, *(number for dot in panel.dots for number in (dot.value, dot.limit))]
    powers = [math.log10(value) for value in shown if 0 < value < math.inf]
    low, high = math.floor(min(powers) - 0.15), math.ceil(max(powers) + 0.15)
    return Axis(min(max(low, LOWEST), -8), max(min(high, HIGHEST), -2), LEFT, RIGHT)


def _heading(title: str) -> Iterator[str]:
    yield text(MARGIN, 36, one_line(title, 82), "title")
    subtitle = (
        "How far each artifact is from the oracle (Flax in float64), relative to the spread of the oracle's own outputs"
    )
    yield text(MARGIN, 58, subtitle, "muted")


def _legend(failures: bool) -> Iterator[str]:
    """Samples and words on one line; the cross only where a row has one."""
    x, y = MARGIN, 82
    samples = [("pass", "artifact"), ("yardstick", "NumPy float32, the yardstick"), ("jax", "JAX float32")]
    samples += [
        ("limit", "limit"),
        ("erf", "a wrong GELU (erf)"),
        *([("fail", "beyond the limit")] if failures else []),
    ]
    for kind, words in samples:
        disc = kind in ("pass", "fail")
        yield _mark(kind == "pass", x + 6, y - 4) if disc else line_down(kind, x + 6, y - 12, y + 4)
        yield text(x + 18, y, words, "muted")
        x += 18 + GLYPH * len(words) + 20


def _panels(panels: Sequence[Panel], axis: Axis) -> Iterator[str]:
    y = HEADER
    for panel in panels:
        yield from _panel(panel, axis, y)
        y += panel.height + GAP


def _panel(panel: Panel, axis: Axis, top: Pixels) -> Iterator[str]:
    """Rows first, then the lines over them, then the dots over the lines."""
    first, bottom = top + TITLE_ROW, top + panel.height
    yield text(MARGIN, top + 20, one_line(panel.name, 24), "panel")
    yield text(RIGHT + 70, top + 20, "× 10⁻⁶", "muted end")
    for index, dot in enumerate(panel.dots):
        yield from _row(dot, axis, first + ROW * index)
    for power in range(axis.low, axis.high + 1):
        yield line_down("grid", axis.at(power), first, bottom)
    for kind, value in (("yardstick", panel.yardstick), ("jax", panel.jax), ("erf", ERF_GELU)):
        yield line_down(kind, axis.of(value), first, bottom)
    for index, dot in enumerate(panel.dots):
        yield from _measured(dot, panel, axis, first + ROW * index)


def _row(dot: Dot, axis: Axis, top: Pixels) -> Iterator[str]:
    """The stripe, the words left and right of the plot, and the part of the axis that is not accepted."""
    limit = axis.of(dot.limit)
    yield element("rect", class_="row", x=MARGIN, y=top, width=WIDTH - 2 * MARGIN, height=ROW - 2, rx=4)
    yield element("rect", class_="beyond", x=limit, y=top, width=round(RIGHT - limit, 1), height=ROW - 2)
    yield text(MARGIN + 10, top + 17, one_line(dot.label, 26))
    yield text(RIGHT + 70, top + 17, micro(dot.value), "end")
    yield text(RIGHT + 84, top + 17, "PASS" if dot.passed else "FAIL", "muted" if dot.passed else "word")


def _measured(dot: Dot, panel: Panel, axis: Axis, top: Pixels) -> Iterator[str]:
    yield line_down("limit", axis.of(dot.limit), top, top + ROW)
    words = f"{dot.label}, {panel.name}: {micro(dot.value)} × 10⁻⁶ of the spread, limit {micro(dot.limit)} × 10⁻⁶"
    yield _mark(dot.passed, axis.of(dot.value), top + (ROW - 2) / 2, "artifact ", one_line(words))


def _mark(passed: bool, x: Pixels, y: Pixels, class_: str = "", hint: str = "") -> str:
    """A disc, or a cross, so that colour is not all that tells them apart."""
    title = (element("title", hint),) if hint else ()
    if passed:
        return element("circle", *title, class_=f"{class_}pass", cx=x, cy=y, r=6)
    cross = f"M{x - 5:g} {y - 5:g}l10 10m0 -10l-10 10"
    return element("path", *title, class_=f"{class_}fail", d=cross)


def _scale(axis: Axis, bottom: Pixels) -> Iterator[str]:
    """The axis, its powers of ten and its name."""
    yield element("line", class_="axis", x1=LEFT, x2=RIGHT, y1=bottom, y2=bottom)
    for power in range(axis.low, axis.high + 1):
        yield text(axis.at(power), bottom + 19, ten_to(power), "muted middle")
    words = "RMS error ÷ standard deviation of the oracle's outputs (no unit, logarithmic)"
    yield text((LEFT + RIGHT) / 2, bottom + 44, words, "muted middle")
