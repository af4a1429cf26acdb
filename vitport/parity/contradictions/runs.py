"""What follows from what in whole runs, in what was measured beside their outputs, and in two runs together."""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import starmap

from vitport.parity.comparison import beside
from vitport.parity.contradictions.whole import ROUNDING, Whole, alike, ascending
from vitport.parity.report_schema import Images, Pair, Spread
from vitport.parity.run_schema import BatchNoise, Run

NAMED = 10
"""Of whatever differs, so many are named."""

FOUND = ("fed", "outputs", "speed", "nonfinite", "error", "relative", "histogram")
"""What every run has that ran."""

OF_CLASSES = ("kl", "top1", "top5", "accuracy", "flips", "points", "worst")
"""What only logits have."""

MEASURED = (*FOUND, *OF_CLASSES, "ratio", "weights", "labels", "preprocessing", "semantic", "noise", "gradients")
"""What no run has that did not run."""


def of_flax(part: tuple[str, Spread], whole: Whole) -> bool:
    variant, spread = part
    return spread.jax == whole.flax.get(variant, {})


def labelled(images: Images, whole: Whole) -> bool:
    return images.labels is None or len(images.labels) == images.count


def measured(run: Run, whole: Whole) -> bool:
    """A run has all the numbers of a run, or none."""
    if run.status == "NOT RUN":
        return run.cause is not None and not any(has(run, name) for name in MEASURED)
    return run.cause is None and all(has(run, name) for name in FOUND)


def waited_for(run: Run, whole: Whole) -> bool:
    """Whether the verdict waits for a run that was possible and is nobody else's."""
    return run.required or run.cause == "inapplicable" or run.id not in whole.orphans


def has(run: Run, name: str) -> bool:
    return getattr(run, name) not in (None, [])


def of_its_variant(run: Run, whole: Whole) -> object:
    if run.variant == "classifier":
        return run.top1 and run.top5
    return not any(has(run, name) for name in OF_CLASSES)


def verified(run: Run, whole: Whole) -> bool:
    return (run.backend, run.variant) in whole.subjects


def made(run: Run, whole: Whole) -> bool:
    return run.cause != "absent" or (run.backend, run.variant) not in whole.subjects


def ten_named(run: Run, whole: Whole) -> bool:
    lists = (run.weights, run.labels, run.preprocessing)
    return all(len(each.different) == min(each.count, NAMED) for each in lists if each)


def _batches(run: Run) -> Iterable[BatchNoise]:
    return (run.noise.repeat, *run.noise.batches) if run.noise else ()


def repeated(run: Run, whole: Whole) -> bool:
    most = whole.images.count
    return all(
        each.images <= most and (each.max is None or (each.max == 0) == each.bit_equal) for each in _batches(run)
    )


def beside_cpu(run: Run, whole: Whole) -> bool:
    twin = f"{run.id.rpartition('/')[0]}/cpu"
    return not run.noise or alike(run.noise.cpu, whole.apart.get(frozenset((run.id, twin))))


def told_apart(run: Run, whole: Whole) -> bool:
    names = [part.name for part in run.gradients.parts] if run.gradients else []
    return len(set(names)) == len(names)


def measured_in_float64(run: Run, whole: Whole) -> bool:
    parts = run.gradients.parts if run.gradients else []
    return not parts or run.gradients.double or all(part.semantic is None for part in parts)


def of_two_runs(pair: Pair, whole: Whole) -> bool:
    there = pair.a != pair.b and {pair.a, pair.b} <= whole.ran.keys()
    return there and whole.ran[pair.a].variant == whole.ran[pair.b].variant


def once_each(pairs: list[Pair], whole: Whole) -> bool:
    """Every two runs that are compared; as no two are alike in all, those of one place are not those of one backend."""
    runs = whole.ran.values()
    places = Counter((run.variant, run.precision, run.device) for run in runs)
    backends = Counter((run.variant, run.backend) for run in runs)
    number = sum(math.comb(count, 2) for count in (*places.values(), *backends.values()))
    compared = all(beside(whole.ran[pair.a], whole.ran[pair.b]) for pair in pairs)
    return compared and len({frozenset((pair.a, pair.b)) for pair in pairs}) == len(pairs) == number


def triangle(pair: Pair, whole: Whole) -> bool:
    """How far two are from each other is at most how far they are from the oracle, and at least how far apart."""
    one, other = whole.ran[pair.a], whole.ran[pair.b]
    sides = ((pair.relative, one.relative.rms, other.relative.rms), (pair.max, one.error.max, other.error.max))
    return all(starmap(_closes, sides))


def _closes(side: float | None, one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return side is None
    return side is not None and abs(one - other) - ROUNDING * (one + other) <= side <= (one + other) * (1 + ROUNDING)


def averaged(pair: Pair, whole: Whole) -> bool:
    spread = whole.report.references[whole.ran[pair.a].variant].spread
    return None in (pair.relative, spread) or ascending(pair.relative * spread, pair.max)


def agreeing(pair: Pair, whole: Whole) -> bool:
    """Where both have the oracle's best output they agree; where one has it and the other has not they don't."""
    one, other = whole.ran[pair.a], whole.ran[pair.b]
    count = whole.images.count
    if not (one.top1 and other.top1):
        return pair.top1 <= count
    least, apart = one.top1.agree + other.top1.agree - count, abs(one.top1.agree - other.top1.agree)
    return least <= pair.top1 <= count - apart
