"""What the page is put together from: sections, figures, badges and tables."""

from vitport.parity.run_schema import Verdict
from vitport.rendering.tables import Column, Table
from vitport.svg import element

SYMBOLS: dict[Verdict, str] = {"PASS": "✓", "FAIL": "✕", "NOT RUN": "○"}
"""So that colour is not all that tells them apart."""

CLASSES: dict[Verdict, str] = {"PASS": "pass", "FAIL": "fail", "NOT RUN": "missing"}


def section(title: str, *body: str, note: str = "") -> str:
    """A part of the page under its heading. body, as everywhere here: elements."""
    return element("section", element("h2", title), *([element("p", note, class_="note")] if note else []), *body)


def badge(verdict: Verdict) -> str:
    """A verdict with its sign."""
    return element("span", f"{SYMBOLS[verdict]} {verdict}", class_=f"badge {CLASSES[verdict]}")


def figure(title: str, picture: str) -> str:
    """A picture in its frame."""
    return element("figure", element("figcaption", title), picture)


def drawn(table: Table) -> str:
    """A table."""
    head = element("tr", *(element("th", column.heading, scope="col", class_=column.kind) for column in table.columns))
    rows = [
        element("tr", *(_cell(column, cell) for column, cell in zip(table.columns, cells, strict=True)))
        for cells in table.rows
    ]
    return scrolled(element("table", element("thead", head), element("tbody", *rows)), table.title)


def _cell(column: Column, cell: str) -> str:
    content = badge(cell) if column.kind == "verdict" else cell
    return element("td", content, class_=column.kind)


def scrolled(table: str, label: str) -> str:
    """A wide table scrolls by itself, by the keyboard too."""
    return element("div", table, class_="scrolled", role="region", aria_label=label, tabindex=0)


def matrix(table: Table) -> str:
    """A square table of errors in millionths, shaded."""
    head = element("tr", *(element("th", column.heading, scope="col") for column in table.columns))
    rows = [
        element("tr", element("th", cells[0], scope="row"), *(_hot(cell, table.scale) for cell in cells[1:]))
        for cells in table.rows
    ]
    drawn = element("table", element("thead", head), element("tbody", *rows), class_="matrix")
    return element("div", element("h3", table.title), scrolled(drawn, table.title))


def _hot(cell: str, scale: float | None) -> str:
    """A cell, darker for each factor of five from three times what a good backend's error is; NaN is the darkest."""
    try:
        value = float(cell.replace(",", "")) / 1e6
    except ValueError:
        return element("td", cell)
    steps = [not value < 3 * (scale or 1e-6) * 5**step for step in range(5)]
    return element("td", cell, class_=f"heat-{sum(steps)}")
