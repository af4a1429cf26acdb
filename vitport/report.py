"""The written report of one conversion: Markdown and the picture beside it, made of what `artifacts.json` holds.

Every verdict here is computed again from the numbers shown, so that page and verdict can't disagree; text from outside
(title, address, command) is escaped where it is written.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from vitport import gates
from vitport.appearing import appearing, prepare_folder
from vitport.chart import ERF_GELU, Dot, Panel, draw
from vitport.errors import UsageError
from vitport.wording import code, fenced, micro, prose, size

HEADINGS = (
    "format",
    "variant",
    "path",
    "size",
    "seconds",
    "RMS error",
    "limit",
    "max abs Δ",
    "JAX float32 = 1",
    "verdict",
)

ALIGNMENT = "|---|---|---|--:|--:|--:|--:|--:|--:|---|"


def render(outcome: dict, command: str, picture: str = "report.svg") -> tuple[str, str]:
    """(Markdown, SVG) of a conversion.

    outcome: the contents of `artifacts.json` (schema 1), and `timings`: seconds by format and variant.
    command: what the user ran. picture: the file name by which the Markdown shows the SVG.
    """
    sections = [
        f"# {prose(outcome['title'])}",
        "\n".join(f"- {line}" for line in _summary(outcome)),
        "## Artifacts",
        "\n".join(_table(outcome)),
        "RMS error and limit are multiples of 10⁻⁶ of the spread of the outputs; max abs Δ is in units of the output.",
        f"![RMS error of each artifact beside its limit, NumPy float32 and JAX float32]({quote(picture)})",
        "## Identity",
        fenced(command),
        "\n".join(f"- {line}" for line in _identity(outcome)),
        "## How to read it",
        *_guide(outcome),
    ]
    return "\n\n".join(sections) + "\n", draw(outcome["title"], _panels(outcome))


def prepare(path: Path) -> None:
    """Makes the folder of a report that will be written to `path`, so that a bad place is known before a long run.

    Raises UsageError for a name that does not end in `.md` or a folder in the way, OutputError for an impossible place.
    """
    if path.suffix != ".md":
        raise UsageError(f"a report is Markdown, its picture .svg: {path} must end in .md")
    blocked = [target for target in (path, path.with_suffix(".svg")) if os.path.isdir(target)]
    if blocked:
        raise UsageError(f"{blocked[0]} is a folder; give the report another name")
    prepare_folder(path, "report")


def write(outcome: dict, command: str, path: Path) -> None:
    """Writes the report to `path` and the picture beside it, `.svg`, the picture first, each whole or not at all.

    Raises OutputError where that is impossible.
    """
    picture = path.with_suffix(".svg")
    markdown, svg = render(outcome, command, picture.name)
    for target, text in ((picture, svg), (path, markdown)):
        with appearing(target) as file:
            file.write(text.encode())


def _summary(outcome: dict) -> Iterator[str]:
    """What, the verdict, how exact: three lines for a release note."""
    artifacts = outcome["artifacts"]
    formats = ", ".join(dict.fromkeys(each["format"] for each in artifacts)) or "nothing"
    variants = " and ".join(dict.fromkeys(each["variant"] for each in artifacts)) or "no variant"
    made = f"{formats}; {variants}, input {outcome['resolution']} px"
    yield f"**What**: {prose(outcome['title'])} as {prose(made)}"
    yield f"**Verdict**: {_verdict(artifacts)}"
    yield f"**How exact**: {_exactness(outcome)}"


def _verdict(artifacts: list[dict]) -> str:
    """PASS only where something was measured and all of it is within its limit."""
    failed = [f"{each['format']} ({each['variant']})" for each in artifacts if not _passed(each)]
    if failed:
        return f"FAIL: {len(failed)} of {len(artifacts)} beyond the limit: {prose(', '.join(failed))}"
    if not artifacts:
        return "NOT RUN: no artifact was measured"
    return f"PASS: {_each(artifacts)} the function of the JAX original, up to rounding in float32"


def _each(artifacts: list[dict]) -> str:
    return "the artifact is" if len(artifacts) == 1 else f"each of the {len(artifacts)} artifacts is"


def _exactness(outcome: dict) -> str:
    if not outcome["artifacts"]:
        return "not measured"
    worst = max((_relative(outcome, each, "rms") for each in outcome["artifacts"]), key=_nan_last)
    jax = max(reference["jax_float32"]["rms"] / reference["spread"] for reference in outcome["reference"].values())
    return (
        f"RMS error to Flax in float64 at most {micro(worst)} millionths of the spread of the outputs "
        f"(JAX in float32: {micro(jax)}), over {outcome['images']['count']} fixed images"
    )


def _table(outcome: dict) -> Iterator[str]:
    yield f"| {' | '.join(HEADINGS)} |"
    yield ALIGNMENT
    for each in outcome["artifacts"]:
        yield f"| {' | '.join(_cells(outcome, each))} |"


def _cells(outcome: dict, each: dict) -> Iterator[str]:
    """One row, in the order of HEADINGS."""
    seconds = outcome.get("timings", {}).get(each["format"], {}).get(each["variant"])
    jax = outcome["reference"][each["variant"]]["jax_float32"]["rms"]
    yield from (prose(each["format"]), prose(each["variant"]), code(each["path"]).replace("|", "\\|"))
    yield size(each["bytes"])
    yield "–" if seconds is None else f"{seconds:.2f}"
    yield micro(_relative(outcome, each, "rms"))
    yield micro(_relative(outcome, each, "limit"))
    yield f"{each['error']['max_abs']:.1e}"
    yield f"{each['error']['rms'] / jax:.2f}" if jax else "–"
    yield "PASS" if _passed(each) else "**FAIL**"


def _identity(outcome: dict) -> Iterator[str]:
    """Everything that another person needs to make and find the same files."""
    manifest, asset = outcome["manifest"], outcome["asset"]
    versions = ", ".join(f"{name} {version}" for name, version in outcome["versions"].items())
    yield f"Manifest: {code(manifest['path'])}, SHA-256 {code(manifest['sha256'])}"
    yield f"Checkpoint: {code(asset['url'])}, {asset['bytes']} bytes, SHA-256 {code(asset['sha256'])}"
    yield f"Images: {outcome['images']['count']} fixed ones, SHA-256 {code(outcome['images']['sha256'])}"
    yield f"Versions: {prose(versions)}"
    yield "Digests of the artifacts and of each of their files: `artifacts.json`"


def _guide(outcome: dict) -> Iterator[str]:
    """What the numbers mean and where the limit comes from; the long answer is the docstring of vitport/gates.py."""
    yield (
        "**Oracle.** The model in Flax, as the checkpoint was trained, run in float64: every number here is a "
        "difference from its outputs. The *spread* is the standard deviation of those outputs, over images and "
        "outputs together. Float32 runs, JAX's own among them, are not exact enough to judge others by."
    )
    yield (
        "**Yardstick.** What a good float32 implementation achieves: the model in NumPy, which sums pairwise and "
        f"takes variances in two passes, on the images and on {gates.DRAWS - 1} sets of copies that differ in the "
        "last bit; the worst draw counts."
    )
    yield (
        f"**Limit.** {gates.RATIO:g} times the yardstick's RMS error, unless the manifest says otherwise, and never "
        f"below {micro(gates.FLOOR)} millionths of the spread, since a small network may round almost not at all. "
        f"Here: {_limits(outcome)}. Two correct float32 programs round in another order and differ by a small multiple "
        "of the yardstick; a wrong function differs by far more: GELU with erf in place of tanh by about "
        f"{micro(ERF_GELU)} millionths. Beyond the limit, or with a NaN, an artifact fails."
    )


def _limits(outcome: dict) -> str:
    """Each limit in millionths and its origin, read back from the numbers: the floor or a multiple of the yardstick."""
    limits = {}
    for each in outcome["artifacts"]:
        limit, yardstick = _relative(outcome, each, "limit"), outcome["reference"][each["variant"]]["yardstick"]["rms"]
        floor = math.isclose(limit, gates.FLOOR, rel_tol=1e-9)
        origin = "the least" if floor else f"{each['error']['limit'] / (yardstick or math.nan):.3g} times the yardstick"
        limits[f"{prose(each['variant'])} {micro(limit)} ({origin})"] = None
    return ", ".join(limits) or "nothing measured"


def _panels(outcome: dict) -> list[Panel]:
    """The picture's values, relative to the spread."""
    panels = []
    for variant, reference in outcome["reference"].items():
        dots = tuple(_dot(outcome, each) for each in outcome["artifacts"] if each["variant"] == variant)
        spread = reference["spread"]
        panels.append(
            Panel(variant, reference["yardstick"]["rms"] / spread, reference["jax_float32"]["rms"] / spread, dots)
        )
    return panels


def _dot(outcome: dict, each: dict) -> Dot:
    return Dot(each["format"], _relative(outcome, each, "rms"), _relative(outcome, each, "limit"), _passed(each))


def _relative(outcome: dict, each: dict, what: str) -> float:
    """`rms` or `limit` of an artifact in units of the spread of its variant's outputs."""
    return each["error"][what] / outcome["reference"][each["variant"]]["spread"]


def _passed(each: dict) -> bool:
    """Written so that NaN fails."""
    error = each["error"]
    return error["rms"] <= error["limit"] and math.isfinite(error["max_abs"])


def _nan_last(value: float) -> tuple[bool, float]:
    return math.isnan(value), value
