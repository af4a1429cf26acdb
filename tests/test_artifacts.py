"""The output folder: lists merge or replace, folders change names and go back, no list from outside is believed."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitport import artifacts, publishing
from vitport.errors import AssetError, OutputError


def listing(*folders: str, sha: str = "a", **changed: object) -> dict:
    """A list of artifacts as small as `publish` can take; `folders` are `variant/format`."""
    entries = [
        {"variant": each.split("/")[0], "format": each.split("/")[1], "path": each, "sha256": ""} for each in folders
    ]
    facts = {"schema": 1, "name": "n", "resolution": 32, "asset": {"sha256": sha}, "versions": {}, "reference": {}}
    return {**facts, **changed, "artifacts": entries}


def publish(out: Path, text: str, *folders: str, **facts: object) -> None:
    """Stages a file holding `text` for each folder and publishes them."""
    with publishing.staging(out, lambda: None) as stage:
        for folder in folders:
            (stage / folder).mkdir(parents=True)
            (stage / folder / "file").write_text(text)
        whole = listing(*folders, **facts)
        for entry in whole["artifacts"]:
            entry["sha256"] = artifacts.sha256(stage / entry["variant"] / entry["format"] / "file")
        publishing.publish(stage, out, whole)


def tree(out: Path) -> dict[str, str]:
    return {path.relative_to(out).as_posix(): path.read_text() for path in sorted(out.rglob("*")) if path.is_file()}


def listed(out: Path) -> list[str]:
    return [f"{entry['variant']}/{entry['format']}" for entry in artifacts.read(out)["artifacts"]]


def test_files_digest_and_size(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "b").write_bytes(b"bb")
    (tmp_path / "a").write_bytes(b"a")
    found = artifacts.files(tmp_path)
    assert [(entry["path"], entry["bytes"]) for entry in found] == [("a", 1), ("variables/b", 2)]
    printed = subprocess.run(["sha256sum", "a", "variables/b"], cwd=tmp_path, capture_output=True, check=True).stdout
    whole = subprocess.run(["sha256sum"], input=printed, capture_output=True, check=True).stdout.decode().split()[0]
    assert artifacts.digest(found) == whole
    assert artifacts.digest(found[:1]) == found[0]["sha256"] == artifacts.sha256(tmp_path / "a")


def test_a_fingerprint_sees_what_links_lead_to(tmp_path):
    """In Hugging Face's cache every file of a model is a link."""
    (tmp_path / "blobs").mkdir()
    blob = tmp_path / "blobs" / "1"
    blob.write_text("weights")
    model, plain = tmp_path / "model", tmp_path / "plain"
    for folder in (model, plain):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    (model / "model.safetensors").symlink_to(blob)
    (model / "more").symlink_to(blob.parent)
    shutil.copy(blob, plain / "model.safetensors")
    shutil.copytree(blob.parent, plain / "more")
    assert artifacts.fingerprint(model) == artifacts.fingerprint(plain)
    blob.write_text("others")
    assert artifacts.fingerprint(model) != artifacts.fingerprint(plain)


def swapped(file: Path) -> None:
    aside = file.rename(file.with_name("aside"))
    file.write_text("other")
    file.unlink()
    aside.rename(file)


def rewritten(file: Path) -> None:
    text, times = file.read_text(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_text("other")
    file.write_text(text)
    os.utime(file, ns=times)


def linked_elsewhere(file: Path) -> None:
    target = file.readlink()
    file.unlink()
    file.symlink_to(target)


@pytest.mark.parametrize("change", [swapped, rewritten, linked_elsewhere])
def test_a_change_that_is_taken_back_leaves_marks(tmp_path, change) -> None:
    (tmp_path / "blob").write_text("weights")
    folder = tmp_path / "model"
    folder.mkdir()
    file = folder / "model.onnx"
    if change is linked_elsewhere:
        file.symlink_to(tmp_path / "blob")
    else:
        file.write_text("weights")
    before, marks = artifacts.fingerprint(folder), artifacts.marks(folder)
    assert artifacts.marks(folder) == marks
    time.sleep(0.02)  # a kernel's clock for files ticks a hundred times a second
    change(file)
    assert artifacts.fingerprint(folder) == before
    assert artifacts.marks(folder) != marks


def test_folders_in_a_circle_have_no_fingerprint(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "back").symlink_to(tmp_path)
    with pytest.raises(AssetError, match="is a link to a folder that it lies in"):
        artifacts.fingerprint(tmp_path)


def test_a_part_joins_what_is_there(tmp_path):
    publish(tmp_path, "one", "classifier/onnx", versions={"onnx": "1"}, reference={"classifier": 1})
    publish(tmp_path, "two", "features/onnx", versions={"torch": "2"}, reference={"features": 2})
    assert listed(tmp_path) == ["classifier/onnx", "features/onnx"]
    whole = artifacts.read(tmp_path)
    assert whole["versions"] == {"onnx": "1", "torch": "2"}
    assert whole["reference"] == {"classifier": 1, "features": 2}
    assert tree(tmp_path)["classifier/onnx/file"] == "one"


def test_the_same_part_replaces_itself(tmp_path):
    publish(tmp_path, "one", "classifier/onnx", "features/onnx")
    publish(tmp_path, "two", "classifier/onnx")
    assert (tree(tmp_path)["classifier/onnx/file"], tree(tmp_path)["features/onnx/file"]) == ("two", "one")
    assert listed(tmp_path) == ["classifier/onnx", "features/onnx"]


@pytest.mark.parametrize("other", [{"sha": "b"}, {"resolution": 48}, {"name": "m"}], ids=["file", "resolution", "name"])
def test_another_checkpoint_replaces_everything(tmp_path, other):
    publish(tmp_path, "one", "classifier/onnx", "features/onnx", versions={"onnx": "1"}, reference={"features": 1})
    (tmp_path / "notes.txt").write_text("mine")
    publish(tmp_path, "two", "classifier/torchscript", **other)
    assert list(tree(tmp_path)) == ["artifacts.json", "classifier/torchscript/file", "notes.txt"]
    assert not (tmp_path / "features").exists()
    assert artifacts.read(tmp_path)["versions"] == artifacts.read(tmp_path)["reference"] == {}


def failing(step: int):
    """A disk that is full from the given rename on; the first that fails, not those that take it back."""
    left = iter([*[False] * step, True])

    def wrap(real):
        def renamed(*arguments):
            if next(left, False):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments)

        return renamed

    return wrap


