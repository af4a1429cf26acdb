"""The first download of a file is recorded beside its manifest, and from then on no other is taken for it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import runs
import server as web
import yaml
from click.testing import CliRunner, Result
from test_assets import checkpoint_bytes, sha

from vitport import assets, cli, lock, lockfile, manifest
from vitport import convert as story
from vitport.assets import download
from vitport.errors import AssetError, ManifestError, Mismatch, OutputError
from vitport.lockfile import Entry

HASH = "0123456789abcdef" * 4
TEXT = f"""\
schema: 1
assets:
  "a":
    urls:
      - "gs://b/a.npz"
    bytes: 5
    sha256: "{HASH}"
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[web.Server]:
    """A Hub on this machine."""
    with web.serving() as scene:
        monkeypatch.setenv("HF_ENDPOINT", scene.address)
        monkeypatch.setattr(download, "PATIENCE", download.Patience(sleep=lambda seconds: None))
        yield scene


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "manifests"
    made.mkdir()
    return made


def write(folder: Path, name: str = "a", **asset: object) -> Path:
    """The manifest of digits, with another asset."""
    fields = yaml.safe_load(runs.DIGITS.read_text()) | {"name": name, "asset": asset or {"url": f"hf://o/r/{name}.npz"}}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def serve(server: web.Server, *bodies: bytes, name: str = "a") -> None:
    server.serve(f"/o/r/resolve/main/{name}.npz", *(web.whole(body) for body in bodies))


def convert(path: Path, told: list[str] | None = None, **places: object) -> assets.Asset:
    """What `vitport convert` does first."""
    return lock.fetch(manifest.read(path), (told if told is not None else []).append, **places)


def vitport(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["lock", *map(str, arguments)])


@pytest.fixture
def bodies(tmp_path: Path) -> list[bytes]:
    return [checkpoint_bytes(tmp_path, seed) for seed in (0, 1)]


# The first download, and the ones after it.


def test_a_first_download_is_recorded(server, folder: Path, bodies) -> None:
    serve(server, bodies[0])
    convert(write(folder))
    assert lockfile.read(folder) == {
        "a": Entry(urls=("hf://o/r/a.npz",), bytes=len(bodies[0]), sha256=sha(bodies[0])),
    }
    assert sorted(path.name for path in folder.iterdir()) == ["a.yaml", "vitport.lock"]


def test_another_file_is_refused_and_nothing_changes(server, folder: Path, cache: Path, bodies) -> None:
    serve(server, *bodies)
    path = write(folder)
    first = convert(path)
    before = (folder / "vitport.lock").read_bytes()
    with pytest.raises(Mismatch) as error:
        convert(path, cache=cache.parent / "other")
    assert f"has the SHA-256 {sha(bodies[1])} and should have {sha(bodies[0])}" in str(error.value)
    assert f"vitport lock --update {path}" in str(error.value)
    assert (folder / "vitport.lock").read_bytes() == before
    assert first.path.read_bytes() == bodies[0]
    assert convert(path) == first


def test_a_file_of_another_size_is_refused_before_it_is_fetched(server, folder: Path, cache: Path, bodies) -> None:
    serve(server, bodies[0], bodies[0] + b"more")
    convert(write(folder))
    with pytest.raises(Mismatch, match=rf"has {len(bodies[0]) + 4} bytes and should have {len(bodies[0])}") as error:
        convert(folder / "a.yaml", cache=cache.parent / "other")
    assert "vitport lock --update" in str(error.value)


def test_a_locked_file_needs_no_network(server, folder: Path, bodies) -> None:
    serve(server, bodies[0])
    first = convert(write(folder))
    assert convert(folder / "a.yaml", offline=True) == first
    assert len(server.requests) == 1


def test_offline_without_a_cache_records_nothing(server, folder: Path) -> None:
    with pytest.raises(AssetError, match="offline"):
        convert(write(folder), offline=True)
    assert not (folder / "vitport.lock").exists()


def test_a_file_from_a_cache_filled_earlier_is_recorded(server, folder: Path, bodies) -> None:
    serve(server, bodies[0])
    assets.fetch(["hf://o/r/a.npz"])
    convert(write(folder), offline=True)
    assert lockfile.read(folder)["a"].sha256 == sha(bodies[0])


