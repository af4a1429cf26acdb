"""Policies: which rule counts for which run, and until when; every mistake in a file has its line."""

import json
from datetime import date
from pathlib import Path

import pytest

from vitport.errors import ManifestError
from vitport.parity import policy
from vitport.parity.gate_rules import GATES, Rule

TODAY = date(2026, 11, 21)
RUN = {"backend": "onnx", "precision": "float32", "device": "cpu", "variant": "classifier", "stem": "plain"}


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text("schema: 1\nname: mine\n" + text)
    return path


def test_the_default_has_a_rule_for_every_gate_and_says_why() -> None:
    default = policy.read()
    assert {rule.gate for rule in default.rules} == set(GATES)
    assert all(len(rule.because) > 20 for rule in default.rules)
    numeric = default.rule("numeric", TODAY, **RUN)
    assert (numeric.limit, numeric.floor) == (3, 2e-6)
    assert default.rule("semantic", TODAY, **RUN).limit == 1e-9


@pytest.mark.parametrize(
    ("gate", "changes", "required"),
    [
        ("semantic", {}, True),
        ("semantic", {"precision": "bfloat16"}, False),
        ("semantic", {"backend": "port:hub"}, False),
        ("weights", {"backend": "flax"}, False),
        ("weights", {"backend": "timm"}, True),
    ],
)
def test_what_a_run_must_have(gate: str, changes: dict, required: bool) -> None:
    assert policy.read().rule(gate, TODAY, **{**RUN, **changes}).required is required


def test_the_last_rule_that_fits_counts(tmp_path: Path) -> None:
    text = """rules:
  - {gate: numeric, limit: 2, because: all of them}
  - {gate: numeric, limit: 9, backend: [timm, port], because: two of them}
  - {gate: numeric, limit: 7, stem: hybrid, device: [cuda], because: there}
"""
    mine = policy.read(written(tmp_path, text))
    limits = [
        mine.rule("numeric", TODAY, **{**RUN, **changes}).limit
        for changes in (
            {},
            {"backend": "timm"},
            {"backend": "port:x"},
            {"stem": "hybrid"},
            {"stem": "hybrid", "device": "cuda"},
        )
    ]
    assert limits == [2, 9, 9, 2, 7]


def test_a_rule_counts_until_its_last_day(tmp_path: Path) -> None:
    mine = policy.read(written(tmp_path, "rules: [{gate: numeric, limit: 9, because: x, expires: 2026-11-21}]\n"))
    assert mine.rule("numeric", TODAY, **RUN).limit == 9
    tomorrow = date(2026, 11, 22)
    assert mine.rule("numeric", tomorrow, **RUN).limit == 3
    assert (mine.lapsed("numeric", TODAY, **RUN), mine.lapsed("numeric", tomorrow, **RUN).limit) == (None, 9)
    assert mine.lapsed("flips", tomorrow, **RUN) is None


def test_required_backends_add_up(tmp_path: Path) -> None:
    assert policy.read(written(tmp_path, "required: [onnx]\n")).required == ("onnx",)


def test_a_policy_survives_its_way_through_a_report(tmp_path: Path) -> None:
    mine = policy.read(written(tmp_path, "rules: [{gate: flips, limit: 1, because: x, expires: 2030-01-01}]\n"))
    (tmp_path / "again.yaml").write_text(json.dumps(mine.facts()))
    rules = mine.rules
    again = policy.read(tmp_path / "again.yaml")
    assert again.rules[-len(rules) :] == rules
    assert mine.digest != policy.read().digest


def test_rules_of_a_manifest_come_last() -> None:
    rule = Rule(gate="numeric", limit=5, because="x", expires="2030-01-01")
    both = policy.with_rules(policy.read(), "s16", [rule])
    assert (both.name, both.rule("numeric", TODAY, **RUN).limit) == ("default + s16", 5)


def test_what_runs_go_without_is_required_by_nobody_and_limited_as_before() -> None:
    needed = Rule(gate="gradients", limit=7, because="x", expires="2030-01-01")
    less = policy.without(policy.with_rules(policy.read(), "s16", [needed]), ("gradients", "semantic"), "answers")
    rule = less.rule("gradients", TODAY, **RUN)
    assert (less.name, rule.required, rule.limit) == ("default + s16 without answers", False, 7)
    assert less.rule("semantic", TODAY, **RUN).required is False
    assert less.rule("weights", TODAY, **RUN).required is True


MISTAKES = {
    "rules: [{gate: numerc, limit: 3, because: x}]": "3:10: rules[0].gate: must be",
    "rules: [{gate: numeric, because: x}]": "rules[0].limit: this field is required",
    "rules: [{gate: numeric, limit: 3}]": "rules[0].because: this field is required",
    "rules: [{gate: numeric, limit: 3, because: '   '}]": "rules[0].because: must say why",
    "rules: [{gate: numeric, limit: -1, because: x}]": "rules[0].limit: must be 0.0 or more",
    "rules: [{gate: numeric, limit: .nan, because: x}]": "rules[0].limit:",
    "rules: [{gate: numeric, limit: 3, because: x, expires: tomorrow}]": "expires: must be a date, as in 2027-12-31",
    "rules: [{gate: numeric, limit: 3, because: x, expires: 20271231}]": "rules[0].expires: must be a date",
    "rules: [{gate: numeric, limit: 3, because: x, expires: 2027-02-30}]": "rules[0].expires: day is out of range",
    "rules: [{gate: numeric, limit: 3, because: x, precison: [tf32]}]": "did you mean precision?",
    "rules: [{gate: numeric, limit: 3, because: x, backend: [onxx]}]": "did you mean onnx?",
    "rules: [{gate: numeric, limit: 3, because: x, backend: ['port:hub']}]": "rules[0].backend[0]",
    "rules: [{gate: numeric, limit: 3, because: x, precision: []}]": "rules[0].precision",
    "required: onnx": "required: must be a list",
    "gates: {}": "unknown field",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_has_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ManifestError) as caught:
        policy.read(written(tmp_path, text + "\n"))
    assert MISTAKES[text] in str(caught.value)
    assert "mine.yaml:3:" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="there is no such policy file"):
        policy.read(tmp_path / "none.yaml")
