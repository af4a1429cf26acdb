"""`vitport cache`: what is listed, verified and cleared is vitport's own, and nobody's download is disturbed."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
import server as web
from click.testing import CliRunner, Result
from test_assets import checkpoint_bytes, sha
from test_tarball import GRAPH, raw_tar

from vitport import assets, cli
from vitport.assets import cache as caches
from vitport.assets import inventory, partial, published
from vitport.assets.partial import Partial

TARBALL = gzip.compress(raw_tar(GRAPH))


def vitport(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["cache", *map(str, arguments)])


@pytest.fixture
def server():
    with web.serving() as scene:
        yield scene


@pytest.fixture
def cache(tmp_path: Path, server: web.Server) -> Path:
    """Two checkpoints, one of a known SHA-256, and an unpacked tarball."""
    folder = tmp_path / "cache"
    first, second = checkpoint_bytes(tmp_path), checkpoint_bytes(tmp_path, seed=1)
    assets.fetch([server.serve("/a.npz", web.whole(first))], cache=folder)
    assets.fetch([server.serve("/b.npz", web.whole(second))], assets.Expected(sha(second)), cache=folder)
    published.fetch(server.serve("/vit.tar.gz", web.whole(TARBALL)), cache=folder)
    return folder


def debris(cache: Path) -> list[Path]:
    """A file that failed verification; partial downloads: released, of a dead process, of another machine long ago."""
    a = "0" * 64
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    paths = [cache / f"{a}-x.npz.part", cache / f"{a}-x.npz.{partial._host()}-{dead.pid}-00000000.part"]
    paths.append(cache / f"{a}-x.npz.elsewhere-1-00000000.part")
    for path in paths:
        path.mkdir()
        (path / "data").write_bytes(b"1234")
    for path in (paths[2] / "data", paths[2]):
        os.utime(path, (time.time() - 2 * partial.FORGOTTEN,) * 2)
    bad = cache / f"{a}-x.npz.bad"
    bad.write_bytes(b"bad")
    return [*paths, bad]


def strangers(cache: Path) -> list[Path]:
    """Files of others, which nothing may remove, and a folder of a download that lives."""
    paths = [cache / "notes.txt", cache / "0123-a.npz", cache / "keep" / f"{'0' * 64}-a.npz"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    return paths


def names(cache: Path) -> list[str]:
    return sorted(path.name.partition("-")[2] for path in cache.iterdir() if "-" in path.name)


# list


def test_list_for_people(cache: Path) -> None:
    done = vitport("list", "--cache", cache)
    assert done.exit_code == 0
    heading, _, *rows = done.stdout.splitlines()
    assert heading.split() == ["name", "kind", "MB", "when", "SHA-256", "from"]
    assert [row.split()[:2] for row in rows] == [
        ["a.npz", "file"],
        ["b.npz", "file"],
        ["vit.tar.gz", "file"],
        ["vit.tar.gz", "unpacked"],
    ]


def test_list_for_programs(cache: Path, server: web.Server) -> None:
    listed = json.loads(vitport("list", "--cache", cache, "--json").stdout)
    assert listed["cache"] == str(cache)
    first = listed["entries"][0]
    path = Path(first["path"])
    assert first == {
        "path": str(path),
        "kind": "file",
        "name": "a.npz",
        "bytes": path.stat().st_size,
        "sha256": assets.digest(path),
        "url": f"{server.address}/a.npz",
        "when": first["when"],
    }
    assert abs(time.time() - time.mktime(time.strptime(first["when"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 600


def test_list_names_what_is_not_whole(cache: Path) -> None:
    debris(cache)
    rows = inventory.listing(cache)
    assert sorted((row.kind, row.name, row.bytes) for row in rows if row.kind in ("partial", "bad")) == [
        ("bad", "x.npz", 3),
        *[("partial", "x.npz", 4)] * 3,
    ]


def test_an_empty_or_missing_cache_is_no_error(tmp_path: Path) -> None:
    for command in ("list", "verify", "clear"):
        for folder in (tmp_path, tmp_path / "none"):
            done = vitport(command, "--cache", folder)
            assert (done.exit_code, done.stderr) == (0, "")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["list", "verify", "clear"])
def test_a_folder_that_is_no_cache_is_refused(command: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    (tmp_path / f"{'0' * 64}-a.npz").write_text("x")
    done = vitport(command, "--cache", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{tmp_path} is not a cache of vitport" in done.stderr
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_with_things_of_others_is_never_marked_as_a_cache(tmp_path: Path, server: web.Server) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    assets.fetch([server.serve("/x.npz", web.whole(checkpoint_bytes(tmp_path)))], cache=tmp_path)
    assert not (tmp_path / caches.TAG).exists()
    assert vitport("clear", "--cache", tmp_path).exit_code == 2


def test_the_mark_is_the_one_that_backups_know(cache: Path) -> None:
    assert (cache / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")


# verify


def test_a_whole_cache_is_said_to_be_whole(cache: Path) -> None:
    done = vitport("verify", "--cache", cache)
    assert (done.exit_code, done.stdout) == (0, f"4 of 4 in {cache} are what they were when they came\n")
    assert json.loads(vitport("verify", "--cache", cache, "--json").stdout)["damaged"] == []


DAMAGE = {
    "flipped bit": ("*-a.npz", lambda path: path.write_bytes(path.read_bytes()[:-9] + b"?" + path.read_bytes()[-8:])),
    "truncated": ("*-b.npz", lambda path: path.write_bytes(path.read_bytes()[:-1])),
    "emptied": ("*-vit.tar.gz", lambda path: path.write_bytes(b"")),
    "unpacked": ("*.unpacked/saved_model.pb", lambda path: path.write_bytes(b"grape")),
    "unreadable": ("*-a.npz", lambda path: (path.unlink(), path.mkdir())),
}


@pytest.mark.parametrize(("pattern", "spoil"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found_and_named(cache: Path, pattern: str, spoil) -> None:
    (path,) = cache.glob(pattern)
    spoil(path)
    done = vitport("verify", "--cache", cache, "--quiet")
    assert done.exit_code == 3
    assert str(path).removesuffix("/saved_model.pb") in done.stderr
    assert json.loads(vitport("verify", "--cache", cache, "--json").stdout)["damaged"]


def test_an_unpacked_folder_without_its_tarball_is_not_said_to_be_whole(cache: Path) -> None:
    next(cache.glob("*-vit.tar.gz")).unlink()
    assert json.loads(vitport("verify", "--cache", cache, "--json").stdout)["checked"] == 2


def test_hashing_tells_how_far_it_is(cache: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    inventory.verify(inventory.listing(cache)[:2], lambda *step: steps.append(step))
    assert steps[-1][0] == steps[-1][1] == sum(row.bytes for row in inventory.listing(cache)[:2])
    assert sorted(steps) == steps


# clear


def test_everything_of_vitport_goes_and_nothing_else(cache: Path) -> None:
    mine, others = debris(cache), strangers(cache)
    done = vitport("clear", "--cache", cache)
    assert done.exit_code == 0
    assert not any(path.exists() for path in mine)
    assert sorted(path for path in cache.rglob("*") if path.is_file()) == sorted([cache / caches.TAG, *others])


def test_a_dry_run_says_what_would_go(cache: Path) -> None:
    before = sorted(cache.rglob("*"))
    dry = vitport("clear", "--cache", cache, "--dry-run")
    assert sorted(cache.rglob("*")) == before
    assert (
        dry.stdout.replace("would remove", "removed").replace("would be", "were")
        == vitport("clear", "--cache", cache).stdout
    )


CHOICES = {
    "name": (lambda path: ["a.npz"], {"b.npz", "vit.tar.gz"}),
    "pattern": (lambda path: ["*.npz"], {"vit.tar.gz"}),
    "hash": (lambda path: [assets.digest(path)], {"b.npz", "vit.tar.gz"}),
    "beginning of a hash": (lambda path: [assets.digest(path)[:8]], {"b.npz", "vit.tar.gz"}),
    "two": (lambda path: ["a.npz", "b.npz"], {"vit.tar.gz"}),
    "tarball and folder": (lambda path: ["vit.tar.gz"], {"a.npz", "b.npz"}),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_only_what_is_named_goes(cache: Path, choice: str) -> None:
    (path,) = cache.glob("*-a.npz")
    words, left = CHOICES[choice]
    assert vitport("clear", "--cache", cache, *words(path)).exit_code == 0
    rows = inventory.listing(cache)
    assert {row.name for row in rows} == left
    assert {json.loads(each.read_text())["sha256"] for each in cache.glob("*.json")} == {row.sha256 for row in rows}


def test_a_name_that_is_not_there_is_a_mistake_and_nothing_goes(cache: Path) -> None:
    done = vitport("clear", "--cache", cache, "a.npz", "c.npz")
    assert done.exit_code == 2
    assert "nothing in the cache is called 'c.npz'" in done.stderr
    assert "did you mean" in done.stderr
    assert len(inventory.listing(cache)) == 4


def test_a_download_that_lives_stays(cache: Path) -> None:
    ours = Partial.claim(cache / f"{'1' * 64}-y.npz")
    ours.restart("https://x", None)
    theirs = cache / f"{'1' * 64}-y.npz.elsewhere-1-00000000.part"
    theirs.mkdir()
    done = vitport("clear", "--cache", cache, "--json")
    assert done.exit_code == 0
    assert {Path(each["path"]) for each in json.loads(done.stdout)["in_use"]} == {ours.folder, theirs}
    assert (ours.data.exists(), theirs.exists()) == (True, True)


def test_a_file_that_is_locked_stays(cache: Path) -> None:
    (path,) = cache.glob("*-b.npz")
    with filelock.FileLock(caches.beside(path, caches.LOCK)):
        done = vitport("clear", "--cache", cache, "b.npz")
    assert done.exit_code == 0
    assert path.exists()
    assert f"{path} stays: another process is downloading it" in done.stderr


def test_clearing_again_and_again_never_hurts_a_download(tmp_path: Path, server: web.Server) -> None:
    body, cache = checkpoint_bytes(tmp_path), tmp_path / "cache"
    cuts = [web.ranged(body, upto=count * 20_000) for count in range(1, 9)]
    url = server.serve("/x.npz", *cuts, web.ranged(body))
    code = (
        "import sys, time; from pathlib import Path; from vitport import assets; from vitport.assets import download;"
        "download.CHUNK = 1000;"
        "download.PATIENCE = download.Patience(sleep=lambda seconds: time.sleep(0.05));"
        "print(assets.fetch([sys.argv[1]], cache=Path(sys.argv[2])).sha256)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, url, cache], stdout=subprocess.PIPE, text=True)
    while child.poll() is None:
        assert vitport("clear", "--cache", cache).exit_code == 0
    assert child.communicate()[0].strip() == sha(body)


def test_a_cache_that_may_not_be_changed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    done = vitport("clear", "--cache", cache, "a.npz")
    assert done.exit_code == 7
    assert "a.npz can't be removed: Permission denied" in done.stderr


@pytest.mark.parametrize("arguments", [["list"], ["add", "https://127.0.0.1:1/a.npz"]], ids=str)
def test_a_cache_that_may_not_be_looked_into(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("VITPORT_CACHE", "/nowhere/cache")
    for name in ("exists", "stat", "iterdir", "mkdir"):
        monkeypatch.setattr(Path, name, refuse)
    done = vitport(*arguments)
    assert done.exit_code == 7
    assert "/nowhere/cache can't be" in done.stderr


HOSTILE = "::error::x\x1b[31m\n##[error]\x9b\u202e"
"""A name that colours what follows it, and is commands of GitHub's."""


