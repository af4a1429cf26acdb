"""The command line: help, results for people and for programs, and one sentence for every mistake."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vitport import convert, npz, wording
from vitport.cli import group
from vitport.errors import EXIT_CODES

ROOT = Path(__file__).parents[1]
COMMANDS = ("cache", "check", "convert", "diff", "gate", "golden", "list", "lock", "new", "synthesize", "verify")
S16 = "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_224"
ESCAPE = "\x1b"


def vitport(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "vitport", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def on_a_terminal(*arguments: object, columns: int = 80) -> str:
    """What a terminal of that width receives, standard error included."""
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "vitport", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=terminal, stderr=terminal)
    os.close(terminal)
    received = b""
    try:
        while chunk := os.read(master, 65536):
            received += chunk
    except OSError:  # Linux's end of a terminal
        pass
    os.close(master)
    assert process.wait() == 0, received
    return received.decode()


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=["vitport", *COMMANDS])
def test_help_has_an_example_and_the_exit_codes(command):
    done = vitport(*command, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert re.search(rf"^ +vitport {command[0] if command else 'convert'} \S", done.stdout, re.MULTILINE)
    for code, meaning in EXIT_CODES.items():
        assert f"{code:<4}{meaning}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_commands_are_described_whole():
    text = vitport("--help").stdout
    for name in COMMANDS:
        assert re.search(rf"^  {name} +[A-Z].*[a-z]\.$", text, re.MULTILINE), "cut off"


def test_version():
    assert re.fullmatch(r"vitport \d+\.\d+\.\d+\S*\n", vitport("--version").stdout)


def test_list_for_people():
    done = vitport("list")
    assert (done.returncode, done.stderr) == (0, "")
    heading, rule, *rows = done.stdout.splitlines()
    assert heading.split() == ["name", "parameters", "MB", "top-1", "variants", "title"]
    assert set(rule) == {"─"}
    assert re.search(
        r"^digits +38,250 +0\.2 +- +classifier, features +Tiny ViT/4, handwritten digits at 32$", done.stdout, re.M
    )
    assert len(rows) == len(list((ROOT / "manifests").glob("*.yaml")))
    assert done.stdout == "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def test_list_for_programs():
    rows = json.loads(vitport("list", "--json").stdout)
    assert {row["name"]: row["parameters"] for row in rows}["digits"] == 38250


def test_list_of_a_folder_with_an_invalid_manifest(tmp_path):
    (tmp_path / "x.yaml").write_text("schema: 1\nname: y\n")
    done = vitport("list", tmp_path)
    assert done.returncode == 2
    assert "x.yaml" in done.stderr
    assert "not valid, see below" in done.stdout


def test_from_a_name_to_random_weights_to_artifacts(tmp_path):
    """`new`, then `synthesize`; the artifacts of the smallest manifest, since S/16 takes a minute."""
    done = vitport("new", S16, "--out", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = tmp_path.glob("*.yaml")
    assert str(path) in done.stdout
    assert vitport("list", tmp_path, "--json").returncode == 0
    again = vitport("new", S16, "--out", tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert "exists already" in again.stderr
    weights = tmp_path / "digits.npz"
    done = vitport("synthesize", "digits", "-o", weights, "--seed", 3, "--profile", "stress")
    assert (done.returncode, done.stdout) == (0, f"{weights}: 0.2 MB, stress, seed 3\n")
    assert len(npz.read(weights)) == 72
    assert vitport("synthesize", "digits", "-o", weights).returncode == 2
    assert vitport("synthesize", "digits", "-o", weights, "--seed", 3, "--profile", "stress", "--force").returncode == 0
    done = vitport("convert", "digits", "--asset", weights, "--out", tmp_path / "out", "--format", "onnx", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "classifier" / "onnx" / "model.onnx").exists()


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    out = tmp_path_factory.mktemp("cli") / "out"
    return out, vitport("convert", "digits", "--out", out, "--format", "safetensors-timm")


def test_result_for_people(converted):
    out, done = converted
    assert done.returncode == 0
    heading, _, *rows = done.stdout.splitlines()
    assert heading.split() == ["variant", "format", "MB", "s", "max", "err", "RMS", "err", "limit", "×", "JAX"]
    assert [row.split()[:2] for row in rows[:2]] == [
        ["classifier", "safetensors-timm"],
        ["features", "safetensors-timm"],
    ]
    assert f"2 artifacts in {out}/<variant>/<format>, each proven" in done.stdout


def test_progress_in_a_log_is_a_line_for_each_step(converted):
    lines = converted[1].stderr.splitlines()
    assert all(re.fullmatch(r" *\d+\.\d s  \S+ +\S.*", line) for line in lines), lines
    assert lines[0].split()[2:] == ["checkpoint", "checking", "every", "leaf"]
    assert lines[-1].endswith(f"publishing to {converted[0]}")


def test_output_that_is_no_terminal_has_no_control_characters(converted):
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", converted[1].stdout + converted[1].stderr)


def test_result_for_programs_and_quiet(tmp_path):
    small = ("--format", "safetensors-timm", "--variant", "features")
    done = vitport("convert", "digits", "--out", tmp_path / "out", *small, "--json")
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert result["out"] == str(tmp_path / "out")
    assert result["timings"]["safetensors-timm"]["features"] > 0
    assert [entry["path"] for entry in result["artifacts"]] == ["features/safetensors-timm"]
    assert "1 artifact in" in vitport("convert", "digits", "--out", tmp_path / "out", *small, "--quiet").stdout


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_terminal_never_sees_half_a_number(columns):
    shown = on_a_terminal("list", columns=columns)
    assert ESCAPE not in shown
    for number in ("86,567,656", "346.3", "84.018", "328,994,856", "1,316.0"):
        assert number in shown
    assert max(len(line) for line in shown.splitlines()) <= columns
    assert ("…" in shown) == (columns < 200)


@pytest.mark.slow
def test_progress_on_a_terminal_and_its_table(tmp_path):
    shown = on_a_terminal("convert", "digits", "--out", tmp_path / "out")
    assert "✓" in shown
    table = shown[shown.index("variant ") :].splitlines()
    assert max(map(len, table[:12])) <= 80
    assert len([line for line in table if re.match(r"(classifier|features) ", line)]) == 10


MISTAKES = {
    "command": (("convrt",), "Did you mean 'convert'?"),
    "option": (("convert", "digits", "--formt", "onnx"), "No such option '--formt'. (Did you mean one of: '--format'"),
    "no manifest": (("convert",), "Missing argument 'MANIFEST'"),
    "manifest": (("convert", "digts"), "there is no manifest 'digts', neither a file nor a name; did you mean digits?"),
    "nothing like it": (("convert", "nosuch"), "neither a file nor a name; known: b16, b32, b8, digits"),
    "folder as manifest": (("convert", "manifests"), "manifests is a folder; name a manifest"),
    "very long manifest": (("convert", "x" * 5000), "neither a file nor a name; known: b16, b32, b8, digits"),
    "empty asset": (("convert", "digits", "--asset", ""), "'--asset': is empty; leave the option out"),
    "empty asset of verify": (("verify", "digits", "--asset", " "), "'--asset': is empty; leave the option out"),
    "empty asset of bisect": (("bisect", "digits", "--backend", "onnx", "--asset", ""), "'--asset': is empty; leave"),
    "empty asset of golden": (("golden", "make", "digits", "--asset", ""), "'--asset': is empty; leave the option out"),
    "empty format": (("convert", "digits", "--format", ""), "'--format': names nothing; leave the option out for all"),
    "only a comma": (("convert", "digits", "--variant", ","), "'--variant': names nothing"),
    "a comma too many": (("verify", "digits", "--batches", "1,,2"), "'--batches': 1,,2: has a comma too many"),
    "vast": (("convert", "digits", "--resolution", "8192"), "resolution 8192 is too large; the largest is 4096"),
    "report": (("convert", "digits", "--report", "x.html"), "a report is Markdown, its picture .svg: x.html must end"),
    "report is a folder": (("convert", "digits", "--report", "docs"), "'docs' is a directory"),
    "synthesize over a file": (("synthesize", "digits", "-o", "README.md"), "README.md exists already; write another"),
    "number": (("convert", "digits", "--opset", "x"), "'x' is not a valid integer"),
    "negative": (("convert", "digits", "--resolution", "-4"), "-4 is not in the range"),
    "profile": (("synthesize", "digits", "-o", "x.npz", "--profile", "hard"), "'hard' is not one of"),
    "name": (("new", S16.replace("S_16", "S16")), "did you mean S_16"),
    "folder": (("list", "nowhere"), "'nowhere' does not exist"),
}


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence(arguments, sentence):
    done = vitport(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_manifest_error_says_where(tmp_path):
    (tmp_path / "digits.yaml").write_text(
        (ROOT / "manifests" / "digits.yaml").read_text().replace("patch: 4", "pach: 4")
    )
    done = vitport("convert", tmp_path / "digits.yaml")
    assert done.returncode == 2
    assert re.search(r"digits\.yaml:\d+:\d+: architecture.pach: unknown field; did you mean patch\?", done.stderr)


def test_a_report_with_no_possible_place_is_refused_before_the_run(tmp_path):
    done = vitport("convert", "digits", "--out", tmp_path / "out", "--report", ROOT / "README.md" / "x.md")
    assert (done.returncode, done.stdout) == (7, "")
    assert "the folder of" in done.stderr
    assert "checking every leaf" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seconds", ["nan", "0", "-1", "soon"])
def test_a_timeout_that_is_no_time(seconds):
    done = vitport("convert", "digits", "--timeout", seconds)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--timeout" in done.stderr


def test_help_says_the_real_default_of_timeout():
    assert f"[{convert.TIMEOUT:.0f}]" in vitport("convert", "--help").stdout


def test_debug_shows_the_traceback():
    done = vitport("convert", "digts", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "UsageError: there is no manifest 'digts'" in done.stderr


@pytest.mark.parametrize("path", ["/proc/nowhere/x.npz", "manifests/s16.yaml/x.npz"], ids=["no folder", "below a file"])
def test_synthesize_where_nothing_can_be_written(path):
    done = vitport("synthesize", "digits", "-o", path)
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.startswith("vitport: ") or "\nvitport: " in done.stderr
    assert "Traceback" not in done.stderr


OUTSIDE = ("a\n::error title=pwn::x.png", "::stop-commands::pwn.png", "a\r\x1b[31mb.png", "##[error]x.png")


def test_names_from_outside_are_no_commands_of_a_log_or_a_terminal(tmp_path):
    for name in OUTSIDE:
        (tmp_path / name).write_bytes(b"")
    pictures = ("--images", ".", "--report", "report", "--quiet", "--debug")
    done = vitport("verify", ROOT / "manifests" / "digits.yaml", "--backends", "flax", *pictures, cwd=tmp_path)
    assert done.returncode == 3
    assert "4 of 4 pictures can't be used" in done.stderr
    assert not [line for line in done.stderr.split("\n") if line.lstrip().startswith("::") or "##[" in line]
    assert not set(done.stderr) & {"\r", "\x1b"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\n  two\tthree", "one\n  two\tthree"),
        ("a\n \t::error::b\nc::d", "a\n \t\\::error::b\nc::d"),
        ("a\x0b::b\u2028::c\x85\x9b1m\u202e\udcff", r"a\x0b::b\u2028::c\x85\x9b1m\u202e\udcff"),
        ("said ##[error]x", r"said ##\[error]x"),
    ],
)
def test_text_of_several_lines_keeps_them_and_does_nothing_else(text, shown):
    assert wording.harmless(text) == shown


def test_the_command_of_a_report_is_text_whatever_its_words_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group.sys, "argv", ["vitport", "verify", "--images", "bad\udcff name"])
    assert group.command_line() == r"vitport verify --images 'bad\xff name'"
