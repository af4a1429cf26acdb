"""Pages of a report: pure functions of `report.json`, a module for each kind of reader.

Texts in a report come from manifests, file names and frameworks. They are freed of control characters here, at the one
door (`cleaned`); each rendering escapes what is markup in its own language.
"""

import json
from pathlib import Path
from typing import Any

from vitport.appearing import appearing
from vitport.rendering import html, junit, markdown
from vitport.report_schema import Report
from vitport.wording import one_line

PAGES = {"report.md": markdown.render, "report.html": html.render, "junit.xml": junit.render}
"""File names, and what makes their text of a cleaned report."""

LONGEST = 4000
"""Letters of any text; a command may be long."""


def write(report: Report, folder: Path) -> None:
    """Writes every page into `folder`, each whole or not at all. Raises OutputError where that is impossible."""
    shown = cleaned(report)
    for name, render in PAGES.items():
        with appearing(folder / name) as file:
            file.write(render(shown).encode())


def json_text(report: Report) -> str:
    """`report.json`: fields in the order of the schema, in ASCII, so that equal reports are equal bytes."""
    return json.dumps(report.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False) + "\n"


def cleaned(report: Report) -> Report:
    """The same with every text on one line and without what is no letter: control characters, colours, directions."""
    return Report.model_validate(_cleaned(report.model_dump(by_alias=True)))


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {one_line(key, LONGEST): _cleaned(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    return one_line(value, LONGEST) if isinstance(value, str) else value
