"""Archives that NumPy and CPython keep to test themselves with are no checkpoints, and no pickle in one ever runs."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from vitport import npz
from vitport.errors import AssetError


def pickled() -> list[Path]:
    """The object arrays in NumPy's own tests."""
    folder = Path(np.__file__).parent / "lib" / "tests" / "data"
    return sorted(path for path in folder.glob("*") if path.suffix in (".npy", ".npz"))


def pythons() -> list[Path]:
    """The archives in CPython's own tests, where they are installed."""
    folder = Path(os.__file__).parent / "test"
    found = (
        path for ending in ("zip*.zip", "*.tar", "zip*/*.zip", "archivetestdata/*.*") for path in folder.glob(ending)
    )
    return sorted(path for path in found if path.suffix in (".zip", ".tar"))


@pytest.mark.parametrize("path", [*pickled(), *pythons()], ids=lambda path: path.name)
def test_foreign_archives_are_refused(path: Path) -> None:
    with pytest.raises(AssetError):
        npz.verify(path)


def test_a_pickle_in_an_npz_is_refused_before_it_runs(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "it ran"),))

    np.savez(tmp_path / "x.npz", x=np.array([Runs()], dtype=object), allow_pickle=True)
    with pytest.raises(AssetError, match="pickled Python objects"):
        npz.read(tmp_path / "x.npz")
    assert not (tmp_path / "it ran").exists()
    pickle.loads(pickle.dumps(Runs()))
    assert (tmp_path / "it ran").exists(), "the pickle is live"
