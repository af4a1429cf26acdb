"""Small architectures that make mistakes visible, with random checkpoints, images and the oracle's taps for each.

Wherever an architecture allows it, no two of its axes have the same size: a transpose that is wrong or missing changes
a shape. Head widths are those where `1 / sqrt(head width)` is, and is not, a power of two.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vitport import checkpoint, gates, images, metrics, synthesize
from vitport import yardstick as good_float32
from vitport.architectures import Architecture, ResNet, parameter_shapes, published
from vitport.arrays import Images, Params, Taps
from vitport.parity.tapping import as_defined

PLAIN = Architecture(patch=4, width=15, depth=2, heads=3, mlp_width=22, resolution=20, num_classes=7)
REPRESENTATION = replace(PLAIN, representation_size=11)
STEM = replace(PLAIN, patch=2, width=48, resolution=24, resnet=ResNet(depths=()))
HYBRID = replace(PLAIN, patch=1, width=48, resolution=40, resnet=ResNet(depths=(1, 2), width=32))

ARCHITECTURES = {"plain": PLAIN, "representation": REPRESENTATION, "stem": STEM, "hybrid": HYBRID}

PUBLISHED_SMALL = {
    "R26_S_32@64": published("R26_S_32", resolution=64),
    "R_Ti_16@64": published("R_Ti_16", resolution=64),
}

PUBLISHED_FULL = {"R_Ti_16": published("R_Ti_16"), "S_32": published("S_32")}

EXACT = 1e-9
"""Of a tap's spread: rounding of float64, which no two right implementations exceed and no wrong one meets."""


@dataclass(frozen=True)
class Case:
    """One architecture with one random checkpoint."""

    name: str
    architecture: Architecture
    profile: str = "realistic"
    seed: int = 0

    @cached_property
    def params(self) -> Params:
        return random_params(self.architecture, self.seed, self.profile)

    @cached_property
    def images(self) -> Images:
        return images.fixed(self.architecture.resolution)

    @cached_property
    def oracle(self) -> Taps:
        """Every tap of the reference in float64, as far as the definition computes it."""
        from vitport.reference import flax_run

        return as_defined(flax_run.run(self.architecture, self.params, self.images, taps=True), self.architecture)

    def leaves(self, variant: str) -> Params:
        """The leaves that a variant uses."""
        return {name: self.params[name] for name in parameter_shapes(self.architecture, variant)}


@cache
def case(name: str, profile: str = "realistic") -> Case:
    """The case of a name above; made once in a test process."""
    return Case(name, {**ARCHITECTURES, **PUBLISHED_SMALL, **PUBLISHED_FULL}[name], profile)


def random_params(architecture: Architecture, seed: int = 0, profile: str = "realistic") -> Params:
    """A checkpoint written to a file and read back, in arrays of their own."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "random.npz"
        synthesize.write(architecture, path, seed, profile)
        return {name: np.array(leaf) for name, leaf in checkpoint.read(path, architecture).items()}


def disagreement(taps: Taps, oracle: Taps) -> dict[str, float]:
    """By tap, the largest difference from the oracle as a fraction of the tap's spread; NaN stays NaN."""
    assert set(taps) == set(oracle), f"taps differ: {sorted(set(taps) ^ set(oracle))}"
    return {name: _relative(taps[name], oracle[name]) for name in taps}


def assert_exact(taps: Taps, oracle: Taps) -> None:
    """Every tap agrees to the rounding of float64; the message names the first that does not."""
    for name, difference in disagreement(taps, oracle).items():
        assert difference <= EXACT, f"{name} is {difference:.2e} of its spread away from the oracle"


def _relative(found: np.ndarray, oracle: np.ndarray) -> float:
    assert found.shape == oracle.shape, f"shape {found.shape}, the oracle has {oracle.shape}"
    return float(np.abs(found - oracle).max() / oracle.std())


@cache
def yardstick(name: str, profile: str, tap: str) -> float:
    """The RMS error of NumPy in float32, worst of the gate's draws: what `vitport.yardstick` measures."""
    measured = case(name, profile)
    draws = good_float32.run(measured.architecture, measured.params, measured.images, {tap})[tap]
    return metrics.worst_rms(draws, measured.oracle[tap])


def verdict(name: str, profile: str, tap: str, found: np.ndarray) -> gates.Verdict:
    """The gate's judgement of outputs on the two fixed images."""
    measured = metrics.error(found, case(name, profile).oracle[tap])
    return gates.float32(measured, yardstick(name, profile, tap))
