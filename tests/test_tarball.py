"""A tarball from a stranger becomes a folder of files, or nothing; nothing outside that folder is ever touched."""

import contextlib
import gzip
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import server as web
from hypothesis import given, settings
from hypothesis import strategies as st

from vitport import assets
from vitport.assets import cache as caches
from vitport.assets import published, tarball
from vitport.errors import AssetError, OutputError

WEIGHTS = random.Random(0).randbytes(300_000)
Entry = tuple[tarfile.TarInfo, bytes]
CONTENT = {
    "saved_model.pb": b"graph",
    "variables/variables.data-00000-of-00001": WEIGHTS,
    "variables/variables.index": b"index",
}


def entry(name: str, body: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(body)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, body


def raw_tar(*entries: Entry, format: int = tarfile.GNU_FORMAT) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=format) as tar:
        for info, body in entries:
            tar.addfile(info, io.BytesIO(body) if body else None)
    return held.getvalue()


GRAPH = entry("saved_model.pb", b"graph")


def block(name: bytes, kind: bytes, size: int = 0, link: bytes = b"") -> bytes:
    """A header that `tarfile` would not write."""
    fields = [name.ljust(100, b"\0"), b"0000644\0", b"0000000\0" * 2, b"%011o\0" % size, b"00000000000\0"]
    head = b"".join(fields) + b" " * 8 + kind + link.ljust(100, b"\0") + b"ustar\x0000"
    head = head.ljust(512, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(kind: bytes = b"x", **fields: str) -> bytes:
    data = b""
    for key, value in fields.items():
        rest = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(rest) + 2
        length += len(str(length)) - 2
        data += str(length).encode() + rest
    return block(b"PaxHeader", kind, len(data)) + padded(data)


END = bytes(1024)
FILE = block(b"saved_model.pb", b"0", 5) + padded(b"graph")


@pytest.fixture
def make(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(tar: bytes, packed: bool = True) -> Path:
        path = tmp_path / "in" / "model.tar.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(tar, 1) if packed else tar)
        return path

    return write


def whole(**options: int) -> bytes:
    folders = [entry("./", kind=tarfile.DIRTYPE), entry("./variables", kind=tarfile.DIRTYPE)]
    return raw_tar(*folders, *(entry(f"./{name}", body, mtime=1.5) for name, body in CONTENT.items()), **options)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What a good tarball becomes.

FORMATS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_unpacks_what_the_writers_of_tar_write(make, tmp_path: Path, format: int) -> None:
    folder = published.fetch(str(make(whole(format=format))), cache=tmp_path / "cache")
    assert tree(folder) == CONTENT
    assert folder.parent == tmp_path / "cache"
    assert folder.name == f"{assets.digest(tmp_path / 'in' / 'model.tar.gz')}-model.tar.gz.unpacked"


def test_unpacks_what_the_program_tar_writes(tmp_path: Path) -> None:
    for name, body in CONTENT.items():
        path = tmp_path / "made" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    subprocess.run(["tar", "czf", tmp_path / "x.tgz", "-C", tmp_path / "made", "."], check=True)
    assert tree(published.fetch(str(tmp_path / "x.tgz"), cache=tmp_path / "cache")) == CONTENT


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_long_names_up_to_the_limit(make, tmp_path: Path, format: int) -> None:
    name = "/".join(["assets", "a" * 190, "b" * 150])
    folder = published.fetch(str(make(raw_tar(GRAPH, entry(name, b"x"), format=format))), cache=tmp_path / "cache")
    assert (folder / name).read_bytes() == b"x"


def test_the_model_may_be_in_a_folder(make, tmp_path: Path) -> None:
    folder = published.fetch(str(make(raw_tar(entry("vit/saved_model.pb", b"g")))), cache=tmp_path / "cache")
    assert folder.name == "vit"


def test_modes_follow_the_umask_and_not_the_tarball(make, tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        tar = raw_tar(entry("saved_model.pb", b"graph", mode=0o6777))
        folder = published.fetch(str(make(tar)), cache=tmp_path / "cache")
    finally:
        os.umask(old)
    assert (folder / "saved_model.pb").stat().st_mode & 0o7777 == 0o640
    assert folder.stat().st_mode & 0o7777 == 0o750


# What is refused.


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test reaches quickly."""
    monkeypatch.setattr(tarball, "SMALL", 2**20)
    monkeypatch.setattr(tarball, "MAX_ENTRIES", 100)


def test_the_real_bounds() -> None:
    assert (tarball.SMALL, tarball.INFLATION, tarball.MAX_ENTRIES) == (64 * 2**20, 20, 10_000)


def bomb_header() -> bytes:
    """An extended header that `tarfile` would read whole, whatever its size."""
    return block(b"x", b"x", 2**19) + bytes(2**20)


ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "parent": (lambda: raw_tar(GRAPH, entry("../outside", b"x")), "'../outside' has a name that holds a `.` or `..`"),
    "parent inside": (lambda: raw_tar(GRAPH, entry("a/../../outside", b"x")), "holds a `.` or `..` segment"),
    "parent folder": (lambda: raw_tar(GRAPH, entry("../outside/", kind=tarfile.DIRTYPE)), "holds a `.` or `..`"),
    "absolute": (lambda: raw_tar(GRAPH, entry("/tmp/outside", b"x")), "is an absolute path"),
    "absolute after ./": (lambda: raw_tar(GRAPH, entry(".//tmp/outside", b"x")), "is an absolute path"),
    "drive": (lambda: raw_tar(GRAPH, entry("C:outside", b"x")), "is an absolute path"),
    "backslash": (lambda: raw_tar(GRAPH, entry("..\\outside", b"x")), "holds a backslash"),
    "control character": (lambda: raw_tar(GRAPH, entry("a\x1b[2J", b"x")), "holds a NUL or control character"),
    "not UTF-8": (lambda: FILE + block(b"\xff\xfe", b"0"), "has a name that is not UTF-8"),
    "no name": (lambda: FILE + block(b"./", b"0"), "has no name"),
    "symlink": (lambda: raw_tar(GRAPH, entry("l", kind=tarfile.SYMTYPE, linkname="/etc")), "'l' is a symbolic link"),
    "write through a symlink": (
        lambda: raw_tar(entry("v", kind=tarfile.SYMTYPE, linkname="../../in"), GRAPH, entry("v/outside", b"x")),
        "'v' is a symbolic link; only files are unpacked",
    ),
    "symlink over a file": (
        lambda: raw_tar(GRAPH, entry("saved_model.pb", kind=tarfile.SYMTYPE, linkname="/etc/passwd")),
        "is a symbolic link",
    ),
    "hard link": (lambda: raw_tar(GRAPH, entry("l", kind=tarfile.LNKTYPE, linkname="../../in/x")), "is a hard link"),
    "device": (lambda: raw_tar(GRAPH, entry("d", kind=tarfile.CHRTYPE, devmajor=1, devminor=5)), "is a device"),
    "block device": (lambda: raw_tar(GRAPH, entry("d", kind=tarfile.BLKTYPE, devmajor=8)), "is a device"),
    "pipe": (lambda: raw_tar(GRAPH, entry("p", kind=tarfile.FIFOTYPE)), "is a pipe"),
    "old sparse": (lambda: FILE + block(b"s", b"S", 512) + bytes(512) + END, "is a sparse file"),
    "pax sparse": (lambda: FILE + pax(GNU__sparse__realsize="99") + block(b"s", b"0"), "header of GNU.sparse.realsize"),
    "unknown kind": (lambda: FILE + block(b"s", b"Z") + END, "is of a kind of its own"),
    "long link": (lambda: FILE + block(b"x", b"K", 5) + padded(b"/etc\0"), "is a link with a long name"),
    "pax size": (lambda: FILE + pax(size="9999999") + block(b"s", b"0", 1) + bytes(512) + END, "header of size"),
    "pax link": (lambda: FILE + pax(linkpath="/etc") + block(b"s", b"0") + END, "header of linkpath"),
    "pax parent": (lambda: FILE + pax(path="../outside") + block(b"s", b"0") + END, "holds a `.` or `..` segment"),
    "pax path for all": (lambda: pax(b"g", path="x") + FILE + END, "an extended header of one path for all"),
    "pax garbage": (lambda: block(b"x", b"x", 9) + padded(b"99 a=b\nxx") + FILE + END, "a damaged extended header"),
    "pax zero": (lambda: block(b"x", b"x", 6) + padded(b"0 a=b\n") + FILE + END, "a damaged extended header"),
    "pax without end": (lambda: b"".join([pax(path="a")] * 101), "more than 100 members"),
    "gnu parent": (lambda: FILE + block(b"x", b"L", 12) + padded(b"../outside\0\0") + block(b"s", b"0"), "`.` or `..`"),
    "huge extended header": (bomb_header, "an extended header of 524288 bytes; at most 65536 are read"),
    "huge long name": (lambda: block(b"x", b"L", 2**18) + bytes(2**20), "an extended header of 262144 bytes"),
    "long name": (
        lambda: raw_tar(GRAPH, entry("a" * 201, b"x")),
        "512 bytes, 200 a segment or 20 segments",
    ),
    "long path": (lambda: raw_tar(GRAPH, entry("/".join(["a" * 150] * 4), b"x")), "has a name longer than 512 bytes"),
    "deep path": (lambda: raw_tar(GRAPH, entry("a/" * 20 + "b", b"x")), "or 20 segments"),
    "duplicate": (lambda: raw_tar(GRAPH, GRAPH), "'saved_model.pb' is there twice"),
    "duplicate by ./": (lambda: raw_tar(GRAPH, entry("./saved_model.pb", b"evil")), "is there twice"),
    "file as folder": (lambda: raw_tar(GRAPH, entry("saved_model.pb/x", b"x")), "or is a file and a folder"),
    "folder as file": (lambda: raw_tar(entry("a/saved_model.pb", b"x"), entry("a", b"x")), "or is a file and a folder"),
    "folder with content": (lambda: FILE + block(b"d/", b"5", 512) + bytes(512) + END, "is a folder with content"),
    "many entries": (lambda: raw_tar(*(entry(f"e{n}") for n in range(101))), "has more than 100 members"),
    "no model": (lambda: raw_tar(entry("readme", b"x")), "holds no saved_model.pb"),
    "two models": (lambda: raw_tar(GRAPH, entry("b/saved_model.pb", b"x")), "holds 2 saved_model.pb"),
    "bomb": (lambda: raw_tar(GRAPH, *(entry(f"v{n}", bytes(2**19)) for n in range(3))), "more than 1048576 bytes"),
    "bomb behind the end": (lambda: raw_tar(GRAPH) + bytes(2**20), "inflates to more than 1048576 bytes"),
    "declared bomb": (lambda: FILE + block(b"v", b"0", 2**33 - 1), "declares 8589934591 bytes; at most 1048576"),
    "negative size": (lambda: FILE + block(b"v", b"0").replace(b"0" * 11, b"\xff" * 11), "damaged where the header"),
    "truncated tar": (lambda: whole()[:100_000], "is truncated: it ends inside a member"),
    "no end": (lambda: FILE, "is truncated"),
    "more after the end": (lambda: raw_tar(GRAPH) + FILE, "goes on behind the blocks that end a tar"),
    "bad checksum": (lambda: FILE + block(b"v", b"0").replace(b"v", b"w") + END, "member should be: bad checksum"),
    "empty": (lambda: b"", "is truncated"),
}


def untouched(tmp_path: Path) -> list[str]:
    """Everything there is but the tarball itself, the cache's own mark and its locks."""
    paths = (path for path in tmp_path.rglob("*") if path.relative_to(tmp_path).as_posix() not in ("in", "cache"))
    return [path.name for path in paths if path.name != "model.tar.gz" and path.suffix not in (".lock", ".TAG")]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_and_leaves_nothing(make, tmp_path: Path, attack: str) -> None:
    tar, message = ATTACKS[attack]
    path = make(tar())
    with pytest.raises(AssetError) as error:
        published.fetch(str(path), cache=tmp_path / "cache")
    assert message in str(error.value)
    assert str(path) in str(error.value)
    with pytest.raises(AssetError):  # with its own SHA-256 it is not read whole before it is unpacked
        published.fetch(str(path), assets.digest(path), cache=tmp_path / "cache")
    assert untouched(tmp_path) == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("attack", ATTACKS)
def test_unpacking_writes_only_below_its_folder(make, tmp_path: Path, attack: str) -> None:
    (tmp_path / "stage").mkdir()
    path = make(ATTACKS[attack][0]())
    with pytest.raises(AssetError):
        tarball.unpack(path, tmp_path / "stage" / "data")
    found = [each for each in tmp_path.rglob("*") if each not in (path, path.parent, tmp_path / "stage")]
    assert all(each.is_relative_to(tmp_path / "stage" / "data") for each in found)
    assert not any(each.is_symlink() or not (each.is_file() or each.is_dir()) for each in found)


VARIED = [whole(format=format) for format in FORMATS.values()]
VARIED += [made for make, _ in ATTACKS.values() if len(made := make()) < 9000]
"""Tarballs to start from."""


@given(
    tar=st.sampled_from(VARIED),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=12)), max_size=6),
    sums=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_no_change_of_its_bytes_makes_a_tarball_write_elsewhere(
    tmp_path_factory: pytest.TempPathFactory, tar: bytes, changes: list[tuple[int, bytes]], sums: bool
) -> None:
    data = bytearray(tar)
    for at, piece in changes:
        data[at : at + len(piece)] = piece[: max(0, len(data) - at)]
    for at in range(0, min(len(data), 8192) - 511, 512) if sums else ():
        if data[at + 257 : at + 262] == b"ustar":  # a checksum that is right again lets the change through
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    stage = tmp_path_factory.mktemp("fuzz")
    path = stage / "x.tar.gz"
    path.write_bytes(gzip.compress(data, 1))
    try:
        tarball.unpack(path, stage / "data")
    except AssetError:
        pass
    else:
        assert tarball.matches(path, stage / "data")
    found = [each for each in stage.rglob("*") if each != path]
    assert all(each.is_relative_to(stage / "data") for each in found)
    assert not any(each.is_symlink() or not (each.is_file() or each.is_dir()) for each in found)
    shutil.rmtree(stage)


GZIP_DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda data: data[:-9], "is truncated"),
    "half": (lambda data: data[: len(data) // 2], "is truncated"),
    "flipped": (lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:], ""),
    "crc": (lambda data: data[:-8] + b"\0\0\0\0" + data[-4:], "incorrect data check"),
    "appended": (lambda data: data + b"x", "goes on behind the end of its gzip stream"),
    "second stream": (lambda data: data + gzip.compress(FILE), "goes on behind the end of its gzip stream"),
    "only magic": (lambda data: b"\x1f\x8b", "is truncated"),
    "no deflate": (lambda data: b"\x1f\x8b\x07" + data[3:], "can't be inflated"),
    "html": (lambda data: b"<html>404", "is not a .tar.gz but a web or error page"),
    "zip": (lambda data: b"PK\x03\x04", "is not a .tar.gz but a zip archive"),
    "nothing": (lambda data: b"", "is not a .tar.gz but something else"),
}


