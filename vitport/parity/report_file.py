"""A report as a file that a stranger may have written: read strictly, its parts held to what the others say."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vitport import strict_json
from vitport.errors import AssetError
from vitport.fields import shortened, shown
from vitport.parity.report_schema import Report, parse

MAX_BYTES = 100_000_000
"""Of a file: 20 runs on 50,000 images have that."""

DEEPEST = 12
"""Levels of lists and mappings; a report has eight."""


def read(path: Path) -> Report:
    """The report in `path`. Raises AssetError, with one sentence, for whatever is none."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise AssetError(f"the report {shown(str(path))} can't be read: {error.strerror}") from error
    name = shown(str(path))
    try:
        document = strict_json.read(content, MAX_BYTES)
    except ValueError as error:
        raise AssetError(f"{name} is no report: {error}") from error
    if _deeper_than(DEEPEST, document):
        raise AssetError(f"{name} is no report: it is nested too deeply")
    report = parse(document, name)
    for contradiction in contradictions(report):
        raise AssetError(f"{name} contradicts itself: {contradiction}")
    return report


def contradictions(report: Report) -> Iterator[str]:
    """What is said in two places, and otherwise in each."""
    runs = {run.id for run in report.runs}
    for name, count in Counter(run.id for run in report.runs).items():
        if count > 1:
            yield f"the run {_quoted(name)} is there {count} times"
    for run in report.runs:
        if run.id != f"{run.backend}/{run.variant}/{run.precision}/{run.device}":
            yield f"the run {_quoted(run.id)} is another than its fields say"
        if run.status == "RAN" and run.variant not in report.references:
            yield f"the run {_quoted(run.id)} has no reference {_quoted(run.variant)}"
        if run.gradients and not run.gradients.parts:
            yield f"the run {_quoted(run.id)} has gradients of nothing"
    for name in report.judgement.runs.keys() ^ runs:
        yield f"the run {_quoted(name)} is either not judged or not there"


def _deeper_than(depth: int, value: object) -> bool:
    """Whether lists and mappings lie in each other more than `depth` deep; level by level, so that none is too deep."""
    level = [value]
    for _ in range(depth):
        parts = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [member for part in parts for member in part if isinstance(member, dict | list)]
    return bool(level)


def _quoted(name: str) -> str:
    return ascii(shortened(name))
