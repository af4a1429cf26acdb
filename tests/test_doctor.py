"""`vitport doctor`: what works, what is missing, what is broken, and the exit code of each."""

import json

from runs import convert

from vitport import doctor
from vitport.doctor import BROKEN, MISSING, WORKS, Diagnosis, Finding


def diagnose(device: str = "cpu", packages: tuple[str, ...] = ("onnxruntime",)) -> Diagnosis:
    return doctor.diagnose(device, lambda part, text: None, packages)


def test_a_package_that_works_says_where_and_in_which_version() -> None:
    (found,) = diagnose().findings
    assert (found.package, found.state, found.says["devices"]) == ("onnxruntime", WORKS, "cpu")
    assert "CPUExecutionProvider" in found.says["providers"]
    assert "onnx" in found.needed
    assert diagnose().exit_code == 0


def test_a_missing_package_has_a_command_and_is_no_fault(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    (found,) = diagnose().findings
    assert (found.state, found.remedy) == (MISSING, "pip install 'onnxruntime>=1.21'")
    assert diagnose().exit_code == 0


def test_a_package_that_is_too_old_is_broken(monkeypatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.2")
    (found,) = diagnose().findings
    assert found.state == BROKEN
    assert "onnxruntime 1.21 or newer" in found.remedy


def test_a_package_that_crashes_is_broken_and_the_others_are_shown(tmp_path, monkeypatch) -> None:
    (tmp_path / "flax.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    flax, onnxruntime = diagnose(packages=("flax", "onnxruntime")).findings
    assert (flax.state, onnxruntime.state) == (BROKEN, WORKS)
    assert "SIGSEGV" in flax.remedy
    assert diagnose(packages=("flax",)).exit_code == 6


def test_a_gpu_that_a_framework_does_not_see() -> None:
    (found,) = diagnose("cuda").findings
    assert found.state == BROKEN
    assert "sees no GPU; install the build of onnxruntime for CUDA" in found.remedy


def test_whoever_sees_a_gpu_is_well() -> None:
    assert doctor._sees_gpu({"devices": "cpu, cuda: a card"})
    assert doctor._sees_gpu({"devices": "cpu", "providers": "CUDAExecutionProvider"})
    assert not doctor._sees_gpu({"devices": "cpu", "providers": "CPUExecutionProvider"})


def test_the_command_prints_a_table_or_a_document(monkeypatch) -> None:
    done = convert("--quiet", verb="doctor")
    assert done.returncode == 0, done.stderr
    assert "tensorflow" in done.stdout
    assert "GPU: --device cuda was asked for" not in done.stdout
    found = json.loads(convert("--json", verb="doctor").stdout)
    assert {each["package"] for each in found["findings"]} == set(doctor.PACKAGES)
    assert found["exit_code"] == 0


def test_every_state_has_its_exit_code() -> None:
    for state, code in ((WORKS, 0), (MISSING, 0), (BROKEN, 6)):
        assert Diagnosis((Finding("x", state, ()),), {}, {}, "").exit_code == code
