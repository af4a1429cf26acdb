"""The report of a verification, `report.json`: every field, its type and its meaning.

Everything that is shown, judged or compared later is computed from this document alone: `vitport gate` judges it
again, `rendering/` makes pages of it, `vitport diff` holds two of them side by side. `schemas/report.schema.json` is
made from this file. Numbers that are NaN or infinite are null in it, and null never passes a gate.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vitport.errors import AssetError
from vitport.fields import describe, dotted, shown
from vitport.schema_text import describe_fields

SCHEMA = 1
"""Version of `report.json`. 1: first."""

SCHEMA_FILE = Path(__file__).parents[1] / "schemas" / "report.schema.json"

Verdict = Literal["PASS", "FAIL", "NOT RUN"]
Status = Literal["RAN", "NOT RUN"]

Number = Annotated[float, Field(allow_inf_nan=False)] | None
"""A measured number; null where it was NaN or infinite."""

Size = Annotated[float, Field(allow_inf_nan=False, ge=0)] | None
"""Of a difference or a spread: a number that is never negative, since one would pass every gate."""

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""Of things, bytes or classes: a whole number that a float can hold."""

Cause = Literal[
    "environment", "device", "precision", "crashed", "timeout", "memory", "stale", "fed", "shape", "inapplicable"
]
"""Why a run did not run: a package is missing; it ran elsewhere than asked; that precision is not to be had; it died,
hung, ran out of memory; it left another run's result; was fed other images; returned another shape; the backend has no
such artifact."""


class _Model(BaseModel):
    """Frozen, exact about types, and closed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class File(_Model):
    """A file by its content."""

    path: str
    """Where it was: a path or an address."""
    sha256: str
    """SHA-256 of its bytes."""
    bytes: Count | None = None
    """Its size."""


class Subject(_Model):
    """An artifact or a published port that was run."""

    name: str
    """`onnx`, `saved_model` …, or `port:<name>` for a published port."""
    variant: str
    """classifier or features."""
    path: str
    """Where it was."""
    sha256: str
    """Its digest in `artifacts.json`, or the same computed over a port's files."""


class Images(_Model):
    """The images that every backend was fed."""

    source: str
    """seeded, golden, or the folder they came from."""
    count: Count
    """How many."""
    sha256: str
    """Digest of their pixels as they were fed, in order."""
    ids: list[str]
    """A name for each: a file's name, or `seeded-0007`."""
    labels: list[int] | None = None
    """Their true classes, where known."""


class Identity(_Model):
    """What was verified, so that another person can do it again."""

    manifest: File
    """The manifest."""
    asset: File
    """The checkpoint."""
    artifacts: File | None
    """The list of the artifacts, `artifacts.json`; null where only the checkpoint was run."""
    subjects: list[Subject]
    """Everything that was run."""
    images: Images
    """What it was run on."""
    command: str
    """The exact command."""
    seeds: dict[str, int]
    """Of whatever is drawn at random."""


class Machine(_Model):
    """Where it ran."""

    platform: str
    """System and architecture."""
    processor: str
    """The CPU's name."""
    cores: Count
    """CPU cores that the run might use."""
    memory: Count
    """Bytes of it."""
    gpu: str | None
    """Name of the GPU; null where none was used."""
    versions: dict[str, str]
    """Of vitport, Python and every package that took part."""


class Spread(_Model):
    """What one variant is judged by."""

    spread: Size
    """Standard deviation of the oracle's outputs: the scale of every relative number."""
    definition: Size
    """RMS difference of the shared definition in float64 from the oracle, relative: the two witnesses."""
    yardstick: Size
    """RMS error of a good float32 implementation (NumPy, the worst of its draws), relative."""
    jax: dict[str, Size]
    """RMS error of the Flax reference itself, relative, by `precision/device`."""


class Distribution(_Model):
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


class Agreement(_Model):
    """How often the k best outputs are the oracle's."""

    agree: Count
    """Images on which they are."""
    count: Count
    """Images."""
    bound: float
    """With 95 % confidence the rate of disagreement is below this: about 3 / count where there is none."""


class Flip(_Model):
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
    """margin < 2 · delta. A flip without is impossible: the harness is wrong."""


class Point(_Model):
    """One image: its margin and its largest difference."""

    image: str
    """Its name."""
    margin: Number
    """Of the oracle, in logits."""
    delta: Size
    """Largest |difference| of its logits."""


class Worst(_Model):
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


class Histogram(_Model):
    """Of |difference| / spread, on a logarithmic scale."""

    edges: list[float]
    """Powers of ten: bin i holds what lies from 10**edges[i] to 10**edges[i + 1]; the first and last what is beyond."""
    counts: list[Count]
    """One fewer than edges."""
    zeros: Count
    """Outputs that are the oracle's exactly."""


class Weights(_Model):
    """The artifact's own weights, brought back to the checkpoint's names and axes, beside the checkpoint's."""

    leaves: Count
    """Compared."""
    different: list[str]
    """Those of which any bit differs, ten at most."""
    count: Count
    """How many differ."""


class Labels(_Model):
    """What the artifact calls its classes, beside the manifest."""

    classes: Count
    """Compared."""
    different: list[int]
    """Those with another name, ten at most."""
    count: Count
    """How many have."""


