"""`vitport verify` as a user meets it: verdicts, exit codes, and what becomes of backends that fail in every way."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import DIGITS, assert_none_survives, convert, succeed

from vitport import artifacts as listed
from vitport import jobs
from vitport.errors import CheckpointError
from vitport.parity import held_artifacts, references, report_file, run_schema
from vitport.parity.report_schema import Report

ONNX = "onnx.classifier.float32.cpu"
"""The job of one backend."""


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as ONNX, both variants."""
    out = tmp_path_factory.mktemp("artifacts") / "digits"
    succeed(DIGITS, "--out", out, "--format", "onnx")
    return out


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of outputs too: the oracle is asked once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def verify(artifacts: Path, cache: Path, tmp_path: Path):
    """Runs `vitport verify digits` on the ONNX model alone, and returns how it ended and its report.

    A run with a planted fault, or a hidden package, has a cache of its own: the key of what is kept knows of neither.
    """

    def run(*arguments: object, code: int = 0, out: Path = artifacts, **settings: object) -> tuple[Report | None, str]:
        folder, kept = tmp_path / "report", tmp_path / "cache" if settings else cache
        given = ("--artifacts", out, "--report", folder, "--cache", kept, "--count", 4, *arguments)
        done = convert(DIGITS, *given, verb="verify", **settings)
        assert done.returncode == code, done.stderr + done.stdout
        path = folder / "report.json"
        report = report_file.read(path) if path.exists() else None
        assert report is None or report.judgement.exit_code == code
        return report, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_yardstick_that_is_no_number_is_the_checkpoint_s_fault(value: float) -> None:
    draws, truth = np.ones((3, 2, 4), np.float32), np.zeros((5, 4))
    assert references._good(draws, truth, "logits") == 1.0
    draws[2, 1, 3] = value
    with pytest.raises(CheckpointError, match="the logits of this checkpoint are NaN or infinite in float32"):
        references._good(draws, truth, "logits")


def of(report: Report, run: str) -> run_schema.Run:
    return next(each for each in report.runs if each.id == run)


def failed(report: Report) -> set[tuple[str, str]]:
    return {(gate.run, gate.gate) for gate in report.judgement.gates if gate.verdict == "FAIL"}


RUN = "onnx/classifier/float32/cpu"
CHOSEN = ("--backends", "onnx", "--variant", "classifier")


def test_a_faithful_artifact_passes_every_gate(verify) -> None:
    report, shown = verify("--backends", "onnx,onnx-reference")
    assert report.judgement.verdict == "PASS"
    gates = {gate.gate for gate in report.judgement.gates if gate.run == RUN}
    assert gates >= {"nonfinite", "weights", "semantic", "numeric", "flips", "repeat", "batches"}
    assert len(report.pairs) == 2
    run = of(report, RUN)
    assert run.facts["reported"].startswith("CPUExecutionProvider")
    assert run.fed == report.identity.images.sha256
    assert run.semantic.relative < 1e-9
    assert (run.weights.count, run.top1.agree) == (0, 4)
    assert "PASS  digits, 4 images (seeded)" in shown


def test_a_second_run_takes_what_is_there_and_fresh_does_not(verify) -> None:
    verify(*CHOSEN)
    again, shown = verify(*CHOSEN)
    assert all(run.reused for run in again.runs)
    assert "done, by an earlier run" in shown
    fresh, _ = verify(*CHOSEN, "--fresh")
    assert not any(run.reused for run in fresh.runs)
    assert [run.outputs for run in fresh.runs] == [run.outputs for run in again.runs]


