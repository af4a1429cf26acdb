"""README's table of clients is what the sessions measured, of every environment, and all of it passed."""

import json
from copy import deepcopy
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "environments"
SPEC = spec_from_file_location("table", FOLDER / "table.py")
table = module_from_spec(SPEC)
SPEC.loader.exec_module(table)

REPORT = json.loads(table.REPORT.read_text(encoding="utf-8"))
README = table.README.read_text(encoding="utf-8")


def test_readme_says_what_was_measured() -> None:
    assert table.inserted(README, table.render(REPORT)) == README


def test_another_measurement_would_be_another_table() -> None:
    changed = deepcopy(REPORT)
    changed["main"][0]["error"] *= 1000
    assert table.inserted(README, table.render(changed)) != README


def test_every_environment_was_run_and_everything_passed() -> None:
    assert list(REPORT) == list(table.ENVIRONMENTS)
    assert all(REPORT.values())
    assert [row for rows in REPORT.values() for row in rows if row["verdict"] != "PASS"] == []
    assert [row for rows in REPORT.values() for row in rows if not row["error"] <= row["limit"]] == []


def test_every_file_of_tests_has_an_environment() -> None:
    listed = {name for row in table.ENVIRONMENTS.values() for name in row["tests"]}
    assert listed == {path.name for path in FOLDER.glob("test_*.py")}


ROW = {"verdict": "PASS", "error": 1e-6, "limit": 4e-6, "unit": ""}
CELLS = {
    "the worst of the models": ([ROW, {**ROW, "error": 3e-6}], "PASS 75%"),
    "a failure before anything": ([{**ROW, "verdict": "FAIL"}, {**ROW, "error": 3e-6}], "FAIL 25%"),
    "NaN is a failure": ([{**ROW, "verdict": "FAIL", "error": float("nan")}, ROW], "FAIL nan%"),
    "a count that must be zero": ([{**ROW, "error": 0, "limit": 0, "unit": "foreign"}], "PASS 0 foreign"),
    "not applicable": ([], "–"),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell(name: str) -> None:
    rows, text = CELLS[name]
    assert table.cell(rows) == text


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="unpack"):
        table.inserted("no marks", "table")
