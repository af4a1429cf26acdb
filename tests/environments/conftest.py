"""Fixtures of every environment: the models, and the book that the session's verdicts are kept in."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import faults
import pytest
from models import FOLDER, MODELS, VARIANTS
from verdicts import Book

BOOK = pytest.StashKey[Book]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--environment", default="unnamed", help="name of the row in environments.toml")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[BOOK] = Book()


def pytest_sessionstart() -> None:
    missing = [model.name for model in MODELS if not (model.folder / "oracle.npz").exists()]
    if missing:
        pytest.exit(f"no models {', '.join(missing)} in {FOLDER}; make them: nox -s 'clients(main)'", returncode=2)


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = FOLDER / "verdicts" / f"{session.config.option.environment}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(session.config.stash[BOOK].rows, indent=1) + "\n", encoding="utf-8")


@pytest.fixture
def book(request: pytest.FixtureRequest) -> Book:
    """Where verdicts go."""
    return request.config.stash[BOOK]


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def spoiled(tmp_path: Path) -> Callable[[Path, bytes, bytes], Path]:
    """Copies an artifact with some bytes of one file, as many as before, replaced: a fault to be caught."""

    def spoil(path: Path, old: bytes, new: bytes, file: str = "") -> Path:
        copy = tmp_path / path.name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
        faults.plant(copy / file if file else copy, old, new)
        return copy

    return spoil


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """Copies a folder with one key of a JSON file changed; None takes the key away."""

    def edit(path: Path, file: str, **changes: object) -> Path:
        copy = shutil.copytree(path, tmp_path / "edited")
        values = json.loads((copy / file).read_text()) | changes
        (copy / file).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
        return copy

    return edit
