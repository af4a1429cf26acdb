"""Why float32 gradients behind ReLUs differ: `python scripts/gradient_kinks.py r26_s32_light CHECKPOINT ARTIFACTS`.

A ReLU's derivative jumps at zero. Where rounding gives an input the other sign, a whole path of the gradient is
switched on or off, so the error is that of a few switches and not of the arithmetic. Each draw moves the pixels by one
float32 at most; what an implementation does wrong would be the same in every draw. Writes `reports/gradients.md`.
"""

import sys
from collections.abc import Container, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vitport import images, manifest, runners
from vitport.architectures import Architecture, forward
from vitport.arrays import Images, Params
from vitport.backends.numpy import Cast, NumPyOps
from vitport.gates import DRAWS
from vitport.job_arguments import identity, model_of
from vitport.parity.measuring import labels_of, relative_errors
from vitport.reference import flax_run
from vitport.runners import Subject

VARIANT = "classifier"
ARTIFACTS = ("saved_model", "torchscript")
REPORT = Path("reports/gradients.md")

HEAD = """# Float32 gradients behind a ReLU

RMS error of gradients to Flax in float64, in millionths of each gradient's own RMS, on the two fixed images, and twice
more with every pixel moved by at most one float32. Measured by
`python {command}`.

| draw | what | `embedding`, behind no ReLU | `block4` | `block3` | `block1` | `root` |
|---|---|--:|--:|--:|--:|--:|
"""

FLIPS = """
A ReLU's derivative jumps where its input changes sign. NumPy in float32 gives another sign than in float64 to {} of
the {:,} inputs of all ReLUs in the three draws, each framework to a few of its own, and each of these switches a path
of the gradient. What no ReLU lies in front of is as exact as rounding allows; everything behind them jumps from draw
to draw, in every implementation, by far more than rounding: no limit would be right for errors that are made of single
events. So the float32 gate is for parts that no ReLU lies in front of, and all parts are held to the oracle in float64,
where nothing switches and PyTorch, TensorFlow and Flax agree to 1e-13.
"""


class Watching(NumPyOps):
    """Operations that remember which inputs of a ReLU were positive."""

    def __init__(self, keep: Container[str]) -> None:
        super().__init__(keep)
        self.positive: list[np.ndarray] = []

    def relu(self, x: np.ndarray) -> np.ndarray:
        self.positive.append(x > 0)
        return super().relu(x)


def main(name: str, checkpoint: Path, artifacts: Path) -> None:
    """Measures and writes the report."""
    architecture = manifest.read(Path("manifests") / f"{name}.yaml").architecture
    job = {"asset": str(checkpoint), "identity": identity(checkpoint), "architecture": asdict(architecture)}
    architecture, params = model_of({**job, "any_value": []})
    fixed, rows, flips = images.fixed(architecture.resolution), [], []
    for draw in range(DRAWS):
        pixels = images.nudged(fixed, draw)
        for what, errors in _errors(architecture, params, pixels, artifacts):
            parts = ("embedding", "block4", "block3", "block1", "root")
            rows.append(
                f"| {draw} | {what} | " + " | ".join(f"{_figure(errors[part] * 1e6)}" for part in parts) + " |\n"
            )
            print(rows[-1], end="", flush=True)
        flips.append(_flips(architecture, params, pixels))
    counted, of = ", ".join(str(count) for count, _ in flips), flips[0][1]
    command = " ".join(["scripts/gradient_kinks.py", name, str(checkpoint), str(artifacts)])
    REPORT.write_text(HEAD.format(command=command) + "".join(rows) + FLIPS.format(counted, of))


def _figure(number: float) -> str:
    """Three digits, none of them a power of ten."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _errors(
    architecture: Architecture, params: Params, pixels: Images, artifacts: Path
) -> Iterator[tuple[str, dict[str, float]]]:
    """Of Flax itself, then of each artifact: errors by part of the network."""
    labels = labels_of(pixels, architecture.num_classes)
    truth = flax_run.gradients(architecture, params, pixels, labels, VARIANT, "float64")
    single = flax_run.gradients(architecture, params, pixels, labels, VARIANT, "float32")
    yield "Flax", relative_errors(single, truth)
    for name in ARTIFACTS:
        folder = artifacts / VARIANT / name
        subject = Subject(architecture, VARIANT, folder, params, False)
        found = runners.module(name).gradients(subject, "cpu", pixels, labels)
        yield name, relative_errors(found, truth)


def _flips(architecture: Architecture, params: Params, pixels: Images) -> tuple[int, int]:
    """Inputs of ReLUs with another sign in float32, and how many inputs there are."""
    exact, single = (_signs(architecture, params, pixels, dtype) for dtype in ("float64", "float32"))
    pairs = list(zip(exact, single, strict=True))
    return sum(int((one != other).sum()) for one, other in pairs), sum(one.size for one, _ in pairs)


def _signs(architecture: Architecture, params: Params, pixels: Images, dtype: str) -> list[np.ndarray]:
    ops = Watching(keep=())
    forward(architecture, ops, Cast(params, dtype), pixels.astype(dtype), VARIANT)
    return ops.positive


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
