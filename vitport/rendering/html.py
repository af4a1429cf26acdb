"""`report.html`: one file that needs no network and no script, in light and dark, on a phone and on paper.

Every text goes through `element`, which escapes it; a policy in the page's head forbids scripts and requests besides.
"""

from collections.abc import Iterator
from pathlib import Path

from vitport import svg
from vitport.parity.report_schema import Report
from vitport.parity.run_schema import Run
from vitport.rendering import charts, parts, summary, tables
from vitport.svg import element

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(report: Report) -> str:
    """The page. report: cleaned."""
    sections = [_banner(report), *_verdicts(report), *_open(report), *_errors(report), *_pairs(report)]
    sections += [*_runs(report), *_numbers(report), *_identity(report), _guide()]
    verdict = report.judgement.verdict
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{verdict}: {report.title}"),
        f"<style>{_style()}</style>",
    ]
    body = element("main", *(part for section in sections for part in (section, "\n")))
    return "\n".join(
        ["<!doctype html>", '<html lang="en">', "<head>", *head, "</head>", f"<body>{body}</body>", "</html>", ""]
    )


def _style() -> str:
    """The colours of the pictures are those of the page."""
    colours = f":root {{ {svg.LIGHT} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {svg.DARK} }} }}\n"
    return colours + svg.STYLE + charts.STYLE + Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def _banner(report: Report) -> str:
    verdict = report.judgement.verdict
    facts = (
        ("Worst error", summary.worst_error(report)),
        ("Flips", summary.flips(report)),
        ("Images", summary.images(report)),
        ("Machine", summary.machine(report)),
    )
    return element(
        "header",
        element("p", f"vitport verify · {report.name} · {report.created}", class_="eyebrow"),
        element("h1", report.title),
        element(
            "div",
            element("p", f"{parts.SYMBOLS[verdict]} {verdict}", class_="verdict"),
            element("p", summary.headline(report)),
            *(element("p", line) for line in [summary.cause(report)] if line),
            class_=f"banner {parts.CLASSES[verdict]}",
        ),
        element("dl", *(_fact(name, fact) for name, fact in facts), class_="facts"),
    )


def _fact(name: str, fact: summary.Fact) -> str:
    return element("div", element("dt", name), element("dd", element("strong", fact.value), f" {fact.words}"))


def _verdicts(report: Report) -> Iterator[str]:
    """Backends down, devices and precisions across."""
    squares = summary.squares(report)
    if not squares:
        return
    backends = dict.fromkeys(run.backend for run in report.runs)
    head = [element("th", "backend", scope="col")]
    head += [element("th", summary.place(*place), scope="col") for place in squares]
    rows = [
        element("tr", element("th", name, scope="row"), *(_square(row.get(name)) for row in squares.values()))
        for name in backends
    ]
    table = element("table", element("thead", element("tr", *head)), element("tbody", *rows), class_="squares")
    note = "The worst variant of each, and its RMS error over the reference's own. A dash was not asked for."
    yield parts.section("Verdicts", parts.scrolled(table, "Verdicts by backend, device and precision"), note=note)


def _square(square: summary.Square | None) -> str:
    if square is None:
        return element("td", tables.NOTHING, class_="none")
    ratio = [element("span", summary.factor(square.ratio), class_="ratio")] if square.ratio is not None else []
    return element("td", element("a", parts.badge(square.verdict), *ratio, href=f"#run-{square.index}"))


def _open(report: Report) -> Iterator[str]:
    for table in (tables.open_gates(report), tables.not_run(report)):
        if table.rows:
            yield parts.section(table.title, parts.drawn(table), note=table.note)


