"""Every way out of vitport: one exit code a kind of failure, one document for programs, and streams that fail well."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import runs

from vitport.errors import EXIT_CODES

ROOT = Path(__file__).parents[1]
HYBRID = ROOT / "checkpoints" / "digits_hybrid.npz"
BUG = "from vitport import catalogue\ncatalogue.rows = lambda folder: 1 / 0\n"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess:
    """A line of bash in which `vitport` is a command; the exit code is the first failing one of a pipe."""
    line = f'set -o pipefail; vitport() {{ {sys.executable} -m vitport "$@"; }}; {line}'
    path = os.pathsep.join([*environment.pop("PYTHONPATH", "").split(), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True)


def fault(name: str) -> dict[str, str]:
    return {"PYTHONPATH": str(runs.FAULTS), "VITPORT_FAULT": f"safetensors-timm:{name}"}


def bug(folder: Path) -> dict[str, str]:
    """vitport with a mistake in it."""
    (folder / "sitecustomize.py").write_text(BUG)
    return {"PYTHONPATH": str(folder)}


SMALL = " ".join(runs.SMALL)
WAYS: dict[int, tuple[str, dict[str, str]]] = {
    0: ("vitport list --json", {}),
    1: (f"vitport convert digits --json --out $OUT {SMALL}", fault("scaled")),
    2: ("vitport convert digts --json", {}),
    3: ("vitport convert digits --json --out $OUT --asset nowhere.npz", {}),
    4: (f"vitport convert digits --json --out $OUT --asset {HYBRID}", {}),
    5: (f"vitport convert digits --json --out $OUT {SMALL}", fault("segfault")),
    6: ("vitport convert digits --json --out $OUT", {"PYTHONPATH": str(runs.FAULTS), "VITPORT_HIDDEN": "jax"}),
    7: ("vitport synthesize digits --json -o /proc/nowhere/x.npz", {}),
    70: ("vitport list --json", {"bug": "planted"}),
}


def test_every_code_has_a_way_to_it():
    assert set(WAYS) == set(EXIT_CODES) - {130}, "which the next test but one makes"


@pytest.mark.parametrize("code", WAYS)
def test_every_code_is_that_of_a_command_line_and_its_document_says_it(tmp_path, code):
    line, environment = WAYS[code]
    if environment == {"bug": "planted"}:
        environment = bug(tmp_path)
    done = shell(line, OUT=str(tmp_path / "out"), **environment)
    assert done.returncode == code, done.stderr
    document = json.loads(done.stdout)
    assert "Traceback" not in done.stderr.replace("  | Traceback", "")
    if code:
        assert document["error"].keys() == {"code", "kind", "message"}
        assert document["error"]["code"] == code
        assert EXIT_CODES[code].startswith(document["error"]["kind"] + ":")
        assert document["error"]["message"] in done.stderr
        assert not (tmp_path / "out").exists()


def test_an_interrupted_run_says_so_in_its_document(tmp_path):
    process = runs.start(runs.DIGITS, "--out", tmp_path / "out", *runs.SMALL, "--json")
    while not (tmp_path / "out" / ".staging").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["error"] == {
        "code": 130,
        "kind": "interrupted",
        "message": "interrupted; nothing half-made is left behind",
    }
    assert error.strip() == "vitport: interrupted; nothing half-made is left behind"


def test_an_interruption_before_anything_is_imported_is_quiet(tmp_path):
    (tmp_path / "click.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n")
    done = shell("env --default-signal=INT $PYTHON -m vitport list", PYTHONPATH=str(tmp_path), PYTHON=sys.executable)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


SWALLOWS = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
except BaseException:
    pass
"""


