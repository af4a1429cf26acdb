"""Inputs that fuzzing has found, which got through once or reach where few do, are read or refused, and at once."""

import tempfile
import time
from pathlib import Path

import pytest

from fuzz.targets import MEMORY, TARGETS

CORPUS = Path(__file__).parents[1] / "data" / "corpus"
"""A folder for each target."""

FILES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())

SECONDS = 2
"""Of processor time for a few hundred bytes."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_kept_input_is_read_or_refused_at_once(path: Path) -> None:
    started = time.process_time()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        TARGETS[path.parent.name](path.read_bytes(), Path(folder))
    assert time.process_time() - started < SECONDS


def test_every_target_has_kept_inputs() -> None:
    assert {path.parent.name for path in FILES} == set(TARGETS)


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in FILES) < 30_000