@pytest.mark.parametrize("earlier", ["same", "other", "none"])
@pytest.mark.parametrize("exchange", [True, False], ids=["one step", "two renames"])
@pytest.mark.parametrize("step", range(5))
def test_a_failure_while_publishing_takes_everything_back(tmp_path, monkeypatch, earlier, exchange, step):
    if not exchange:
        monkeypatch.setattr(publishing.ctypes, "CDLL", lambda *arguments, **options: object())
    out = tmp_path / "out"
    if earlier != "none":
        publish(out, "one", "classifier/onnx", "classifier/torchscript", sha="b" if earlier == "other" else "a")
    before = tree(out) if out.exists() else None
    fail = failing(step)
    monkeypatch.setattr(Path, "replace", fail(Path.replace))
    monkeypatch.setattr(Path, "rename", fail(Path.rename))
    monkeypatch.setattr(publishing, "_exchange", fail(publishing._exchange))
    with pytest.raises(OutputError, match="No space left on device"):
        publish(out, "two", "classifier/onnx", "features/onnx", "features/torchscript")
    assert (tree(out) if out.exists() else None) == before
    assert not (out / "features").exists()
    assert not (out / ".staging").exists()


def test_what_is_there_already_is_not_touched(tmp_path):
    publish(tmp_path, "one", "classifier/onnx")
    inode = (tmp_path / "classifier" / "onnx").stat().st_ino
    publish(tmp_path, "one", "classifier/onnx", title="another")
    assert (tmp_path / "classifier" / "onnx").stat().st_ino == inode
    assert artifacts.read(tmp_path)["title"] == "another"
    (tmp_path / "classifier" / "onnx" / "mine").write_text("mine")
    publish(tmp_path, "one", "classifier/onnx")
    assert list(tree(tmp_path)) == ["artifacts.json", "classifier/onnx/file"]


def test_without_renameat2_two_renames_do(tmp_path, monkeypatch):
    monkeypatch.setattr(publishing.ctypes, "CDLL", lambda *arguments, **options: object())
    publish(tmp_path, "one", "classifier/onnx")
    publish(tmp_path, "two", "classifier/onnx")
    assert list(tree(tmp_path)) == ["artifacts.json", "classifier/onnx/file"]
    assert tree(tmp_path)["classifier/onnx/file"] == "two"


