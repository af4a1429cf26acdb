"""What each variant is judged by: the oracle's outputs, and how far good implementations are from them."""

from collections.abc import Sequence

import numpy as np

from vitport.architectures import TAPS
from vitport.errors import CheckpointError
from vitport.metrics import error, worst_rms
from vitport.parity.bench import Bench, Errand, Result
from vitport.parity.comparison import Truth, number
from vitport.parity.report_schema import Spread


def references(bench: Bench, variants: Sequence[str], tf32: bool = False) -> tuple[dict[str, Truth], dict[str, Spread]]:
    """What each variant is judged by. tf32: whether a reference for TensorFloat-32 is needed.

    Raises the oracle's error: without it there is no verdict.
    """
    oracle = bench.run(Errand("oracle", "reference"))
    standard = bench.run(Errand("yardstick", "standard", {"tf32": tf32}))
    found = {variant: _reference(bench, oracle, standard, variant) for variant in variants}
    return {name: truth for name, (truth, _) in found.items()}, {name: each for name, (_, each) in found.items()}


def _reference(bench: Bench, oracle: Result, standard: Result, variant: str) -> tuple[Truth, Spread]:
    tap = TAPS[variant]
    outputs, fixed = oracle.arrays[f"images/{tap}"], oracle.arrays[f"fixed/{tap}"]
    if not (np.isfinite(outputs).all() and np.isfinite(fixed).all()):
        raise CheckpointError(f"the weights are finite, but the {tap} that the oracle makes of them are not")
    definition = error(standard.arrays[f"float64/{tap}"], fixed).relative
    labels = None if bench.pictures.labels is None else np.asarray(bench.pictures.labels)
    truth = Truth(outputs, bench.pictures.ids, labels, variant == "classifier", fixed)
    numbers = {"spread": truth.spread, "definition": definition}
    for name, key in (("yardstick", f"float32/{tap}"), ("tf32", f"tf32/{tap}")):
        if key in standard.arrays:
            numbers[name] = _good(standard.arrays[key], outputs, tap) / truth.spread
    return truth, Spread(**{name: number(value) for name, value in numbers.items()}, jax={})


def _good(draws: np.ndarray, outputs: np.ndarray, tap: str) -> float:
    """RMS error of the worst of NumPy's draws, (draws, n, width), on the first n images. Raises CheckpointError."""
    worst = worst_rms(draws, outputs[: draws.shape[1]])
    if not np.isfinite(worst):
        raise CheckpointError(f"the {tap} of this checkpoint are NaN or infinite in float32, even in NumPy")
    return worst