def _errors(report: Report) -> Iterator[str]:
    """A picture for each variant, precision and device."""
    limits = {gate.run: gate.limit for gate in report.judgement.gates if gate.gate == "numeric"}
    passed = {gate.run for gate in report.judgement.gates if gate.gate == "numeric" and gate.verdict == "PASS"}
    figures = []
    for title, group in summary.alike(summary.ran(report)):
        rows = [(run, limits.get(run.id), run.id in passed) for run in group]
        figures.append(parts.figure(title, charts.errors(title, rows)))
    note = (
        "RMS error over the spread of the oracle's outputs, logarithmic. Disc: within the limit; cross: not. Red line: "
        "the limit; grey: the reference's own error; dotted: what a wrong GELU (erf) makes."
    )
    if figures:
        yield parts.section("Error beside limit", element("div", *figures, class_="grid-of-figures"), note=note)


def _pairs(report: Report) -> Iterator[str]:
    matrices = tables.pairs(report)
    note = (
        "RMS difference of every two, in millionths of the spread, darker where it is more than a good backend's. Two "
        "that are wrong together are near each other and far from the oracle."
    )
    if matrices:
        yield parts.section("Backends beside each other", *(parts.matrix(each) for each in matrices), note=note)


def _runs(report: Report) -> Iterator[str]:
    """A part for each run, open where it did not pass."""
    if report.runs:
        cards = [_run(index, run, report) for index, run in enumerate(report.runs)]
        yield parts.section("Runs", *cards, note="Those that did not pass are open.")


def _run(index: int, run: Run, report: Report) -> str:
    verdict = summary.verdict(report, run)
    title = element("summary", parts.badge(verdict), element("span", summary.name(run), class_="name"), _ratio(run))
    opened = {} if verdict == "PASS" else {"open": "open"}
    return element("details", title, *_card(run, report), id=f"run-{index}", **opened)


def _ratio(run: Run) -> str:
    return element("span", summary.factor(run.ratio) if run.ratio is not None else "", class_="ratio")


def _card(run: Run, report: Report) -> Iterator[str]:
    if run.reason:
        yield element("p", run.reason, class_="reason")
    if run.diagnosis:
        yield element("p", run.diagnosis, class_="reason")
    if run.log:
        yield element("pre", "\n".join(run.log))
    yield parts.drawn(tables.gates(run, report))
    limit = next(
        (gate.limit for gate in summary.verdicts_of(run, report.judgement.gates) if gate.gate == "numeric"), None
    )
    figures = list(_figures(run, limit, report))
    if figures:
        yield element("div", *figures, class_="grid-of-figures")
    if run.worst:
        yield element("h3", "Worst images")
        yield element(
            "div",
            *(element("div", element("h4", each.title), parts.drawn(each)) for each in tables.worst(run)),
            class_="grid-of-figures",
        )
    if run.flips:
        yield element("h3", "Flips")
        yield parts.drawn(tables.flips(run))


def _figures(run: Run, limit: float | None, report: Report) -> Iterator[str]:
    if run.histogram:
        yield parts.figure("How large the differences are", charts.histogram(run, run.histogram, limit))
    if run.points and run.top1:
        yield parts.figure("Margin and difference of each image", charts.scatter(run))
    if run.growth:
        yield parts.figure("Growth of the error; broad: NumPy in float32", charts.grown(run))


def _numbers(report: Report) -> Iterator[str]:
    for table in (tables.runs(report), tables.references(report)):
        if table.rows:
            yield parts.section(table.title, parts.drawn(table), note=table.note)
    found = tables.gradients(report)
    if found:
        yield parts.section("Gradients", *map(_gradients, found), note=tables.OF_GRADIENTS)
    for table in (tables.noise(report), tables.said(report)):
        if table.rows:
            yield parts.section(table.title, parts.drawn(table), note=table.note)


def _gradients(table: tables.Table) -> str:
    return element("div", element("h3", table.title), element("p", table.note, class_="note"), parts.drawn(table))


def _identity(report: Report) -> Iterator[str]:
    table = tables.identity(report)
    yield parts.section(table.title, element("pre", report.identity.command), parts.drawn(table))


GUIDE = (
    "Every number is a difference from the oracle: the model in Flax, as it was trained, run in float64. Spread is the "
    "standard deviation of the oracle's outputs. All of it comes from report.json, beside this page."
)


def _guide() -> str:
    return element("footer", element("p", GUIDE))
