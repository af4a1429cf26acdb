"""What a client's outputs are worth: their RMS error to the float64 oracle against a limit, one row of the table.

The limit is the artifact's own, three times the error of a good float32 implementation (vitport/gates.py). A client
that computes in float32 rounds as often as the framework that the gate was made for; none needs more.
"""

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from models import Model

GREY_LEVEL = 1 / 127.5
"""Of 256, in pixels from -1 to 1."""


@dataclass(frozen=True)
class Client:
    """title: what a person would call or type. format: what it reads. packages: whose versions matter.

    versions: of what is not a Python package.
    """

    title: str
    format: str
    packages: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()

    def facts(self) -> dict:
        found = {package: version(package).partition("+")[0] for package in self.packages}
        return {"client": self.title, "format": self.format, "versions": {**found, **dict(self.versions)}}


@dataclass(frozen=True)
class Verdict:
    """PASS where error <= limit; NaN is above every limit.

    unit: of error and limit, empty for units of the output. coarseness: RMS error over that of a good float32
    implementation on the same images; None where that has no meaning.
    """

    client: Client
    model: Model
    variant: str
    error: float
    limit: float
    unit: str = ""
    coarseness: float | None = None

    @property
    def passed(self) -> bool:
        return bool(self.error <= self.limit)

    def row(self) -> dict:
        numbers = {"error": self.error, "limit": self.limit, "unit": self.unit, "coarseness": self.coarseness}
        which = {"model": self.model.name, "variant": self.variant, "verdict": "PASS" if self.passed else "FAIL"}
        return self.client.facts() | which | numbers


class Book:
    """The rows of one environment."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def enter(self, verdict: Verdict) -> None:
        """Keeps a row, then raises AssertionError unless it is a PASS."""
        self.rows.append(verdict.row())
        assert verdict.passed, verdict


def judge(client: Client, model: Model, variant: str, outputs: np.ndarray) -> Verdict:
    """Outputs on the model's images against the oracle's."""
    return _compare(client, model, variant, outputs, model.truth(variant))


def judge_scores(client: Client, model: Model, scores: np.ndarray) -> Verdict:
    """Probabilities, as pipelines give them: their logarithms are the logits up to a constant in each row.

    Without the constant, the error of the logits can only become smaller, so their limit holds.
    """
    return _compare(client, model, "classifier", _centred(np.log(scores)), _centred(model.truth("classifier")))


def judge_pixels(client: Client, model: Model, variant: str, pixels: np.ndarray) -> Verdict:
    """A preprocessor's output for the model's pictures, which are of its size: nothing but float32 may differ."""
    planar = model.planar()
    assert pixels.shape == planar.shape, f"pixels have shape {pixels.shape}, the model takes {planar.shape}"
    error = float(np.abs(pixels - planar).max()) / GREY_LEVEL
    return Verdict(client, model, variant, error, 1e-4, "grey levels")


def _compare(client: Client, model: Model, variant: str, outputs: np.ndarray, truth: np.ndarray) -> Verdict:
    outputs = np.asarray(outputs, np.float64)
    assert outputs.shape == truth.shape, f"outputs have shape {outputs.shape}, the oracle's {truth.shape}"
    rms = float(np.sqrt(np.square(outputs - truth).mean()))
    limit = model.entry(variant, client.format)["error"]["limit"]
    return Verdict(client, model, variant, rms, limit, coarseness=rms / model.yardstick(variant))


def _centred(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(axis=1, keepdims=True)
