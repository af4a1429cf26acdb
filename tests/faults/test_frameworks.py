"""A framework that is missing, broken or too old: exit code 6, what to do, and nothing begun that can't succeed."""

import os
from pathlib import Path

import pytest
from runs import DIGITS, FAULTS, convert

REMEDY = "pip install onnx onnxruntime\n"

SHARED_LIBRARY = "libonnxruntime.so.1: cannot open shared object file: No such file or directory"

BROKEN = {
    "import error": (f'raise ImportError("{SHARED_LIBRARY}")', f"({SHARED_LIBRARY}); {REMEDY}"),
    "shared library": (f'raise OSError("{SHARED_LIBRARY}")', f"(OSError: {SHARED_LIBRARY}); {REMEDY}"),
    "no file": ("open('/nonexistent/onnxruntime.so')", f"/nonexistent/onnxruntime.so'); {REMEDY}"),
    "numpy of another age": ("import numpy; numpy.bool8_of_old", f"attribute 'bool8_of_old'); {REMEDY}"),
    "syntax of another age": ("print 'two'", f"(__init__.py, line 1)); {REMEDY}"),
    "exits": ("raise SystemExit(3)", f"(SystemExit: 3); {REMEDY}"),
}


def planted(folder: Path, source: str, version: str = "99.0") -> str:
    """A PYTHONPATH where onnxruntime is what `source` says."""
    (folder / "onnxruntime").mkdir(parents=True)
    (folder / "onnxruntime" / "__init__.py").write_text(source)
    facts = folder / f"onnxruntime-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: onnxruntime\nVersion: {version}\n")
    return os.pathsep.join([str(folder), str(FAULTS)])


@pytest.mark.parametrize("fault", BROKEN)
def test_a_framework_that_can_not_be_imported(tmp_path: Path, fault: str) -> None:
    source, sentence = BROKEN[fault]
    path = planted(tmp_path / "packages", source)
    done = convert(DIGITS, "--out", tmp_path / "out", "--format", "onnx", "--variant", "features", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (6, ""), done.stderr
    assert "onnx needs onnx and onnxruntime, which can't be imported" in done.stderr
    assert sentence in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_framework_that_is_too_old_is_known_before_the_work(tmp_path: Path) -> None:
    path = planted(tmp_path / "packages", "raise SystemExit('never imported')", version="1.9.0rc2")
    done = convert(DIGITS, "--out", tmp_path / "out", "--format", "onnx", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == (
        "vitport: onnx needs onnxruntime 1.21 or newer, and 1.9.0rc2 is installed; pip install 'onnxruntime>=1.21'\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_framework_that_dies_while_it_is_imported(tmp_path: Path) -> None:
    path = planted(tmp_path / "packages", "import os; os.abort()")
    done = convert(DIGITS, "--out", tmp_path / "out", "--format", "onnx", "--variant", "features", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (5, "")
    assert "vitport: onnx: it was killed by SIGABRT" in done.stderr
    assert not (tmp_path / "out").exists()
