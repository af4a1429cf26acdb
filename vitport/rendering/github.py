"""For GitHub Actions: annotations of what did not pass, and the summary of the job.

An annotation is a line of output that begins with `::`; GitHub decodes `%25`, `%0D` and `%0A` in it, and
`%3A` and `%2C` in its properties besides, so a text that is not encoded could end it and begin another command.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping

from vitport.errors import OutputError
from vitport.parity.report_schema import Gate, Report
from vitport.rendering import cleaned, markdown, summary

MOST = 9
"""Annotations of each kind that are written; GitHub shows ten a step and drops the others silently."""

SUMMARY_BYTES = 900_000
"""Of the job's summary, which GitHub refuses beyond 1 MiB."""

VALUE = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
PROPERTY = VALUE | str.maketrans({":": "%3A", ",": "%2C"})


def to_stderr(line: str) -> None:
    """Standard output is for results; GitHub reads both."""
    print(line, file=sys.stderr, flush=True)


def announce(
    report: Report, tell: Callable[[str], object] = to_stderr, environment: Mapping[str, str] = os.environ
) -> None:
    """Tells each annotation and adds the summary to the job's file; nothing where GitHub does not run this.

    Raises OutputError if the summary can't be written.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return
    shown = cleaned(report)
    for line in annotations(shown):
        tell(line)
    path = environment.get("GITHUB_STEP_SUMMARY")
    if path:
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(job_summary(shown))
        except OSError as error:
            raise OutputError(f"the summary of the job can't be written to {path}: {error.strerror}") from error


def annotations(report: Report) -> Iterator[str]:
    """A line each. report: cleaned."""
    kinds: dict[str, list[Gate]] = {"error": [], "warning": []}
    runs = {run.id: run for run in report.runs}
    for gate in summary.open_gates(report):
        run = runs.get(gate.run)
        required = run is None or run.required
        kinds["error" if gate.verdict == "FAIL" or required else "warning"].append(gate)
    for kind, gates in kinds.items():
        yield from (
            _line(kind, f"{gate.verdict}: {gate.run} {gate.gate}", summary.brief(gate.reason)) for gate in gates[:MOST]
        )
        if gates[MOST:]:
            yield _line(kind, f"{len(gates) - MOST} more", "the report has them all")


def job_summary(report: Report) -> str:
    """The whole page where it is small enough, else its summary. report: cleaned."""
    page = markdown.render(report)
    return page if len(page.encode()) <= SUMMARY_BYTES else "\n".join(markdown.summarised(report)) + "\n\n"


def _line(kind: str, title: str, text: str) -> str:
    return f"::{kind} title={title.translate(PROPERTY)}::{text.translate(VALUE)}"
