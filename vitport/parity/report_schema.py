"""The report of a verification, `report.json`: every field, its type and its meaning.

Everything that is shown, judged or compared later is computed from this document alone: `vitport gate` judges it
again, `rendering/` makes pages of it, `vitport diff` holds two of them side by side. `schemas/report.schema.json` is
made from this file. Numbers that are NaN or infinite are null in it, and null never passes a gate.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vitport.errors import AssetError
from vitport.fields import describe, dotted, shown
from vitport.parity.run_schema import Count, Model, Number, Run, Size, Verdict
from vitport.schema_text import describe_fields

SCHEMA = 1
"""Version of `report.json`. 1: first."""

SCHEMA_FILE = Path(__file__).parents[1] / "schemas" / "report.schema.json"


class File(Model):
    """A file by its content."""

    path: str
    """Where it was: a path or an address."""
    sha256: str
    """SHA-256 of its bytes."""
    bytes: Count | None = None
    """Its size."""


class Subject(Model):
    """An artifact or a published port that was run."""

    name: str
    """`onnx`, `saved_model` …, or `port:<name>` for a published port."""
    variant: str
    """classifier or features."""
    path: str
    """Where it was."""
    sha256: str
    """Its digest in `artifacts.json`, or the same computed over a port's files."""


class Images(Model):
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


class Identity(Model):
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


class Machine(Model):
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


class Spread(Model):
    """What one variant is judged by."""

    spread: Size
    """Standard deviation of the oracle's outputs: the scale of every relative number."""
    definition: Size
    """RMS difference of the shared definition in float64 from the oracle, relative: the two witnesses."""
    yardstick: Size
    """RMS error of a good float32 implementation (NumPy, the worst of its draws), relative."""
    tf32: Size = None
    """The same of NumPy with both operands of every product at TensorFloat-32; null where nothing ran in it."""
    jax: dict[str, Size]
    """RMS error of the Flax reference itself, relative, by `precision/device`."""


class Pair(Model):
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


class Gate(Model):
    """One condition on one run, or on the whole."""

    run: str
    """Id of the run, or `references`."""
    gate: str
    """ran, definition, or another of `gate_rules.GATES`: nonfinite, weights, labels, semantic, numeric, flips …"""
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


class Judgement(Model):
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


class Report(Model):
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
    return describe_fields(Report, __name__, Run.__module__)


def write_schema(path: Path = SCHEMA_FILE) -> None:
    """Writes the JSON Schema of reports."""
    path.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schema()
