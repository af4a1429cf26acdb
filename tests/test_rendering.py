"""The pages: a summary that fits, nothing missing, and texts from outside that stay text in every one of them."""

import json
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from xml.etree import ElementTree

import jsonschema
import pytest
import sample_reports
from markdown_it import MarkdownIt

from vitport import console, rendering
from vitport.errors import OutputError, UsageError
from vitport.gate import gate
from vitport.locks import nothing as nobody
from vitport.parity import report_schema
from vitport.parity.report_schema import Report
from vitport.rendering import charts, cleaned, github, html, junit, markdown, summary, tables

SAMPLES = ("passing", "failing", "missing", "nulls", "hostile", "empty")
VOID = {"meta"}
MARKED = sample_reports.HOSTILE.split("|")[0]


@pytest.fixture(scope="module")
def samples() -> dict[str, Report]:
    return {name: cleaned(getattr(sample_reports, name)()) for name in SAMPLES}


def changed(report: Report, **judgement: object) -> Report:
    return report.model_copy(update={"judgement": report.judgement.model_copy(update=judgement)})


# Markdown.


@pytest.mark.parametrize("name", SAMPLES)
def test_the_summary_fits_into_a_pull_request_and_is_the_first_thing(samples, name):
    lines = markdown.summarised(samples[name])
    assert len(lines) <= markdown.SUMMARY_LINES
    assert markdown.render(samples[name]).startswith("\n".join(lines) + "\n\n")
    assert samples[name].judgement.verdict in lines[0]
    assert any("**Command**" in line for line in lines)


def test_the_summary_fits_for_many_places_and_shows_the_worst_of_them():
    places = [("float32", "cpu"), *((each, "cuda") for each in ("float32", "tf32", "bfloat16", "float16"))]
    runs = [sample_reports.run("onnx", "classifier", *place) for place in places]
    runs[4] = sample_reports.run("onnx", "classifier", "float16", "cuda", scale=500.0)
    lines = markdown.summarised(cleaned(sample_reports.report(runs)))
    assert len(lines) == markdown.SUMMARY_LINES
    assert lines[4].startswith("| cuda float16 | **FAIL** 500× |")
    assert lines[2].startswith("| 5 places |")


def test_the_summary_says_what_counts(samples):
    text = "\n".join(markdown.summarised(samples["failing"]))
    assert "| cuda tf32 | PASS 0.70× |" in text
    assert "**FAIL** 620×" in text
    assert "**NOT RUN**" in text
    assert "2 of 21 runs failed, 1 did not run; 4 gates not passed" in text
    assert re.search(r"Flips\*\*: 15 in 20 runs, 0 unexplained; at most 2 of 64 images, .* fewer than 9.5 % of", text)
    assert "`bbbbbbbbbbbb`" in text


def drawn_tables(text: str) -> Iterator[list[int]]:
    """Cells a row of every table, as a renderer of GitHub's dialect sees it."""
    count: list[int] = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        if token.type == "table_open":
            count = []
        elif token.type == "tr_open":
            count.append(0)
        elif token.type in ("td_open", "th_open"):
            count[-1] += 1
        elif token.type == "table_close":
            yield count


@pytest.mark.parametrize("name", ["failing", "hostile"])
def test_every_row_of_a_markdown_table_has_its_cells_and_shows_every_run(samples, name):
    found = list(drawn_tables(markdown.render(samples[name])))
    assert len(found) > 8
    assert all(len(set(counts)) == 1 for counts in found)
    assert 1 + len(samples[name].runs) in [len(counts) for counts in found]


