"""What follows from what in the best outputs of one run: agreement, flips, and the images that are shown."""

import math
from collections.abc import Iterator

from vitport.parity.comparison import MOST_POINTS, MOST_WORST, agreement
from vitport.parity.contradictions.whole import ROUNDING, Whole, alike, ascending
from vitport.parity.run_schema import Agreement, Flip, Run, Worst

FEW = 1000
"""Disagreements up to which a bound is computed anew: that takes time in proportion."""


def of_all(run: Run, whole: Whole) -> bool:
    """Agreements are of all images, or of those whose label is known."""
    all_of_them = run.top1.count == run.top5.count == whole.images.count
    return all_of_them and (run.accuracy.count if run.accuracy else 0) == whole.labelled


def _agreements(run: Run) -> Iterator[Agreement]:
    return (each for each in (run.top1, run.top5, run.accuracy) if each)


def bounded(run: Run, whole: Whole) -> bool:
    return all(each.agree <= each.count and _bound(each) for each in _agreements(run))


def _bound(found: Agreement) -> bool:
    wrong = found.count - found.agree
    return wrong > FEW or math.isclose(found.bound, agreement(found.agree, found.count).bound, rel_tol=ROUNDING)


def flips(run: Run, whole: Whole) -> bool:
    """Every disagreement is a flip, or of an image without a best output."""
    return len(run.flips) <= run.top1.count - run.top1.agree <= len(run.flips) + run.nonfinite


def named(run: Run, whole: Whole) -> bool:
    """Images are the report's, and none is there twice in one list."""
    lists = ([each.image for each in part] for part in (run.flips, run.points, run.worst))
    return all(len(set(names)) == len(names) and whole.ids.issuperset(names) for names in lists)


def listed(run: Run, whole: Whole) -> bool:
    count = whole.images.count
    return (len(run.points), len(run.worst)) == (min(count, MOST_POINTS), min(count, MOST_WORST))


def explained(run: Run, whole: Whole) -> bool:
    return all(flip.explained == _explains(flip) and flip.expected != flip.found for flip in run.flips)


def _explains(flip: Flip) -> bool:
    return None not in (flip.margin, flip.delta) and flip.margin <= 2 * flip.delta


def pictured(run: Run, whole: Whole) -> bool:
    """Margin and largest difference of an image are the same wherever they are."""
    points = {point.image: (point.margin, point.delta) for point in run.points}
    flips = [(flip.image, (flip.margin, flip.delta)) for flip in run.flips]
    worst = [(each.image, (_margin(each), each.delta)) for each in run.worst]
    return all(all(map(alike, points.get(image, said), said)) for image, said in (*flips, *worst))


def _margin(worst: Worst) -> float | None:
    """The oracle's best outputs come first."""
    best = worst.oracle[:2]
    return None if len(best) < 2 or None in best else best[0] - best[1]


def logits(run: Run, whole: Whole) -> bool:
    return all(map(_differing, run.worst))


def _differing(worst: Worst) -> bool:
    """The output that differs most is among those that are shown."""
    if not len(worst.classes) == len(worst.oracle) == len(worst.found) > 0:
        return False
    if None in (*worst.oracle, *worst.found):
        return worst.delta is None
    return alike(worst.delta, max(abs(a - b) for a, b in zip(worst.oracle, worst.found, strict=True)))


def worst_of_all(run: Run, whole: Whole) -> bool:
    """The largest difference of all is that of the worst image, and of the points, where they are all images."""
    deltas = [worst.delta for worst in run.worst]
    if not alike(deltas[0], run.error.max) or not ascending(*reversed(deltas)):
        return False
    most = max(math.inf if point.delta is None else point.delta for point in run.points)
    largest = None if most == math.inf else most
    return alike(largest, run.error.max) if len(run.points) == run.top1.count else ascending(largest, run.error.max)