class Semantic(_Model):
    """Is it the same function? In float64, against the oracle."""

    relative: Size
    """RMS difference, relative to the spread."""
    how: str
    """What was run in float64: the artifact itself, or the backend's definition with the artifact's weights."""


class BatchNoise(_Model):
    """The same images in batches of another size."""

    batch: Count
    """Images at a time; the last batch may be smaller."""
    images: Count
    """How many."""
    max: Size
    """Largest |difference| from the main run."""
    bit_equal: bool
    """Whether there is none."""


class Noise(_Model):
    """How far a backend is from itself."""

    repeat: BatchNoise
    """A second run of the same batches."""
    batches: list[BatchNoise]
    """Other batch sizes."""
    cpu: Size = None
    """Largest |difference| of a run on a GPU from the same artifact on the CPU; null where it was not run there."""


class Gradient(_Model):
    """Of the loss with respect to the input or to the weights of one part of the network."""

    name: str
    """images, embedding, encoderblock_0 …, head."""
    relative: Size
    """RMS difference from Flax in float64, relative to that gradient's own RMS."""
    reference: Size
    """The same of Flax in float32."""


class Gradients(_Model):
    """Parity of what fine-tuning uses."""

    loss: str
    """What was differentiated."""
    images: Count
    """On how many images."""
    parts: list[Gradient]
    """The input first, then the network in order."""


class Growth(_Model):
    """How far a run is from the oracle at one tap inside the network."""

    tap: str
    """Its name, as the definition gives it: embedding, encoderblock_0 …"""
    relative: Size
    """RMS difference, relative to the standard deviation of the oracle's values there."""
    rounding: Size = None
    """The same of NumPy in float32; null where that was not measured."""


class Speed(_Model):
    """Time and memory of a run's own process."""

    wall: float
    """Seconds, whole process."""
    load: float
    """Seconds to import the framework and load the artifact."""
    infer: float
    """Seconds of the calls of the main run, together."""
    rate: float
    """Images per second of the main run."""
    memory: Count
    """Bytes, the process's peak."""


class Run(_Model):
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
    """Of the best output."""
    top5: Agreement | None = None
    """Of the five best, as a set."""
    accuracy: Agreement | None = None
    """Agreement with the true labels, where known."""
    flips: list[Flip] = []
    """Every image whose best output is another."""
    points: list[Point] = []
    """Every image."""
    worst: list[Worst] = []
    """The three worst images."""
    histogram: Histogram | None = None
    """Of the differences."""
    weights: Weights | None = None
    """Null where the weights can't be read back."""
    labels: Labels | None = None
    """Null where the artifact or the manifest names no classes."""
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


class Pair(_Model):
    """Two runs of one variant beside each other, so that two that are wrong together are seen."""

    a: str
    """Id of a run."""
    b: str
    """Id of another."""
    max: Size
    """Largest |difference|."""
    relative: Size
    """RMS difference, relative to the oracle's spread."""
    top1: Count
    """Images on which their best outputs agree."""


class Gate(_Model):
    """One condition on one run, or on the whole."""

    run: str
    """Id of the run, or `references`."""
    gate: str
    """ran, nonfinite, weights, semantic, numeric, flips, repeat, batches, gradients, or definition."""
    verdict: Verdict
    """PASS or FAIL; NOT RUN where there was nothing to judge."""
    measured: Number
    """What was measured."""
    limit: Number
    """What was allowed."""
    reason: str
    """In words."""
    because: str = ""
    """Why the limit is not the default one, where a policy says so."""


class Judgement(_Model):
    """What the gates make of the numbers."""

    verdict: Verdict
    """PASS only where everything that is required ran and every gate passed."""
    exit_code: int
    """Of the command."""
    policy: dict[str, Any]
    """The whole policy, so that a verdict can be had again."""
    policy_sha256: str
    """Its digest."""
    gates: list[Gate]
    """Every condition."""
    runs: dict[str, Verdict]
    """Of each run, by its id."""


class Report(_Model):
    """One verification."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this format."""
    name: str
    """The manifest's name."""
    title: str
    """The manifest's title."""
    created: str
    """When, in UTC, ISO 8601."""
    architecture: dict[str, Any]
    """Its numbers."""
    identity: Identity
    """What was verified."""
    machine: Machine
    """Where."""
    references: dict[str, Spread]
    """By variant."""
    runs: list[Run]
    """In the order of the table of backends."""
    pairs: list[Pair]
    """Every two runs of one variant, precision and device."""
    judgement: Judgement
    """The verdict."""


def parse(document: object, path: str) -> Report:
    """The report in a JSON document. Raises AssetError with the first field that is wrong."""
    from pydantic import ValidationError

    version = document.get("schema") if isinstance(document, dict) else SCHEMA
    if version != SCHEMA:
        raise AssetError(f"{path} is no report that this vitport reads: schema is {describe(version)}, not {SCHEMA}")
    try:
        return Report.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = shown(dotted(first["loc"])) or "the document"
        raise AssetError(f"{path} is no report of this vitport: {where}: {first['msg']}") from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a report; a field's docstring is its description."""
    return describe_fields(Report, __name__)


def write_schema(path: Path = SCHEMA_FILE) -> None:
    """Writes the JSON Schema of reports."""
    path.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schema()
