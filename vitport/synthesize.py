"""Random checkpoints in the exact layout of the published ones, for tests, benchmarks and places without a network.

Weights of one magnitude everywhere would hide what a converter gets wrong: an epsilon matters only beside a small
spread, a GELU only where its input is near -2.7, a softmax only when it is neither uniform nor one-hot. So a profile is
a table of distributions, and what each profile promises about activations is tested on the definition in float64.

Each leaf has its own stream, derived from the seed and its name: neither the order of the leaves nor the rest of the
architecture changes it, and one leaf at a time is in memory.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from vitport import npz
from vitport.architectures import Architecture, parameter_shapes
from vitport.checkpoint import FLATTENED
from vitport.errors import UsageError

Leaf = Float32[np.ndarray, "..."]
Shape = tuple[int, ...]
Sampler = Callable[[np.random.Generator, Shape], Leaf]
Progress = Callable[[int, int], None]
"""Told after every leaf: bytes done, bytes in all."""


def normal(mean: float, std: float) -> Sampler:
    """Gaussian values."""

    def sample(generator: np.random.Generator, shape: Shape) -> Leaf:
        leaf = generator.standard_normal(shape, np.float32)
        leaf *= np.float32(std)
        leaf += np.float32(mean)
        return leaf

    return sample


def scaled(gain: float, input_axes: int | None = -1) -> Sampler:
    """Gaussian weights that make outputs of std `gain` from unit inputs; `input_axes` leading axes are summed over."""
    return lambda generator, shape: normal(0.0, gain / math.sqrt(math.prod(shape[:input_axes])))(generator, shape)


def heavy(gain: float, freedom: float) -> Sampler:
    """As `scaled`, but Student's t with few degrees of freedom: most weights small, some ten times the spread."""

    def sample(generator: np.random.Generator, shape: Shape) -> Leaf:
        std = gain / math.sqrt(math.prod(shape[:-1]) * freedom / (freedom - 2))
        tail = np.sqrt(freedom / (2 * generator.standard_gamma(freedom / 2, shape, np.float32)))
        return normal(0.0, std)(generator, shape) * tail.astype(np.float32)

    return sample


def striped(low: float, high: float) -> Sampler:
    """A spread and a mean of its own for every output channel, the spread log-uniform, the mean about as large."""

    def sample(generator: np.random.Generator, shape: Shape) -> Leaf:
        std = np.exp(generator.uniform(math.log(low), math.log(high), shape[-1])).astype(np.float32)
        mean = std * generator.standard_normal(shape[-1], np.float32)
        return generator.standard_normal(shape, np.float32) * std + mean

    return sample


REALISTIC: tuple[tuple[str, Sampler], ...] = (
    (r"(.*/)?conv[^/]*/kernel", normal(0.0, 1e-2)),
    (r"(.*/)?gn[^/]*/scale", normal(1.0, 0.2)),
    (r"(.*/)?gn[^/]*/bias", normal(0.0, 0.1)),
    (r"embedding/kernel", scaled(1.0)),
    (r"cls", normal(0.0, 0.1)),
    (r".*/pos_embedding", normal(0.0, 0.12)),
    (r".*/LayerNorm_\d/scale|.*/encoder_norm/scale", normal(1.0, 0.2)),
    (r".*/(query|key)/kernel", scaled(1.4, 1)),
    (r".*/value/kernel", scaled(1.0, 1)),
    (r".*/Dense_0/kernel", scaled(1.2)),
    (r"head/kernel", scaled(2.0)),
    (r".*/(query|key|value)/bias", normal(0.0, 0.1)),
    (r"head/bias", normal(0.0, 0.1)),
    (r".*/bias", normal(0.0, 0.05)),
    (r".*/kernel", scaled(1.0)),
)
"""Magnitudes of trained AugReg files: positions 0.12, kernels about 1 / sqrt(fan in), logits of std about 2."""

STRESS: tuple[tuple[str, Sampler], ...] = (
    (r"(.*/)?conv[^/]*/kernel", striped(1e-4, 3e-2)),
    (r"(.*/)?gn[^/]*/scale", normal(1.5, 0.5)),
    (r"(.*/)?gn[^/]*/bias", normal(0.0, 0.5)),
    (r".*/pos_embedding", normal(0.0, 0.5)),
    (r".*/LayerNorm_\d/scale|.*/encoder_norm/scale", normal(1.5, 0.5)),
    (r".*/LayerNorm_\d/bias|.*/encoder_norm/bias", normal(0.0, 0.3)),
    (r".*/(query|key)/kernel", scaled(2.2, 1)),
    (r".*/MlpBlock_\d/.*kernel", heavy(1.0, 3.0)),
    (r".*/MlpBlock_\d/.*bias", normal(0.0, 0.3)),
    *REALISTIC,
)
"""Numerically hard, still a function: StdConv channels from below to far above their epsilon, nearly one-hot attention,
large gains, heavy tails. The first row that matches a leaf counts."""

PROFILES: dict[str, tuple[tuple[str, Sampler], ...]] = {"realistic": REALISTIC, "stress": STRESS}


def write(
    architecture: Architecture,
    path: Path,
    seed: int = 0,
    profile: str = "realistic",
    progress: Progress | None = None,
) -> None:
    """Writes random weights as published checkpoints store them; equal arguments make equal bytes.

    Raises UsageError for an unknown profile, OutputError where the file can't be written.
    """
    if profile not in PROFILES:
        raise UsageError(f"unknown profile {profile!r}; known: {', '.join(PROFILES)}")
    npz.write(path, _leaves(stored_shapes(architecture), seed, profile, progress or (lambda done, total: None)))


def stored_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Leaves as the published files hold them: sorted level by level, GroupNorm as (1, 1, 1, c)."""
    shapes = parameter_shapes(architecture)
    flattened = {name for name in shapes if any(re.fullmatch(pattern, name) for pattern in FLATTENED)}
    names = sorted(shapes, key=lambda name: name.split("/"))
    return {name: (1, 1, 1, *shapes[name]) if name in flattened else shapes[name] for name in names}


def leaf(name: str, shape: Shape, seed: int, profile: str) -> Leaf:
    """One leaf of a checkpoint: the same for every architecture that has it in this shape."""
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), "<u4").tolist()
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))
    sampler = next(sampler for pattern, sampler in PROFILES[profile] if re.fullmatch(pattern, name))
    return sampler(generator, shape)


def _leaves(shapes: dict[str, Shape], seed: int, profile: str, progress: Progress) -> Iterator[tuple[str, np.ndarray]]:
    total, done = 4 * sum(map(math.prod, shapes.values())), 0
    for name, shape in shapes.items():
        yield name, leaf(name, shape, seed, profile)
        done += 4 * math.prod(shape)
        progress(done, total)
