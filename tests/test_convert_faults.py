"""Every way in which a conversion fails: the exit code, the sentence, and earlier artifacts whole, byte for byte."""

import re
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from runs import DIGITS, SMALL, assert_none_survives, convert, start, succeed, tree

# A wrong artifact

OF_DIGITS = r"\(features\) of digits"

WRONG = {
    "torchscript:erf": rf"torchscript {OF_DIGITS} is not .* RMS error to the oracle is 2\.\d+e-04 \(.*; the limit is",
    "torch_export:erf": rf"torch_export {OF_DIGITS} is not .* RMS error to the oracle is 2\.\d+e-04 \(.*; the limit is",
    "stablehlo:scaled": rf"stablehlo {OF_DIGITS} is not .* RMS error to the oracle is 5\.\d+e-04 \(max",
    "onnx:scaled": rf"onnx {OF_DIGITS} is not .* RMS error to the oracle is 5\.\d+e-04 \(max .*; the limit is",
    "safetensors-timm:nan-weight": "safetensors-timm: what was written is refused .* nothing published: .* finite",
    "onnx:nan-output": rf"onnx {OF_DIGITS} is not the function of the checkpoint: 64 of its outputs are NaN",
    "onnx:shape": rf"onnx {OF_DIGITS} returns \(1, 32\), the oracle \(2, 32\)",
    "safetensors-timm:scaled": rf"safetensors-timm {OF_DIGITS} is not .* RMS error to the oracle is 5\.\d+e-04 \(max",
    "safetensors-transformers:scaled": rf"transformers {OF_DIGITS} is not .* to the oracle is 5\.\d+e-04 \(max",
}


@pytest.mark.parametrize(("fault", "sentence"), WRONG.items(), ids=WRONG)
def test_a_wrong_artifact_is_never_published(whole, earlier, fault, sentence):
    names = f"safetensors-timm,{fault.split(':')[0]}"
    done = convert(DIGITS, "--out", earlier, "--format", names, "--variant", "features", fault=fault)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.search(sentence, done.stderr), done.stderr
    assert "nothing published" in done.stderr
    assert tree(earlier) == tree(whole)


def test_a_slip_in_the_definition_does_not_widen_the_limit(whole, earlier):
    """Yardstick and artifacts agree with each other there; only the float64 lane can tell."""
    done = convert(DIGITS, "--out", earlier, *SMALL, fault="all:epsilon")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"in float64 the definition differs from the oracle by \d\.\de-0[78] of the", done.stderr), (
        done.stderr
    )
    assert tree(earlier) == tree(whole)


# A broken worker

BROKEN = {
    "oracle:segfault": (5, "vitport: oracle: it was killed by SIGSEGV"),
    "yardstick:killed": (5, "vitport: yardstick: it was killed by SIGKILL, as Linux does when memory runs out"),
    "safetensors-timm:liar": (5, "vitport: safetensors-timm: it ended without a result"),
    "safetensors-timm:garbage": (5, "vitport: safetensors-timm: it ended with exit code 3"),
    "safetensors-timm:raises": (5, "vitport: safetensors-timm: RuntimeError: the exporter"),
    "safetensors-timm:memory": (5, "vitport: safetensors-timm: it ran out of memory"),
    "safetensors-timm:fork-segfault": (5, "vitport: safetensors-timm: it was killed by SIGSEGV"),
    "safetensors-timm:full": (7, "vitport: safetensors-timm: model.safetensors: No space left on device"),
    "safetensors-timm:fork-hang": (5, "vitport: safetensors-timm: it did not finish within 4 s and was stopped"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_worker_is_one_sentence_and_no_debris(whole, earlier, fault):
    code, sentence = BROKEN[fault]
    patience = ("--timeout", 4) if "hang" in fault else ()
    done = convert(DIGITS, "--out", earlier, *SMALL, *patience, fault=fault)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert tree(earlier) == tree(whole)
    assert_none_survives()


def test_a_failed_first_run_leaves_no_folder(tmp_path):
    done = convert(DIGITS, "--out", tmp_path / "new" / "out", *SMALL, fault="oracle:killed")
    assert done.returncode == 5
    assert list(tmp_path.iterdir()) == []


# An interrupted run


def until(process: subprocess.Popen, text: str) -> None:
    """Reads standard error until a line of progress holds `text`."""
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"it ended without {text}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_interrupted_runs_tidy_up(whole, earlier, number):
    process = start(DIGITS, "--out", earlier)
    until(process, "importing tensorflow")
    process.send_signal(number)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error
    assert error.splitlines()[-1] == "vitport: interrupted; nothing half-made is left behind"
    assert tree(earlier) == tree(whole)
    assert_none_survives()


MOMENTS = ("writing features", "publishing", "checking every leaf", "importing jax", "comparing")


@pytest.mark.parametrize("text", [*MOMENTS[:2], *(pytest.param(text, marks=pytest.mark.slow) for text in MOMENTS[2:])])
def test_kill_minus_nine_leaves_a_folder_that_the_next_run_completes(whole, tmp_path, text):
    process = start(DIGITS, "--out", tmp_path / "out", *SMALL)
    until(process, text)
    process.kill()
    process.communicate(timeout=60)
    assert_none_survives()
    succeed(DIGITS, "--out", tmp_path / "out", *SMALL)
    made = tree(tmp_path / "out")
    assert {k: v for k, v in made.items() if k != "artifacts.json"} == {
        k: v for k, v in tree(whole).items() if k.startswith("features/safetensors-timm/")
    }
    assert sorted(path.name for path in tmp_path.joinpath("out").iterdir()) == ["artifacts.json", "features"]


# An output that can't be written


@contextmanager
def mounted(folder: Path, options: str):
    """A small file system of its own; skipped where that takes rights we don't have."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a small disk needs root: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("format", ["saved_model", "torchscript", "onnx", "safetensors-timm"])
def test_a_full_disk(tmp_path, format):
    with mounted(tmp_path / "disk", "size=160k") as disk:
        done = convert(DIGITS, "--out", disk / "out", "--format", format)
        assert (done.returncode, done.stdout) == (7, ""), done.stderr
        assert "No space left on device" in done.stderr or "is full" in done.stderr
        assert list(disk.iterdir()) == []


def test_a_read_only_disk(tmp_path):
    with mounted(tmp_path / "disk", "size=1m,ro") as disk:
        done = convert(DIGITS, "--out", disk / "out", *SMALL)
        assert (done.returncode, done.stdout) == (7, "")
        assert done.stderr.splitlines()[-1] == f"vitport: {disk}/out: Read-only file system"


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("mine")
    done = convert(DIGITS, "--out", tmp_path / "file" / "out", *SMALL)
    assert done.returncode == 7
    assert done.stderr.splitlines()[-1].endswith("Not a directory")
    assert (tmp_path / "file").read_text() == "mine"
