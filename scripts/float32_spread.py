"""How far apart good float32 implementations are: the measurement behind the gate of `vitport/gates.py`.

    python scripts/float32_spread.py [--seeds 25] [--output reports/float32.md]

Random checkpoints are run in float32 by NumPy (the yardstick, worst of the gate's draws), PyTorch, ONNX Runtime,
TensorFlow (eager) and JAX, on the two fixed images. What is written are quantiles of each one's RMS error to the
float64 oracle, divided by the yardstick's.
"""

import argparse
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import onnxruntime

from vitport import checkpoint, gates, images, metrics, synthesize, yardstick
from vitport.architectures import Architecture, ResNet
from vitport.arrays import Images, Logits, Params
from vitport.backends import numpy, onnx, tensorflow, torch
from vitport.opsets import DEFAULT
from vitport.reference import flax_run

SIZES = {"width": 32, "heads": 4, "mlp_width": 64, "resolution": 32, "num_classes": 10}
ARCHITECTURES = {
    "plain": Architecture(patch=4, depth=4, **SIZES),
    "stem": Architecture(patch=2, depth=2, resnet=ResNet(depths=()), **SIZES),
    "residual": Architecture(patch=1, depth=2, resnet=ResNet(depths=(1, 1), width=32), **SIZES),
}
QUANTILES = {"5 %": 0.05, "median": 0.5, "95 %": 0.95, "99 %": 0.99, "largest": 1.0}


def by_onnxruntime(architecture: Architecture, params: Params, pixels: Images) -> Logits:
    graph = onnx.build(architecture, params, "classifier", DEFAULT)
    model = onnx.model_of(graph, architecture, {"logits": architecture.num_classes})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {onnx.INPUT: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))})[0]


def by_definition(backend: object) -> Callable[[Architecture, Params, Images], Logits]:
    return lambda architecture, params, pixels: backend.run(architecture, params, pixels, "classifier", "float32")[
        "logits"
    ]


IMPLEMENTATIONS: dict[str, Callable[[Architecture, Params, Images], Logits]] = {
    "PyTorch": by_definition(torch),
    "ONNX Runtime": by_onnxruntime,
    "TensorFlow": by_definition(tensorflow),
    "JAX": lambda architecture, params, pixels: flax_run.run(architecture, params, pixels, "float32")["logits"],
}


class ErfGelu(numpy.NumPyOps):
    """A wrong definition: the exact GELU, which the checkpoints were not trained with."""

    def gelu_tanh(self, x: np.ndarray) -> np.ndarray:
        return (x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))).astype(x.dtype)


class TorchEpsilon(numpy.NumPyOps):
    """A wrong definition: PyTorch's default epsilon of LayerNorm, 1e-5."""

    def layer_norm(self, x: np.ndarray, scale: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
        return super().layer_norm(x, scale, bias, 1e-5)


def by_wrong_definition(ops: type[numpy.NumPyOps]) -> Callable[[Architecture, Params, Images], Logits]:
    return lambda architecture, params, pixels: numpy.Model(architecture, "classifier", params, ops).runner()(pixels)


FAULTS = {
    "*erf GELU*": by_wrong_definition(ErfGelu),
    "*LayerNorm epsilon 1e-5*": by_wrong_definition(TorchEpsilon),
}


def ratios(architecture: Architecture, profile: str, seed: int) -> dict[str, float]:
    """Of one checkpoint: each implementation's RMS error over the yardstick's, and that as a fraction of the spread."""
    params, pixels = _random_params(architecture, profile, seed), images.fixed(architecture.resolution)
    truth = flax_run.run(architecture, params, pixels)["logits"]
    good = metrics.worst_rms(yardstick.run(architecture, params, pixels, {"logits"})["logits"], truth)
    errors = {
        name: metrics.error(run(architecture, params, pixels), truth).rms
        for name, run in {**IMPLEMENTATIONS, **FAULTS}.items()
    }
    return {**{name: rms / good for name, rms in errors.items()}, "": good / metrics.spread(truth)}


def _random_params(architecture: Architecture, profile: str, seed: int) -> Params:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.npz"
        synthesize.write(architecture, path, seed, profile)
        return {name: np.array(leaf) for name, leaf in checkpoint.read(path, architecture).items()}


def rows(seeds: int) -> Iterator[str]:
    """Lines of the table."""
    yield f"| checkpoint | yardstick / spread | implementation | {' | '.join(QUANTILES)} |"
    yield f"|---|---|---|{'---|' * len(QUANTILES)}"
    for (name, architecture), profile in product(ARCHITECTURES.items(), synthesize.PROFILES):
        measured = [ratios(architecture, profile, seed) for seed in range(seeds)]
        scale = np.median([row[""] for row in measured])
        for implementation in (*IMPLEMENTATIONS, *FAULTS):
            quantiles = np.quantile([row[implementation] for row in measured], list(QUANTILES.values()))
            numbers = " | ".join(f"{quantile:.3g}" for quantile in quantiles)
            yield f"| {name}, {profile} | {scale:.1e} | {implementation} | {numbers} |"


def report(seeds: int) -> str:
    """The whole page."""
    versions = {"numpy": np.__version__, "onnxruntime": onnxruntime.__version__, "torch": torch.torch.__version__}
    versions |= {"tensorflow": tensorflow.tf.__version__, "jax": flax_run.facts()["jax"]}
    return "\n".join(
        [
            "# How far apart good float32 implementations are",
            "",
            "RMS error of the logits to the float64 oracle, divided by that of the yardstick (the definition in NumPy,",
            f"float32, worst of {gates.DRAWS} draws), on the two fixed images. The gate allows {gates.RATIO:g}.",
            "In italics, functions that are wrong: the gate must be far below them.",
            "",
            f"{seeds} random checkpoints of each kind (`vitport/synthesize.py`), on a CPU. Measured by",
            f"`python scripts/float32_spread.py --seeds {seeds}` with",
            f"{', '.join(f'{name} {version}' for name, version in versions.items())}.",
            "",
            *rows(seeds),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=25)
    parser.add_argument("--output", type=Path, default=Path("reports/float32.md"))
    options = parser.parse_args()
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(report(options.seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
