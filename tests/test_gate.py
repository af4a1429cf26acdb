"""`vitport gate`: an old report under another policy; files that are no report are one sentence."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import sample_reports

from vitport import gate, rendering
from vitport.errors import AssetError, ManifestError
from vitport.parity import policy, report_file
from vitport.parity.report_schema import Report

ROOT = Path(__file__).parents[1]

STRICT = """\
schema: 1
name: strict
rules:
  - gate: numeric
    limit: 1.5
    backend: [transformers]
    because: a release
"""

RENDERED = ["junit.xml", "report.html", "report.json", "report.md"]


def vitport(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "vitport", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment or None, capture_output=True, text=True, check=False)


def written(report: Report, path: Path) -> Path:
    path.write_text(rendering.json_text(report))
    return path


@pytest.fixture
def strict(tmp_path) -> Path:
    path = tmp_path / "strict.yaml"
    path.write_text(STRICT)
    return path


VERDICTS = {"passing": ("PASS", 0), "failing": ("FAIL", 1), "missing": ("NOT RUN", 5), "nulls": ("FAIL", 1)}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_default_policy_finds_what_the_samples_say(tmp_path, name):
    report = getattr(sample_reports, name)()
    found = gate.gate(written(report, tmp_path / "report.json"))
    assert (found.report.judgement.verdict, found.report.judgement.exit_code) == VERDICTS[name]
    assert found.changed == {}
    assert found.report.judgement.policy_sha256 == policy.read(None).digest


def test_another_policy_makes_another_verdict_of_the_same_numbers(tmp_path, strict):
    runs = [sample_reports.run("transformers", "classifier", scale=9.0), sample_reports.run("onnx", "classifier")]
    rough = {**sample_reports.reference(), "yardstick": 2e-6, "jax": {}}
    report = sample_reports.report(runs, references={"classifier": rough})
    path = written(report, tmp_path / "report.json")
    default = gate.gate(path)
    assert default.report.judgement.verdict == "PASS"
    assert default.changed == {"transformers/classifier/float32/cpu": ("FAIL", "PASS")}
    found = gate.gate(path, strict)
    assert found.report.judgement.verdict == "FAIL"
    (failed,) = [each for each in found.report.judgement.gates if each.verdict == "FAIL"]
    assert (failed.run, failed.gate, failed.because) == ("transformers/classifier/float32/cpu", "numeric", "a release")
    assert found.report.runs == report.runs


def test_a_rule_that_has_expired_counts_no_more(tmp_path, strict):
    strict.write_text(STRICT.replace("because: a release", "because: a release\n    expires: 2026-01-31"))
    runs = [sample_reports.run("transformers", "classifier", scale=9.0)]
    report = sample_reports.report(runs, references={"classifier": {**sample_reports.reference(), "yardstick": 2e-6}})
    verdicts = {day: gate.judged(report, policy.read(strict), date(2026, *day)).judgement.verdict for day in DAYS}
    assert verdicts == {(1, 31): "FAIL", (2, 1): "PASS"}


DAYS = ((1, 31), (2, 1))


def test_what_an_old_report_says_of_itself_counts_nothing(tmp_path):
    document = json.loads(rendering.json_text(sample_reports.failing()))
    document["judgement"].update(verdict="PASS", exit_code=0, gates=[])
    document["judgement"]["runs"] = dict.fromkeys(document["judgement"]["runs"], "PASS")
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))
    found = gate.gate(path)
    assert found.report.judgement.exit_code == 1
    assert found.changed["timm/classifier/float32/cpu"] == ("PASS", "FAIL")


def test_the_command_its_exit_codes_and_its_pages(tmp_path, strict):
    old = written(sample_reports.missing(), tmp_path / "old.json")
    done = vitport("gate", old, "--policy", strict, "--report", tmp_path / "pages")
    assert (done.returncode, done.stderr) == (5, "")
    assert "NOT RUN under the policy strict; it was NOT RUN under default" in done.stdout
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == RENDERED
    judged = report_file.read(tmp_path / "pages" / "report.json")
    assert judged.judgement.policy["name"] == "strict"
    assert judged.runs == sample_reports.missing().runs


def test_the_command_for_programs_and_for_github(tmp_path):
    old = written(sample_reports.failing(), tmp_path / "old.json")
    summary = tmp_path / "summary.md"
    actions = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary), "PYTHONPATH": str(ROOT)}
    done = vitport("gate", old, "--json", **actions)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["verdict"], document["before"]["verdict"]) == ("FAIL", "FAIL")
    assert done.stderr.count("::error title=") == 7
    assert summary.read_text().startswith("# FAIL: Tiny ViT/4")


def test_gate_loads_no_framework(tmp_path):
    path = written(sample_reports.passing(), tmp_path / "report.json")
    program = (
        "import sys\nfrom vitport import gate\nfrom pathlib import Path\n"
        f"gate.gate(Path({str(path)!r}), None, Path({str(tmp_path)!r}))\n"
        "print([name for name in ('jax', 'torch', 'tensorflow', 'onnx', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


Change = Callable[[dict], object]

FOREIGN: dict[str, tuple[bytes | Change, str]] = {
    "nothing": (b"", "is no report"),
    "not JSON": (b"<html>", "is no report"),
    "not UTF-8": (b"\xff", "it is not UTF-8"),
    "a list": (b"[]", "is no report of this vitport: the document"),
    "NaN": (lambda report: report["runs"][0].update(ratio=float("nan")), "NaN is no number of JSON"),
    "infinite": (b'{"schema": 1e999}', "the number 1e999 is too large"),
    "vast": (lambda report: report["runs"][0].update(ratio=10**400), "runs[0].ratio: Input should be"),
    "of too many digits": (b'{"schema": 1' + b"0" * 5000 + b"}", "is no report"),
    "beyond 64 bits": (lambda report: report["runs"][0]["speed"].update(memory=2**63), "speed.memory: Input should be"),
    "a key twice": (b'{"schema": 1, "schema": 1}', "the key 'schema' is there twice"),
    "deep": (b"[" * 100_000, "it is nested too deeply"),
    "deep in a free field": (lambda report: report["architecture"].update(x=[[[[[[[[[[[[[]]]]]]]]]]]]]), "too deeply"),
    "of tomorrow": (lambda report: report.update(schema=2), "schema is the number 2, not 1"),
    "of yesterday": (lambda report: report.pop("schema"), "schema is nothing, not 1"),
    "artifacts.json": (b'{"schema": 5, "artifacts": []}', "schema is the number 5, not 1"),
    "a field more": (lambda report: report.update(more=1), "more: Extra inputs are not permitted"),
    "a field fewer": (lambda report: report.pop("runs"), "runs: Field required"),
    "a text for a number": (lambda report: report["runs"][0].update(ratio="1"), "runs[0].ratio: Input should be"),
    "an error below zero": (lambda report: report["runs"][0]["relative"].update(rms=-1.0), "runs[0].relative.rms"),
    "fewer than no NaN": (lambda report: report["runs"][0].update(nonfinite=-1), "runs[0].nonfinite"),
    "a run twice": (lambda report: report["runs"].append(report["runs"][0]), "is there more than once"),
    "a run by another name": (lambda report: report["runs"][0].update(backend="x"), "is another than its fields say"),
    "no reference": (lambda report: report["references"].clear(), "has no reference"),
    "no gradient": (lambda report: report["runs"][3]["gradients"].update(parts=[]), "has gradients of nothing"),
    "no verdict": (lambda report: report["judgement"]["runs"].popitem(), "is either not judged or not there"),
    "a hostile key": (lambda report: report["judgement"]["runs"].update({"\x1b[31m\n": "PASS"}), "\\x1b[31m\\n"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_report_is_one_sentence(tmp_path, kind):
    content, sentence = FOREIGN[kind]
    path = tmp_path / "report.json"
    if not isinstance(content, bytes):
        document = copy.deepcopy(json.loads(rendering.json_text(sample_reports.failing())))
        content(document)
        content = json.dumps(document).encode()
    path.write_bytes(content)
    with pytest.raises(AssetError) as caught:
        report_file.read(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(report_file, "MAX_BYTES", 1000)
    with pytest.raises(AssetError, match="larger than 1,000 bytes"):
        report_file.read(written(sample_reports.passing(), tmp_path / "report.json"))


def test_no_report_and_no_policy_have_the_documented_exit_codes(tmp_path):
    done = vitport("gate", tmp_path / "absent.json")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    path = written(sample_reports.passing(), tmp_path / "report.json")
    with pytest.raises(ManifestError, match="no such policy file"):
        gate.gate(path, tmp_path / "absent.yaml")
