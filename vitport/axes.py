"""Logarithmic axes, and the plot between them, of every picture of errors."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vitport.svg import Pixels, element, text
from vitport.wording import SUPERSCRIPT

TICKS = 6
"""At most, on an axis."""

WIDEST = 40
"""Powers of ten that an axis may span; what is beyond sits at its end."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Powers of ten, and the pixels at which the lowest and the highest lie."""

    low: int
    high: int
    start: Pixels
    end: Pixels

    def at(self, power: int | float) -> Pixels:
        """Pixels of a power of ten, within the axis."""
        share = (power - self.low) / (self.high - self.low)
        return round(self.start + (self.end - self.start) * min(max(share, 0.0), 1.0), 1)

    def of(self, value: int | float) -> Pixels:
        """Pixels; what can't be shown (zero, NaN, infinity) sits at the end where it belongs, NaN with the worst."""
        return self.at(math.log10(value) if 0 < value < math.inf else (self.low if value == 0 else self.high))

    def ticks(self) -> range:
        """Powers of ten to label."""
        return range(self.low, self.high + 1, math.ceil((self.high - self.low) / TICKS))


def around(values: Iterable[int | float], start: Pixels, end: Pixels) -> Axis:
    """An axis of whole powers of ten around all that is positive and finite."""
    powers = [math.log10(value) for value in values if 0 < value < math.inf]
    high = math.ceil(max(powers, default=0.0))
    low = max(math.floor(min(powers, default=-1.0)), high - WIDEST)
    return Axis(low, max(high, low + 1), start, end)


@dataclass(frozen=True, slots=True)
class Plot:
    """The four sides between which something is drawn."""

    left: Pixels
    right: Pixels
    top: Pixels
    bottom: Pixels

    def across(self, values: Iterable[int | float]) -> Axis:
        """The axis from left to right."""
        return around(values, self.left, self.right)

    def up(self, values: Iterable[int | float]) -> Axis:
        """The axis from below."""
        return around(values, self.bottom, self.top)

    def frame(self, across: Axis | None, up: Axis | None, names: tuple[str, str]) -> Iterator[str]:
        """Grid, labels and names of the axes; an axis that is not logarithmic is None."""
        for power in across.ticks() if across else ():
            x = across.at(power)
            yield element("line", class_="grid", x1=x, x2=x, y1=self.top, y2=self.bottom)
            yield text(x, self.bottom + 18, ten_to(power), "muted middle")
        for power in up.ticks() if up else ():
            y = up.at(power)
            yield element("line", class_="grid", x1=self.left, x2=self.right, y1=y, y2=y)
            yield text(self.left - 6, y + 4, ten_to(power), "muted end")
        yield element("line", class_="axis", x1=self.left, x2=self.right, y1=self.bottom, y2=self.bottom)
        yield text((self.left + self.right) / 2, self.bottom + 40, names[0], "muted middle")
        yield text(self.left, self.top - 10, names[1], "muted")


def ten_to(power: int) -> str:
    """`10⁻⁶`."""
    return f"10{str(power).translate(SUPERSCRIPT)}"
