"""Outputs of a backend beside the oracle's: every number of a run's report, from arrays alone, in float64."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from jaxtyping import Float

from vitport import metrics
from vitport.arrays import Logits
from vitport.parity.report_schema import Pair
from vitport.parity.run_schema import Agreement, Distribution, Flip, Histogram, Number, Point, Run, Worst

CONFIDENCE = 0.95
"""Of the bound on a rate of disagreement."""

EDGES = tuple(edge / 2 for edge in range(-24, 3))
"""Powers of ten of the histogram's bins, half a decade each: 1e-12 to 10 times the spread."""

MOST_POINTS, MOST_WORST, BEST = 2000, 3, 5
"""Images in the scatter, images whose logits are shown, outputs that count as the best."""

NONE = -1
"""In place of the best output of an image that has none."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What one variant is compared with.

    outputs: the oracle's, in float64. ids: names of the images. labels: true classes, -1 where unknown; None for all.
    classifier: whether outputs are logits, of which the largest means something. fixed: the oracle's outputs on the two
    fixed images.
    """

    outputs: Logits
    ids: Sequence[str]
    labels: np.ndarray | None
    classifier: bool
    fixed: Float[np.ndarray, "fixed c"]

    @property
    def spread(self) -> float:
        return metrics.spread(self.outputs)


def numbers(outputs: Logits, truth: Truth) -> dict:
    """The fields of `Run` that outputs alone give. Raises ValueError where the shapes differ."""
    if outputs.shape != truth.outputs.shape:
        raise ValueError(f"it returned {outputs.shape}, the oracle {truth.outputs.shape}")
    with np.errstate(invalid="ignore", over="ignore"):  # NaN is counted, and null in every other number
        return _numbers(outputs, truth)


def _numbers(outputs: Logits, truth: Truth) -> dict:
    delta = np.abs(np.subtract(outputs, truth.outputs, dtype=np.float64))
    found = {
        "nonfinite": int(outputs.size - np.isfinite(outputs).sum()),
        "error": distribution(delta),
        "relative": distribution(delta / truth.spread),
        "histogram": histogram(delta / truth.spread),
    }
    if truth.classifier:
        found |= _classified(np.asarray(outputs, np.float64), truth, delta.max(axis=1))
    return found


def beside(a: Run, b: Run) -> bool:
    """Whether two runs are compared: of one variant, at one precision and device, or of one backend across these."""
    return a.variant == b.variant and ((a.precision, a.device) == (b.precision, b.device) or a.backend == b.backend)


