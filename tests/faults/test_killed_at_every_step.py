"""Kill -9 before every single step of publishing and of a download: whole and listed, and the next run finishes."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import server as web
from test_artifacts import listing, publish, tree

from faults.reader import assert_nothing_left, assert_whole_and_listed
from faults.steps import killed_at_every_step
from vitport import artifacts, assets, npz, publishing
from vitport.assets import inventory


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is for power cuts, and slow."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


# Publishing


def texts(out: Path) -> dict[str, str]:
    """Of the artifacts alone."""
    return {name: text for name, text in tree(out).items() if name.startswith(("classifier", "features"))}


RUNS = {
    "first": ([], ["classifier/onnx", "features/onnx"], {}),
    "again": (["classifier/onnx", "features/onnx"], ["classifier/onnx", "features/onnx"], {}),
    "a part": (["classifier/onnx", "features/onnx"], ["classifier/onnx", "classifier/torchscript"], {}),
    "another checkpoint": (["classifier/onnx", "features/onnx"], ["classifier/onnx"], {"sha": "b"}),
}


@pytest.mark.parametrize(
    ("run", "exchange"), [*((run, True) for run in RUNS), ("a part", False), ("another checkpoint", False)]
)
def test_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, exchange: bool) -> None:
    earlier, now, facts = RUNS[run]
    out = tmp_path / "out"
    real = publishing._exchange

    def exchanged(*places: Path) -> None:
        sys.audit("exchange", str(out))
        real(*places)

    monkeypatch.setattr(publishing, "_exchange", exchanged)
    if not exchange:
        monkeypatch.setattr(publishing.ctypes, "CDLL", lambda *arguments, **options: object())

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)
        if earlier:
            publish(out, "one", *earlier)

    prepare()
    before = texts(out)
    publish(out, "two", *now, **facts)
    after = texts(out)
    outcomes = []
    for step in killed_at_every_step(lambda: publish(out, "two", *now, **facts), tmp_path, prepare):
        assert_whole_and_listed(out)
        if exchange and out.exists():
            assert set(before) & set(after) <= set(texts(out)), "what is replaced is never absent"
        with publishing.staging(out, lambda: None):
            assert_whole_and_listed(out)
        assert texts(out) in (before, after), f"all or nothing, killed at step {step}"
        assert "publishing" not in (artifacts.read(out) or {})
        outcomes.append(texts(out) == after)
        publish(out, "two", *now, **facts)
        assert texts(out) == after
        assert_nothing_left(out)
    assert len(outcomes) > 20
    assert outcomes == sorted(outcomes), "a point of no return: before it nothing, behind it everything"
    assert set(outcomes) == {False, True}, "kills struck on both sides of it"


def test_staged_artifacts_that_somebody_removed_are_not_listed(tmp_path: Path) -> None:
    """After a kill in the middle, and `rm -rf .staging`."""
    publish(tmp_path, "one", "classifier/onnx", "features/onnx")
    entries = artifacts.read(tmp_path)["artifacts"]
    missing = [{**entry, "sha256": "0" * 64} for entry in entries]
    pending = listing(publishing={"earlier": entries[:1], "next": missing[:1]})
    (tmp_path / "artifacts.json").write_text(json.dumps({**pending, "artifacts": entries[1:]}))
    with publishing.staging(tmp_path, lambda: None):
        pass
    assert [entry["variant"] for entry in artifacts.read(tmp_path)["artifacts"]] == ["features"]
    assert "publishing" not in artifacts.read(tmp_path)
    assert texts(tmp_path) == {"classifier/onnx/file": "one", "features/onnx/file": "one"}, "nothing is deleted"


# A download


@pytest.fixture
def server() -> Iterator[web.Server]:
    with web.serving() as scene:
        yield scene


@pytest.mark.parametrize("known", [True, False], ids=["with a hash", "without"])
def test_a_download(server: web.Server, tmp_path: Path, known: bool) -> None:
    npz.write(tmp_path / "model.npz", [("a", np.arange(200_000, dtype="f4"))])
    body, cache = (tmp_path / "model.npz").read_bytes(), tmp_path / "cache"
    url = server.serve("/model.npz", web.ranged(body))
    sha = hashlib.sha256(body).hexdigest()
    expected = assets.Expected(sha, len(body)) if known else assets.ANY
    final = assets.cache_path(url, sha, cache)
    names = {final.name, f"{assets.cache_path(url, None, cache).name}.json", "CACHEDIR.TAG"}

    def fetch() -> None:
        assets.fetch((url,), expected, cache=cache)

    kills = 0
    for _ in killed_at_every_step(fetch, cache, lambda: shutil.rmtree(cache, ignore_errors=True)):
        assert not final.exists() or final.read_bytes() == body
        fetch()
        assert final.read_bytes() == body
        assert {path.name for path in cache.iterdir() if path.suffix != ".lock"} == names, "nothing is left behind"
        inventory.refuse_foreign(cache)
        kills += 1
    assert kills > 10
