"""A file enters the cache whole and proven, whatever the server, the network or another process does."""

import contextlib
import hashlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import filelock
import numpy as np
import pytest
import server as web

from vitport import assets, names, npz
from vitport.assets import addresses, download
from vitport.assets import cache as caches
from vitport.assets.partial import Partial, _host
from vitport.errors import AssetError, OutputError


def checkpoint_bytes(tmp_path: Path, seed: int = 0) -> bytes:
    path = tmp_path / f"made_{seed}.npz"
    npz.write(path, [("head/kernel", np.random.default_rng(seed).standard_normal((200, 300), np.float32))])
    data = path.read_bytes()
    path.unlink()
    return data


def fetch(urls: list[str], sha256: str | None = None, size: int | None = None, **places) -> assets.Asset:
    return assets.fetch(urls, assets.Expected(sha256, size), **places)


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def server() -> Iterator[web.Server]:
    with web.serving() as scene:
        yield scene


@pytest.fixture
def body(tmp_path: Path) -> bytes:
    return checkpoint_bytes(tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited; nothing is."""
    slept: list[float] = []
    monkeypatch.setattr(download, "PATIENCE", download.Patience(timeout=0.3, sleep=slept.append))
    monkeypatch.delenv("VITPORT_ALLOW_HTTP", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    return slept


def kept(cache: Path) -> list[str]:
    """Names in the cache, without hashes and locks."""
    names = (path.name for path in cache.iterdir() if not path.name.endswith((".lock", ".TAG")))
    return sorted(name.partition("-")[2] for name in names)


def ranges(server: web.Server) -> list[str | None]:
    return [headers.get("Range") for _, headers in server.requests]


# Success.


@pytest.mark.parametrize("known", [True, False], ids=["sha256 given", "no sha256"])
def test_downloads_verifies_and_keeps(server: web.Server, body: bytes, cache: Path, known: bool) -> None:
    url = server.serve("/vit/S_16.npz", web.ranged(body))
    seen: list[tuple[int, int | None]] = []
    options = {"sha256": sha(body), "size": len(body)} if known else {}
    asset = fetch([url], cache=cache, progress=lambda *step: seen.append(step), **options)
    assert asset == assets.Asset(asset.path, url, sha(body), len(body))
    assert asset.path.read_bytes() == body
    assert asset.path.parent == cache
    assert seen[-1] == (len(body), len(body))
    assert kept(cache) == (["S_16.npz", "S_16.npz.json"])
    assert [headers["Accept-Encoding"] for _, headers in server.requests] == ["identity"]


def test_the_second_time_comes_from_the_cache_even_offline(server: web.Server, body: bytes, cache: Path) -> None:
    url = server.serve("/x.npz", web.ranged(body))
    first = fetch([url], cache=cache)
    assert fetch([url], cache=cache) == first
    assert fetch([url], cache=cache, offline=True) == first
    assert len(server.requests) == 1


def test_a_warm_cache_may_be_read_only(server: web.Server, body: bytes, cache: Path, monkeypatch) -> None:
    url = server.serve("/x.npz", web.ranged(body))
    first = fetch([url], cache=cache)
    monkeypatch.setattr(Path, "mkdir", None)
    monkeypatch.setattr(caches, "exclusive", None)
    assert fetch([url], cache=cache) == first


def test_mirrors_in_order(server: web.Server, body: bytes, cache: Path) -> None:
    gone = server.serve("/gone.npz", web.status(404))
    other = server.serve("/other.npz", web.whole(checkpoint_bytes(cache.parent, seed=1)))
    good = server.serve("/good.npz", web.whole(body))
    asset = fetch([gone, other, good], sha256=sha(body), cache=cache)
    assert (asset.url, asset.sha256) == (good, sha(body))


def test_mirrors_share_the_cache_by_content(server: web.Server, body: bytes, cache: Path) -> None:
    first = fetch([server.serve("/a/x.npz", web.whole(body))], sha256=sha(body), cache=cache)
    second = fetch([server.serve("/b/x.npz", web.status(404))], sha256=sha(body), cache=cache)
    assert second.path == first.path


def test_the_mode_follows_the_umask(server: web.Server, body: bytes, cache: Path) -> None:
    old = os.umask(0o027)
    try:
        asset = fetch([server.serve("/x.npz", web.whole(body))], cache=cache)
    finally:
        os.umask(old)
    assert asset.path.stat().st_mode & 0o777 == 0o640


# Local files.


def test_a_local_file_is_used_in_place(tmp_path: Path, body: bytes, cache: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(body)
    assert fetch([str(path)], cache=cache, offline=True) == assets.Asset(path, str(path), sha(body), len(body))
    assert not cache.exists()


LOCAL = {
    "missing": (None, {}, "there is no file"),
    "html": (lambda body: b"<html>404</html>", {}, "mine.npz is not an npz (zip) file but a web or error page"),
    "empty": (lambda body: b"", {}, "mine.npz is not an npz (zip) file but"),
    "short": (lambda body: body[:-1], {}, "mine.npz is truncated"),
    "bit": (
        lambda body: body[:5000] + b"\xaa\xbb" + body[5002:],
        {},
        "member 'head/kernel.npy' is damaged: its CRC-32",
    ),
    "size": (lambda body: body, {"size": 5}, "bytes and should have 5; it is truncated or another file"),
    "sha": (lambda body: body, {"sha256": "0" * 64}, f"and should have {'0' * 64}; it is damaged or another file"),
}


@pytest.mark.parametrize(("damage", "options", "message"), LOCAL.values(), ids=LOCAL)
def test_a_bad_local_file_is_refused_and_kept(tmp_path, body, cache, damage, options, message) -> None:
    path = tmp_path / "mine.npz"
    if damage:
        path.write_bytes(damage(body))
    with pytest.raises(AssetError, match=r"mine\.npz") as error:
        fetch([str(path)], cache=cache, **options)
    assert message in str(error.value)
    assert path.exists() == (damage is not None)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(AssetError, match=r"pipe\.npz is not a regular file"):
        fetch([str(tmp_path / "pipe.npz")])


def test_a_wrong_hash_names_both(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "mine.npz").write_bytes(body)
    with pytest.raises(AssetError, match=f"has the SHA-256 {sha(body)} and should have {'f' * 64}"):
        fetch([str(tmp_path / "mine.npz")], sha256="f" * 64)


# What a server may do and the download survives.

SURVIVED = {
    "cut": lambda body: [web.ranged(body, upto=70_000), web.ranged(body)],
    "cut three times": lambda body: [*(web.ranged(body, upto=n * 60_000) for n in (1, 2, 3)), web.ranged(body)],
    "stall": lambda body: [web.ranged(body, upto=70_000, stall=True), web.ranged(body)],
    "dropped": lambda body: [web.drop(), web.drop(), web.ranged(body)],
    "busy": lambda body: [web.status(503), web.status(429), web.status(502), web.ranged(body)],
    "no ranges": lambda body: [web.ranged(body, upto=70_000), web.whole(body)],
    "wrong range": lambda body: [web.ranged(body, upto=70_000), web.wrong_range(body, 60_000), web.ranged(body)],
    "range of a new version": lambda body: [
        web.ranged(body[::-1], '"old"', upto=70_000),
        web.wrong_range(body, 70_000, '"new"'),
        web.ranged(body, '"new"'),
    ],
    "changed between resumes": lambda body: [web.ranged(body[::-1], '"old"', upto=70_000), web.ranged(body, '"new"')],
    "416": lambda body: [web.ranged(body, upto=70_000), web.status(416), web.ranged(body)],
    "unasked 206": lambda body: [web.wrong_range(body, 0), web.ranged(body)],
    "no length": lambda body: [web.without_length(body)],
    "length too long": lambda body: [web.lying(body, len(body) + 9), web.whole(body)],
    "redirected": lambda body: [web.redirect("/elsewhere.npz"), web.ranged(body)],
    "cut in its headers": lambda body: [
        web.dripping(b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Le", b""),
        web.ranged(body),
    ],
    "chunked": lambda body: [web.chunked(body)],
    "chunked and cut": lambda body: [web.chunked(body, upto=70_000), web.chunked(body)],
    "weak etag": lambda body: [web.ranged(body[::-1], 'W/"1"', upto=70_000), web.ranged(body, 'W/"1"')],
}


@pytest.mark.parametrize("answers", SURVIVED.values(), ids=SURVIVED)
@pytest.mark.parametrize("known", [True, False], ids=["sha256", "no sha256"])
def test_survives(server: web.Server, body: bytes, cache: Path, answers, known: bool) -> None:
    server.serve("/elsewhere.npz", web.ranged(body))
    url = server.serve("/x.npz", *answers(body))
    asset = fetch([url], sha256=sha(body) if known else None, cache=cache)
    assert asset.path.read_bytes() == body
    assert kept(cache) == (["x.npz", "x.npz.json"])


def test_a_cut_without_length_is_seen_by_the_size(server: web.Server, body: bytes, cache: Path) -> None:
    url = server.serve("/x.npz", web.without_length(body[:70_000], ETag='"1"'), web.ranged(body))
    assert fetch([url], size=len(body), cache=cache).sha256 == sha(body)
    assert ranges(server) == [None, "bytes=70000-"]


def test_a_resume_asks_for_the_rest_of_that_version(server: web.Server, body: bytes, cache: Path) -> None:
    url = server.serve("/x.npz", web.ranged(body, '"v1"', upto=70_000), web.ranged(body, '"v1"'))
    fetch([url], cache=cache)
    assert ranges(server) == [None, "bytes=70000-"]
    assert server.requests[1][1]["If-Range"] == '"v1"'


def test_the_next_run_resumes(server: web.Server, body: bytes, cache: Path) -> None:
    url = server.serve("/x.npz", web.ranged(body, upto=70_000), web.status(503))
    with pytest.raises(
        AssetError, match="the server answered 503, 5 times; the 70000 bytes that came are kept for the next run"
    ):
        fetch([url], cache=cache)
    assert kept(cache) == ["x.npz.part"]
    server.serve("/x.npz", web.ranged(body))
    assert fetch([url], cache=cache).sha256 == sha(body)
    assert ranges(server)[-1] == "bytes=70000-"
    assert kept(cache) == ["x.npz", "x.npz.json"]


def test_a_run_that_ended_before_it_verified_downloads_nothing_again(server: web.Server, body, cache: Path) -> None:
    url = server.serve("/x.npz", web.ranged(body))
    cache.mkdir()
    partial = Partial.claim(assets.cache_path(url, None, cache))
    partial.restart(url, '"1"')
    partial.data.write_bytes(body)
    partial.release()
    assert fetch([url], cache=cache).sha256 == sha(body)
    assert ranges(server) == [f"bytes={len(body)}-"]


def test_bytes_of_one_mirror_are_not_continued_at_another(server: web.Server, body: bytes, cache: Path) -> None:
    first = server.serve("/a/x.npz", web.ranged(body, upto=70_000), web.status(503))
    second = server.serve("/b/x.npz", web.ranged(body))
    assert fetch([first, second], sha256=sha(body), cache=cache).url == second
    assert ranges(server)[-1] is None


def test_waits_double_and_obey_the_server(server: web.Server, body: bytes, cache: Path, waits: list[float]) -> None:
    later = formatdate(time.time() + 60, usegmt=True)
    busy = [web.status(503), web.status(503), web.status(429, **{"Retry-After": "7"})]
    url = server.serve("/x.npz", *busy, web.status(503, **{"Retry-After": later}), web.ranged(body))
    fetch([url], cache=cache)
    assert waits[:3] == [1, 2, 7]
    assert 50 < waits[3] <= 60


def test_progress_renews_patience(server: web.Server, cache: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(download, "CHUNK", 1000)
    body = checkpoint_bytes(tmp_path)
    cuts = [web.ranged(body, upto=n * 20_000) for n in range(1, 9)]
    asset = fetch([server.serve("/x.npz", *cuts, web.ranged(body))], cache=cache)
    assert asset.sha256 == sha(body)


# A server that sends something, now and then.

DRIPS = {
    "status": (b"", b"HTTP/1.1 200 OK\r\n" * 99),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Wait: 1\r\n" * 99),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"x" * 500),
    "body without length": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x" * 500),
    "size of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 500),
    "redirect": (b"HTTP/1.1 302 Found\r\n", b"X-Wait: 1\r\n" * 99),
}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = download.Patience(attempts=2, timeout=5.0, slowest=1000.0, period=0.25, sleep=lambda seconds: None)
    monkeypatch.setattr(download, "PATIENCE", patience)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("head", "body"), DRIPS.values(), ids=DRIPS)
def test_a_drip_is_cut_off_though_it_is_never_silent(server: web.Server, cache: Path, head: bytes, body: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(AssetError, match="the server sends less than 1000 bytes a second, 2 times"):
        fetch([server.serve("/x.npz", web.dripping(head, body))], cache=cache)
    assert time.monotonic() - began < 4
    assert len(server.requests) == 2


@pytest.mark.usefixtures("hasty")
def test_a_drip_in_the_handshake_is_cut_off_too(cache: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_drip_a_handshake, args=(listening,), daemon=True).start()
        with pytest.raises(AssetError, match="the server sends less than 1000 bytes a second, 2 times"):
            fetch([f"https://127.0.0.1:{listening.getsockname()[1]}/x.npz"], cache=cache)


def _drip_a_handshake(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            line, _ = listening.accept()
            with contextlib.suppress(OSError), line:
                line.sendall(b"\x16\x03\x03\x40\x00")  # the header of a TLS record of 16 kB
                while True:
                    line.sendall(b"\x02")
                    time.sleep(0.03)


@pytest.mark.usefixtures("hasty")
def test_a_slow_server_is_waited_for(server: web.Server, body: bytes, cache: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    url = server.serve("/x.npz", web.dripping(head, body, piece=8000, pause=0.04))
    assert fetch([url], cache=cache).sha256 == sha(body)
    assert len(server.requests) == 1


def test_the_slowest_server_that_is_waited_for() -> None:
    patience = download.Patience()
    assert (patience.slowest, patience.period) == (4096, 60)
    assert patience.timeout < patience.period, "silence is told from slowness"


# What a server may do and the download refuses.

REFUSED = {
    "404": (lambda body: [web.status(404, b"<html>")], {}, "x.npz does not exist (404)"),
    "403": (lambda body: [web.status(403)], {}, "x.npz is not public (403)"),
    "418": (lambda body: [web.status(418)], {}, "x.npz was answered with status 418"),
    "always 503": (lambda body: [web.status(503)], {}, "the server answered 503, 5 times"),
    "always cut": (
        lambda body: [web.ranged(body, upto=9)],
        {},
        "the connection broke, 5 times; the 9 bytes that came are kept",
    ),
    "always 416": (lambda body: [web.status(416)], {}, "the server has no such bytes (416), 5 times"),
    "silent": (lambda body: [web.ranged(body, upto=0, stall=True)], {}, "the server went silent, 5 times"),
    "come back tomorrow": (
        lambda body: [web.status(429, **{"Retry-After": "86400"})],
        {},
        "the server asks to wait 86400 seconds",
    ),
    "html": (lambda body: [web.whole(b"<html>Sign in</html>")], {}, "is not an npz (zip) file but a web or error page"),
    "html for a hash": (
        lambda body: [web.whole(b"<html>Sign in</html>")],
        {"sha256": "0" * 64},
        "is not an npz (zip) file but a web or error page",
    ),
    "gzip": (lambda body: [web.gzipped(body)], {}, "is sent gzip-encoded though that was not asked for"),
    "other size": (lambda body: [web.whole(body)], {"size": 77}, "bytes and should have 77; it is another file"),
    "growing": (lambda body: [web.without_length(body)], {"size": 77}, "sends more than the 77 bytes expected"),
    "endless": (lambda body: [web.endless()], {"size": 300_000}, "sends more than the 300000 bytes expected"),
    "length too short": (lambda body: [web.lying(body, 70_000)], {}, "x.npz is truncated: 70000 bytes"),
    "cut without length": (lambda body: [web.without_length(body[:-1])], {}, "x.npz is truncated"),
    "other hash": (lambda body: [web.whole(body)], {"sha256": "0" * 64}, f"and should have {'0' * 64}"),
    "flipped bit": (
        lambda body: [web.whole(body[:9000] + b"\xaa\xbb" + body[9002:])],
        {},
        "x.npz: member 'head/kernel.npy' is damaged: its CRC-32 is",
    ),
    "redirect loop": (lambda body: [web.redirect("/x.npz")], {}, "the last of more than 5 redirects; they don't end"),
    "redirect without place": (lambda body: [web.status(302)], {}, "redirects; they don't end"),
    "redirect to file": (lambda body: [web.redirect("file:///etc/passwd")], {}, "redirects to file:///etc/passwd"),
    "redirect to http elsewhere": (
        lambda body: [web.redirect("http://169.254.169.254/latest/meta-data")],
        {},
        "http://169.254.169.254/latest/meta-data is not encrypted",
    ),
    "redirect to nonsense": (lambda body: [web.redirect("http://[::1/")], {}, "which is no address"),
}


@pytest.mark.parametrize(("answers", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_and_keeps_nothing_under_the_final_name(server, body, cache, answers, options, message) -> None:
    url = server.serve("/x.npz", *answers(body))
    with pytest.raises(AssetError) as error:
        fetch([url], cache=cache, **options)
    assert message in str(error.value)
    assert set(kept(cache)) <= {"x.npz.part", "x.npz.bad"}
    assert not assets.cache_path(url, options.get("sha256"), cache).exists()


DAMAGE = {
    "half": lambda body: body[: len(body) // 2],
    "100 bytes short": lambda body: body[:-100],
    "1 byte short": lambda body: body[:-1],
    "nothing": lambda body: b"",
    "html": lambda body: b"<!DOCTYPE html><title>Sign in</title>",
    "wrong magic": lambda body: b"PK\x05\x07" + body[4:],
    "one byte more": lambda body: body + b"\0",
    "bit of the data": lambda body: flipped(body, 100_000),
    "bit of the directory": lambda body: flipped(body, body.index(b"PK\x01\x02") + 17),
    "bit of the local header": lambda body: flipped(body, 15),
    "bit of the array's header": lambda body: flipped(body, body.index(b"NUMPY") + 3),
}


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 4]) + body[at + 1 :]


@pytest.mark.parametrize("known", ["nothing", "sha256", "size"])
@pytest.mark.parametrize("where", ["local", "network"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_by_name_wherever_it_comes_from(
    server: web.Server, body: bytes, cache: Path, tmp_path: Path, damage: str, where: str, known: str
) -> None:
    spoilt = DAMAGE[damage](body)
    (tmp_path / "x.npz").write_bytes(spoilt)
    url = str(tmp_path / "x.npz") if where == "local" else server.serve("/x.npz", web.whole(spoilt))
    expected = {"nothing": {}, "sha256": {"sha256": sha(body)}, "size": {"size": len(body)}}[known]
    with pytest.raises(AssetError, match=r"x\.npz") as error:
        fetch([url], cache=cache, **expected)
    if known == "sha256" and spoilt.startswith(b"PK\3\4"):
        assert sha(spoilt) in str(error.value)
        assert sha(body) in str(error.value)
    if known == "size" and len(spoilt) != len(body) and spoilt.startswith(b"PK\3\4"):
        assert f"has {len(spoilt)} bytes and should have {len(body)}" in str(error.value)
    assert not cache.exists() or set(kept(cache)) <= {"x.npz.bad", "x.npz.part"}


def test_what_failed_once_is_never_used(server: web.Server, body: bytes, cache: Path) -> None:
    url = server.serve("/x.npz", web.whole(checkpoint_bytes(cache.parent, seed=1)), web.whole(body))
    with pytest.raises(AssetError, match="it is damaged or another file"):
        fetch([url], sha256=sha(body), cache=cache)
    assert kept(cache) == ["x.npz.bad"]
    with pytest.raises(AssetError, match="is not in the cache"):
        fetch([url], sha256=sha(body), cache=cache, offline=True)
    assert fetch([url], sha256=sha(body), cache=cache).path.read_bytes() == body


def test_a_known_size_is_compared_before_the_download(server: web.Server, body: bytes, cache: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    url = server.serve("/x.npz", web.whole(body))
    with pytest.raises(AssetError, match=f"has {len(body)} bytes and should have 9"):
        fetch([url], size=9, cache=cache, progress=lambda *step: seen.append(step))
    assert seen == []


def test_without_a_size_a_huge_file_is_not_begun(server: web.Server, body: bytes, cache: Path) -> None:
    url = server.serve("/x.npz", web.lying(body, download.LARGEST + 1))
    with pytest.raises(AssetError, match="without a size in the manifest at most 4294967296 are fetched"):
        fetch([url], cache=cache)


def test_all_places_are_named(server: web.Server, cache: Path, tmp_path: Path) -> None:
    url = server.serve("/x.npz", web.status(404))
    with pytest.raises(AssetError, match="none of the 2 places has the file") as error:
        fetch([str(tmp_path / "no.npz"), url], cache=cache)
    assert [line.strip().split(" ")[0] for line in str(error.value).splitlines()[1:]] == ["there", url]


def test_two_spellings_of_one_address_are_tried_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def refuse(pool: object, address: str, headers: object) -> None:
        opened.append(address)
        raise AssetError(f"{address} is gone")

    monkeypatch.setattr(download, "_get", refuse)
    mirror = "https://storage.googleapis.com/vit_models/augreg/x.npz"
    with pytest.raises(AssetError, match="is gone"):
        fetch(["gs://vit_models/augreg/x.npz", mirror, "gs://vit_models/augreg/x.npz"], cache=cache)
    assert opened == [mirror]


def test_two_spellings_of_one_address_share_the_cache(cache: Path) -> None:
    spellings = ("gs://b/R50+x.npz", "https://storage.googleapis.com/b/R50%2Bx.npz")
    assert len({assets.cache_path(url, None, cache) for url in spellings}) == 1


def test_every_wait_is_told(server: web.Server, body: bytes, cache: Path) -> None:
    told: list[str] = []
    url = server.serve("/x.npz", web.status(503), web.status(429, **{"Retry-After": "7"}), web.ranged(body))
    fetch([url], cache=cache, tell=told.append)
    assert told == [
        "the server answered 503; trying again in 1 seconds",
        "the server answered 429; trying again in 7 seconds",
    ]


def test_waiting_for_another_process_is_told(server: web.Server, body: bytes, cache: Path) -> None:
    url, told = server.serve("/x.npz", web.ranged(body)), []
    cache.mkdir()
    target = assets.cache_path(url, None, cache)
    other = filelock.FileLock(target.with_name(f"{target.name}.lock"), thread_local=False)
    other.acquire()

    def tell(message: str) -> None:
        told.append(message)
        other.release()

    assert fetch([url], cache=cache, tell=tell).sha256 == sha(body)
    assert told == [f"waiting for another process that downloads {target.name}"]


def test_nothing_listens(cache: Path, waits: list[float]) -> None:
    with pytest.raises(AssetError, match=r"nothing answers there \(is there a network\?\), 5 times"):
        fetch(["http://127.0.0.1:1/x.npz"], cache=cache)
    assert waits == [1, 2, 4, 8]


def test_no_tls_where_https_is_asked_for(server: web.Server, cache: Path) -> None:
    url = server.serve("/x.npz", web.status(404)).replace("http:", "https:")
    with pytest.raises(AssetError, match="can't be reached securely"):
        fetch([url], cache=cache)


def test_a_proxy_that_is_not_there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"http_proxy": "http://127.0.0.1:1", "no_proxy": "", "VITPORT_ALLOW_HTTP": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AssetError, match="the proxy refuses the connection, 5 times"):
        fetch(["http://example.org/x.npz"], cache=cache)


def test_a_proxy_is_used(server: web.Server, body: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"http_proxy": server.address, "no_proxy": "", "VITPORT_ALLOW_HTTP": "1"}.items():
        monkeypatch.setenv(name, value)
    url = server.serve("http://vitport.invalid/x.npz", web.ranged(body, upto=70_000), web.ranged(body))
    assert fetch(["http://vitport.invalid/x.npz"], cache=cache).sha256 == sha(body)
    assert [path for path, _ in server.requests] == [url.removeprefix(server.address)] * 2


def test_a_proxy_is_not_used_for_whom_it_is_not_for(server, body, cache, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "http_proxy": "http://127.0.0.1:1",
        "no_proxy": "mirror.test",
        "VITPORT_ALLOW_HTTP": "1",
    }.items():
        monkeypatch.setenv(name, value)
    port = resolving(monkeypatch, server, {"mirror.test": "127.0.0.1"})
    server.serve("/x.npz", web.whole(body))
    assert fetch([f"http://mirror.test:{port}/x.npz"], cache=cache).sha256 == sha(body)


def resolving(
    monkeypatch: pytest.MonkeyPatch, server: web.Server, connecting: dict[str, str], looking: str = ""
) -> str:
    """Names lead where `connecting` says, or to `looking` for who only looks them up; returns the server's port."""
    real = socket.getaddrinfo

    def answer(host: str, port: int | None, *rest: object, **options: object) -> list:
        number = looking if port is None and looking else connecting.get(host, host)
        return real(number, port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return server.address.rpartition(":")[2]


def test_a_name_that_was_public_a_moment_ago_is_not_followed_inside(server, body, cache, monkeypatch) -> None:
    """DNS rebinding: the redirect's host is looked up as a public one, and connects to this machine."""
    monkeypatch.setenv("VITPORT_ALLOW_HTTP", "1")
    names = dict.fromkeys(("public.test", "rebound.test"), "127.0.0.1")
    port = resolving(monkeypatch, server, names, looking="1.1.1.1")
    server.serve("/x.npz", web.redirect(f"http://rebound.test:{port}/inside.npz"))
    server.serve("/inside.npz", web.whole(body))
    with pytest.raises(AssetError, match=r"rebound\.test is at an address of a private network"):
        fetch([f"http://public.test:{port}/x.npz"], cache=cache)
    assert {path for path, _ in server.requests} == {"/x.npz"}


def test_an_address_of_the_users_own_may_be_private(server, body, cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPORT_ALLOW_HTTP", "1")
    port = resolving(monkeypatch, server, {"mirror.test": "127.0.0.1"})
    server.serve("/x.npz", web.whole(body))
    assert fetch([f"http://mirror.test:{port}/x.npz"], cache=cache).sha256 == sha(body)


def test_a_host_that_does_not_exist(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> list:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(download, "getproxies", dict)
    with pytest.raises(AssetError, match=r"its host name is unknown \(is there a network\?\), 5 times"):
        fetch(["https://vitport.invalid/x.npz"], cache=cache)


# The cache.


@pytest.mark.parametrize("known", [True, False], ids=["sha256", "first use"])
def test_a_damaged_cache_is_put_aside_and_fetched_anew(server: web.Server, body: bytes, cache: Path, known) -> None:
    url, options = server.serve("/x.npz", web.ranged(body)), {"sha256": sha(body)} if known else {}
    asset = fetch([url], cache=cache, **options)
    asset.path.write_bytes(body[:-1] + b"?")
    assert fetch([url], cache=cache, **options) == asset
    assert asset.path.read_bytes() == body
    assert "x.npz.bad" in kept(cache)
    assert len(server.requests) == 2


def test_another_valid_file_in_the_cache_is_not_taken_for_the_first(server: web.Server, body, cache, tmp_path) -> None:
    url = server.serve("/x.npz", web.ranged(body))
    asset = fetch([url], cache=cache)
    asset.path.write_bytes(checkpoint_bytes(tmp_path, seed=1))
    assert fetch([url], cache=cache).sha256 == sha(body)


def test_a_wrong_size_in_the_manifest_does_not_spoil_the_cache(server: web.Server, body: bytes, cache: Path) -> None:
    asset = fetch([server.serve("/x.npz", web.whole(body))], sha256=sha(body), cache=cache)
    with pytest.raises(AssetError, match=f"has {len(body)} bytes and should have 9"):
        fetch([asset.url], sha256=sha(body), size=9, cache=cache)
    assert asset.path.read_bytes() == body


def test_a_damaged_copy_is_kept_until_a_whole_one_is_here(server: web.Server, body: bytes, cache: Path) -> None:
    url = server.serve("/x.npz", web.whole(body), web.status(404), web.whole(body))
    asset = fetch([url], cache=cache)
    asset.path.write_bytes(body[:-1] + b"?")
    with pytest.raises(AssetError, match="does not exist"):
        fetch([url], cache=cache)
    with pytest.raises(AssetError, match=r"x\.npz is damaged in the cache"):
        fetch([url], cache=cache, offline=True)
    assert asset.path.exists()
    assert fetch([url], cache=cache) == asset


def test_another_version_at_the_address_is_fetched_where_the_size_says_so(server, body, cache, tmp_path) -> None:
    path = tmp_path / "longer.npz"
    npz.write(path, [("head/kernel", np.zeros((300, 300), np.float32))])
    other = path.read_bytes()
    url = server.serve("/x.npz", web.whole(body), web.whole(other))
    first = fetch([url], cache=cache)
    second = fetch([url], size=len(other), cache=cache)
    assert (second.sha256, first.path.read_bytes(), len(server.requests)) == (sha(other), body, 2)


def test_offline_says_what_to_do(cache: Path) -> None:
    with pytest.raises(
        AssetError, match=r"gs://vit_models/augreg/x\.npz is not in the cache .* offline run; fetch it once"
    ):
        fetch(["gs://vit_models/augreg/x.npz"], cache=cache, offline=True)
    assert not cache.exists()


def test_offline_does_not_advise_a_network_for_an_address_that_no_network_opens(cache: Path) -> None:
    with pytest.raises(AssetError, match=r"^s3://b/x\.npz can't be opened; use gs://"):
        fetch(["s3://b/x.npz"], cache=cache, offline=True)


def test_a_cache_that_cannot_be_written(server: web.Server, body: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"the cache .* can't be written: .*; set VITPORT_CACHE to another folder"):
        fetch([server.serve("/x.npz", web.whole(body))], cache=tmp_path / "file")


def test_a_full_disk_leaves_nothing(server: web.Server, body: bytes, cache: Path, monkeypatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        fetch([server.serve("/x.npz", web.whole(body))], cache=cache)
    assert kept(cache) == []


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VITPORT_CACHE", str(tmp_path))
    assert assets.default_cache() == tmp_path
    monkeypatch.delenv("VITPORT_CACHE")
    assert assets.default_cache().name == "vitport"


def test_names_in_the_cache_are_harmless(cache: Path) -> None:
    path = assets.cache_path("https://x.org/a/%2e%2e%2fb?c=/../d e" + "f" * 300, None, cache)
    assert path.parent == cache
    assert len(path.name) < 200


def test_names_in_the_cache_are_whole_and_fit_a_file_system(cache: Path) -> None:
    longest = "-".join(max(values, key=len) for values in _spelled(names.PRETRAINING))
    longest += "--" + "-".join(max(values, key=len) for values in _spelled(names.FINETUNING)) + ".npz"
    assert assets.cache_path(f"gs://b/{longest}", "0" * 64, cache).name == f"{'0' * 64}-{longest}"
    cache.mkdir()
    endless = assets.cache_path("gs://b/" + "f" * 300, "0" * 64, cache)
    partial = Partial.claim(endless)
    assert len(partial.folder.name) + 40 + len("4194304") - len(_host()) - len(str(os.getpid())) <= 255


def _spelled(grammar: names.Grammar) -> list[list[str]]:
    return [[spelling.format(value) for value in values] for _, spelling, values in grammar]


# Several processes.


def _fetch(url: str, cache: str, queue) -> None:
    download.PATIENCE = download.Patience(timeout=5.0)
    queue.put(fetch([url], cache=Path(cache)).sha256)


def test_two_processes_download_once(server: web.Server, body: bytes, cache: Path) -> None:
    url = server.serve("/x.npz", web.ranged(body))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    children = [context.Process(target=_fetch, args=(url, str(cache), queue)) for _ in range(3)]
    for child in children:
        child.start()
    assert {queue.get(timeout=30) for _ in children} == {sha(body)}
    for child in children:
        child.join(timeout=30)
    assert len(server.requests) == 1


def test_without_locks_all_are_right(server: web.Server, body: bytes, cache: Path, monkeypatch) -> None:
    monkeypatch.setattr(caches, "exclusive", lambda target, tell: contextlib.nullcontext())
    url = server.serve("/x.npz", web.ranged(body))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: fetch([url], cache=cache), range(8)))
    assert {asset.sha256 for asset in found} == {sha(body)}
    assert assets.digest(found[0].path) == sha(body)
    assert kept(cache) == ["x.npz", "x.npz.json"]


def test_a_killed_download_is_resumed(server: web.Server, body: bytes, cache: Path) -> None:
    url = server.serve("/x.npz", web.ranged(body, upto=70_000, stall=True), web.ranged(body))
    code = (
        "import sys; from pathlib import Path; from vitport import assets;"
        "assets.fetch([sys.argv[1]], cache=Path(sys.argv[2]))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, url, cache])
    deadline = time.monotonic() + 20
    while not any(path.stat().st_size == 70_000 for path in cache.glob("*.part/data")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert [name for name in kept(cache) if not name.endswith(".part")] == []
    assert fetch([url], cache=cache).sha256 == sha(body)
    assert ranges(server)[-1] == "bytes=70000-"
    assert kept(cache) == ["x.npz", "x.npz.json"]


def claimed(url: str, cache: Path, owner: str, age: float) -> Path:
    """A partial download that another process has left, with a byte that the server does not have."""
    cache.mkdir(exist_ok=True)
    target = assets.cache_path(url, None, cache)
    folder = target.with_name(f"{target.name}.{owner}-00000000.part")
    folder.mkdir()
    (folder / "data").write_bytes(b"?")
    for path in (folder / "data", folder):
        os.utime(path, (time.time() - age,) * 2)
    return folder


@pytest.mark.parametrize("owner", ["elsewhere-1", f"{_host()}-{os.getpid()}"], ids=["another machine", "number reused"])
@pytest.mark.parametrize(("age", "left"), [(3600, True), (2 * 24 * 3600, False)], ids=["an hour", "two days"])
def test_a_download_that_has_not_moved_for_a_day_is_nobodys(server, body, cache, owner, age, left) -> None:
    url = server.serve("/x.npz", web.ranged(body))
    folders = [claimed(url, cache, owner, age), claimed(url, cache, owner.replace("-", "2-", 1), age)]
    assert fetch([url], cache=cache).sha256 == sha(body)
    if owner.startswith("elsewhere"):
        assert [folder.exists() for folder in folders] == [left, left]
    assert folders[0].exists() == left


def test_what_dead_processes_left_goes_when_the_file_is_here(server: web.Server, body: bytes, cache: Path) -> None:
    url = server.serve("/x.npz", web.ranged(body))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for owner in ("a", "b", "c"):
        claimed(url, cache, f"{owner}-1", 2 * 24 * 3600)
    claimed(url, cache, f"{_host()}-{dead.pid}", 0)
    assert fetch([url], cache=cache).sha256 == sha(body)
    assert kept(cache) == ["x.npz", "x.npz.json"]


def test_a_living_download_is_left_alone(server: web.Server, body: bytes, cache: Path) -> None:
    url = server.serve("/x.npz", web.ranged(body))
    cache.mkdir()
    other = Partial.claim(assets.cache_path(url, None, cache))
    other.restart(url, '"1"')
    other.data.write_bytes(b"theirs")
    assert fetch([url], cache=cache).sha256 == sha(body)
    assert other.data.read_bytes() == b"theirs"


# Addresses.

RESOLVED = {
    "gs://vit_models/augreg/a.npz": "https://storage.googleapis.com/vit_models/augreg/a.npz",
    "gs://b/a b#.npz": "https://storage.googleapis.com/b/a%20b%23.npz",
    "hf://o/r/d/a.npz": "https://huggingface.co/o/r/resolve/main/d/a.npz",
    "hf://o/r/a.npz@refs/pr/1": "https://huggingface.co/o/r/resolve/refs%2Fpr%2F1/a.npz",
    "https://x.org/a.npz": "https://x.org/a.npz",
}


@pytest.mark.parametrize(("url", "address"), RESOLVED.items(), ids=RESOLVED)
def test_resolve(url: str, address: str) -> None:
    assert addresses.resolve(url) == address


def test_another_hub_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.org/")
    assert addresses.resolve("hf://o/r/a.npz") == "https://hub.example.org/o/r/resolve/main/a.npz"


@pytest.mark.parametrize("url", ["hf://owner/repo", "hf:///repo/a.npz", "gs://", "gs://bucket", "gs:///a.npz"])
def test_an_address_needs_a_file(url: str) -> None:
    form = {"hf": "hf://owner/repository/path", "gs": "gs://bucket/path"}[url[:2]]
    with pytest.raises(AssetError, match=f"^{url} names no file; write {form}"):
        addresses.resolve(url)


@pytest.mark.parametrize("url", ["gs://b/\udcff", "hf://o/r/\udcff", "https://h/\x1b[2J"], ids=ascii)
def test_an_address_that_can_not_be_shown_is_refused(url):
    with pytest.raises(AssetError, match="is not a valid address"):
        addresses.resolve(url)


FORBIDDEN = {
    "http": ("http://example.org/x.npz", "is not encrypted; use https://, or set VITPORT_ALLOW_HTTP=1"),
    "file": ("file:///etc/passwd", "can't be opened; use gs://, hf://, https:// or a local path"),
    "ftp": ("ftp://example.org/x.npz", "can't be opened"),
    "invalid": ("http://[x/x.npz", "is not a valid address"),
}


@pytest.mark.parametrize(("url", "message"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_forbidden_addresses(url: str, message: str, cache: Path) -> None:
    with pytest.raises(AssetError) as error:
        fetch([url], cache=cache)
    assert message in str(error.value)


def test_http_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses.permit("http://127.0.0.1/x")
    addresses.permit("http://localhost/x")
    monkeypatch.setenv("VITPORT_ALLOW_HTTP", "1")
    addresses.permit("http://example.org/x")


REDIRECTS = {
    "down to http": ("https://1.1.1.1/a", "http://1.1.1.1/b", "which is not https; it is not followed"),
    "down to loopback": ("https://1.1.1.1/a", "http://127.0.0.1/b", "which is not https"),
    "file": ("https://1.1.1.1/a", "file:///etc/passwd", "which is not https"),
    "metadata": ("https://1.1.1.1/a", "https://169.254.169.254/b", "an address of a private network"),
    "private": ("https://1.1.1.1/a", "https://10.0.0.1/b", "an address of a private network"),
    "loopback": ("https://1.1.1.1/a", "https://127.0.0.1/b", "an address of a private network"),
    "loopback by name": ("https://1.1.1.1/a", "https://localhost/b", "an address of a private network"),
    "mapped": ("https://1.1.1.1/a", "https://[::ffff:10.0.0.1]/b", "an address of a private network"),
}


@pytest.mark.parametrize(("source", "location", "message"), REDIRECTS.values(), ids=REDIRECTS)
def test_redirects_that_are_not_followed(source: str, location: str, message: str) -> None:
    with pytest.raises(AssetError) as error:
        addresses.permit_redirect(source, location)
    assert message in str(error.value)


def test_redirects_that_are_followed() -> None:
    assert addresses.permit_redirect("https://1.1.1.1/a/b", "../c") == "https://1.1.1.1/c"
    assert addresses.permit_redirect("http://127.0.0.1/a", "https://1.1.1.1/b") == "https://1.1.1.1/b"


def test_help_needs_no_network_library() -> None:
    code = "import sys, vitport.assets; assert not {'urllib3', 'filelock', 'platformdirs'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
