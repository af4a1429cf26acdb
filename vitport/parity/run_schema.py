"""One run of a report, `report.json`: every number that was measured of one backend.

Numbers that are NaN or infinite are null, and null never passes a gate.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["PASS", "FAIL", "NOT RUN"]
Status = Literal["RAN", "NOT RUN"]

Number = Annotated[float, Field(allow_inf_nan=False)] | None
"""A measured number; null where it was NaN or infinite."""

Size = Annotated[float, Field(allow_inf_nan=False, ge=0)] | None
"""Of a difference or a spread: a number that is never negative, since one would pass every gate."""

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""Of things, bytes or classes: a whole number that a float can hold."""

Cause = Literal[
    "environment",
    "device",
    "precision",
    "crashed",
    "timeout",
    "memory",
    "stale",
    "fed",
    "shape",
    "inapplicable",
    "absent",
]
"""Why a run did not run: a package or a device is missing; it ran elsewhere, or in another precision, than asked; it
died, hung, ran out of memory; it left another run's result; was fed other images; returned another shape; the backend
can't run so; nobody made its artifact here, for want of the framework."""


class Model(BaseModel):
    """Frozen, exact about types, and closed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Distribution(Model):
    """|difference from the oracle|, over every output of every image."""

    max: Size
    """Largest."""
    mean: Size
    """Mean."""
    rms: Size
    """Root mean square."""
    p50: Size
    """Median."""
    p99: Size
    """99 per cent are at most this."""
    p999: Size
    """99.9 per cent are at most this."""


class Agreement(Model):
    """How often the k best outputs are the oracle's."""

    agree: Count
    """Images on which they are."""
    count: Count
    """Images."""
    bound: float
    """With 95 % confidence the rate of disagreement is below this: about 3 / count where there is none."""


class Flip(Model):
    """An image whose best output is another than the oracle's."""

    image: str
    """Its name."""
    expected: Count
    """The oracle's best output."""
    found: Count
    """The backend's."""
    margin: Number
    """By how much the oracle prefers its best to its second best, in logits."""
    delta: Size
    """Largest |difference| of this image's logits."""
    explained: bool
    """margin ≤ 2 · delta. A flip without is impossible: the harness is wrong."""


class Point(Model):
    """One image: its margin and its largest difference."""

    image: str
    """Its name."""
    margin: Number
    """Of the oracle, in logits."""
    delta: Size
    """Largest |difference| of its logits."""


class Worst(Model):
    """An image with the largest differences, and its logits."""

    image: str
    """Its name."""
    delta: Size
    """Largest |difference|."""
    classes: list[Count]
    """The oracle's five best outputs, and the one that differs most."""
    oracle: list[Number]
    """The oracle's logits there."""
    found: list[Number]
    """The backend's."""


class Histogram(Model):
    """Of |difference| / spread, on a logarithmic scale."""

    edges: list[float]
    """Powers of ten: bin i holds what lies from 10**edges[i] to 10**edges[i + 1]; the first and last what is beyond."""
    counts: list[Count]
    """One fewer than edges."""
    zeros: Count
    """Outputs that are the oracle's exactly."""


class Weights(Model):
    """The artifact's own weights, brought back to the checkpoint's names and axes, beside the checkpoint's."""

    leaves: Count
    """Compared."""
    different: list[str]
    """Those of which any bit differs, ten at most."""
    count: Count
    """How many differ."""


class Labels(Model):
    """What the artifact calls its classes, beside the manifest."""

    classes: Count
    """Compared."""
    different: list[int]
    """Those with another name, ten at most."""
    count: Count
    """How many have."""


class Preprocessing(Model):
    """What the artifact tells its clients to make of a picture, beside the published evaluation."""

    different: list[str]
    """Its settings that are others, ten at most, in words."""
    count: Count
    """How many are."""


class Semantic(Model):
    """Is it the same function? In float64, against the oracle."""

    relative: Size
    """RMS difference, relative to the spread."""
    how: str
    """What was run in float64: the artifact itself, or the backend's definition with the artifact's weights."""


class BatchNoise(Model):
    """The same images in batches of another size."""

    batch: Count
    """Images at a time; the last batch may be smaller."""
    images: Count
    """How many."""
    max: Size
    """Largest |difference| from the main run."""
    bit_equal: bool
    """Whether there is none."""


