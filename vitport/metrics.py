"""How far outputs are from the oracle: pure functions of two arrays, in float64."""

from dataclasses import dataclass

import numpy as np

from vitport.arrays import Logits

EQUAL = 1e-5
"""Of the magnitude: outputs that deviate less, as those of a head that is nearly zero, are told from each other by the
last two digits of float32. In float64 one last bit would be 2e-11 of such a deviation and more, where 1e-9 is allowed.
"""


@dataclass(frozen=True, slots=True)
class Error:
    """Differences of one run from the oracle, in units of the output (logits).

    max_abs: largest |delta|. rms: root mean square. spread: standard deviation of the oracle's own outputs, the scale
    against which an error is small or not. nonfinite: outputs that are NaN or infinite, which no other number shows.
    """

    max_abs: float
    rms: float
    spread: float
    nonfinite: int

    @property
    def relative(self) -> float:
        """rms / spread."""
        return self.rms / self.spread


def error(output: np.ndarray, oracle: Logits) -> Error:
    """The error of `output`. Raises ValueError where the shapes differ: broadcasting would hide it."""
    if output.shape != oracle.shape:
        raise ValueError(f"output has shape {output.shape}, the oracle {oracle.shape}")
    nonfinite = int(np.size(output) - np.isfinite(output).sum())
    with np.errstate(invalid="ignore", over="ignore"):
        delta = output.astype(np.float64) - oracle
    return Error(float(np.abs(delta).max()), _root_mean_square(delta), spread(oracle), nonfinite)


def rms(output: np.ndarray, truth: np.ndarray) -> float:
    """The RMS difference alone. Raises ValueError where the shapes differ."""
    if output.shape != truth.shape:
        raise ValueError(f"output has shape {output.shape}, what it is held to {truth.shape}")
    with np.errstate(invalid="ignore"):
        return _root_mean_square(np.subtract(output, truth, dtype=np.float64))


def worst_rms(draws: np.ndarray, truth: np.ndarray) -> float:
    """RMS error of the worst draw, NaN where any is. draws: (draws, n, ...), as `yardstick.run` leaves a tap."""
    return float(np.max([rms(draw, truth) for draw in draws]))


def _root_mean_square(delta: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.square(delta).mean()))


def spread(oracle: Logits) -> float:
    """Standard deviation of the oracle's outputs; their magnitude where they are all but equal."""
    deviation, magnitude = float(oracle.std()), float(np.abs(oracle).max())
    return deviation if deviation > EQUAL * magnitude else magnitude or 1.0