def pair(a: Run, b: Run, outputs: tuple[Logits, Logits], truth: Truth) -> Pair:
    """Two runs beside each other."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        delta = np.abs(np.subtract(*outputs, dtype=np.float64))
    one, other = map(best, outputs)
    relative = number(np.sqrt(np.square(delta).mean()) / truth.spread)
    return Pair(a=a.id, b=b.id, max=number(delta.max()), relative=relative, top1=int((one == other)[one != NONE].sum()))


def best(outputs: Logits) -> np.ndarray:
    """The best output of each image; NONE where one is NaN or infinite, as nothing is to be told from such outputs."""
    return np.where(np.isfinite(outputs).all(axis=1), outputs.argmax(axis=1), NONE)


def distribution(delta: np.ndarray) -> Distribution:
    """Of absolute differences."""
    p50, p99, p999 = np.quantile(delta, (0.5, 0.99, 0.999))
    rms = np.sqrt(np.square(delta).mean())
    values = {"max": delta.max(), "mean": delta.mean(), "rms": rms, "p50": p50, "p99": p99, "p999": p999}
    return Distribution(**{name: number(value) for name, value in values.items()})


def number(value: float) -> Number:
    """A number for a report: null where it is NaN or infinite."""
    return float(value) if isfinite(value) else None


def histogram(relative: np.ndarray) -> Histogram:
    """Of finite differences; those beyond the edges count in the outermost bins."""
    finite = relative[np.isfinite(relative)]
    exponents = np.log10(finite[finite > 0]).clip(EDGES[0], EDGES[-1])
    counts, _ = np.histogram(exponents, EDGES)
    return Histogram(edges=list(EDGES), counts=counts.tolist(), zeros=int((finite == 0).sum()))


def agreement(agree: int, count: int) -> Agreement:
    """With the exact (Clopper-Pearson) upper bound on the rate of disagreement, about 3 / count where there is none."""
    return Agreement(agree=agree, count=count, bound=_upper_bound(count - agree, count))


def _upper_bound(wrong: int, count: int) -> float:
    """The rate at which so few disagreements have a chance of 5 %: bisection on the binomial tail."""
    if wrong >= count:
        return 1.0
    low, high = wrong / count, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(wrong, count, middle) > 1 - CONFIDENCE else (low, middle)
    return high


def _tail(wrong: int, count: int, rate: float) -> float:
    """Chance of at most `wrong` of `count` at that rate, each term from the one before, in logarithms."""
    logs = np.full(wrong + 1, count * np.log1p(-rate))
    ks = np.arange(1, wrong + 1)
    logs[1:] += np.cumsum(np.log((count - ks + 1) / ks) + np.log(rate) - np.log1p(-rate))
    return float(np.exp(logs).sum())


def _classified(outputs: Logits, truth: Truth, deltas: np.ndarray) -> dict:
    """What only logits have: classes, margins, probabilities. An image without a best output agrees in nothing."""
    expected, found = best(truth.outputs), best(outputs)
    some = found != NONE
    few = min(BEST, outputs.shape[1])
    both = zip(_best(truth.outputs[some], few), _best(outputs[some], few), strict=True)
    margins = _margins(truth.outputs)
    return {
        "kl": number(_divergence(truth.outputs, outputs)),
        "top1": agreement(int((expected == found).sum()), len(found)),
        "top5": agreement(sum(set(one) == set(other) for one, other in both), len(found)),
        "accuracy": _accuracy(found, truth.labels),
        "flips": [
            _flip(i, truth, int(found[i]), margins[i], deltas[i])
            for i in np.flatnonzero(some & (expected != found)).tolist()
        ],
        "points": _points(truth, margins, deltas),
        "worst": [_worst(i, outputs, truth, deltas[i]) for i in _largest(deltas, MOST_WORST)],
    }


def _flip(index: int, truth: Truth, found: int, margin: float, delta: float) -> Flip:
    expected = int(truth.outputs[index].argmax())
    return Flip(
        image=truth.ids[index],
        expected=expected,
        found=found,
        margin=number(margin),
        delta=number(delta),
        explained=bool(margin <= 2 * delta),
    )


def _margins(logits: Logits) -> np.ndarray:
    """By how much the best output is ahead of the second; of a single output nothing is."""
    if logits.shape[1] == 1:
        return np.full(len(logits), np.inf)
    second, best = np.partition(logits, -2, axis=1)[:, -2:].T
    return best - second


def _points(truth: Truth, margins: np.ndarray, deltas: np.ndarray) -> list[Point]:
    """Every image; of many those that are nearest to a flip."""
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = _largest(deltas / margins, MOST_POINTS)
    return [Point(image=truth.ids[i], margin=number(margins[i]), delta=number(deltas[i])) for i in sorted(nearest)]


def _worst(index: int, outputs: Logits, truth: Truth, delta: float) -> Worst:
    oracle, found = truth.outputs[index], outputs[index]
    most = int(np.nan_to_num(np.abs(found - oracle), nan=np.inf).argmax())
    classes = list(dict.fromkeys([*_best(oracle[None], min(BEST, len(oracle)))[0].tolist(), most]))
    return Worst(
        image=truth.ids[index],
        delta=number(delta),
        classes=classes,
        oracle=[number(oracle[i]) for i in classes],
        found=[number(found[i]) for i in classes],
    )


def _best(logits: Logits, count: int) -> np.ndarray:
    """The `count` best outputs of each image, best first; equal ones in their own order."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]


def _largest(values: np.ndarray, count: int) -> list[int]:
    """Where the `count` largest are, the largest first; NaN is larger than any."""
    return np.argsort(-np.nan_to_num(values, nan=np.inf), kind="stable")[:count].tolist()


def _accuracy(found: np.ndarray, labels: np.ndarray | None) -> Agreement | None:
    if labels is None:
        return None
    known = labels >= 0
    return agreement(int((found == labels)[known].sum()), int(known.sum())) if known.any() else None


def _divergence(oracle: Logits, outputs: Logits) -> float:
    """Mean over images of KL(oracle || outputs), in nats."""
    p, q = _log_probabilities(oracle), _log_probabilities(outputs)
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def _log_probabilities(logits: Logits) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
