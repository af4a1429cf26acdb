"""The table of clients: `python tests/environments/table.py ENVIRONMENT...` takes over what those sessions measured.

Verdicts of a session (build/clients/verdicts/<environment>.json) replace the environment's in reports/clients.json,
from which the table in README is written between its two marks.
"""

import json
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REPORT = ROOT / "reports" / "clients.json"
README = ROOT / "README.md"
ENVIRONMENTS = tomllib.loads((HERE / "environments.toml").read_text(encoding="utf-8"))
NOT_RUN = tomllib.loads((HERE / "not_run.toml").read_text(encoding="utf-8"))
BEGIN, END = "<!-- clients: made by nox -s clients -->\n", "<!-- end of clients -->\n"
VARIANTS = ("classifier", "features")

Report = dict[str, list[dict]]
"""Rows of `verdicts.Verdict.row` by environment."""


def main(environments: list[str]) -> None:
    report = json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.exists() else {}
    for name in environments:
        path = ROOT / "build" / "clients" / "verdicts" / f"{name}.json"
        report[name] = json.loads(path.read_text(encoding="utf-8"), parse_float=rounded)
    ordered = {name: report[name] for name in ENVIRONMENTS if name in report}
    REPORT.write_text(written(ordered), encoding="utf-8")
    README.write_text(inserted(README.read_text(encoding="utf-8"), render(ordered)), encoding="utf-8")


def rounded(number: str) -> float:
    """Four digits: the others are another machine's to change."""
    return float(f"{float(number):.4g}")


def written(report: Report) -> str:
    """JSON with one row a line, so that a difference between two runs can be read."""
    parts = [
        f"{json.dumps(name)}: [\n " + ",\n ".join(json.dumps(row) for row in rows) + "\n]"
        for name, rows in report.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def inserted(page: str, table: str) -> str:
    """The page with `table` between its marks. Raises ValueError where they are missing."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{table}{END}{after}"


def render(report: Report) -> str:
    """One line a client of each environment, then those that were not run."""
    lines = ["| reads | client | version | classifier | features |", "|---|---|---|--:|--:|"]
    for (format, client, versions), rows in sorted(grouped(report).items()):
        cells = [cell([row for row in rows if row["variant"] == variant]) for variant in VARIANTS]
        lines.append(f"| `{format}` | {code(client)} | {versions} | {' | '.join(cells)} |")
    lines += [f"| `{row['reads']}` | {name}: {row['reason']} | | NOT RUN | NOT RUN |" for name, row in NOT_RUN.items()]
    return "\n".join(lines) + "\n"


def grouped(report: Report) -> dict[tuple[str, str, str], list[dict]]:
    """Rows by what is read, the client and its versions, oldest version first."""
    found = defaultdict(list)
    for rows in report.values():
        for row in rows:
            versions = ", ".join(f"{name} {number}" for name, number in row["versions"].items())
            found[row["format"], row["client"], versions].append(row)
    return found


def cell(rows: list[dict]) -> str:
    """The worst of the models: its error in percent of the limit, or as it is where the limit is none."""
    if not rows:
        return "–"
    worst = max(rows, key=lambda row: (row["verdict"] != "PASS", row["error"] / (row["limit"] or 1)))
    if worst["limit"]:
        return f"{worst['verdict']} {worst['error'] / worst['limit']:.0%}"
    return f"{worst['verdict']} {worst['error']} {worst['unit']}"


def code(client: str) -> str:
    return f"`{client}`" if "`" not in client else client


if __name__ == "__main__":
    main(sys.argv[1:])
