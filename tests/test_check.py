"""`vitport check`: nothing in an output folder changes unseen, whatever a library would say when it loads it."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_cli import vitport

from vitport import artifacts, check, publishing, strict_json

ONNX = "classifier/onnx/model.onnx"


def verdict(out: Path, pinned: str | None = None) -> check.Verdict:
    return check.folder(out, pinned, lambda: None, lambda done, total: None)


def found(out: Path) -> dict[str, str]:
    """What is wrong, by path; each path once."""
    findings = verdict(out).findings
    assert len({each.path for each in findings}) == len(findings)
    return {each.path: each.found for each in findings}


@pytest.fixture(scope="module")
def spoilt(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which each test puts back what it changed."""
    return shutil.copytree(whole, tmp_path_factory.mktemp("check") / "out")


def relist(out: Path, change: Callable[[dict], object]) -> None:
    """Edits the list as somebody careful would, its own digest included."""
    listing = json.loads((out / "artifacts.json").read_text())
    change(listing)
    (out / "artifacts.json").write_text(artifacts.text(listing))


def test_a_whole_folder_is_whole(whole):
    done = vitport("check", whole)
    assert (done.returncode, done.stderr) == (0, "")
    files = [path for path in whole.rglob("*") if path.is_file()]
    assert f"{whole}: whole; 10 artifacts, {len(files) - 1} files" in done.stdout
    assert f"SHA-256 of artifacts.json: {artifacts.sha256(whole / 'artifacts.json')}" in done.stdout


def test_a_list_carries_the_digest_of_its_other_lines(whole):
    command = "grep -v '^  \"sha256\"' artifacts.json | sha256sum"
    done = subprocess.run(command, shell=True, cwd=whole, capture_output=True, text=True, check=True)
    assert json.loads((whole / "artifacts.json").read_text())["sha256"] == done.stdout.split()[0]


# Row 12 of the faults: every kind of file, changed, cut and continued.

KINDS = (
    "model.onnx",
    "model.pt",
    "model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "saved_model.pb",
    "fingerprint.pb",
    "variables.index",
    "variables.data-00000-of-00001",
    "artifacts.json",
)


def flip(content: bytes, place: float = 0.5) -> bytes:
    index = int(place * len(content))
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


MUTATIONS: dict[str, Callable[[bytes], bytes]] = {
    "first bit": lambda content: flip(content, 0.0),
    "a bit": flip,
    "cut": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\0",
    "a newline more": lambda content: content + b"\n",
}


def test_every_mutant_of_every_file_is_found_by_one_command(whole, tmp_path):
    mutants = {}
    for path in (path for path in whole.rglob("*") if path.is_file()):
        for name, mutate in MUTATIONS.items():
            relative = path.relative_to(whole).as_posix()
            out = shutil.copytree(whole, tmp_path / f"{len(mutants)}", copy_function=shutil.copy)
            (out / relative).write_bytes(mutate(path.read_bytes()))
            mutants[str(out)] = (relative, name)
    assert {Path(relative).name for relative, _ in mutants.values()} == set(KINDS)
    done = vitport("check", "--json", *mutants)
    assert done.returncode == 3
    for each in json.loads(done.stdout)["folders"]:
        paths = {finding["path"].partition(":")[0] for finding in each["findings"]}
        relative, name = mutants[each["folder"]]
        assert paths == {relative}, name


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_byte_of_any_file_that_changes_is_found(spoilt, data):
    paths = sorted(path for path in spoilt.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(paths))
    before = path.read_bytes()
    index = data.draw(st.integers(0, len(before) - 1))
    after = data.draw(st.integers(0, 255).filter(lambda byte: byte != before[index]))
    path.write_bytes(before[:index] + bytes([after]) + before[index + 1 :])
    try:
        paths = {finding.path.partition(":")[0] for finding in verdict(spoilt).findings}
        assert paths == {path.relative_to(spoilt).as_posix()}
    finally:
        path.write_bytes(before)


# What is there in place of a file, or beside it.


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


