"""When a float32 artifact is exact enough: the bound, and where its numbers come from.

Two float32 programs of one function differ because they round in another order. Each rounding is a small random kick,
the network carries it to the logits, and the RMS error at the end is one draw from a distribution whose scale belongs
to the checkpoint and the image, not to the program (Higham and Mary, "A new approach to probabilistic rounding error
analysis", SIAM J. Sci. Comput. 41, 2019). So the bound is a multiple of a measured scale, never a number of its own.

* The scale is the error of a good float32 implementation: the shared definition in NumPy, which sums pairwise and
  takes variances in two passes. It is run on each image and on `DRAWS - 1` copies that differ in the last bit, which draws the
  roundings anew; the worst draw counts, since two images make a small sample.
* `RATIO`: between two good implementations (NumPy, PyTorch, ONNX Runtime) the ratio of RMS errors on two images has
  median 1.0 and a 99 % quantile of 1.6 to 3.1 over random plain and hybrid checkpoints; `reports/float32.md` has the
  measurement. A wrong GELU measures 280, a wrong LayerNorm epsilon 390.
* `FLOOR`: a network of a few layers can round almost not at all, and then the ratio is between two accidents. One
  float32 rounding is 2^-24 = 6e-8 of a value; the dozens that a logit passes through make 5e-7 to 1e-6 of the spread of
  the logits in the plain published architectures. A limit is never below twice that: a hundredth of a wrong GELU.
"""

from dataclasses import dataclass

from vitport.metrics import Error

RATIO = 3.0
"""Allowed multiple of a good float32 implementation's RMS error."""

FLOOR = 2e-6
"""Of the oracle's spread: no limit is below."""

DRAWS = 3
"""Runs of the yardstick per image."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """PASS or FAIL, the limit on the RMS error, and the reason in words."""

    passed: bool
    limit: float
    reason: str


def float32(measured: Error, yardstick: float, ratio: float = RATIO) -> Verdict:
    """Judges an artifact's error against the RMS error of a good float32 implementation."""
    limit = max(ratio * yardstick, FLOOR * measured.spread)
    if measured.nonfinite:
        return Verdict(False, limit, f"{measured.nonfinite} of its outputs are NaN or infinite")
    if not measured.rms <= limit:
        return Verdict(
            False,
            limit,
            f"its RMS error to the oracle is {measured.rms:.2e} (max {measured.max_abs:.2e}), that of a good float32 "
            f"implementation {yardstick:.2e}; the limit is {limit:.2e}",
        )
    return Verdict(True, limit, f"RMS error {measured.rms:.2e} within {limit:.2e}")
