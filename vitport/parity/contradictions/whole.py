"""A report as a whole, that its parts are held to, and when two of its numbers are the same."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from vitport.parity.orphans import orphans
from vitport.parity.report_schema import Images, Report
from vitport.parity.run_schema import Number, Run

ROUNDING = 1e-9
"""Relative: a sum in another order is off by 1e-13."""


@dataclass(frozen=True)
class Whole:
    """A report, and what its parts are held to, looked up once: a file may have hundreds of thousands of each."""

    report: Report

    @cached_property
    def images(self) -> Images:
        return self.report.identity.images

    @cached_property
    def ids(self) -> set[str]:
        return set(self.images.ids)

    @cached_property
    def labelled(self) -> int:
        return sum(label >= 0 for label in self.images.labels or ())

    @cached_property
    def subjects(self) -> set[tuple[str, str]]:
        return {(each.name, each.variant) for each in self.report.identity.subjects}

    @cached_property
    def orphans(self) -> set[str]:
        return orphans(self.report.runs)

    @cached_property
    def tried(self) -> set[tuple[str, str]]:
        return {(run.backend, run.variant) for run in self.report.runs}

    @cached_property
    def times(self) -> Counter[str]:
        return Counter(run.id for run in self.report.runs)

    @cached_property
    def ran(self) -> dict[str, Run]:
        return {run.id: run for run in self.report.runs if run.status == "RAN"}

    @cached_property
    def flax(self) -> dict[str, dict[str, Number]]:
        """RMS error of the runs of Flax by variant, and by precision and device."""
        found: dict[str, dict[str, Number]] = {}
        for run in self.ran.values():
            if run.backend == "flax":
                found.setdefault(run.variant, {})[f"{run.precision}/{run.device}"] = run.relative.rms
        return found

    @cached_property
    def apart(self) -> dict[frozenset[str], Number]:
        """Largest difference of two runs."""
        return {frozenset((pair.a, pair.b)): pair.max for pair in self.report.pairs}


def alike(one: float | None, other: float | None) -> bool:
    """Whether two numbers are the same but for rounding; null is null."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=ROUNDING, abs_tol=1e-300)


def ascending(*values: float | None) -> bool:
    """Whether each is at most the next but for rounding; null is NaN or infinite, and nothing is above."""
    sizes = [math.inf if value is None else value for value in values]
    return all(low * (1 - ROUNDING) <= high for low, high in pairwise(sizes))  # of high, the product may be infinite