def test_an_interruption_that_an_import_would_swallow_is_not_lost(tmp_path):
    (tmp_path / "swallows.py").write_text(SWALLOWS)
    slow = "import swallows, time; time.sleep(10); return []"
    (tmp_path / "sitecustomize.py").write_text(
        f"from vitport import catalogue\ndef rows(folder): {slow}\ncatalogue.rows = rows\n"
    )
    done = shell("env --default-signal=INT $PYTHON -m vitport list", PYTHONPATH=str(tmp_path), PYTHON=sys.executable)
    assert (done.returncode, done.stderr.strip()) == (130, "vitport: interrupted; nothing half-made is left behind")


def test_a_bug_asks_to_be_reported_and_debug_shows_it(tmp_path):
    sentence = "vitport: this is a bug in vitport (ZeroDivisionError: division by zero); please report it with what"
    done = shell("vitport list", **bug(tmp_path))
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr.startswith(sentence)
    done = shell("vitport list --debug", **bug(tmp_path))
    assert done.returncode == 70
    assert "catalogue.rows = lambda folder: 1 / 0" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(sentence)


def test_debug_shows_where_a_childs_error_came_from(tmp_path):
    line = f"vitport convert digits --quiet --out {tmp_path}/out {SMALL}"
    done = shell(line, **fault("full"))
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr == "vitport: safetensors-timm: model.safetensors: No space left on device\n"
    done = shell(f"{line} --debug", **fault("full"))
    assert done.returncode == 7
    assert re.search(r"in _result\n[^\0]*standard error of safetensors-timm[^\0]*in _full_disk", done.stderr)


def test_help_that_was_asked_for_is_no_error():
    for line in ("vitport --help", "vitport list -h", "vitport --version"):
        done = shell(line)
        assert (done.returncode, done.stderr) == (0, "")


MISTAKES = ("vitport list --json --no", "vitport --json", "vitport convert --json", "vitport convrt --json")


@pytest.mark.parametrize("line", MISTAKES)
def test_a_command_line_that_is_wrong_is_a_document_too(line):
    done = shell(line)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["kind"] == "usage"


def test_results_for_programs_are_one_document_each(tmp_path):
    name = "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0"
    done = json.loads(shell(f"vitport new {name} --out {tmp_path} --json").stdout)
    assert Path(done["manifest"]).parent == tmp_path
    done = json.loads(shell(f"vitport synthesize digits -o {tmp_path}/x.npz --seed 3 --json").stdout)
    assert done.items() >= {"checkpoint": f"{tmp_path}/x.npz", "seed": 3, "profile": "realistic"}.items()
    assert done["bytes"] == (tmp_path / "x.npz").stat().st_size


# Streams.


@pytest.mark.parametrize("reader", ["true", "head -1", "exec 0<&-"])
@pytest.mark.parametrize("command", ["list", "--help", "list --json", "convert --help"])
def test_a_reader_that_leaves_early_is_no_failure(command, reader):
    done = shell(f"vitport {command} | ({reader})")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_early_hides_no_failure(tmp_path):
    assert shell(f"vitport check {tmp_path} | true").returncode == 3


def test_a_conversion_whose_reader_left_is_published(tmp_path):
    done = shell(f"vitport convert digits --out {tmp_path}/out {SMALL} 2>&1 | true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out" / "artifacts.json").exists()


@pytest.mark.parametrize("command", ["list", "--help", "list --json", "--version"])
def test_a_result_that_nobody_can_have_is_an_output_error(command):
    done = shell(f"vitport {command} >/dev/full")
    assert done.returncode == 7
    assert done.stderr == "vitport: standard output can't be written: No space left on device\n"


def test_progress_that_can_not_be_shown_is_no_failure():
    assert shell("vitport list 2>/dev/full").returncode == 0
    assert shell("vitport convert digts 2>/dev/full").returncode == 2
    assert shell("vitport list >&- 2>&-").returncode == 0


def test_any_name_and_any_title_can_be_shown_in_any_encoding(tmp_path):
    out = tmp_path / os.fsdecode(b"\xff")
    out.mkdir()
    done = shell(f"vitport check {tmp_path}/*; vitport list | tail -1", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "\\udcff: 1 finding" in done.stdout