def test_a_manifest_with_a_hash_needs_no_lock(server, folder: Path, bodies) -> None:
    serve(server, bodies[0])
    (folder / "vitport.lock").write_text(TEXT.replace("gs://b", "hf://o/r"))
    convert(write(folder, url="hf://o/r/a.npz", sha256=sha(bodies[0])))
    assert (folder / "vitport.lock").read_text() == TEXT.replace("gs://b", "hf://o/r")


def test_a_local_file_is_not_recorded_by_convert_but_held_to_an_entry(folder: Path, bodies) -> None:
    (folder / "mine.npz").write_bytes(bodies[0])
    path = write(folder, url="mine.npz")
    convert(path)
    assert not (folder / "vitport.lock").exists()
    assert vitport(path).exit_code == 0
    assert lockfile.read(folder)["a"].urls == ("mine.npz",)
    convert(path)
    (folder / "mine.npz").write_bytes(bodies[1])
    with pytest.raises(Mismatch, match="vitport lock --update"):
        convert(path)


def test_a_mirror_is_held_to_the_same_file(server, folder: Path, cache: Path, bodies) -> None:
    serve(server, bodies[0])
    server.serve("/o/r/resolve/main/b.npz", web.whole(bodies[1]))
    path = write(folder, url="hf://o/r/a.npz", mirrors=["hf://o/r/b.npz"])
    convert(path)
    server.serve("/o/r/resolve/main/a.npz", web.status(404))
    with pytest.raises(Mismatch, match="none of the 2 places has the file"):
        convert(path, cache=cache.parent / "other")


def test_where_nothing_can_be_recorded_that_is_said(server, folder: Path, bodies, monkeypatch) -> None:
    serve(server, bodies[0])
    told: list[str] = []

    path = write(folder)
    monkeypatch.setattr(Path, "open", _refusing(Path.open, folder))
    assert convert(path, told).sha256 == sha(bodies[0])
    assert told == [
        f"note: {folder}/vitport.lock can't be written: Read-only file system; "
        f"its SHA-256, {sha(bodies[0])}, is not recorded"
    ]


def _refusing(real, folder: Path):
    def opened(self: Path, mode: str = "r", *rest: object, **options: object):
        if self.parent == folder and mode != "rb":
            raise PermissionError(30, "Read-only file system", str(self))
        return real(self, mode, *rest, **options)

    return opened


def test_the_folder_of_the_installed_package_is_not_written_to(server, folder: Path, bodies, monkeypatch) -> None:
    serve(server, bodies[0])
    told: list[str] = []
    monkeypatch.setattr(lock, "PACKAGE", folder.parent)
    convert(write(folder), told)
    assert "belongs to the installed package; copy the manifest to a folder of your own" in told[0]
    assert not (folder / "vitport.lock").exists()
    done = vitport(folder)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "belongs to the installed package" in done.stderr


def test_a_lock_file_that_comes_with_the_package_is_obeyed(server, folder: Path, bodies, monkeypatch) -> None:
    serve(server, bodies[1])
    entry = Entry(urls=("hf://o/r/a.npz",), bytes=len(bodies[0]), sha256=sha(bodies[0]))
    lockfile.write(folder, {"a": entry})
    monkeypatch.setattr(lock, "PACKAGE", folder.parent)
    with pytest.raises(Mismatch):
        convert(write(folder))


def test_whoever_comes_second_with_another_file_is_refused(server, folder: Path, bodies, monkeypatch) -> None:
    serve(server, bodies[0])
    real = lockfile.changing

    def late(where: Path):
        lockfile.write(where, {"a": Entry(urls=("hf://o/r/a.npz",), bytes=5, sha256=HASH)})
        return real(where)

    monkeypatch.setattr(lockfile, "changing", late)
    with pytest.raises(Mismatch, match="which another process has recorded meanwhile"):
        convert(write(folder))
    assert lockfile.read(folder)["a"].sha256 == HASH


def test_another_asset_named_on_purpose_is_neither_recorded_nor_refused(server, folder: Path, bodies) -> None:
    serve(server, *bodies)
    path = write(folder)
    request = story.Request(manifest=path, asset="hf://o/r/a.npz")
    story.fetch(manifest.read(path), request, lambda part, text: None, None)
    assert not (folder / "vitport.lock").exists()
    (folder / "vitport.lock").write_text(TEXT)
    assert story.fetch(manifest.read(path), request, lambda part, text: None, None).sha256 == sha(bodies[0])
    assert (folder / "vitport.lock").read_text() == TEXT


