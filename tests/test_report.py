"""The report: what it says of a fixed outcome word for word, what it must refuse to call a pass, and hostile text."""

import copy
import math
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vitport import chart, gates, metrics, report
from vitport.axes import Axis
from vitport.errors import OutputError, UsageError

SVG = "{http://www.w3.org/2000/svg}"
FORMATS = ("saved_model", "onnx", "safetensors-timm")
HOSTILE = "<img src=x onerror=alert(1)>|`*_a_* [x](y)\n\n# $1 &amp; \x00\ud800\u202e \"'"


def _artifact(format: str, variant: str, rms: float, limit: float, size: int) -> dict:
    path = {"saved_model": "", "onnx": "/model.onnx", "safetensors-timm": "/model.safetensors"}[format]
    error = {"max_abs": 3 * rms, "rms": rms, "ratio": rms / 4e-7, "limit": limit}
    return {"format": format, "variant": variant, "path": f"{variant}/{format}{path}", "bytes": size, "error": error}


OUTCOME = {
    "schema": 1,
    "name": "digits",
    "title": "Tiny ViT/4, handwritten digits at 32",
    "manifest": {"path": "manifests/digits.yaml", "sha256": "a" * 64},
    "asset": {"url": "https://example.org/digits.npz", "sha256": "b" * 64, "bytes": 177406},
    "resolution": 32,
    "images": {"sha256": "c" * 64, "count": 2},
    "versions": {"vitport": "0.1.0", "jax": "0.10.2"},
    "reference": {
        "classifier": {"spread": 2.0, "jax_float32": {"max_abs": 1e-6, "rms": 8e-7}, "yardstick": {"rms": 1e-6}},
        "features": {"spread": 1.0, "jax_float32": {"max_abs": 1e-6, "rms": 5e-7}, "yardstick": {"rms": 4e-6}},
    },
    "artifacts": [
        _artifact("saved_model", "classifier", 8e-7, 4e-6, 512),
        _artifact("onnx", "classifier", 1.2e-6, 4e-6, 177406),
        _artifact("safetensors-timm", "classifier", 6e-7, 4e-6, 88_000_000),
        _artifact("onnx", "features", 5e-7, 12e-6, 1_316_000_000),
    ],
    "timings": {"onnx": {"classifier": 0.123}},
}


def _changed(*path: str | int, value: object) -> dict:
    """OUTCOME with another value at `path`."""
    outcome = copy.deepcopy(OUTCOME)
    place = outcome
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return outcome


def _markdown(outcome: dict, command: str = "vitport convert digits") -> str:
    return report.render(outcome, command)[0]


def _marks(outcome: dict) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(report.render(outcome, "vitport convert digits")[1])
    return [each for each in root.iter() if each.get("class", "").startswith("artifact ")]


