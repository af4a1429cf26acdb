"""`report.md`: first what people paste into a pull request, then every number.

Texts from outside are in code spans or escaped (`vitport/wording.py`); a report comes here free of control characters.
"""

from collections.abc import Iterator

from vitport.parity.report_schema import Report
from vitport.rendering import summary, tables
from vitport.rendering.tables import Column, Table
from vitport.wording import code, fenced, prose

SUMMARY_LINES = 15
"""What fits into a pull request without scrolling."""

ROWS = 4
"""Of the table in the summary."""


def render(report: Report) -> str:
    """The page."""
    sections = ["\n".join(summarised(report)), *_sections(report), *_identity(report), _guide()]
    return "\n\n".join(sections) + "\n"


def summarised(report: Report) -> list[str]:
    """At most SUMMARY_LINES lines, whole in themselves."""
    verdict = report.judgement.verdict
    lines = [f"# {verdict}: {prose(report.title)}", ""]
    lines += [*_verdicts(report), ""] if report.runs else []
    lines += [f"- **{prose(name)}**: {text}" for name, text in _facts(report)]
    assert len(lines) <= SUMMARY_LINES
    return lines


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    known, machine = report.identity, report.machine
    yield report.judgement.verdict, prose(summary.headline(report))
    if summary.cause(report):
        yield "Likely cause", prose(summary.cause(report))
    yield "Worst error", prose(summary.worst_error(report))
    yield "Flips", prose(summary.flips(report))
    digests = [("checkpoint", known.asset.sha256), ("images", known.images.sha256)]
    if known.artifacts:
        digests.insert(1, ("artifacts", known.artifacts.sha256))
    hashes = ", ".join(f"{name} {code(digest[:12])}" for name, digest in digests)
    yield "Identity", f"{prose(summary.images(report))}; SHA-256 of {hashes}"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield "Where", prose(f"{machine.gpu or machine.processor}; {versions}")
    yield "Command", code(report.identity.command)


def _verdicts(report: Report) -> Iterator[str]:
    """Devices and precisions down, the worst first where there are too many, and backends across."""
    squares = summary.squares(report)
    backends = list(dict.fromkeys(run.backend for run in report.runs))
    places = list(squares)
    if len(places) > ROWS:
        places = sorted(places, key=lambda place: all(each.verdict == "PASS" for each in squares[place].values()))
    columns = (
        Column(f"{len(places)} places" if len(places) > ROWS else ""),
        *(Column(name, "code") for name in backends),
    )
    rows = tuple(
        (summary.place(*place), *(_square(squares[place].get(backend)) for backend in backends))
        for place in places[:ROWS]
    )
    yield from _headed(columns, headings="code")
    yield from (f"| {' | '.join([_cell(row[0], 'text'), *row[1:]])} |" for row in rows)


def _square(square: summary.Square | None) -> str:
    if square is None:
        return tables.NOTHING
    verdict = square.verdict if square.verdict == "PASS" else f"**{square.verdict}**"
    return verdict if square.ratio is None else f"{verdict} {summary.factor(square.ratio)}"


def _sections(report: Report) -> Iterator[str]:
    """Failures first."""
    for table in (tables.open_gates(report), tables.not_run(report), tables.runs(report), tables.references(report)):
        yield from _section(table)
    yield from _group(
        "Backends beside each other",
        tables.pairs(report),
        "RMS difference of every two, in millionths of the spread: two that are wrong together are near each other and "
        "far from the oracle.",
    )
    yield from _group("Gradients", tables.gradients(report), tables.OF_GRADIENTS)
    for table in (tables.noise(report), tables.said(report)):
        yield from _section(table)
    for run in report.runs:
        if run.flips:
            yield f"### Flips of {prose(summary.name(run))}"
            yield _drawn(tables.flips(run))


def _identity(report: Report) -> Iterator[str]:
    yield from _section(tables.identity(report))
    yield fenced(report.identity.command)


def _section(table: Table) -> Iterator[str]:
    if table.rows:
        yield f"## {prose(table.title)}"
        yield _drawn(table)
        yield from filter(None, [prose(table.note)])


def _group(title: str, members: list[Table], note: str) -> Iterator[str]:
    if members:
        yield f"## {title}"
        yield prose(note)
    for table in members:
        yield f"### {prose(table.title)}"
        yield _drawn(table)
        yield from filter(None, [prose(table.note)])


def _drawn(table: Table) -> str:
    return "\n".join([*_headed(table.columns), *(_row(table.columns, cells) for cells in table.rows)])


def _headed(columns: tuple[Column, ...], headings: str = "text") -> Iterator[str]:
    """Headings and alignment."""
    kinds = [headings if column.kind == "code" else "text" for column in columns]
    yield f"| {' | '.join(_cell(column.heading, kind) for column, kind in zip(columns, kinds, strict=True))} |"
    yield f"|{'|'.join('--:' if column.kind == 'number' else '---' for column in columns)}|"


def _row(columns: tuple[Column, ...], cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_cell(text, column.kind) for column, text in zip(columns, cells, strict=True))} |"


def _cell(text: str, kind: str) -> str:
    """Text of a table's cell. A pipe ends a cell even in a code span, so those that hold one are entities."""
    if kind == "verdict" and text != "PASS":
        return f"**{prose(text)}**"
    if kind != "code" or not text or text == tables.NOTHING:
        return prose(text)
    return code(text) if not set("|\\`") & set(text) else f"<code>{prose(text)}</code>"


def _guide() -> str:
    return (
        "Every number is a difference from the oracle: the model in Flax, as it was trained, run in float64. "
        "docs/report.md of vitport explains the pages."
    )