def test_no_name_does_more_in_a_terminal_than_be_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's own name is the first of a line where it is relative."""
    folder = cache.rename(cache.with_name(HOSTILE))
    monkeypatch.chdir(folder.parent)
    for record in folder.glob(f"*{caches.RECORD}"):
        record.write_text(json.dumps({**json.loads(record.read_text()), "url": f"https://x/{HOSTILE}"}))
    next(folder.glob("*-a.npz")).write_bytes(b"damaged")
    claimed = Partial.claim(folder / f"{'1' * 64}-y.npz")
    local = folder.parent / "tar" / f"{HOSTILE}.tar.gz"
    local.parent.mkdir()
    local.write_bytes(TARBALL)
    orders = (["list"], ["verify"], ["clear", "--dry-run"], ["clear"], ["add", local, "--quiet"], ["clear"])
    printed = [vitport(*order, "--cache", HOSTILE) for order in orders]
    claimed.release()
    printed += [vitport("clear", "--cache", HOSTILE), vitport("list", "--cache", HOSTILE)]
    assert [done.exit_code for done in printed] == [0, 3, 0, 0, 0, 0, 0, 0]
    lines = [line for done in printed for line in (done.stdout + done.stderr).splitlines()]
    assert [line for line in lines if not line.isprintable() or line.startswith("::") or "##[" in line] == []


