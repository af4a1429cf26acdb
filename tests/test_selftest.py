"""`vitport selftest` catches every fault that it plants, and says so when it does not."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from runs import DIGITS, ROOT

from vitport import manifest, selftest
from vitport.backend_table import BACKENDS
from vitport.faults import planting, tampering
from vitport.faults.saboteur import HARMS
from vitport.parity import policy
from vitport.parity.policy import Policy
from vitport.selftest import Outcome, Request

ARCHITECTURE = manifest.read(DIGITS).architecture


def run(*arguments: str) -> tuple[int, dict]:
    done = subprocess.run(
        [sys.executable, "-m", "vitport", "selftest", "--json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    return done.returncode, json.loads(done.stdout)


def caught(found: dict) -> dict[str, list[str]]:
    return {row["fault"]: row["caught"] for row in found["rows"]}


def test_faults_of_an_artifact_are_caught_by_the_gates_that_are_for_them() -> None:
    code, found = run(
        "--backend", "onnx", "--fault", "gelu_erf,sign_flipped,nan_output,unsteady,class_missing,elsewhere"
    )
    assert (code, found["passed"]) == (0, True)
    by = caught(found)
    assert by.pop("none") == []
    assert "weights" in by["sign_flipped"]
    assert by["gelu_erf"] == ["semantic", "numeric"]
    assert by["nan_output"][0] == "nonfinite"
    assert "repeat" in by["unsteady"]
    assert (by["class_missing"], by["elsewhere"]) == (["shape"], ["device"])


@pytest.mark.parametrize("backend", ["onnx", "timm", "transformers"])
def test_what_clients_are_told_of_pictures_is_held_to_the_published(backend: str) -> None:
    faults = "preprocessor_mean,preprocessor_bicubic,preprocessor_size"
    code, found = run("--backend", backend, "--fault", faults)
    assert code == 0
    assert caught(found) == {"none": [], **{fault: ["preprocessing"] for fault in faults.split(",")}}


def test_processes_that_die_hang_and_lie_are_caught_and_why_is_known() -> None:
    code, found = run("--backend", "processes")
    assert code == 0
    assert caught(found) == {
        "none": [],
        "killed": ["crashed"],
        "killed_at_the_end": ["crashed"],
        "hanging": ["timeout"],
        "silent": ["crashed"],
        "garbage": ["crashed"],
        "crashing": ["crashed"],
        "out_of_memory": ["memory"],
        "stale": ["stale"],
        "other_images": ["fed"],
        "images_swapped": ["fed"],
        "one_image_fewer": ["fed"],
        "outputs_changed": ["stale"],
        "outputs_lost": ["stale"],
        "digest_forged": ["stale"],
    }


def test_a_folder_that_was_changed_is_caught() -> None:
    code, found = run("--backend", "artifacts")
    assert code == 0
    assert set(caught(found)) == {"none", *tampering.HARMS}


def test_a_wrong_definition_is_caught() -> None:
    code, found = run("--backend", "definition", "--fault", "gelu_erf,layer_norm_1e-12")
    assert code == 0
    assert caught(found) == {"none": [], "gelu_erf": ["definition"], "layer_norm_1e-12": ["definition"]}


def rules(limit: float) -> Policy:
    """The default policy with another limit everywhere."""
    default = policy.read()
    return replace(
        default, rules=tuple(rule.model_copy(update={"limit": limit, "floor": limit}) for rule in default.rules)
    )


def judged_with(limit: float, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    changed = rules(limit)
    monkeypatch.setattr(policy, "read", lambda: changed)
    request = Request(manifest=DIGITS, backends=("torch",), faults=("gelu_erf", "class_missing"))
    return selftest.selftest(request, lambda part, text: None)


def test_gates_that_let_everything_pass_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged_with(1e9, monkeypatch)
    assert {row.fault: row.passed for row in found.rows} == {"none": True, "gelu_erf": False, "class_missing": True}
    assert not found.passed


def test_gates_that_let_nothing_pass_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged_with(0.0, monkeypatch)
    control = next(row for row in found.rows if row.fault == "none")
    assert not control.passed
    assert "numeric" in control.caught
    assert not found.passed


@pytest.mark.parametrize("backend", BACKENDS)
def test_twenty_faults_and_more_are_planted_in_every_backend(backend: str) -> None:
    names = planting.names(backend, ARCHITECTURE)
    assert names[0] == planting.CONTROL
    assert len(set(names)) == len(names) > 20
    assert all(planting.sentence(name, ARCHITECTURE) for name in names)


def test_every_harm_says_what_it_does() -> None:
    for harm in (*HARMS.values(), *tampering.HARMS.values()):
        assert harm.__doc__


WRONG = {
    "an unknown fault": ("--fault", "gelu_erv"),
    "an unknown backend": ("--backend", "onyx"),
    "a fault that is not to be had there": ("--backend", "processes", "--fault", "gelu_erf"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_exist_is_refused(kind: str) -> None:
    code, found = run(*WRONG[kind])
    assert (code, found["error"]["kind"]) == (2, "usage")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--hybrid",)], ids=["plain", "hybrid"])
def test_everything_is_caught_everywhere(arguments: tuple[str, ...]) -> None:
    code, found = run(*arguments)
    missed = [(row["place"], row["fault"]) for row in found["rows"] if not row["passed"]]
    assert (code, missed) == (0, [])
    assert len(found["rows"]) > 200


def test_what_float32_hides_in_a_saved_model_is_caught_in_float64() -> None:
    """GroupNorm's epsilon moves outputs by less than rounding: only the graph itself in float64 shows it."""
    code, found = run("--hybrid", "--backend", "saved_model", "--fault", "group_norm_1e-5")
    assert code == 0
    assert caught(found) == {"none": [], "group_norm_1e-5": ["semantic"]}
