"""The verdict, number by number: what each gate lets pass, what is NOT RUN, and which exit code follows."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pytest
import sample_reports as samples

from vitport.parity import judging, policy
from vitport.parity.gate_rules import Rule
from vitport.parity.report_schema import Judgement

DEFAULT, TODAY = policy.read(), date(2026, 11, 21)
RUN = "onnx/classifier/float32/cpu"


def judge(*runs: dict, rules: policy.Policy = DEFAULT, **changes: object) -> Judgement:
    return judging.judge(samples.report(list(runs), **changes), rules, TODAY)


def onnx(change: Callable[[dict], None] = lambda run: None, **settings: object) -> dict:
    found = samples.run("onnx", "classifier", **settings)
    change(found)
    return found


def gate(judgement: Judgement, name: str) -> str:
    return next(each.verdict for each in judgement.gates if (each.run, each.gate) == (RUN, name))


def put(path: str, value: object) -> Callable[[dict], None]:
    """Sets one field of a run, by its dotted name."""

    def change(run: dict) -> None:
        *way, last = path.split(".")
        for key in way:
            run = run[int(key) if key.isdigit() else key]
        run[last] = value

    return change


def test_a_good_run_passes() -> None:
    found = judge(onnx())
    assert (found.verdict, found.exit_code, found.runs) == ("PASS", 0, {RUN: "PASS"})


YARDSTICK, SPREAD = samples.YARDSTICK, samples.SPREAD

EDGES = {
    "nonfinite": ("nonfinite", 0, 1),
    "weights": ("weights.count", 0, 1),
    "semantic": ("semantic.relative", 1e-9, 1.01e-9),
    "numeric": ("relative.rms", 2e-6, 2.01e-6),
    "repeat": ("noise.repeat.max", 5 * 2e-6 * SPREAD, 5.01 * 2e-6 * SPREAD),
    "batches": ("noise.batches.1.max", 5 * 2e-6 * SPREAD, 5.01 * 2e-6 * SPREAD),
}


@pytest.mark.parametrize("name", EDGES)
def test_a_gate_passes_up_to_its_limit_and_no_further(name: str) -> None:
    path, allowed, beyond = EDGES[name]
    assert gate(judge(onnx(put(path, allowed))), name) == "PASS"
    failed = judge(onnx(put(path, beyond)))
    assert (gate(failed, name), failed.exit_code, failed.runs[RUN]) == ("FAIL", 1, "FAIL")


NULLS = ("semantic.relative", "relative.rms", "noise.repeat.max", "noise.batches.0.max")


@pytest.mark.parametrize("path", NULLS)
def test_null_never_passes(path: str) -> None:
    assert judge(onnx(put(path, None))).verdict == "FAIL"


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("path", ["weights", "semantic", "noise"])
def test_what_was_not_measured_is_no_pass(path: str, required: bool) -> None:
    """Of a run that the verdict needs not wait for too, once it ran."""
    found = judge(samples.run("torch", "classifier"), onnx(put(path, None)) | {"required": required})
    assert (found.verdict, found.exit_code) == ("NOT RUN", 5)


def test_the_floor_is_for_networks_that_hardly_round() -> None:
    loud = {"classifier": {**samples.reference(), "yardstick": 1e-5}}
    assert gate(judge(onnx(put("relative.rms", 2.9e-5)), references=loud), "numeric") == "PASS"
    assert gate(judge(onnx(put("relative.rms", 3.1e-5)), references=loud), "numeric") == "FAIL"


def test_another_precision_is_compared_with_jax_at_that_precision() -> None:
    low = {"precision": "bfloat16", "id": "torch/classifier/bfloat16/cpu"}
    run = samples.run("torch", "classifier", "bfloat16")
    run["relative"]["rms"] = 2.9 * samples.REFERENCE["bfloat16"]
    assert judge(run).runs[low["id"]] == "PASS"
    run["relative"]["rms"] = 3.1 * samples.REFERENCE["bfloat16"]
    assert judge(run).runs[low["id"]] == "FAIL"


def test_tf32_is_compared_with_numpys_where_it_was_measured() -> None:
    run = samples.run("torch", "classifier", "tf32", "cuda")
    own = {"classifier": {**samples.reference(), "tf32": 1e-3}}
    run["relative"]["rms"] = 2.9e-3
    assert judge(run, references=own).verdict == "PASS"
    assert judge(run).verdict == "FAIL"
    run["relative"]["rms"] = 3.1e-3
    assert judge(run, references=own).verdict == "FAIL"


def test_without_a_reference_at_that_precision_nothing_passes() -> None:
    run = samples.run("torch", "classifier", "bfloat16")
    nobody = {"classifier": {**samples.reference(), "jax": {}}}
    assert judge(run, references=nobody).verdict == "FAIL"


def test_the_worst_part_of_the_gradients_counts() -> None:
    run = samples.run("torch", "classifier")
    assert judge(run).verdict == "PASS"
    run["gradients"]["parts"][4]["relative"] = 1.1e-5
    (found,) = [each for each in judge(run).gates if each.gate == "gradients"]
    assert found.verdict == "FAIL"
    assert run["gradients"]["parts"][4]["name"] in found.reason


def test_a_wrong_gradient_in_float64_fails_where_float32_says_nothing() -> None:
    run = samples.run("torch", "classifier")
    part = run["gradients"]["parts"][0]
    part["semantic"] = 2e-9
    (found,) = [each for each in judge(run).gates if each.gate == "semantic_gradients"]
    assert (found.verdict, found.measured) == ("FAIL", 2e-9)
    part["semantic"] = None
    assert judge(run).verdict == "FAIL"


def test_float64_gradients_that_were_not_measured_are_no_pass() -> None:
    run = samples.run("torch", "classifier")
    run["gradients"]["double"] = False
    assert judge(run).runs[run["id"]] == "NOT RUN"


def test_a_hybrids_float32_gradients_count_where_no_relu_lies_in_front() -> None:
    hybrid = {"resnet": {"depths": [3, 4, 9]}}
    run = samples.run("torch", "classifier")
    images, embedding, *_ = run["gradients"]["parts"]
    images["relative"] = 0.1
    assert judge(run).verdict == "FAIL"
    assert judge(run, architecture=hybrid).verdict == "PASS"
    embedding["relative"] = 0.1
    assert judge(run, architecture=hybrid).verdict == "FAIL"


def test_a_failure_says_that_the_rule_which_allowed_it_has_expired() -> None:
    rule = Rule(gate="numeric", limit=9, because="x", expires=date(2026, 1, 1))
    mine = policy.with_rules(policy.read(), "s16", [rule])
    found = judging.judge(samples.report([onnx(put("relative.rms", 1e-3))]), mine, date(2026, 1, 2))
    reasons = {each.gate: each.reason for each in found.gates}
    assert reasons["numeric"].endswith("; until 2026-01-01 a rule allowed 9")
    assert "until" not in reasons["weights"]
    again = judging.judge(samples.report([onnx(put("relative.rms", 1e-3))]), mine, date(2026, 1, 1))
    assert not any("until" in each.reason for each in again.gates)


def test_settings_that_clients_are_told_count_where_there_are_any() -> None:
    assert judge(onnx()).verdict == "PASS"
    assert judge(onnx(put("preprocessing", {"different": [], "count": 0}))).verdict == "PASS"
    found = judge(onnx(put("preprocessing", {"different": ["resample is 3, not 2"], "count": 1})))
    assert (gate(found, "preprocessing"), found.exit_code) == ("FAIL", 1)
    (reason,) = [each.reason for each in found.gates if each.verdict == "FAIL"]
    assert "resample is 3, not 2" in reason


def test_an_unexplained_flip_is_a_bug_in_the_harness() -> None:
    flip = {"image": "x", "expected": 1, "found": 2, "margin": 1.0, "delta": 0.1, "explained": False}
    assert gate(judge(onnx(put("flips", [flip]))), "flips") == "FAIL"
    assert gate(judge(onnx(put("flips", [{**flip, "explained": True}]))), "flips") == "PASS"


def test_no_flip_among_images_without_a_best_output_is_no_pass() -> None:
    assert gate(judge(onnx()), "flips") == "PASS"
    nothing = judge(onnx(put("nonfinite", 3)))
    assert [gate(nothing, name) for name in ("nonfinite", "flips")] == ["FAIL", "NOT RUN"]
    assert (nothing.verdict, nothing.exit_code) == ("FAIL", 1)
    flip = {"image": "seeded-0000", "expected": 3, "found": 8, "margin": 1.0, "delta": 0.1, "explained": False}
    others = judge(onnx(lambda run: run.update(nonfinite=3, flips=[flip])))
    assert [gate(others, name) for name in ("nonfinite", "flips")] == ["FAIL", "FAIL"]


def test_a_definition_that_is_not_the_oracle_fails_everything() -> None:
    slip = {"classifier": {**samples.reference(), "definition": 1e-7}}
    found = judge(onnx(), references=slip)
    assert (found.exit_code, found.runs[RUN]) == (1, "PASS")
    assert [each.gate for each in found.gates if each.verdict == "FAIL"] == ["definition"]


CODES = {
    "environment": 6,
    "device": 6,
    "precision": 6,
    "inapplicable": 6,
    "crashed": 5,
    "timeout": 5,
    "memory": 5,
    "stale": 5,
    "fed": 5,
    "shape": 5,
}


@pytest.mark.parametrize("cause", CODES)
def test_each_cause_has_its_exit_code(cause: str) -> None:
    lost = samples.not_run("timm", "classifier", cause=cause, reason="x")
    assert judge(onnx(), lost).exit_code == CODES[cause]
    assert judge(onnx(), lost).verdict == "NOT RUN"
    spare = {**lost, "required": False}
    assert judge(onnx(), spare).exit_code == 0


def test_a_failure_outweighs_what_did_not_run() -> None:
    lost = samples.not_run("timm", "classifier", cause="crashed", reason="x")
    assert judge(onnx(put("nonfinite", 3)), lost).exit_code == 1


def test_a_report_without_a_run_proves_nothing() -> None:
    found = judge()
    assert (found.verdict, found.exit_code) == ("NOT RUN", 6)


def test_a_port_needs_neither_weights_nor_float64_but_must_be_exact() -> None:
    port = samples.run("port:hub", "classifier")
    port |= {"weights": None, "semantic": None}
    assert judge(port).verdict == "PASS"
    port["relative"]["rms"] = 1e-4
    assert judge(port).verdict == "FAIL"


BOTH = {variant: samples.reference() for variant in ("classifier", "features")}

REQUIRED = replace(DEFAULT, required=("onnx",))


@pytest.mark.parametrize("cause", CODES)
def test_a_backend_that_the_policy_requires_must_have_run(cause: str) -> None:
    lost = samples.not_run("onnx", "classifier", cause=cause, reason="x", required=False)
    found = judge(samples.run("timm", "classifier"), lost, rules=REQUIRED)
    assert (found.verdict, found.exit_code) == ("NOT RUN", CODES[cause])


def test_it_must_have_run_for_every_variant() -> None:
    lost = samples.not_run("onnx", "features", cause="crashed", reason="x", required=False)
    assert judge(onnx(), lost, rules=REQUIRED, references=BOTH).exit_code == 5
    narrow = samples.not_run("onnx", "classifier", "tf32", cause="inapplicable", reason="x", required=False)
    assert judge(onnx(), narrow, rules=REQUIRED).verdict == "PASS"


def test_a_part_without_error_hides_none_with_one() -> None:
    strict = policy.with_rules(DEFAULT, "x", [Rule(gate="semantic_gradients", limit=0, because="x")])
    run = samples.run("torch", "classifier")
    for part in run["gradients"]["parts"]:
        part["semantic"] = 0.0
    assert judge(run, rules=strict).verdict == "PASS"
    run["gradients"]["parts"][2]["semantic"] = 1e-12
    assert judge(run, rules=strict).verdict == "FAIL"