@pytest.mark.parametrize("damage", GZIP_DAMAGE)
def test_a_damaged_gzip_stream_is_refused(make, tmp_path: Path, damage: str) -> None:
    change, message = GZIP_DAMAGE[damage]
    path = make(change(gzip.compress(whole())), packed=False)
    with pytest.raises(AssetError) as error:
        published.fetch(str(path), cache=tmp_path / "cache")
    assert message in str(error.value)
    assert untouched(tmp_path) == []


def test_a_bomb_costs_no_memory(make) -> None:
    """With the real bounds, and in a process of its own, whose peak is that of this alone."""
    data = bytes(66 * 2**20)
    bombs = {b"x": "has an extended header of 62914560 bytes", b"0": "inflates to more than 67108864 bytes"}
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom vitport.assets import tarball\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbefore = peak()\n"
        "try:\n    tarball.verify(Path(sys.argv[1]))\nexcept Exception as error:\n    print(error)\n"
        "assert peak() - before < 12 * 1024, peak() - before\n"
    )
    for kind, message in bombs.items():
        path = make(FILE + block(b"v", kind, 60 * 2**20) + data)
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
        assert (done.returncode, message in done.stdout) == (0, True), done


# At use.


def test_what_is_unpacked_is_used_again_without_writing(make, tmp_path: Path, monkeypatch) -> None:
    path = str(make(whole()))
    first = published.fetch(path, cache=tmp_path / "cache")
    monkeypatch.setattr(tarball, "unpack", None)
    assert published.fetch(path, cache=tmp_path / "cache") == first


