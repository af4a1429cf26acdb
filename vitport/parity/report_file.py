"""A report as a file that a stranger may have written: read strictly, its parts held to what the others say."""

from pathlib import Path

from vitport import strict_json
from vitport.errors import AssetError
from vitport.fields import shown
from vitport.parity.contradictions import contradiction
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
    found = contradiction(report)
    if found:
        raise AssetError(f"{name} contradicts itself: {found}")
    return report


def _deeper_than(depth: int, value: object) -> bool:
    """Whether lists and mappings lie in each other more than `depth` deep; level by level, so that none is too deep."""
    level = [value]
    for _ in range(depth):
        parts = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [member for part in parts for member in part if isinstance(member, dict | list)]
    return bool(level)
