"""Pages of a report: pure functions of `report.json`, a module for each kind of reader.

Texts in a report come from manifests, file names and frameworks. They are freed of control characters here, at the one
door (`cleaned`); each rendering escapes what is markup in its own language.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitport import locks
from vitport.appearing import appearing
from vitport.errors import OutputError, UsageError
from vitport.parity.report_schema import Report
from vitport.rendering import html, junit, markdown
from vitport.wording import one_line

REPORT = "report.json"

PAGES = {"report.md": markdown.render, "report.html": html.render, "junit.xml": junit.render}
"""File names, and what makes their text of a cleaned report."""

LONGEST = 4000
"""Letters of any text; a command may be long."""


@contextlib.contextmanager
def prepared(folder: Path, wait: locks.Wait) -> Iterator[None]:
    """The folder of a report, for one run at a time; an earlier report is gone, so that none is of another run.

    wait: called once if another run holds the folder. Raises OutputError for an impossible place, UsageError where
    files of these names are not ours.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.held(folder, locks.ALONE, wait))
            _clear(folder)
        except OSError as error:
            raise OutputError(f"{folder} can't hold a report: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise OutputError(f"{folder} can't be written, so no report is made")
        yield


def _clear(folder: Path) -> None:
    strangers = [name for name in (REPORT, *PAGES) if os.path.lexists(folder / name)]
    if strangers and not _is_report(folder / REPORT):
        raise UsageError(f"{folder} has a {strangers[0]} of somebody else; choose another folder for the report")
    for name in (*PAGES, REPORT):  # the one by which the others are known to be ours comes last
        (folder / name).unlink(missing_ok=True)


def _is_report(path: Path) -> bool:
    """Whether a file is a report of any version."""
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and {"schema", "runs"} <= facts.keys()


def write(report: Report, folder: Path) -> None:
    """Writes the report and every page of it into `folder`, each whole or not at all. Raises OutputError."""
    shown = cleaned(report)
    texts = {REPORT: json_text(report) + "\n", **{name: render(shown) for name, render in PAGES.items()}}
    for name, text in texts.items():
        with appearing(folder / name) as file:
            file.write(text.encode())


def json_text(report: Report) -> str:
    """`report.json`: fields in the order of the schema, in ASCII, so that equal reports are equal bytes."""
    return json.dumps(report.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False)


def cleaned(report: Report) -> Report:
    """The same with every text on one line and without what is no letter: control characters, colours, directions."""
    return Report.model_validate(_cleaned(report.model_dump(by_alias=True)))


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {one_line(key, LONGEST): _cleaned(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    return one_line(value, LONGEST) if isinstance(value, str) else value
