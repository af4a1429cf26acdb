"""Holds what a run computed to the oracle: first the shared definition, in float64, then every artifact made of it.

The definition comes first because the yardstick is made of it too: a slip in it would widen the limit by as much as it
moves the artifacts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitport import gates, metrics
from vitport.architectures import TAPS
from vitport.arrays import Logits
from vitport.errors import CheckpointError, ParityError
from vitport.metrics import Error


@dataclass(frozen=True, slots=True)
class Reference:
    """What one variant is judged by.

    truth: the oracle's outputs, and their spread. definition: how far the definition in float64 is from them, relative
    to the spread. jax: the error of JAX in float32. yardstick: RMS error of the worst draw of NumPy in float32.
    numpy: the outputs of its first draw, which is on the images themselves.
    """

    truth: Logits
    numpy: Logits
    spread: float
    definition: float
    jax: Error
    yardstick: float

    def facts(self) -> dict:
        """What `artifacts.json` says of it."""
        return {
            "spread": self.spread,
            "definition": {"relative": self.definition},
            "jax_float32": {"max_abs": self.jax.max_abs, "rms": self.jax.rms},
            "yardstick": {"rms": self.yardstick},
        }


def references(outputs: dict[str, str], variants: Sequence[str]) -> dict[str, Reference]:
    """By variant, from the files that the tasks `oracle` and `yardstick` left.

    Raises CheckpointError where the model has no finite outputs, ParityError where the definition is not the oracle.
    """
    oracle, yardstick = np.load(outputs["oracle"]), np.load(outputs["yardstick"])
    return {variant: _reference(oracle, yardstick, TAPS[variant]) for variant in variants}


def _reference(oracle: np.lib.npyio.NpzFile, yardstick: np.lib.npyio.NpzFile, tap: str) -> Reference:
    truth = oracle[f"float64/{tap}"]
    if not np.isfinite(truth).all():
        raise CheckpointError(f"the weights are finite, but the {tap} that the oracle makes of them are not")
    definition = metrics.error(yardstick[f"float64/{tap}"], truth)
    if not definition.relative <= gates.EXACT:
        raise ParityError(
            f"in float64 the definition differs from the oracle by {definition.relative:.1e} of the {tap}'s "
            f"spread, where rounding allows {gates.EXACT:g}; please report this checkpoint, nothing published"
        )
    jax = metrics.error(oracle[f"float32/{tap}"], truth)
    draws = yardstick[f"float32/{tap}"]
    if jax.nonfinite or not np.isfinite(draws).all():
        raise CheckpointError(f"the {tap} of this checkpoint are NaN or infinite in float32, even in JAX")
    worst = metrics.worst_rms(draws, truth)
    return Reference(truth, draws[0], metrics.spread(truth), definition.relative, jax, worst)


def judge(what: str, outputs: Logits, reference: Reference, ratio: float) -> dict:
    """The `error` of an artifact in `artifacts.json`. Raises ParityError where `outputs` are another function's."""
    if outputs.shape != reference.truth.shape:
        raise ParityError(f"{what} returns {outputs.shape}, the oracle {reference.truth.shape}; nothing published")
    measured = metrics.error(outputs, reference.truth)
    verdict = gates.float32(measured, reference.yardstick, ratio)
    if not verdict.passed:
        raise ParityError(f"{what} is not the function of the checkpoint: {verdict.reason}; nothing published")
    return {
        "max_abs": measured.max_abs,
        "rms": measured.rms,
        "ratio": measured.rms / (reference.jax.rms or 1.0),
        "limit": verdict.limit,
    }