def test_the_whole_command_records_and_enforces(server, folder: Path, tmp_path: Path) -> None:
    body = (runs.ROOT / "checkpoints" / "digits.npz").read_bytes()
    serve(server, body, checkpoint_bytes(tmp_path))
    path, out = write(folder), tmp_path / "out"
    listing = runs.succeed(path, *runs.SMALL, "--out", out)
    assert lockfile.read(folder)["a"].sha256 == listing["asset"]["sha256"] == sha(body)
    before = runs.tree(out)
    done = runs.convert(path, *runs.SMALL, "--out", out, "--cache", tmp_path / "empty")
    assert done.returncode == 3
    assert f"and should have {len(body)}" in done.stderr
    assert "vitport lock --update" in done.stderr
    assert runs.tree(out) == before


# The command.


def test_lock_records_all_of_a_folder(server, folder: Path, bodies) -> None:
    serve(server, bodies[0])
    serve(server, bodies[1], name="b")
    write(folder), write(folder, "b"), write(folder, "c", url="x.npz", sha256=HASH)
    done = vitport(folder, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == [
        {"name": "a", "state": "recorded", "bytes": len(bodies[0]), "sha256": sha(bodies[0]), "problem": None},
        {"name": "b", "state": "recorded", "bytes": len(bodies[1]), "sha256": sha(bodies[1]), "problem": None},
        {"name": "c", "state": "manifest", "bytes": None, "sha256": HASH, "problem": None},
    ]
    assert [row["state"] for row in json.loads(vitport(folder, "--json").stdout)] == ["kept", "kept", "manifest"]
    assert len(server.requests) == 2
    assert vitport(folder, "--check").exit_code == 0
    assert list(lockfile.read(folder)) == ["a", "b"]


def test_lock_for_people(server, folder: Path, bodies) -> None:
    serve(server, bodies[0])
    done = vitport(write(folder), "--quiet")
    heading, _, row = done.stdout.splitlines()
    assert heading.split() == ["manifest", "state", "MB", "SHA-256"]
    assert row.split() == ["a", "recorded", f"{len(bodies[0]) / 1e6:.1f}", sha(bodies[0])]


def test_update_takes_what_is_there_now(server, folder: Path, cache: Path, bodies) -> None:
    serve(server, *bodies)
    path = write(folder)
    first = convert(path)
    assert json.loads(vitport("--update", path, "--json").stdout)[0]["state"] == "updated"
    assert lockfile.read(folder)["a"].sha256 == sha(bodies[1])
    assert convert(path).sha256 == sha(bodies[1])
    assert first.path.read_bytes() == bodies[0], "the old file stays"


def test_an_update_that_fails_keeps_the_entry(server, folder: Path, bodies) -> None:
    serve(server, bodies[0])
    path = write(folder)
    first = convert(path)
    server.serve("/o/r/resolve/main/a.npz", web.status(404))
    done = vitport("--update", path)
    assert (done.exit_code, done.stdout) == (3, "")
    assert convert(path) == first


def test_other_addresses_must_have_the_same_file(server, folder: Path, bodies) -> None:
    serve(server, bodies[0])
    convert(write(folder))
    server.serve("/o/r/resolve/main/moved.npz", web.whole(bodies[0]))
    path = write(folder, url="hf://o/r/moved.npz")
    assert vitport(path, "--check").exit_code == 3
    assert vitport(path).exit_code == 0
    assert lockfile.read(folder)["a"].urls == ("hf://o/r/moved.npz",)
    server.serve("/o/r/resolve/main/other.npz", web.whole(bodies[1]))
    done = vitport(write(folder, url="hf://o/r/other.npz"))
    assert done.exit_code == 3
    assert f"has the SHA-256 {sha(bodies[1])} and should have {sha(bodies[0])}" in done.stderr
    assert lockfile.read(folder)["a"].urls == ("hf://o/r/moved.npz",)


def test_another_size_in_the_manifest_is_not_passed_over(server, folder: Path, bodies) -> None:
    serve(server, bodies[0], bodies[0], bodies[1])
    convert(write(folder))
    before = lockfile.read(folder)
    path = write(folder, url="hf://o/r/a.npz", bytes=len(bodies[0]) + 1)
    assert vitport(path, "--check").exit_code == 3
    done = vitport(path)
    assert (done.exit_code, f"should have {len(bodies[0]) + 1}" in done.stderr) == (3, True)
    path = write(folder, url="hf://o/r/a.npz", bytes=len(bodies[0]))
    assert vitport(path).exit_code == vitport(path, "--check").exit_code == 0
    assert lockfile.read(folder) == before


def test_one_file_that_can_not_be_had_does_not_keep_the_others_from_being_recorded(server, folder, bodies) -> None:
    serve(server, bodies[0], name="b")
    write(folder), write(folder, "b")
    done = vitport(folder)
    assert done.exit_code == 3
    assert "a: hf://o/r/a.npz does not exist (404)" in done.stderr
    assert list(lockfile.read(folder)) == ["b"]


def test_entries_that_nobody_needs_are_dropped(server, folder: Path, bodies) -> None:
    serve(server, bodies[0])
    (folder / "vitport.lock").write_text(TEXT.replace('"a"', '"gone"'))
    write(folder)
    checked = vitport(folder, "--check")
    assert checked.exit_code == 3
    assert "gone: no manifest needs this entry; run: vitport lock" in checked.stderr
    assert [row["state"] for row in json.loads(vitport(folder, "--json").stdout)] == ["recorded", "dropped"]
    write(folder, url="hf://o/r/a.npz", sha256=HASH)
    vitport(folder)
    assert not (folder / "vitport.lock").exists(), "without entries there is none"


CHECKS = {
    "missing": ({}, "", "a: has no SHA-256, neither in the manifest nor in the lock file"),
    "other address": ({"url": "gs://b/other.npz"}, TEXT, "a: has other addresses than the lock file"),
    "a mirror more": ({"url": "gs://b/a.npz", "mirrors": ["x.npz"]}, TEXT, "a: has other addresses"),
    "other size": ({"url": "gs://b/a.npz", "bytes": 6}, TEXT, "a: has 6 bytes, by the lock file 5"),
}


@pytest.mark.parametrize(("asset", "text", "message"), CHECKS.values(), ids=CHECKS)
def test_check_is_3_where_manifest_and_lock_differ(folder: Path, asset, text: str, message: str) -> None:
    write(folder, **asset)
    if text:
        (folder / "vitport.lock").write_text(text)
    done = vitport("--check", folder)
    assert done.exit_code == 3
    assert message in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["a.yaml"] + ["vitport.lock"] * bool(text)
    assert json.loads(vitport("--check", folder, "--json").stdout)[0]["problem"]


def test_check_of_what_is_in_order_opens_no_address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, url="gs://b/a.npz")
    (folder / "vitport.lock").write_text(TEXT)
    monkeypatch.setattr(assets, "fetch", None)
    assert vitport("--check", folder).exit_code == 0


