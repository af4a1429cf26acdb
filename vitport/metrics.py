"""How far outputs are from the oracle: pure functions of two arrays, in float64."""

from dataclasses import dataclass

import numpy as np

from vitport.arrays import Logits


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
        rms = float(np.sqrt(np.square(delta).mean()))
    return Error(float(np.abs(delta).max()), rms, spread(oracle), nonfinite)


def spread(oracle: Logits) -> float:
    """Standard deviation of the oracle's outputs; their magnitude where they are all equal."""
    return float(oracle.std()) or float(np.abs(oracle).max()) or 1.0
