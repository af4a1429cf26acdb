"""Medians, and ratios of runs that took turns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Summary:
    """Of a few measurements: their median, and the smallest and largest."""

    median: float
    low: float
    high: float
    count: int

    @property
    def noise(self) -> float:
        """Half the range, as a fraction of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def summarize(values: Iterable[float]) -> Summary | None:
    """None where nothing was measured."""
    numbers = list(values)
    return Summary(median(numbers), min(numbers), max(numbers), len(numbers)) if numbers else None


def ratios(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Summary | None:
    """Ours over theirs, round by round: what slows both down in a round cancels. Rounds that one lacks do not count."""
    return summarize(ours[number] / theirs[number] for number in sorted(ours.keys() & theirs.keys()) if theirs[number])


def total(*parts: Mapping[int, float]) -> dict[int, float]:
    """The sum of several, in the rounds that all have."""
    rounds = set.intersection(*(set(part) for part in parts)) if parts else set()
    return {number: sum(part[number] for part in parts) for number in sorted(rounds)}