def test_what_is_kept_is_not_believed_when_it_is_damaged(verify, cache) -> None:
    verify(*CHOSEN)
    for path in (cache / "outputs").glob("*.npz"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    report, _ = verify(*CHOSEN)
    assert not any(run.reused for run in report.runs)


@pytest.mark.parametrize("fault", ["run-nan", "run-shape"])
def test_outputs_that_may_be_of_a_moment_are_not_kept(verify, tmp_path, fault: str) -> None:
    verify(*CHOSEN, code=1 if fault == "run-nan" else 5, fault=f"{ONNX}:{fault}")
    report, _ = verify(*CHOSEN, "--cache", tmp_path / "cache")
    assert not of(report, RUN).reused
    assert report.judgement.verdict == "PASS"


WRONG = {
    "run-nan": {"nonfinite", "numeric"},
    "run-scaled": {"numeric"},
    "run-reversed": {"numeric"},
    "run-forgetful": {"repeat"},
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_output_fails(verify, fault: str) -> None:
    report, _ = verify(*CHOSEN, code=1, fault=f"{ONNX}:{fault}")
    assert report.judgement.verdict == "FAIL"
    assert {gate for run, gate in failed(report) if run == RUN} >= WRONG[fault]


BROKEN = {
    "run-segfault": ("crashed", "SIGSEGV"),
    "run-memory": ("memory", "ran out of memory"),
    "run-gpu-memory": ("memory", "ran out of memory"),
    "run-hang": ("timeout", "did not finish within 20 s"),
    "run-shape": ("shape", "it returned (4, 9), the oracle (4, 10)"),
    "stale": ("stale", "left the result of another run"),
    "other-images": ("fed", "was fed other images"),
    "forged": ("stale", "left other outputs than it says"),
    "liar": ("crashed", "ended without a result"),
    "killed": ("crashed", "SIGKILL"),
    "garbage": ("crashed", "ended with exit code 3"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_backend_is_not_run_and_the_others_are_reported(verify, fault: str) -> None:
    cause, sentence = BROKEN[fault]
    patience = ("--timeout", 20) if "hang" in fault else ()
    report, _ = verify("--backends", "onnx", *patience, code=5, fault=f"{ONNX}:{fault}")
    run = of(report, RUN)
    assert (run.status, run.cause, report.judgement.runs[RUN]) == ("NOT RUN", cause, "NOT RUN")
    assert sentence in run.reason
    assert jobs.SAID not in run.reason
    assert ("last words" in "".join(run.log)) == (fault == "garbage")
    assert report.judgement.runs["onnx/features/float32/cpu"] == "PASS"
    assert_none_survives()


def test_a_backend_that_ran_elsewhere_is_not_run(verify) -> None:
    report, _ = verify(*CHOSEN, code=6, fault=f"{ONNX}:run-elsewhere")
    assert of(report, RUN).cause == "device"
    assert "was to run on cpu and ran on 'cuda: a dream'" in of(report, RUN).reason


def test_a_report_among_the_artifacts_is_refused(artifacts, tmp_path) -> None:
    for place in (artifacts, artifacts / "reports"):
        done = convert(DIGITS, "--artifacts", artifacts, "--report", place, verb="verify")
        assert done.returncode == 2
        assert "would be among the artifacts" in done.stderr


def test_a_gpu_that_is_not_there(verify) -> None:
    report, _ = verify(*CHOSEN, "--device", "cuda", code=6)
    assert of(report, "onnx/classifier/float32/cuda").status == "NOT RUN"


def test_a_missing_package_is_named_and_fails_only_who_asks_for_it(verify) -> None:
    report, shown = verify(*CHOSEN, code=6, VITPORT_HIDDEN="onnxruntime")
    assert "onnxruntime" in of(report, RUN).reason
    assert "pip install" in shown
    report, _ = verify("--backends", "onnx-reference", VITPORT_HIDDEN="onnxruntime")
    assert report.judgement.verdict == "PASS"


def test_a_format_that_was_not_made_for_want_of_its_framework_is_said_and_excused(verify) -> None:
    report, _ = verify("--variant", "classifier", VITPORT_HIDDEN="tensorflow")
    run = of(report, "saved_model/classifier/float32/cpu")
    assert (run.status, run.cause, run.required) == ("NOT RUN", "absent", False)
    assert "tensorflow" in run.reason
    assert report.judgement.verdict == "PASS"
    assert not [each for each in report.runs if each.backend == "torchscript"]


def test_a_precision_that_the_file_has_not_is_shown_and_not_required(verify) -> None:
    report, _ = verify(*CHOSEN, "--precision", "float32,bfloat16")
    run = of(report, "onnx/classifier/bfloat16/cpu")
    assert (run.cause, run.required) == ("inapplicable", False)


def test_a_byte_of_an_artifact_and_the_old_report_is_gone(verify, artifacts, tmp_path) -> None:
    verify(*CHOSEN)
    damaged = tmp_path / "damaged"
    shutil.copytree(artifacts, damaged)
    path = damaged / "classifier" / "onnx" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    report, shown = verify(*CHOSEN, code=3, out=damaged)
    assert "classifier/onnx/model.onnx: expected SHA-256" in shown
    assert report is None


def test_artifacts_of_another_checkpoint(verify, tmp_path) -> None:
    other = tmp_path / "other.npz"
    subprocess.run(
        [sys.executable, "-m", "vitport", "synthesize", "digits", "-o", str(other)], check=True, capture_output=True
    )
    _, shown = verify(*CHOSEN, "--asset", other, code=3)
    assert "made of another checkpoint" in shown


MISTAKES = {
    ("--artifacts", "nowhere"): "nowhere holds no artifacts.json; make it first: vitport convert digits",
    ("--backends", "onx"): "unknown backend 'onx'; did you mean onnx",
    ("--backends", "timm"): "has none; make it: vitport convert",
    ("--precision", "int8"): "unknown precision 'int8'",
    ("--device", "tpu"): "unknown device 'tpu'",
    ("--batches", "0"): "must be whole numbers",
    ("--images", "nowhere"): "neither `seeded` nor",
    ("--port", "x"): "names no such port; it names none. Write NAME=PATH for any other",
    ("--port", "x=nowhere"): "there is no nowhere",
    ("--policy", "nowhere.yaml"): "there is no such policy file",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_sentence(verify, mistake) -> None:
    _, shown = verify(*mistake, code=2)
    assert MISTAKES[mistake] in shown


def test_a_stricter_policy_fails_what_the_default_lets_pass(verify, tmp_path) -> None:
    policy = tmp_path / "strict.yaml"
    policy.write_text("schema: 1\nname: strict\nrules: [{gate: numeric, limit: 0.01, because: a test}]\n")
    report, _ = verify(*CHOSEN, "--policy", policy, code=1)
    assert failed(report) == {(RUN, "numeric")}
    assert report.judgement.policy["name"] == "strict"


def test_a_policy_may_require_a_backend(verify, tmp_path) -> None:
    policy = tmp_path / "all.yaml"
    policy.write_text("schema: 1\nname: all\nrequired: [saved_model]\n")
    report, _ = verify(*CHOSEN, "--policy", policy, code=6)
    assert report.judgement.verdict == "NOT RUN"


def test_a_policy_requires_no_backend_that_does_not_exist(verify, tmp_path) -> None:
    policy = tmp_path / "misspelt.yaml"
    policy.write_text("schema: 1\nname: all\nrequired: [onxx]\n")
    _, shown = verify(*CHOSEN, "--policy", policy, code=2)
    assert "required[0]" in shown
    assert "onnx" in shown


@pytest.mark.parametrize("batches", ["8", "8,8", "1"])
def test_another_batch_size_is_always_tried(verify, batches: str) -> None:
    report, _ = verify(*CHOSEN, "--batches", batches)
    first = int(batches[0])
    assert [each.batch for each in of(report, RUN).noise.batches] == [size for size in (1, 2) if size != first]


def test_an_artifact_of_which_a_leaf_is_missing(verify, artifacts, tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    out = shutil.copytree(artifacts, tmp_path / "renamed")
    path = out / "classifier" / "onnx" / "model.onnx"
    model = onnx.load(path)
    leaf = next(each.name for each in model.graph.initializer if each.name.endswith("Dense_0/bias"))
    for each in model.graph.initializer:
        each.name = "another" if each.name == leaf else each.name
    for node in model.graph.node:
        node.input[:] = ["another" if name == leaf else name for name in node.input]
    path.write_bytes(model.SerializeToString())
    relist(out)
    report, _ = verify(*CHOSEN, out=out, code=1)
    assert (RUN, "weights") in failed(report)
    assert leaf in of(report, RUN).weights.different


def test_an_artifact_that_nobody_can_run_though_its_other_variant_runs(verify, artifacts, tmp_path) -> None:
    out = shutil.copytree(artifacts, tmp_path / "damaged")
    (out / "features" / "onnx" / "model.onnx").write_bytes(b"garbage")
    relist(out)
    report, _ = verify(out=out, code=5)
    assert {run.id for run in report.runs if run.required and run.status == "NOT RUN"} == {
        f"{backend}/features/float32/cpu" for backend in ("onnx", "onnx-reference")
    }


def relist(out: Path) -> None:
    """Makes the list anew, as somebody would who wants a change to pass."""
    listing = json.loads((out / "artifacts.json").read_text())
    for entry in listing["artifacts"]:
        files = listed.files(out / listed.folder(entry))
        entry |= {"files": files, "bytes": sum(each["bytes"] for each in files), "sha256": listed.digest(files)}
    (out / "artifacts.json").write_text(listed.text(listing))


def test_artifacts_are_held_while_they_run(tmp_path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with held_artifacts.held(tmp_path, lambda name, text: None), pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_pictures_of_a_folder(verify, tmp_path) -> None:
    image = pytest.importorskip("PIL.Image")
    for index, digit in enumerate(("3", "7")):
        folder = tmp_path / "pictures" / digit
        folder.mkdir(parents=True)
        image.new("RGB", (40, 30), (90 * index, 50, 200)).save(folder / "one.png")
    report, _ = verify(*CHOSEN, "--images", tmp_path / "pictures")
    assert report.identity.images.ids == ["3/one.png", "7/one.png"]
    assert report.identity.images.labels == [3, 7]
    assert of(report, RUN).accuracy.count == 2
    (tmp_path / "pictures" / "7" / "two.jpg").write_bytes(b"<html>no picture")
    _, shown = verify(*CHOSEN, "--images", tmp_path / "pictures", code=3)
    assert "1 of 3 pictures can't be used" in shown
    assert "two.jpg" in shown


def test_a_failure_is_located_and_explained(verify, artifacts, tmp_path) -> None:
    """The port is the artifact itself, with GELU as the standard has it by default."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(artifacts / "classifier" / "onnx" / "model.onnx")
    for node in model.graph.node:
        if node.op_type == "Gelu":
            del node.attribute[:]
    onnx.save(model, tmp_path / "erf.onnx")
    report, shown = verify(
        "--backends", "flax", "--variant", "classifier", "--port", f"x={tmp_path / 'erf.onnx'}", code=1
    )
    run = of(report, "port:x/classifier/float32/cpu")
    assert "GELU is erf" in run.diagnosis
    assert "gelu" in run.diagnosis.partition(";")[0]
    assert run.growth[-1].relative > 1e-5 > run.growth[-1].rounding
    assert run.diagnosis in shown


def test_nothing_is_left_in_the_temporary_folder(verify, whole: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    backends = ("--backends", "saved_model,torchscript,transformers", "--variant", "features")
    verify(*backends, out=whole, TMPDIR=str(scratch))
    assert list(scratch.iterdir()) == []
