"""Outputs of earlier runs: what is taken is whole and in hand, and what is old goes with all its files."""

import os
from pathlib import Path

import numpy as np
import pytest

from vitport import artifacts
from vitport.parity import outputs_store
from vitport.parity.outputs_store import Store


def save(store: Store, key: str, folder: Path) -> None:
    path = folder / f"{key}.left.npz"
    np.savez(path, outputs=np.arange(3.0))
    store.save(key, {"sha256": artifacts.sha256(path)}, path)


def test_what_was_taken_stays_though_its_files_go(tmp_path: Path) -> None:
    store = Store(tmp_path, fresh=False)
    save(store, "a", tmp_path)
    facts, arrays = store.load("a")
    for path in (tmp_path / "outputs").iterdir():
        path.unlink()
    assert facts["sha256"]
    assert arrays["outputs"].tolist() == [0, 1, 2]
    assert store.load("a") is None


def test_the_oldest_go_and_one_that_was_taken_is_young_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs_store, "MOST", 2)
    store = Store(tmp_path, fresh=False)
    for age, key in ((300, "a"), (200, "b")):
        save(store, key, tmp_path)
        for path in (tmp_path / "outputs").glob(f"{key}.*"):
            os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert store.load("a")
    save(store, "c", tmp_path)
    assert (store.load("a") is None, store.load("b") is None, store.load("c") is None) == (False, True, False)


def test_arrays_without_facts_are_dropped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs_store, "MOST", 1)
    folder = tmp_path / "outputs"
    folder.mkdir()
    left = folder / "killed.npz"
    left.write_bytes(b"x")
    os.utime(left, (1, 1))
    save(Store(tmp_path, fresh=False), "a", tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "a.npz"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": "a"}', '{"key": "a", "result": []}', "\xff"])
def test_facts_that_are_not_facts_are_no_run(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path, fresh=False)
    save(store, "a", tmp_path)
    (tmp_path / "outputs" / "a.json").write_text(text, "latin-1")
    assert store.load("a") is None


def test_a_key_is_of_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = outputs_store.key_of(task="measure")
    assert outputs_store.key_of(task="measure") == before
    assert outputs_store.key_of(task="another") != before
    monkeypatch.setenv("HOME_OF_NOBODY", "x")
    assert outputs_store.key_of(task="measure") == before
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert outputs_store.key_of(task="measure") != before


def test_a_key_is_of_all_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = outputs_store.key_of()
    outputs_store._makers.cache_clear()
    monkeypatch.setattr(outputs_store.metadata, "distributions", list)
    assert outputs_store.key_of() != before
    outputs_store._makers.cache_clear()