def _rows(markdown: str) -> list[list[str]]:
    """Cells of the table's rows, split as GitHub does: at each pipe without a backslash."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_summary_is_three_lines_for_a_release_note():
    assert _markdown(OUTCOME).splitlines()[:6] == [
        "# Tiny ViT/4, handwritten digits at 32",
        "",
        "- **What**: Tiny ViT/4, handwritten digits at 32 as saved_model, onnx, safetensors-timm; "
        "classifier and features, input 32 px",
        "- **Verdict**: PASS: each of the 4 artifacts is the function of the JAX original, up to rounding in float32",
        "- **How exact**: RMS error to Flax in float64 at most 0.6 millionths of the spread of the outputs "
        "(JAX in float32: 0.5), over 2 fixed images",
        "",
    ]


def test_the_table():
    assert _rows(_markdown(OUTCOME)) == [
        ["saved_model", "classifier", "`classifier/saved_model`", "512 B", "–", "0.4", "2", "2.4e-06", "1.00", "PASS"],
        [
            *("onnx", "classifier", "`classifier/onnx/model.onnx`", "177.4 kB"),
            *("0.12", "0.6", "2", "3.6e-06", "1.50", "PASS"),
        ],
        [
            *("safetensors-timm", "classifier", "`classifier/safetensors-timm/model.safetensors`", "88.0 MB"),
            *("–", "0.3", "2", "1.8e-06", "0.75", "PASS"),
        ],
        ["onnx", "features", "`features/onnx/model.onnx`", "1.3 GB", "–", "0.5", "12", "1.5e-06", "1.00", "PASS"],
    ]


def test_the_identity():
    section = _markdown(OUTCOME).split("## Identity\n\n")[1].split("\n\n## ")[0]
    assert section.splitlines() == [
        "```sh",
        "vitport convert digits",
        "```",
        "",
        f"- Manifest: `manifests/digits.yaml`, SHA-256 `{'a' * 64}`",
        f"- Checkpoint: `https://example.org/digits.npz`, 177406 bytes, SHA-256 `{'b' * 64}`",
        f"- Images: 2 fixed ones, SHA-256 `{'c' * 64}`",
        "- Versions: vitport 0.1.0, jax 0.10.2",
        "- Digests of the artifacts and of each of their files: `artifacts.json`",
    ]


def test_the_guide_states_the_limits_that_were_applied():
    markdown = _markdown(OUTCOME)
    assert f"**Limit.** {gates.RATIO:g} times the yardstick's RMS error, unless" in markdown
    assert "Here: classifier 2 (the least), features 12 (3 times the yardstick). Two" in markdown
    other = _markdown(_changed("artifacts", 3, "error", "limit", value=20e-6))
    assert "Here: classifier 2 (the least), features 20 (5 times the yardstick). Two" in other


@pytest.mark.parametrize("index", range(4))
def test_limits_of_the_example_are_those_of_the_gate(index):
    each = OUTCOME["artifacts"][index]
    reference = OUTCOME["reference"][each["variant"]]
    measured = metrics.Error(each["error"]["max_abs"], each["error"]["rms"], reference["spread"], 0)
    assert gates.float32(measured, reference["yardstick"]["rms"]).limit == pytest.approx(each["error"]["limit"])


FAILURES = {
    "beyond the limit": {"rms": 13e-6},
    "NaN": {"rms": math.nan, "max_abs": math.nan},
    "infinite": {"rms": math.inf, "max_abs": math.inf},
    "one infinite output": {"max_abs": math.inf},
    "limit is NaN": {"limit": math.nan},
}


@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES)
def test_what_is_not_within_its_limit_fails_in_summary_table_and_picture(error):
    outcome = _changed("artifacts", 1, "error", value={**OUTCOME["artifacts"][1]["error"], **error})
    markdown = _markdown(outcome)
    assert "**Verdict**: FAIL: 1 of 4 beyond the limit: onnx (classifier)" in markdown
    assert [cells[-1] for cells in _rows(markdown)] == ["PASS", "**FAIL**", "PASS", "PASS"]
    assert [mark.get("class") for mark in _marks(outcome)] == [
        f"artifact {verdict}" for verdict in ["pass", "fail", "pass", "pass"]
    ]


def test_a_nan_is_the_worst_error_of_all():
    for error in ({"rms": math.nan}, {"rms": math.inf}):
        outcome = _changed("artifacts", 1, "error", value={**OUTCOME["artifacts"][1]["error"], **error})
        assert f"at most {'NaN' if math.isnan(error['rms']) else 'inf'} millionths" in _markdown(outcome)


def test_nothing_measured_is_no_pass():
    markdown, svg = report.render(_changed("artifacts", value=[]), "vitport convert digits")
    assert "**Verdict**: NOT RUN: no artifact was measured" in markdown
    assert "PASS" not in markdown + svg
    assert "**How exact**: not measured" in markdown


def test_an_exact_reference_has_no_ratio():
    outcome = _changed("reference", "classifier", "jax_float32", "rms", value=0.0)
    assert [cells[8] for cells in _rows(_markdown(outcome))] == ["–", "–", "–", "1.00"]


def test_the_picture_has_one_mark_for_each_artifact_in_the_order_of_its_error():
    marks = _marks(OUTCOME)
    assert [mark.find(f"{SVG}title").text for mark in marks] == [
        "saved_model, classifier: 0.4 × 10⁻⁶ of the spread, limit 2 × 10⁻⁶",
        "onnx, classifier: 0.6 × 10⁻⁶ of the spread, limit 2 × 10⁻⁶",
        "safetensors-timm, classifier: 0.3 × 10⁻⁶ of the spread, limit 2 × 10⁻⁶",
        "onnx, features: 0.5 × 10⁻⁶ of the spread, limit 12 × 10⁻⁶",
    ]
    places = [float(mark.get("cx")) for mark in marks]
    assert places[2] < places[0] < places[3] < places[1]


def test_marks_lie_where_the_logarithm_says():
    axis = Axis(-8, -2, chart.LEFT, chart.RIGHT)
    assert axis.of(1e-8) == chart.LEFT
    assert axis.of(1e-2) == chart.RIGHT
    assert axis.of(1e-5) == (chart.LEFT + chart.RIGHT) / 2
    assert [axis.of(value) for value in (0.0, 1e-30)] == [chart.LEFT] * 2
    assert [axis.of(value) for value in (1e30, math.inf, math.nan)] == [chart.RIGHT] * 3


@pytest.mark.parametrize(
    ("value", "text"),
    [(4.37e-7, "0.437"), (6e-6, "6"), (2.5e-4, "250"), (0.012345, "12,345"), (1e6, "1e+12"), (math.nan, "NaN")],
)
def test_errors_in_millionths(value, text):
    assert chart.micro(value) == text


@pytest.mark.parametrize("count", [4, 10])
def test_rows_of_the_picture_do_not_overlap_and_stay_inside(count):
    dots = tuple(chart.Dot(f"format {index}", 1e-6, 6e-6, True) for index in range(count // 2))
    root = ElementTree.fromstring(chart.draw("title", [chart.Panel(name, 1e-6, 1e-6, dots) for name in ("a", "b")]))
    tops = [float(each.get("y")) for each in root.iter(f"{SVG}rect") if each.get("class") == "row"]
    lowest = max(float(each.get("y")) for each in root.iter(f"{SVG}text"))
    assert len(tops) == count
    assert all(below - above >= chart.ROW for above, below in pairwise(tops))
    assert tops[-1] + chart.ROW < lowest < float(root.get("height"))


def test_the_picture_is_self_contained_and_has_two_schemes():
    svg = report.render(OUTCOME, "vitport convert digits")[1]
    assert "@media (prefers-color-scheme: dark)" in svg
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    used, defined = set(re.findall(r'class="([^"]+)"', svg)), set(re.findall(r"\.(\w+) \{", svg))
    assert {name for names in used for name in names.split()} <= defined | {"artifact"}


@pytest.mark.parametrize(
    "place",
    [("title",), ("asset", "url"), ("manifest", "path"), ("artifacts", 0, "path"), ("versions", "jax")],
    ids=lambda place: ".".join(map(str, place)),
)
def test_hostile_text_stays_text(place):
    markdown, svg = report.render(_changed(*place, value=HOSTILE), "vitport convert digits")
    ElementTree.fromstring(svg)
    markdown.encode()
    assert "<img" not in svg + re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown)
    plain = _markdown(OUTCOME)
    assert len(markdown.splitlines()) == len(plain.splitlines())
    assert [len(cells) for cells in _rows(markdown)] == [len(report.HEADINGS)] * 4


def test_hostile_title_word_for_word():
    markdown, svg = report.render(_changed("title", value=HOSTILE), "vitport convert digits")
    assert markdown.splitlines()[0] == (
        r"# &lt;img src=x onerror=alert(1)&gt;&#124;\`\*\_a\_\* \[x\](y) \# \$1 &amp;amp; " + "\"'"
    )
    titles = [each.text for each in ElementTree.fromstring(svg).iter(f"{SVG}text") if each.get("class") == "title"]
    assert titles == ["<img src=x onerror=alert(1)>|`*_a_* [x](y) # $1 &amp; \"'"]


def test_a_backtick_can_not_end_a_code_span():
    markdown = _markdown(_changed("asset", "url", value="a` <b> ``c"))
    assert "- Checkpoint: ``` a` <b> ``c ```, 177406 bytes" in markdown


def test_a_command_can_not_leave_its_block():
    lines = _markdown(OUTCOME, "vitport ```\n```` x").splitlines()
    start = lines.index("`````sh")
    assert lines[start + 1 : start + 3] == ["vitport ``` ```` x", "`````"]


def test_long_text_is_cut():
    assert chart.one_line("a" * 100, 10) == "a" * 9 + "…"
    assert chart.one_line(" a\t\n b ", 10) == "a b"
    svg = report.render(_changed("title", value="W" * 1000), "vitport convert digits")[1]
    assert "W" * 83 not in re.sub(r"<title>.*?</title>", "", svg)


def test_write_puts_both_files_beside_each_other(tmp_path: Path):
    report.write(OUTCOME, "vitport convert digits", tmp_path / "a report.md")
    markdown, svg = report.render(OUTCOME, "vitport convert digits", "a report.svg")
    assert (tmp_path / "a report.md").read_text(encoding="utf-8") == markdown
    assert (tmp_path / "a report.svg").read_text(encoding="utf-8") == svg
    assert "](a%20report.svg)" in markdown
    assert len(list(tmp_path.iterdir())) == 2


def test_prepare_makes_the_folder_and_nothing_else(tmp_path: Path):
    report.prepare(tmp_path / "new" / "report.md")
    assert [path.name for path in tmp_path.rglob("*")] == ["new"]


@pytest.mark.parametrize("name", ["report", "report.html", "report.svg", ".md"])
def test_prepare_refuses_what_is_no_markdown(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match=r"must end in \.md"):
        report.prepare(tmp_path / name)


def test_prepare_refuses_a_place_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "report.svg").mkdir()
    with pytest.raises(UsageError, match=r"report\.svg is a folder"):
        report.prepare(tmp_path / "report.md")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="can't be made: Not a directory"):
        report.prepare(tmp_path / "file" / "below" / "report.md")
    monkeypatch.setattr(report.os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match=r"can't be written, so no report other\.md"):
        report.prepare(tmp_path / "other.md")


def test_a_report_that_can_not_be_written_leaves_the_earlier_one(tmp_path: Path):
    (tmp_path / "report.md").write_text("earlier")
    (tmp_path / "report.svg").mkdir()
    with pytest.raises(OutputError, match=r"report\.svg can't be written: "):
        report.write(OUTCOME, "vitport convert digits", tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.md", "report.svg"]