def test_a_killed_runs_debris_is_removed(tmp_path):
    (tmp_path / ".staging" / "classifier").mkdir(parents=True)
    (tmp_path / ".staging" / "classifier" / "half").write_text("half")
    with publishing.staging(tmp_path, lambda: None) as stage:
        assert list(stage.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_made_in_vain_goes_again(tmp_path):
    def vain() -> None:
        with publishing.staging(tmp_path / "a" / "b", lambda: None):
            raise KeyError

    with pytest.raises(KeyError):
        vain()
    assert list(tmp_path.iterdir()) == []


def test_modes_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        publish(tmp_path / "out", "one", "classifier/onnx")
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*")}
    assert modes == {"artifacts.json": 0o640, "classifier": 0o750, "onnx": 0o750, "file": 0o640}


def test_one_run_at_a_time(tmp_path):
    program = "import sys; from pathlib import Path; from vitport import publishing\n"
    program += "with publishing.staging(Path(sys.argv[1]), lambda: print('waits', flush=True)): print('in', flush=True)"
    with publishing.staging(tmp_path / "out", lambda: None):
        other = subprocess.Popen([sys.executable, "-c", program, tmp_path / "out"], stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "waits\n"
    assert other.communicate(timeout=20)[0] == "in\n"
    assert other.returncode == 0
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


WRONG = {
    "no json": ("{", "is no list of artifacts"),
    "no object": ("[]", "is no list of artifacts"),
    "newer": (json.dumps(listing(schema=2)), "has schema 2; this vitport reads 1"),
    "no entries": (json.dumps({"schema": 1}), "is no list of artifacts"),
    "outside": (json.dumps(listing("../onnx")), "it has an artifact 'onnx' of variant '..'"),
    "absolute": (json.dumps(listing("classifier//etc")), "it has an artifact '' of variant 'classifier'"),
    "nested too deep": ("[" * 100_000, "is no list of artifacts"),
    "NaN": (json.dumps(listing(title=float("nan"))), "is no list of artifacts"),
    "too large a number": (json.dumps(listing(title=9)).replace("9", "1e999"), "is no list of artifacts"),
    "half a character": (json.dumps(listing(title="\ud800")), "is no list of artifacts"),
    "versions are text": (json.dumps(listing(versions="1")), "versions is no object"),
    "no reference": (json.dumps({**listing(), "reference": None}), "reference is no object"),
    "asset is a list": (json.dumps(listing(asset=[])), "asset is no object"),
    "artifacts are an object": (
        json.dumps({**listing(), "artifacts": {}}),
        "artifacts are no list, or one is there twice",
    ),
    "twice": (
        json.dumps(listing("classifier/onnx", "classifier/onnx")),
        "artifacts are no list, or one is there twice",
    ),
    "no hash": (json.dumps(listing("classifier/onnx")).replace("sha256", "sha"), "is no list of artifacts"),
    "not text": (b"\xff\xfe".decode("latin1"), "is no list of artifacts"),
}


@pytest.mark.parametrize(("text", "sentence"), WRONG.values(), ids=WRONG)
def test_a_list_that_is_not_ours_is_refused_before_any_work(tmp_path, text, sentence):
    (tmp_path / "artifacts.json").write_text(text, encoding="latin1")
    with pytest.raises(AssetError, match="artifacts") as caught, publishing.staging(tmp_path, lambda: None):
        pytest.fail("work began")
    assert sentence in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts.json"]


def test_a_hostile_list_deletes_nothing(tmp_path):
    victim, out = tmp_path / "victim" / "onnx", tmp_path / "out"
    victim.mkdir(parents=True)
    publish(out, "one", "classifier/onnx")
    (out / "artifacts.json").write_text(json.dumps(listing("../victim", sha="other")))
    with pytest.raises(AssetError, match="no list of artifacts"):
        publish(out, "two", "features/onnx")
    assert victim.exists()


@pytest.mark.parametrize("what", ["file", "below a file"])
def test_an_output_that_is_no_folder(tmp_path, what):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" if what == "file" else tmp_path / "file" / "out"
    with pytest.raises(OutputError, match=r"file"), publishing.staging(out, lambda: None):
        pytest.fail("work began")
    assert tree(tmp_path) == {"file": "mine"}


def test_an_artifact_that_was_edited_or_deleted_leaves_the_list(tmp_path):
    publish(tmp_path, "one", "classifier/onnx", "classifier/torchscript", "features/onnx")
    (tmp_path / "classifier" / "onnx" / "file").write_text("edited")
    shutil.rmtree(tmp_path / "features")
    publish(tmp_path, "two", "features/torchscript")
    assert listed(tmp_path) == ["classifier/torchscript", "features/torchscript"]


def test_numbers_that_json_does_not_have_are_not_written(tmp_path):
    publish(tmp_path, "one", "classifier/onnx")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="Out of range float"):
        publish(tmp_path, "two", "classifier/onnx", reference={"classifier": float("nan")})
    assert tree(tmp_path) == before


@pytest.mark.parametrize("when", ["_exchange", "_swap", "_remove_empty"])
def test_a_signal_while_publishing_waits_until_all_is_in_place(tmp_path, monkeypatch, when):
    publish(tmp_path, "one", "classifier/onnx", "features/onnx")
    real = getattr(publishing, when)

    def interrupted(*arguments: object) -> None:
        real(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(publishing, when, interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path, "two", "classifier/onnx", "features/onnx")
    finally:
        signal.signal(signal.SIGINT, before)
    texts = {path: text for path, text in tree(tmp_path).items() if path != "artifacts.json"}
    assert texts == {"classifier/onnx/file": "two", "features/onnx/file": "two"}
    for entry in artifacts.read(tmp_path)["artifacts"]:
        assert entry["sha256"] == artifacts.sha256(tmp_path / entry["variant"] / entry["format"] / "file")


def test_no_other_run_begins_while_a_child_of_a_killed_one_still_dies(tmp_path):
    """It might write into the staging of the next; `jobs` starts children that inherit the lock."""
    program = "import os, signal, subprocess, sys; from pathlib import Path; from vitport import publishing\n"
    program += "with publishing.staging(Path(sys.argv[1]), lambda: None):\n"
    program += "    subprocess.Popen(['sleep', '2'], close_fds=False); os.kill(os.getpid(), signal.SIGKILL)"
    out, told = tmp_path / "out", []
    subprocess.run([sys.executable, "-c", program, out])
    with publishing.staging(out, lambda: told.append("waits")) as stage:
        assert list(stage.iterdir()) == []
    assert told == ["waits"]