class Noise(Model):
    """How far a backend is from itself."""

    repeat: BatchNoise
    """A second run of the first batch."""
    batches: list[BatchNoise]
    """Other batch sizes."""
    cpu: Size = None
    """Largest |difference| of a run on a GPU from the same artifact on the CPU; null where it was not run there."""


class Gradient(Model):
    """Of the loss with respect to the input or to the weights of one part of the network."""

    name: str
    """images, embedding, encoderblock_0 …, head."""
    relative: Size
    """RMS difference from Flax in float64, relative to that gradient's own RMS."""
    reference: Size
    """The same of Flax in float32."""
    semantic: Size = None
    """The same of this run's artifact in float64."""


class Gradients(Model):
    """Parity of what fine-tuning uses."""

    loss: str
    """What was differentiated."""
    images: Count
    """On how many images."""
    parts: list[Gradient]
    """The input first, then the network in order."""
    double: bool = False
    """Whether they were measured in float64 too."""


class Growth(Model):
    """How far a run is from the oracle at one tap inside the network."""

    tap: str
    """Its name, as the definition gives it: embedding, encoderblock_0 …"""
    relative: Size
    """RMS difference, relative to the standard deviation of the oracle's values there."""
    rounding: Size = None
    """The same of NumPy in float32; null where that was not measured."""


class Speed(Model):
    """Time and memory of a run's own process."""

    wall: float
    """Seconds, whole process."""
    load: float
    """Seconds to import the framework and load the artifact."""
    infer: float
    """Seconds of the calls of the main run, together."""
    rate: float
    """Images per second of the main run, without the two batches in which frameworks compile, where it has more."""
    memory: Count
    """Bytes, the process's peak."""


class Run(Model):
    """One backend, one variant, one precision, one device."""

    id: str
    """backend/variant/precision/device."""
    backend: str
    """Its name in the table of backends, or `port:<name>`."""
    variant: str
    """classifier or features."""
    precision: str
    """float32, tf32, bfloat16 or float16."""
    device: str
    """cpu or cuda, as asked for."""
    required: bool
    """Whether the verdict needs it."""
    status: Status
    """Whether there are numbers."""
    cause: Cause | None = None
    """Why not."""
    reason: str = ""
    """Why not, in words that say what to do."""
    log: list[str] = []
    """The last lines that its process said before it died."""
    reused: bool = False
    """Whether the outputs are those of an earlier run with the same inputs."""
    facts: dict[str, str] = {}
    """What the framework itself said: device, provider, precision, threads."""
    fed: str | None = None
    """Digest of the images as the backend's process read them."""
    outputs: str | None = None
    """Digest of its outputs."""
    speed: Speed | None = None
    """Time and memory."""
    nonfinite: Count | None = None
    """Outputs that are NaN or infinite."""
    error: Distribution | None = None
    """In units of the output."""
    relative: Distribution | None = None
    """The same, divided by the spread."""
    ratio: Size = None
    """RMS error over that of the reference at this precision: 1 is as good as it."""
    kl: Number = None
    """Mean Kullback-Leibler divergence from the oracle's probabilities, in nats; null for features."""
    top1: Agreement | None = None
    """Of the best output; an image with an output that is not finite has none, and agrees with nothing."""
    top5: Agreement | None = None
    """Of the five best, as a set."""
    accuracy: Agreement | None = None
    """Agreement with the true labels, where known."""
    flips: list[Flip] = []
    """Every image whose best output is another, and whose outputs are finite."""
    points: list[Point] = []
    """Every image; of many those that are nearest to a flip."""
    worst: list[Worst] = []
    """The three worst images."""
    histogram: Histogram | None = None
    """Of the differences."""
    weights: Weights | None = None
    """Null where the weights can't be read back."""
    labels: Labels | None = None
    """Null where the artifact or the manifest names no classes."""
    preprocessing: Preprocessing | None = None
    """Null where the artifact says nothing of pictures."""
    semantic: Semantic | None = None
    """Null where it can't be run in float64."""
    noise: Noise | None = None
    """Null where it was not measured."""
    gradients: Gradients | None = None
    """Null where it has none."""
    growth: list[Growth] = []
    """The error tap by tap, in the network's order; empty where nobody looked inside."""
    diagnosis: str = ""
    """Of a run that failed: where it leaves the oracle and the likely cause, as `vitport bisect` finds them."""