SPOILT: dict[str, Callable[[Path], object]] = {
    "changed": lambda folder: (folder / "variables/variables.index").write_bytes(b"other"),
    "longer": lambda folder: (folder / "variables/variables.index").write_bytes(b"index and more"),
    "shorter": lambda folder: (folder / "variables/variables.index").write_bytes(b"ind"),
    "missing": lambda folder: (folder / "variables/variables.index").unlink(),
    "added": lambda folder: (folder / "assets.extra").write_bytes(b"x"),
    "linked": lambda folder: (folder / "link").symlink_to("/etc/passwd"),
    "replaced by a link": lambda folder: (
        (folder / "saved_model.pb").rename(folder.parent / "elsewhere"),
        (folder / "saved_model.pb").symlink_to(folder.parent / "elsewhere"),
    ),
    "folder replaced by a link": lambda folder: (
        (folder / "variables").rename(folder.parent / "elsewhere"),
        (folder / "variables").symlink_to(folder.parent / "elsewhere"),
    ),
    "all replaced by a link": lambda folder: (
        folder.rename(folder.parent / "elsewhere"),
        folder.symlink_to(folder.parent / "elsewhere"),
    ),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_what_was_changed_in_the_cache_is_unpacked_anew(make, tmp_path: Path, spoil) -> None:
    path = str(make(whole()))
    folder = published.fetch(path, cache=tmp_path / "cache")
    spoil(folder)
    assert published.fetch(path, cache=tmp_path / "cache") == folder
    assert tree(folder) == CONTENT
    assert not folder.is_symlink()


def test_over_the_network_it_is_kept_and_found_offline(tmp_path: Path) -> None:
    body = gzip.compress(whole())
    with web.serving() as server:
        url = server.serve("/hub/vit.tar.gz", web.ranged(body, upto=70_000), web.ranged(body))
        folder = published.fetch(url, cache=tmp_path)
        assert published.fetch(url, cache=tmp_path, offline=True) == folder
        assert len(server.requests) == 2
    assert tree(folder) == CONTENT


def test_a_bad_tarball_from_the_network_never_gets_its_name(tmp_path: Path) -> None:
    with web.serving() as server:
        url = server.serve("/vit.tar.gz", web.whole(gzip.compress(ATTACKS["symlink"][0]())))
        with pytest.raises(AssetError, match=r"vit\.tar\.gz: member 'l' is a symbolic link"):
            published.fetch(url, cache=tmp_path)
    assert [name.partition("-")[2] for name in untouched(tmp_path)] == ["vit.tar.gz.bad"]


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_many_at_once_unpack_one_folder(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool) -> None:
    if not locks:
        monkeypatch.setattr(caches, "exclusive", lambda target, tell: contextlib.nullcontext())
    path = str(make(whole()))
    with ThreadPoolExecutor(6) as threads:
        found = set(threads.map(lambda _: published.fetch(path, cache=tmp_path / "cache"), range(6)))
    (folder,) = found
    assert tree(folder) == CONTENT
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_full_disk_leaves_nothing(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarball, "unpack", full)
    with pytest.raises(OutputError, match="No space left on device"):
        published.fetch(str(make(whole())), cache=tmp_path / "cache")
    assert untouched(tmp_path) == []


def test_a_killed_unpacking_leaves_no_folder_and_the_next_cleans_up(make, tmp_path: Path) -> None:
    path, cache = make(whole()), tmp_path / "cache"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom vitport.assets import published, tarball\n"
        "members = tarball.members\n"
        "def slow(path):\n"
        "    for name, pieces in members(path):\n"
        "        yield name, pieces\n"
        "        if name == 'saved_model.pb' and list(Path(sys.argv[2]).glob('*.part/data/*')): time.sleep(60)\n"
        "tarball.members = slow\n"
        "published.fetch(sys.argv[1], cache=Path(sys.argv[2]))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, path, cache])
    until = time.monotonic() + 20
    while not list(cache.glob("*.part/data/saved_model.pb")) and time.monotonic() < until:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert list(cache.glob("*.part"))
    assert not list(cache.glob("*.unpacked"))
    assert tree(published.fetch(str(path), cache=cache)) == CONTENT
    assert not list(cache.glob("*.part"))