# add


def test_add_prints_where_it_is(tmp_path: Path, server: web.Server) -> None:
    body = checkpoint_bytes(tmp_path)
    url = server.serve("/x.npz", web.whole(body))
    done = vitport("add", url, "--cache", tmp_path / "c", "--sha256", sha(body), "--quiet")
    assert (done.exit_code, Path(done.stdout.strip()).read_bytes()) == (0, body)
    url = server.serve("/m.tar.gz", web.whole(TARBALL))
    found = json.loads(vitport("add", url, "--cache", tmp_path / "c", "--json").stdout)
    assert (Path(found["path"]) / "saved_model.pb").read_bytes() == b"graph"
    assert (found["url"], found["sha256"], found["bytes"]) == (url, sha(TARBALL), len(TARBALL))
    assert vitport("add", url, "--cache", tmp_path / "c", "--offline", "--quiet").stdout.strip() == found["path"]


ADD_MISTAKES = {
    "html": (["page"], 3, "is not an npz (zip) file but a web or error page"),
    "other hash": (["file", "--sha256", "0" * 64], 3, f"and should have {'0' * 64}"),
    "no hash": (["file", "--sha256", "ABC"], 2, "a SHA-256 is 64 hexadecimal digits"),
    "missing": (["nowhere"], 3, "does not exist (404)"),
    "offline": (["file", "--offline"], 3, "is not in the cache"),
    "not vitport's folder": (["file", "--cache", "/proc/nowhere"], 7, "can't be written"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), ADD_MISTAKES.values(), ids=ADD_MISTAKES)