MISTAKES = {
    "nothing here": ((), "there is no folder manifests here"),
    "empty folder": (("empty",), "there are no manifests in empty"),
    "unknown": (("nosuch",), "there is no manifest 'nosuch'"),
    "both": (("--check", "--update"), "choose one of the two"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence(arguments, message, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    done = vitport(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


# The file.


def test_what_is_written_is_what_is_read(folder: Path) -> None:
    """Names and hashes that YAML would take for numbers, and text that it would take for its own signs."""
    hashes = {"b": HASH, "1e3": "1" * 64, "null": f"{'1' * 30}e{'2' * 33}", "0x1": "0" * 64, "A-b_c": "a" * 64}
    urls = ("gs://b/x\"'#é.npz", "../a: b - c.npz")
    entries = {name: Entry(urls=urls, bytes=7, sha256=sha256) for name, sha256 in hashes.items()}
    lockfile.write(folder, entries)
    assert lockfile.read(folder) == entries
    lines = (folder / "vitport.lock").read_text().splitlines()
    assert [line for line in lines if line.startswith('  "')] == [f'  "{name}":' for name in sorted(entries)]


REFUSED = {
    "not YAML": ("assets: [", "vitport.lock:1:10: while parsing a flow node"),
    "a list": ("- a\n", "must be a mapping of fields"),
    "a list of assets": ("schema: 1\nassets: [a]\n", "assets"),
    "no schema": ("assets: {}\n", "schema: this field is required"),
    "a schema of the future": ("schema: 2\n", "schema: must be 1"),
    "unknown field": (TEXT.replace("bytes", "byte"), "vitport.lock:6:5: assets.a.byte: unknown field"),
    "duplicate": (TEXT + TEXT.partition("assets:\n")[2], "key 'a' is already on line 3"),
    "short hash": (TEXT.replace(HASH, HASH[:-1]), "a SHA-256 is 64 hexadecimal digits in lower case; this has 63"),
    "upper case": (TEXT.replace(HASH, HASH.upper()), "a SHA-256 is 64 hexadecimal digits in lower case"),
    "no address": (TEXT.replace('\n      - "gs://b/a.npz"', " []"), "must not be empty"),
    "ftp": (TEXT.replace("gs://", "ftp://"), "ftp:// is not supported"),
    "negative": (TEXT.replace("5", "-5", 1), "bytes: must be 1 or more"),
    "text for a number": (TEXT.replace("5", '"5"', 1), "must be a whole number"),
    "a name that is a path": (TEXT.replace('"a"', '"../a"'), "must match"),
    "alias": ("schema: 1\nassets: &a {x: *a}\n", "anchor &a is not allowed"),
    "tag": ("schema: 1\nassets: !!python/object:os.system {}\n", "tag !!python/object"),
    "long": ("# " + "x" * 10**6, "larger than 1,000,000 bytes"),
    "binary": ("\0", "U+0000"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_strange_lock_file_is_refused_with_its_place(folder: Path, kind: str) -> None:
    text, message = REFUSED[kind]
    (folder / "vitport.lock").write_text(text)
    with pytest.raises(ManifestError) as error:
        convert(write(folder))
    assert message in str(error.value)
    assert str(error.value).startswith(f"{folder}/vitport.lock:")
    assert vitport(folder).exit_code == 2
    assert (folder / "vitport.lock").read_text() == text


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link"])
def test_what_is_no_file_is_refused(folder: Path, kind: str) -> None:
    path = folder / "vitport.lock"
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "dangling link": lambda: path.symlink_to("no")}[kind]()
    with pytest.raises(ManifestError, match=r"vitport\.lock: this is not a file"):
        convert(write(folder))


def test_many_writers_lose_nothing(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vitport import lockfile\n"
        "for n in range(10):\n"
        "    with lockfile.changing(Path(sys.argv[1])) as entries:\n"
        "        entries[f'{sys.argv[2]}{n}'] = lockfile.Entry(urls=('a',), bytes=1, sha256='0' * 64)\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, folder, name]) for name in "abc"]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert len(lockfile.read(folder)) == 30
    assert [path.name for path in folder.iterdir()] == ["vitport.lock"]


def test_threads_that_fetch_at_once_record_one_entry(server, folder: Path, bodies) -> None:
    serve(server, bodies[0])
    path = write(folder)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: convert(path), range(4)))
    assert {asset.sha256 for asset in found} == {sha(bodies[0])}
    assert list(lockfile.read(folder)) == ["a"]


def test_a_killed_writer_leaves_the_old_file_and_the_next_cleans_up(folder: Path) -> None:
    (folder / "vitport.lock").write_text(TEXT)
    code = (
        "import os, signal, sys; from pathlib import Path; from vitport import lockfile\n"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with lockfile.changing(Path(sys.argv[1])) as entries:\n    entries.clear()\n"
        "    entries['b'] = lockfile.Entry(urls=('a',), bytes=1, sha256='0' * 64)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, folder], check=False).returncode == -9
    assert (folder / "vitport.lock").read_text() == TEXT
    assert len(list(folder.iterdir())) == 2
    with lockfile.changing(folder) as entries:
        entries["b"] = entries["a"]
    assert [path.name for path in folder.iterdir()] == ["vitport.lock"]


def test_a_file_that_can_not_be_removed_is_an_output_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OutputError, match=r"vitport\.lock can't be removed: Permission denied"):
        lockfile.write(folder, {})


def test_an_unchanged_file_is_not_rewritten(folder: Path) -> None:
    (folder / "vitport.lock").write_text(TEXT)
    with lockfile.changing(folder):
        pass
    assert (folder / "vitport.lock").read_text() == TEXT