REPLACEMENTS: dict[str, Callable[[Path, Path], object]] = {
    "a symbolic link": lambda path, aside: (path.rename(aside), path.symlink_to(aside)),
    "a file of 2 names (hard links)": lambda path, aside: os.link(path, aside),
    "a named pipe": lambda path, aside: (path.unlink(), os.mkfifo(path)),
    "an empty folder": lambda path, aside: (path.unlink(), path.mkdir()),
    "a folder": lambda path, aside: (path.unlink(), (path / "x").mkdir(parents=True)),
    "a socket": lambda path, aside: (path.unlink(), _socket(path)),
    "nothing": lambda path, aside: path.unlink(),
}


@pytest.mark.parametrize("name", [ONNX, "artifacts.json"])
@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_what_is_no_file_of_its_own_is_found_and_never_opened(earlier, tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    REPLACEMENTS[kind](earlier / name, tmp_path / "aside")
    assert found(earlier)[name].startswith(kind if name == ONNX else kind.replace("an empty", "a"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_found(earlier):
    (earlier / ONNX).unlink()
    try:
        os.mknod(earlier / ONNX, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("not even root makes devices here")
    assert found(earlier) == {ONNX: "a device"}


@pytest.mark.parametrize(("place", "mode"), [(ONNX, 0o000), ("classifier/onnx", 0o000), ("artifacts.json", 0o200)])
def test_what_may_not_be_read_is_found(earlier, place, mode):
    (earlier / place).chmod(mode)
    command = [sys.executable, "-m", "vitport", "check", str(earlier)]
    if os.geteuid() == 0:
        no_power = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={no_power}", f"--inh-caps={no_power}", *command]
    done = subprocess.run(command, capture_output=True, text=True)
    (earlier / place).chmod(0o755)
    assert done.returncode == 3, done.stderr
    assert f"no permission to read it (mode {mode:03o})" in done.stdout


def test_an_artifact_behind_a_link_is_none(earlier, tmp_path):
    (earlier / "features").rename(tmp_path / "elsewhere")
    (earlier / "features").symlink_to(tmp_path / "elsewhere")
    kinds = found(earlier)
    assert kinds.pop("features") == "a symbolic link"
    assert set(kinds.values()) == {"nothing"}


def test_what_is_not_listed_is_found_path_by_path_and_all_at_once(earlier):
    (earlier / "notes.txt").write_text("mine")
    shutil.copytree(earlier / "classifier" / "onnx", earlier / "classifier" / "onnx2")
    (earlier / "classifier" / "empty").mkdir()
    (earlier / "classifier" / "hidden" / "onnx").mkdir(parents=True)
    (earlier / "features" / "onnx" / "\x1b[2J").write_text("")
    (earlier / os.fsdecode(b"\xff")).write_text("")
    (earlier / ONNX).unlink()
    shutil.rmtree(earlier / "features" / "torchscript")
    assert found(earlier) == {
        "notes.txt": "a file",
        "classifier/onnx2": "a folder",
        "classifier/hidden": "a folder",
        r"'features/onnx/\x1b[2J'": "a file",
        r"'\udcff'": "a file",
        ONNX: "nothing",
        "features/torchscript/model.pt": "nothing",
    }
    done = vitport("check", earlier)
    assert done.returncode == 3
    assert f"{earlier}: 7 findings\n" in done.stdout
    assert "\x1b" not in done.stdout


def test_what_a_killed_run_left_is_a_note(earlier):
    (earlier / ".staging" / "scratch").mkdir(parents=True)
    done = vitport("check", earlier)
    assert done.returncode == 0
    assert "note: .staging was left by a run that was killed; the next `vitport convert` into this" in done.stdout


def pending(out: Path, earlier: list[str], following: list[str]) -> None:
    """The list of a run that was killed while these folders changed, each with entries to tell them apart."""

    def change(listing: dict) -> None:
        entries = {artifacts.folder(entry): entry for entry in listing["artifacts"]}
        other = {"sha256": "0" * 64, "files": [{"path": "model.onnx", "bytes": 1, "sha256": "0" * 64}], "bytes": 1}
        listing["artifacts"] = [entry for name, entry in entries.items() if name not in {*earlier, *following}]
        listing["publishing"] = {
            "earlier": [entries[name] for name in earlier],
            "next": [{**entries[name], **(other if name in earlier else {})} for name in following],
        }

    relist(out, change)


def test_a_folder_whose_run_was_killed_while_publishing_holds_either(earlier):
    pending(earlier, ["classifier/onnx"], ["classifier/onnx", "features/onnx"])
    assert found(earlier) == {}
    assert "'publishing'" in verdict(earlier).notes[0]
    shutil.rmtree(earlier / "features" / "onnx")
    assert found(earlier) == {}, "it has not arrived"
    (earlier / ONNX).write_bytes(b"x" * 10)
    assert ONNX in found(earlier), "neither of the two"


# The list itself.


def test_a_folder_without_a_list_says_what_to_do(tmp_path):
    done = vitport("check", tmp_path)
    assert done.returncode == 3
    assert "nothing; convert again, or fetch it from where the folder came from" in done.stdout


def repeat_key(text: str) -> str:
    return text.replace('"name"', '"name": "x",\n  "name"', 1)


TEXTS: dict[str, tuple[Callable[[str], str], str]] = {
    "no JSON": (lambda text: "<html>", "no such list: Expecting value"),
    "a key twice": (repeat_key, "the key 'name' is there twice"),
    "NaN": (lambda text: text.replace('"max_abs": ', '"max_abs": NaN, "x": ', 1), "NaN is no number of JSON"),
    "infinite": (lambda text: text.replace('"max_abs": ', '"max_abs": 1e999, "x": ', 1), "1e999 is too large"),
    "long number": (lambda text: text.replace('"bytes": ', '"bytes": ' + "9" * 5000, 1), "no such list: "),
    "deep": (lambda text: "[" * 100_000, "nested too deeply"),
    "vast": (lambda text: " " * strict_json.MAX_BYTES + text, "larger than 10,000,000 bytes"),
    "half a character": (lambda text: text.replace('"title": "', '"title": "\\ud800', 1), "not UTF-8"),
    "not UTF-8": (lambda text: text.replace('"title": "', '"title": "\xff', 1), "not UTF-8"),
    "a list": (lambda text: "[]", "must be a mapping, not a list"),
    "another version": (lambda text: text.replace('"schema": 1', '"schema": 2'), "schema 2"),
    "another type": (lambda text: text.replace('"schema": 1', '"schema": true'), "must be 1, not true"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_list_that_is_none_is_found(earlier, kind):
    change, sentence = TEXTS[kind]
    text = change((earlier / "artifacts.json").read_text())
    (earlier / "artifacts.json").write_bytes(text.encode("latin1" if kind == "not UTF-8" else "utf-8"))
    (finding,) = verdict(earlier).findings
    assert finding.path.startswith("artifacts.json")
    assert sentence in finding.found


def entry(listing: dict, name: str = "classifier/onnx") -> dict:
    return next(each for each in listing["artifacts"] if artifacts.folder(each) == name)


EDITS: dict[str, tuple[Callable[[dict], object], str, str]] = {
    "digest": (lambda each: each.update(sha256="0" * 64), "classifier/onnx: sha256", "0" * 64),
    "size": (lambda each: each.update(bytes=1), "classifier/onnx: bytes", "1"),
    "entry": (lambda each: each.update(path="../../etc/passwd"), "classifier/onnx: path", "../../etc/passwd"),
    "above": (lambda each: each["files"][0].update(path="../x"), "classifier/onnx: files", "the text '../x'"),
    "absolute": (lambda each: each["files"][0].update(path="/etc/x"), "classifier/onnx: files", "the text '/etc/x'"),
    "escape": (lambda each: each["files"][0].update(path="\x1b[2J"), "classifier/onnx: files", r"the text '\x1b[2J'"),
    "long": (lambda each: each["files"][0].update(path="a/" * 3000 + "a"), "classifier/onnx: files", "…"),
    "twice": (lambda each: each["files"].insert(0, each["files"][0]), "classifier/onnx: files", "again"),
    "error": (lambda each: each["error"].update(rms=1.0), "classifier/onnx: error.rms", "1.0"),
    "smaller max": (lambda each: each["error"].update(max_abs=0.0), "classifier/onnx: error.max_abs", "0.0"),
    "resolution": (lambda each: each["input"].update(resolution=64), "classifier/onnx: input.resolution", "64"),
    "unknown field": (lambda each: each.update(note="x"), "artifacts[0].note", "is no field of this version"),
    "missing field": (lambda each: each.pop("files"), "artifacts[0].files", "is missing"),
    "negative": (lambda each: each["files"][0].update(bytes=-1), "artifacts[0].files[0].bytes", "must be 0 or more"),
    "vast": (lambda each: each["files"][0].update(bytes=10**400), "artifacts[0].files[0].bytes", "or less"),
    "newline": (lambda each: each.update(sha256="0" * 64 + "\n"), "artifacts[0].sha256", "must match"),
    "another format": (lambda each: each.update(format="tflite"), "artifacts[0].format", "must be one of"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_a_list_that_contradicts_itself_is_found_however_carefully_it_was_edited(earlier, kind):
    change, place, sentence = EDITS[kind]
    relist(earlier, lambda listing: change(entry(listing)))
    findings = {each.path: each.found for each in verdict(earlier).findings}
    assert sentence in findings[f"artifacts.json: {place}"]


def test_an_artifact_listed_twice_or_with_no_reference_is_found(earlier):
    relist(earlier, lambda listing: listing["artifacts"].append(entry(listing)))
    assert "classifier/onnx again" in found(earlier)["artifacts.json: artifacts"]
    relist(earlier, lambda listing: (listing["artifacts"].clear(), listing["reference"].pop("features")))
    assert found(earlier)["artifacts.json: artifacts"] == "none"


def test_whoever_hashes_anew_is_caught_by_the_published_digest_alone(earlier, whole):
    pin = artifacts.sha256(whole / "artifacts.json")
    (earlier / ONNX).write_bytes(flip((earlier / ONNX).read_bytes()))

    def rehash(listing: dict) -> None:
        each = entry(listing)
        each["files"] = artifacts.files((earlier / ONNX).parent)
        each["sha256"] = artifacts.digest(each["files"])

    relist(earlier, rehash)
    assert vitport("check", earlier).returncode == 0, "the list is what it is held to"
    done = vitport("check", earlier, "--sha256", pin.upper())
    assert done.returncode == 3
    assert f"expected  SHA-256 {pin}" in done.stdout
    assert vitport("check", whole, "--sha256", pin).returncode == 0


def test_options_that_make_no_sense(whole):
    done = vitport("check", whole, "--sha256", "abc")
    assert (done.returncode, "64 hexadecimal digits" in done.stderr) == (2, True)
    done = vitport("check", whole, whole, "--sha256", "0" * 64)
    assert (done.returncode, "check that folder alone" in done.stderr) == (2, True)
    assert vitport("check").returncode == vitport("check", whole / "nowhere").returncode == 2


def test_a_check_waits_for_a_run_in_the_folder(earlier):
    waiting = threading.Event()
    with publishing.staging(earlier, lambda: None):
        thread = threading.Thread(target=check.folder, args=(earlier, None, waiting.set, lambda done, total: None))
        thread.start()
        assert waiting.wait(10)
        assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()


def test_a_long_check_tells_how_far_it_is(earlier):
    told = []
    check.folder(earlier, None, lambda: None, lambda done, total: told.append((done, total)))
    total = sum(path.stat().st_size for path in earlier.rglob("*") if path.is_file() and path.parent != earlier)
    assert told[-1] == (total, total)


# The little of JSON schema that there is.

SCHEMA = json.loads(check.listing.SCHEMA.read_text())

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | st.sampled_from(["", "x", "0" * 64, "onnx"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "x"]), inner, max_size=2),
    max_leaves=3,
)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Every place below `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [each for key, inner in items for each in [(*path, key), *places(inner, (*path, key))]]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_our_schema_reader_and_jsonschema_agree(whole, data):
    listing = json.loads((whole / "artifacts.json").read_text())
    *path, last = data.draw(st.sampled_from(places(listing)))
    inner = listing
    for key in path:
        inner = inner[key]
    changed = data.draw(VALUES.filter(lambda value: not (isinstance(value, float) and value.is_integer())))
    inner[last] = changed
    theirs = jsonschema.Draft202012Validator(SCHEMA).is_valid(listing)
    assert (not list(strict_json.violations(SCHEMA, listing))) == theirs


def test_a_keyword_that_nobody_reads_is_an_error():
    with pytest.raises(KeyError, match="maxLength"):
        list(strict_json.violations({"maxLength": 1}, "xx"))