def test_add_says_what_is_wrong(arguments, code, message, tmp_path: Path, server: web.Server) -> None:
    server.serve("/page", web.whole(b"<html>"))
    server.serve("/file", web.whole(checkpoint_bytes(tmp_path)))
    done = vitport("add", f"{server.address}/{arguments[0]}", "--cache", tmp_path / "c", *arguments[1:])
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr


def test_a_name_in_the_cache_never_means_something_else() -> None:
    for suffix in caches.SUFFIXES:
        assert not caches.own_name(f"https://x/{'a' * 200}{suffix}").endswith(caches.SUFFIXES)
    assert caches.own_name("https://x/") == "_"


@pytest.mark.parametrize("damage", [b"", b"{}", b"[" * 9000, b'{"url": 1, "sha256": 2}', b'{"url": "", "sha256": "x"}'])
def test_a_damaged_record_is_no_record(cache: Path, damage: bytes) -> None:
    for path in cache.glob("*.json"):
        path.write_bytes(damage)
    assert [row.url for row in inventory.listing(cache)] == [None] * 4


def test_ctrl_c_in_a_long_verification_is_130(cache: Path) -> None:
    big = cache / f"{'0' * 64}-big.npz"
    with big.open("wb") as file:
        file.truncate(20 * 2**30)
    process = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "vitport", "cache", "verify", "--cache", cache],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "compared" in process.stderr.readline() + process.stderr.readline(), "progress"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    big.unlink()
