"""`vitport diff`: every way to get worse is a regression, nothing else is, and different things are called so first."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import sample_reports
from sample_reports import not_run, report, run

from vitport import diff, rendering
from vitport.errors import AssetError
from vitport.parity import policy
from vitport.parity.gate_rules import Rule
from vitport.parity.judging import judged
from vitport.parity.report_schema import Report

ROOT = Path(__file__).parents[1]
ONNX = "onnx/classifier/float32/cpu"


def vitport(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "vitport", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def two(onnx: dict, **changes: object) -> Report:
    return report([run("flax", "classifier"), onnx], **changes)


def changed(report: Report, **parts: dict) -> Report:
    """A report with other fields in its parts: `changed(report, identity={"seeds": {}})`."""
    document = report.model_dump(by_alias=True)
    for part, fields in parts.items():
        document[part].update(fields)
    return Report.model_validate(document)


def found(old: Report, new: Report) -> list[tuple[str, str, str, str]]:
    return [(each.run, each.what, each.was, each.now) for each in diff.compared(old, new).regressions]


GOOD = two(run("onnx", "classifier"))


def test_equal_reports_differ_in_nothing():
    difference = diff.compared(GOOD, GOOD)
    assert difference.regressions == difference.identity == difference.improved == ()
    assert difference.gained == difference.incomparable == ()
    assert [(each.rate, each.memory, each.error) for each in difference.ratios] == [(1.0, 1.0, 1.0)] * 2


def test_a_gate_that_fails_now_is_a_regression():
    wrong = run("onnx", "classifier")
    wrong["weights"] = {"leaves": 72, "different": ["head/kernel"], "count": 1}
    assert found(GOOD, two(wrong)) == [("report", "verdict", "PASS", "FAIL"), (ONNX, "weights", "PASS", "FAIL")]


def test_an_outcome_that_was_bad_already_is_none():
    onnx = run("onnx", "classifier", scale=600.0, wrong=True)
    for noise in (onnx["noise"]["repeat"], *onnx["noise"]["batches"]):
        noise.update(max=1e-4, bit_equal=False)
    wrong = two(onnx)
    assert found(wrong, wrong) == []
    better = diff.compared(wrong, GOOD)
    assert better.regressions == ()
    assert {each.what for each in better.improved} == {"semantic", "numeric"}


def test_a_run_that_is_gone_or_did_not_run_is_a_regression():
    assert found(GOOD, report([run("flax", "classifier")])) == [(ONNX, "ran", "RAN", "not there")]
    optional = not_run("onnx", "classifier", cause="environment", reason="no onnxruntime", required=False)
    difference = diff.compared(GOOD, two(optional))
    assert [(each.what, each.reason) for each in difference.regressions] == [("ran", "no onnxruntime")]
    assert found(two(optional), GOOD) == []


def test_a_failed_run_that_is_gone_is_a_regression_too():
    onnx = run("onnx", "classifier", scale=600.0, wrong=True)
    for noise in (onnx["noise"]["repeat"], *onnx["noise"]["batches"]):
        noise.update(max=1e-4, bit_equal=False)
    wrong = two(onnx)
    assert found(wrong, report([run("flax", "classifier")])) == [(ONNX, "ran", "RAN", "not there")]


def test_a_gate_that_is_gone_passes_no_more():
    gates = [gate for gate in GOOD.judgement.gates if gate.gate != "semantic"]
    less = GOOD.model_copy(update={"judgement": GOOD.judgement.model_copy(update={"gates": gates})})
    assert (ONNX, "semantic", "PASS", "not there") in found(GOOD, less)
    bare = GOOD.model_copy(update={"judgement": GOOD.judgement.model_copy(update={"gates": []})})
    assert len(found(GOOD, bare)) == len(GOOD.judgement.gates)


def test_a_new_run_that_fails_is_a_regression_of_the_whole_and_one_that_passes_is_new():
    more = [run("flax", "classifier"), run("onnx", "classifier")]
    assert found(GOOD, report([*more, run("timm", "classifier", scale=600.0, wrong=True)])) == [
        ("report", "verdict", "PASS", "FAIL")
    ]
    fine = diff.compared(GOOD, report([*more, run("timm", "classifier")]))
    assert fine.regressions == ()
    assert fine.gained == ("timm/classifier/float32/cpu",)


def with_error(rms: float | None, repeat: float = 0.0) -> Report:
    onnx = run("onnx", "classifier")
    onnx["relative"] = {**onnx["relative"], "rms": rms}
    onnx["noise"]["repeat"] = {**onnx["noise"]["repeat"], "max": repeat}
    return two(onnx)


@pytest.mark.parametrize(
    ("rms", "repeat", "regression"),
    [
        (1.49e-7, 0.0, False),
        (1.51e-7, 0.0, True),
        (0.1e-7, 0.0, False),
        (3.4e-7, 4e-7, False),
        (3.6e-7, 4e-7, True),
    ],
    ids=["a little more", "too much more", "less", "within the noise", "beyond the noise"],
)
def test_an_error_may_grow_by_a_factor_and_the_noise(rms, repeat, regression):
    """Noise is over the spread, which is 2."""
    growth = [each for each in found(with_error(1e-7), with_error(rms, repeat)) if each[1] == "RMS"]
    assert bool(growth) == regression


def test_an_error_that_is_no_number_any_more_has_grown():
    assert (ONNX, "RMS", "1e-07", "NaN") in found(with_error(1e-7), with_error(None))
    assert not [each for each in found(with_error(None), with_error(1e-7)) if each[1] == "RMS"]


def test_an_error_where_there_was_none_is_named_so():
    (growth,) = [each for each in diff.compared(with_error(0.0), with_error(1e-7)).regressions if each.what == "RMS"]
    assert (growth.was, growth.now, growth.reason) == ("0", "1e-07", "it was exact")


def written(path: Path, report: Report) -> Path:
    path.write_text(rendering.json_text(report))
    return path


def test_a_verdict_that_its_numbers_do_not_give_is_not_believed(tmp_path):
    old = written(tmp_path / "old.json", judged(GOOD, policy.read()))
    wrong = judged(two(run("onnx", "classifier", scale=600.0, wrong=True)), policy.read())
    forged = wrong.model_copy(update={"judgement": judged(GOOD, policy.read()).judgement})
    found = diff.diff(old, written(tmp_path / "new.json", forged))
    assert found.rejudged == (f"{tmp_path}/new.json says PASS, but by its own numbers and policy it is FAIL",)
    assert ("report", "verdict", "PASS", "FAIL") in [(e.run, e.what, e.was, e.now) for e in found.regressions]


def test_a_report_without_its_policy_or_its_day_is_refused(tmp_path):
    old = written(tmp_path / "old.json", judged(GOOD, policy.read()))
    bare = GOOD.model_copy(update={"judgement": GOOD.judgement.model_copy(update={"policy": {}})})
    timeless = GOOD.model_copy(update={"created": "yesterday"})
    for each in (bare, timeless):
        with pytest.raises(AssetError, match="judged again"):
            diff.diff(old, written(tmp_path / "new.json", each))


def test_a_rule_that_expired_since_counts_for_its_day(tmp_path):
    rule = Rule(gate="numeric", limit=1e4, because="then", expires="2026-11-21")
    report = judged(GOOD, policy.with_rules(policy.read(), "s16", [rule]), date(2026, 11, 21))
    found = diff.diff(written(tmp_path / "old.json", report), tmp_path / "old.json")
    assert {gate.limit for gate in found.old.judgement.gates if gate.gate == "numeric"} == {4e-3}


def test_growth_is_named_by_its_factor():
    (growth,) = [each for each in diff.compared(with_error(1e-7), with_error(4e-7)).regressions if each.what == "RMS"]
    assert growth.reason == "4 times"


def test_reports_of_different_things_say_so_and_everything_that_changed():
    known = GOOD.model_dump(by_alias=True)["identity"]
    other = changed(
        GOOD,
        identity={
            "asset": {**known["asset"], "sha256": "1" * 64},
            "images": {**known["images"], "sha256": "2" * 64},
            "seeds": {"images": 1},
        },
        machine={"versions": {"vitport": "0.2.0", "jax": "0.10.2"}, "gpu": "T4"},
    )
    difference = diff.compared(GOOD, other)
    assert difference.incomparable == ("the checkpoints are different", "the images are different")
    assert difference.regressions == ()
    assert {(each.run, each.what, each.now) for each in difference.identity} == {
        ("digest", "checkpoint", "1" * 64),
        ("digest", "images", "2" * 64),
        ("seed", "images", "1"),
        ("seed", "draws", "not there"),
        ("version", "vitport", "0.2.0"),
        ("version", "python", "not there"),
        ("version", "torch", "not there"),
        ("version", "numpy", "not there"),
        ("machine", "gpu", "T4"),
    }


def test_speed_and_memory_are_shown_and_never_judged():
    slow = run("onnx", "classifier")
    slow["speed"] = {**slow["speed"], "rate": slow["speed"]["rate"] / 100, "memory": 10**10}
    difference = diff.compared(GOOD, two(slow))
    assert difference.regressions == ()
    ratio = next(each for each in difference.ratios if each.run == ONNX)
    assert (ratio.rate, ratio.memory) == pytest.approx((0.01, 10**10 / (512 * 10**6)))


def test_the_command_and_its_exit_codes(tmp_path):
    onnx = run("onnx", "classifier", scale=600.0, wrong=True)
    for noise in (onnx["noise"]["repeat"], *onnx["noise"]["batches"]):
        noise.update(max=1e-4, bit_equal=False)
    wrong = two(onnx)
    for name, each in (("old", GOOD), ("new", wrong), ("hostile", sample_reports.strange())):
        written(tmp_path / f"{name}.json", judged(each, policy.read()))
    done = vitport("diff", tmp_path / "old.json", tmp_path / "old.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("0 regressions\n")
    done = vitport("diff", tmp_path / "old.json", tmp_path / "new.json", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["regression"]) == (1, True)
    assert document["verdict"] == {"was": "PASS", "now": "FAIL"}
    worse = {"verdict", "semantic", "numeric", "repeat", "batches", "RMS"}
    assert {each["what"] for each in document["regressions"]} == worse
    done = vitport("diff", tmp_path / "old.json", tmp_path / "hostile.json")
    assert done.returncode == 1
    assert done.stdout.startswith("these reports are not of the same: the checkpoints are different\n")
    assert "\x1b" not in done.stdout
    done = vitport("diff", tmp_path / "old.json", tmp_path / "absent.json")
    assert (done.returncode, done.stdout) == (3, "")