def test_hostile_text_is_only_text_in_markdown(samples):
    page = markdown.render(samples["hostile"])
    shown = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(page)
    assert "alert(1)" in shown, "the attack is in it"
    assert set(re.findall(r"<(\w+)", shown)) <= {
        *("h1", "h2", "h3", "p", "ul", "li", "strong", "code", "pre"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert "<em>" not in shown
    assert "javascript:y" not in re.findall(r'href="([^"]*)"', shown)


def test_numbers_that_are_none_are_named_so(samples):
    page = markdown.render(samples["nulls"])
    assert "**Worst error**: NaN in onnx classifier, float32 on cpu" in page
    assert "| **FAIL** | `onnx/classifier/float32/cpu` | numeric | NaN | 2e-06 |" in page


# HTML.


class Page(HTMLParser):
    """Tags with their attributes; fails where one is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID or "svg" in self._open, f"<{tag}/> is no whole element in HTML"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_page_is_well_formed_and_whole_in_itself(samples, name):
    text = html.render(samples[name])
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer", "div", "p", "pre"),
        *("h1", "h2", "h3", "h4", "dl", "dt", "dd", "strong", "span", "a", "details", "summary", "figure"),
        *("figcaption", "table", "thead", "tbody", "tr", "th", "td"),
        *("svg", "g", "rect", "line", "path", "circle", "text"),
    }
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for _, attributes in page.tags:
        assert not {"src", "srcset", "style", "data", "action"} & attributes.keys()
        assert not [key for key in attributes if key.startswith("on")]
        assert attributes.get("href", "#").removeprefix("#") in {*ids, ""}
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|https?:|<", style)


def test_the_check_of_pages_can_fail():
    for wrong in ("<p>", "<p></b></p>", "<td/>", '<p id="a" id="b"></p>'):
        with pytest.raises(AssertionError):
            Page(wrong)


def test_hostile_text_is_only_text_in_html(samples):
    text = html.render(samples["hostile"])
    assert "<script" not in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", text)
    page = Page(text)
    assert any(MARKED in data for data in page.texts)
    policy = next(each["content"] for tag, each in page.tags if each.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script" not in policy


@pytest.mark.parametrize("name", ["passing", "failing", "missing"])
def test_the_page_shows_every_run_and_every_picture_in_words(samples, name):
    report = samples[name]
    page = Page(html.render(report))
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    ran = [run for run in report.runs if run.status == "RAN"]
    groups = {(run.variant, run.precision, run.device) for run in ran}
    scatters = sum(run.variant == "classifier" for run in ran)
    assert len(pictures) == len(groups) + 2 * len(ran) + scatters
    assert all(each["role"] == "img" and len(each["aria-label"]) > 20 for each in pictures)
    cards = [attributes for tag, attributes in page.tags if tag == "details"]
    assert len(cards) == len(report.runs)
    assert ["open" in each for each in cards] == [summary.verdict(report, run) != "PASS" for run in report.runs]


def test_a_run_that_nobody_judged_is_no_pass(samples):
    report = changed(samples["passing"], gates=[], runs={})
    assert summary.counted(report)["PASS"] == 0
    assert "✓ PASS" not in html.render(report).partition("<h2>Verdicts</h2>")[2]
    assert 'class="good"' not in html.render(report), "a disc says that it is within its limit"
    root = ElementTree.fromstring(junit.render(report))
    assert int(root.get("errors")) == len(report.runs)


def test_dots_of_a_picture_are_where_their_numbers_are(samples):
    report = samples["failing"]
    run = next(run for run in report.runs if run.id == "timm/classifier/float32/cpu")
    picture = ElementTree.fromstring(charts.scatter(run))
    line = next(each for each in picture.iter("path") if each.get("class") == "limit")
    (x1, y1), (x2, y2) = [tuple(map(float, point.split())) for point in line.get("d")[1:].split("L")]
    above = 0
    for dot in next(each for each in picture.iter("path") if each.get("class") == "point").get("d")[1:].split("M"):
        x, y = map(float, dot.removesuffix("h0").split())
        above += y < y1 + (y2 - y1) * (x - x1) / (x2 - x1)
    assert above == sum(point.delta > point.margin / 2 for point in run.points) == len(run.flips) == 2
    assert f"{above} above the flip boundary" in picture.get("aria-label")


# JUnit.


@pytest.mark.parametrize("name", SAMPLES)
def test_junit_fails_exactly_where_the_verdict_is_no_pass(samples, name):
    report = samples[name]
    root = ElementTree.fromstring(junit.render(report).encode())
    suites = root.findall("testsuite")
    assert [suite.get("name") for suite in suites] == ["verdict", *(run.id for run in report.runs)]
    assert (root.find(".//failure") is None and root.find(".//error") is None) == (report.judgement.verdict == "PASS")
    for suite in [*suites, root]:
        cases = list(suite.iter("testcase"))
        assert int(suite.get("tests")) == len(cases) > 0
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(attribute)) == sum(case.find(tag) is not None for case in cases)
    failed = {
        (each.get("classname"), each.get("name")) for each in root.iter("testcase") if each.find("failure") is not None
    }
    expected = {(gate.run, gate.gate) for gate in report.judgement.gates if gate.verdict == "FAIL"}
    assert failed - {("verdict", "verdict")} == expected


def test_junit_tells_what_was_required_from_what_was_not(samples):
    root = ElementTree.fromstring(junit.render(samples["missing"]))
    (died,) = root.findall("testsuite[@name='torch/classifier/float32/cpu']/testcase/error")
    (absent,) = root.findall("testsuite[@name='onnx-reference/classifier/float32/cpu']/testcase/skipped")
    assert "ran out of memory" in died.get("message")
    assert absent.get("message") == "onnx is missing: pip install onnx"


def test_gates_of_no_run_are_in_junit_too(samples):
    gate = report_schema.Gate(run="references", gate="definition", verdict="FAIL", measured=1.0, limit=1e-9, reason="x")
    report = changed(samples["passing"], gates=[gate, *samples["passing"].judgement.gates], verdict="FAIL")
    root = ElementTree.fromstring(junit.render(report))
    assert root.find("testsuite[@name='references']/testcase/failure").text == "x: measured 1, limit 1e-09"


# GitHub.


def announced(report: Report, **environment: str) -> str:
    lines: list[str] = []
    github.announce(report, lines.append, {"GITHUB_ACTIONS": "true", **environment})
    return "".join(f"{line}\n" for line in lines)


def test_annotations_are_written_in_actions_only(samples):
    assert announced(samples["failing"], GITHUB_ACTIONS="false") == ""
    github.announce(samples["failing"], pytest.fail, {})
    lines = announced(samples["failing"]).splitlines()
    title = "FAIL%3A timm/classifier/float32/cpu numeric"
    assert f"::error title={title}::RMS error to the oracle" in lines
    assert len(lines) == 5
    assert announced(samples["passing"]) == ""


def test_what_nothing_requires_is_a_warning(samples):
    kinds = [line.split(" ")[0] for line in announced(samples["missing"]).splitlines()]
    assert kinds == ["::error", "::warning"]


def test_hostile_text_begins_no_command(samples):
    raw = sample_reports.hostile()
    text = announced(raw)
    assert "%250A" in text, "a percent sign is encoded"
    for line in text.splitlines():
        assert re.fullmatch(r"::error title=[^:,\r\n]*::[^\x00-\x1f\u202e]*", line)


def test_no_more_annotations_than_github_shows(samples):
    gate = next(gate for gate in samples["failing"].judgement.gates if gate.verdict == "FAIL")
    lines = announced(changed(samples["failing"], gates=[gate] * 30)).splitlines()
    assert len(lines) == 10
    assert "21 more" in lines[-1]


def test_the_summary_of_the_job_is_appended(samples, tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    announced(samples["failing"], GITHUB_STEP_SUMMARY=str(path))
    assert path.read_text() == "before\n" + markdown.render(samples["failing"])


def test_a_page_too_large_for_github_is_cut_to_its_summary(samples, monkeypatch):
    monkeypatch.setattr(github, "SUMMARY_BYTES", 10_000)
    assert github.job_summary(samples["failing"]) == "\n".join(markdown.summarised(samples["failing"])) + "\n\n"


def test_a_summary_that_cannot_be_written_is_one_sentence(samples, tmp_path):
    with pytest.raises(OutputError, match="the summary of the job"):
        announced(samples["failing"], GITHUB_STEP_SUMMARY=str(tmp_path))


# All of them.


def test_a_crash_is_one_sentence_in_tables_and_its_last_words_are_whole_in_their_place():
    run = sample_reports.not_run("onnx", "classifier", cause="crashed", reason="it crashed " + "and burned " * 50)
    run["log"] = ["File x, line 3", "ValueError: <b>\x1b[0m"]
    report = cleaned(sample_reports.report([run]))
    page = html.render(report)
    assert len(re.findall(r"<td[^>]*>it crashed[a-z ]*…</td>", page)) == 2
    assert "<pre>File x, line 3\nValueError: &lt;b&gt; [0m</pre>" in page
    assert "line 3" not in markdown.render(report)
    (suite,) = ElementTree.fromstring(junit.render(report)).findall("testsuite[@name='onnx/classifier/float32/cpu']")
    assert suite.find("system-err").text == "File x, line 3\nValueError: <b> [0m"
    assert suite.find("testcase/error").get("message").endswith("…")
    assert all(len(line) < 400 for line in announced(report).splitlines())


PAIR = ("float32", "bfloat16")


def test_what_did_not_run_is_one_row_for_each_reason_and_what_is_required_comes_first():
    why = {"cause": "absent", "reason": "no TensorFlow here"}
    runs = [
        sample_reports.not_run(backend, variant, precision, **why, required=False)
        for backend, precisions in (("saved_model", PAIR), ("torch", ("float32",)), ("timm", PAIR))
        for variant in ("classifier", "features")
        for precision in precisions
    ]
    runs += [sample_reports.not_run("onnx", "classifier", cause="crashed", reason="it crashed", required=True)]
    report = cleaned(sample_reports.report(runs))
    assert tables.not_run(report).rows == (
        ("onnx", "classifier: float32 cpu", "yes", "crashed", "it crashed"),
        ("saved_model, timm", "classifier, features: float32 cpu, bfloat16 cpu", "no", *why.values()),
        ("torch", "classifier, features: float32 cpu", "no", *why.values()),
    )
    assert tables.open_gates(report).rows == ()


def test_the_console_says_once_what_the_runs_of_a_backend_share(capsys):
    why = {"cause": "absent", "reason": "no TensorFlow here"}
    console.verification(
        sample_reports.report(
            [sample_reports.not_run("saved_model", variant, **why) for variant in ("classifier", "features")]
            + [sample_reports.not_run("onnx", "classifier", **why)]
        )
    )
    said = [line for line in capsys.readouterr().out.splitlines() if line.endswith(why["reason"])]
    assert said == [
        "NOT RUN  saved_model/classifier/float32/cpu and 1 more: no TensorFlow here",
        "NOT RUN  onnx/classifier/float32/cpu: no TensorFlow here",
    ]


def test_the_console_has_the_last_words_of_a_crash(capsys):
    run = sample_reports.not_run("onnx", "classifier", cause="crashed", reason="it was killed by SIGSEGV")
    run["log"] = [f"line {number} \x1b[2J" for number in range(9)]
    console.verification(sample_reports.report([run]))
    told = capsys.readouterr().out.splitlines()
    place = told.index("NOT RUN  onnx/classifier/float32/cpu: it was killed by SIGSEGV")
    assert told[place + 1 : place + 6] == [*(f"  | line {number} [2J" for number in range(5, 9)), ""]


def test_write_makes_the_report_and_every_page(tmp_path):
    report = sample_reports.hostile()
    rendering.write(report, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junit.xml", "report.html", "report.json", "report.md"]
    ElementTree.parse(tmp_path / "junit.xml")
    assert (tmp_path / "report.md").read_text() == markdown.render(cleaned(report))
    assert report_schema.parse(json.loads((tmp_path / "report.json").read_text()), "x") == report


def test_write_says_where_it_cannot(tmp_path):
    with pytest.raises(OutputError, match=r"report\.json can't be written"):
        rendering.write(sample_reports.empty(), tmp_path / "absent")


def test_nothing_of_an_earlier_report_is_left_and_nothing_else_is_touched(tmp_path):
    folder = tmp_path / "a" / "b"
    with rendering.prepared(folder, nobody):
        rendering.write(sample_reports.passing(), folder)
        (folder / "notes.txt").touch()
    with rendering.prepared(folder, nobody):
        assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["report.md", "report.json"])
def test_files_of_somebody_else_are_not_taken_away(tmp_path, name):
    (tmp_path / name).write_text('{"summary": "notes"}')
    with pytest.raises(UsageError, match=rf"has a {name} of somebody else"), rendering.prepared(tmp_path, nobody):
        pass
    assert (tmp_path / name).exists()


def test_an_impossible_place_is_known_before_the_run(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="can't hold a report"), rendering.prepared(place, nobody):
            pass


def test_a_folder_of_reports_is_for_one_run_at_a_time(tmp_path):
    """Two that wrote into it by turns would leave pages of both."""
    order, waiting = [], threading.Event()

    def second():
        with rendering.prepared(tmp_path, waiting.set):
            order.append("second")

    with rendering.prepared(tmp_path, nobody):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        rendering.write(sample_reports.passing(), tmp_path)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert not list(tmp_path.iterdir())


def test_gate_does_not_wait_for_a_verification(tmp_path):
    report, folder = tmp_path / "report.json", tmp_path / "pages"
    report.write_text(rendering.json_text(sample_reports.passing()))
    with rendering.prepared(folder, nobody), pytest.raises(OutputError, match="another vitport is making a report"):
        gate(report, folder=folder)


@pytest.mark.parametrize("name", SAMPLES)
def test_json_is_the_same_report_fits_the_schema_and_is_ascii(name):
    report = getattr(sample_reports, name)()
    text = rendering.json_text(report)
    assert report_schema.parse(json.loads(text), "x") == report
    assert text == rendering.json_text(report_schema.parse(json.loads(text), "x"))
    assert text.isascii()
    jsonschema.Draft202012Validator(report_schema.json_schema()).validate(json.loads(text))


def test_the_schema_refuses_what_is_no_report():
    document = json.loads(rendering.json_text(sample_reports.passing()))
    validator = jsonschema.Draft202012Validator(report_schema.json_schema())
    for wrong in ({"schema": 2}, {"judgement": None}, {"more": 1}, {"runs": [{}]}):
        assert list(validator.iter_errors({**document, **wrong}))


def test_the_schema_is_the_generated_one():
    assert json.loads(report_schema.SCHEMA_FILE.read_text()) == report_schema.json_schema(), (
        "run python -m vitport.parity.report_schema"
    )


def test_write_schema_writes_that_file(tmp_path):
    report_schema.write_schema(tmp_path / "schema.json")
    assert (tmp_path / "schema.json").read_bytes() == report_schema.SCHEMA_FILE.read_bytes()


def test_every_field_of_a_report_is_described():
    schema = report_schema.json_schema()
    models = {"Report": schema, **schema["$defs"]}
    bare = [
        f"{name}.{field}"
        for name, model in models.items()
        for field, value in model.get("properties", {}).items()
        if not value.get("description")
    ]
    assert bare == []
