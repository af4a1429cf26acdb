"""Every step that writes fails in turn, as on a full, read-only or exhausted disk: exit code 7, and nothing changed."""

import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import server as web
from test_artifacts import publish, tree

from faults.reader import assert_no_debris
from faults.steps import failed_at_every_step
from vitport import assets, npz, publishing
from vitport.appearing import appearing

ERRORS = {"disk full": errno.ENOSPC, "quota": errno.EDQUOT, "read-only": errno.EROFS, "files": errno.EMFILE}


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is for power cuts, and slow."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def server() -> Iterator[web.Server]:
    with web.serving() as scene:
        yield scene


@pytest.mark.parametrize(("checkpoint", "number"), [("a", errno.ENOSPC), ("b", errno.EDQUOT)], ids=["same", "another"])
def test_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: str, number: int) -> None:
    out, real = tmp_path / "out", publishing._exchange

    def exchanged(*places: Path) -> None:
        sys.audit("exchange", str(out))
        real(*places)

    monkeypatch.setattr(publishing, "_exchange", exchanged)

    def work() -> None:
        publish(out, "two", "classifier/onnx", "features/onnx", sha=checkpoint)

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)
        publish(out, "one", "classifier/onnx", "classifier/torchscript")

    def state() -> tuple:
        return tree(out), sorted(out.rglob("*"))

    prepare()
    before = state()
    work()
    after = state()
    found = [state() for _ in failed_at_every_step(work, tmp_path, prepare, number)]
    assert all(each in (before, after) for each in found), "all or nothing; it may do without a folder that is there"
    assert found.count(before) > 8


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE], ids=["disk full", "files"])
def test_a_download(server: web.Server, tmp_path: Path, number: int) -> None:
    npz.write(tmp_path / "model.npz", [("a", np.arange(50_000, dtype="f4"))])
    body, cache = (tmp_path / "model.npz").read_bytes(), tmp_path / "cache"
    url = server.serve("/model.npz", web.ranged(body))
    sha = hashlib.sha256(body).hexdigest()

    target = assets.cache_path(url, sha, cache)

    def prepare() -> None:
        if cache.exists():
            assert_no_debris(cache, url)
        assert not target.exists() or target.read_bytes() == body
        shutil.rmtree(cache, ignore_errors=True)

    def fetch() -> None:
        assets.fetch((url,), assets.Expected(sha, len(body)), cache=cache)

    assert len(list(failed_at_every_step(fetch, cache, prepare, number))) > 4
    assert assets.digest(target) == sha


@pytest.mark.parametrize("number", ERRORS.values(), ids=ERRORS)
def test_a_file_that_is_replaced(tmp_path: Path, number: int) -> None:
    """A report, a synthesized checkpoint: whatever `appearing` writes."""
    path = tmp_path / "report.md"
    path.write_bytes(b"one")

    def prepare() -> None:
        assert tree(tmp_path) == {"report.md": "one"}

    def work() -> None:
        with appearing(path) as file:
            file.write(b"two")

    assert len(list(failed_at_every_step(work, tmp_path, prepare, number))) == 2
    assert tree(tmp_path) == {"report.md": "two"}
