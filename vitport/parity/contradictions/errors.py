"""What follows from what in the differences of one run from the oracle."""

import math
from collections.abc import Iterator
from itertools import pairwise

from vitport.parity.contradictions.whole import Whole, alike, ascending
from vitport.parity.judging import reference_error
from vitport.parity.run_schema import Distribution, Histogram, Run

FARTHEST = 100
"""Powers of ten of a histogram's edges; their squares, times any count, are numbers."""


def distributed(run: Run, whole: Whole) -> bool:
    return all(map(_possible, (run.error, run.relative)))


def _possible(found: Distribution) -> bool:
    return ascending(found.p50, found.p99, found.p999, found.max) and ascending(found.mean, found.rms, found.max)


def divided(run: Run, whole: Whole) -> bool:
    spread = whole.report.references[run.variant].spread
    return all(
        relative is None or (None not in (error, spread) and alike(relative * spread, error))
        for (_, error), (_, relative) in zip(run.error, run.relative, strict=True)
    )


def shaped(run: Run, whole: Whole) -> bool:
    edges, counts = run.histogram.edges, run.histogram.counts
    rising = all(low < high for low, high in pairwise(edges))
    return len(edges) == len(counts) + 1 and bool(counts) and rising and max(map(abs, edges)) <= FARTHEST


def _outputs(run: Run) -> int:
    """How many there are in all."""
    return sum(run.histogram.counts) + run.histogram.zeros + run.nonfinite


def counted(run: Run, whole: Whole) -> bool:
    images, outputs = whole.images.count, _outputs(run)
    return images > 0 and outputs > 0 and outputs % images == 0


def binned(run: Run, whole: Whole) -> bool:
    """Whether a histogram may be of these differences: quantiles, mean and mean square are what its bins allow."""
    found, histogram, outputs = run.relative, run.histogram, _outputs(run)
    if found.max is None:
        return True
    values = {0.5: found.p50, 0.99: found.p99, 0.999: found.p999, 1.0: found.max}
    limits = [(_quantile(histogram, outputs, share), value) for share, value in values.items()]
    limits += [(_sum(histogram, 1), found.mean * outputs), (_sum(histogram, 2), found.rms * found.rms * outputs)]
    return all(ascending(low, value, high) for (low, high), value in limits)


def _quantile(histogram: Histogram, outputs: int, share: float) -> tuple[float, float]:
    """Between which a quantile is, which lies between two neighbours in the order of size."""
    place = share * (outputs - 1)
    return _ranked(histogram, math.floor(place))[0], _ranked(histogram, math.ceil(place))[1]


def _ranked(histogram: Histogram, rank: int) -> tuple[float, float]:
    """Between which the difference of a rank is; 0 is the rank of the smallest."""
    last = 0.0, 0.0
    below = histogram.zeros
    for count, *limits in _bins(histogram, 1):
        if rank < below:
            break
        last = tuple(limits)
        below += count
    return last


def _sum(histogram: Histogram, power: int) -> tuple[float, float]:
    """Between which the sum of all differences, each to a power, is."""
    bins = list(_bins(histogram, power))
    return sum(count * low for count, low, _ in bins), sum(count * high for count, _, high in bins)


def _bins(histogram: Histogram, power: int) -> Iterator[tuple[int, float, float]]:
    """Count, least and most, to a power, of those that are not empty; the outermost hold what is beyond."""
    inner = [10.0 ** (power * edge) for edge in histogram.edges[1:-1]]
    limits = pairwise([0.0, *inner, math.inf])
    return ((count, *both) for count, both in zip(histogram.counts, limits, strict=True) if count)


def largest_among_so_many(run: Run, whole: Whole) -> bool:
    found = run.relative
    return found.max is None or found.rms is None or ascending(found.max, found.rms * math.sqrt(_outputs(run)))


def over_its_reference(run: Run, whole: Whole) -> bool:
    reference = reference_error(run, whole.report.references[run.variant])
    known = run.relative.rms is not None and reference
    return alike(run.ratio, run.relative.rms / reference if known else None)
