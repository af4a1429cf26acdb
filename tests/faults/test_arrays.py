"""Arrays that lie in memory in every way that NumPy knows, into every writer: what is read back is equal."""

from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import small

from vitport import formats, npz
from vitport.formats import FORMATS, Export


def unaligned(leaf: np.ndarray) -> np.ndarray:
    raw = np.frombuffer(b"x" + leaf.tobytes(), np.uint8)[1:]
    return raw.view(leaf.dtype).reshape(leaf.shape)


def read_only(leaf: np.ndarray) -> np.ndarray:
    copy = leaf.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "backwards": lambda leaf: np.flip(np.flip(leaf).copy()),
    "every second": lambda leaf: np.repeat(leaf, 2, axis=0)[::2],
    "one number, repeated": lambda leaf: np.broadcast_to(leaf.reshape(-1)[0], leaf.shape),
    "one row, repeated": lambda leaf: np.broadcast_to(leaf[:1], leaf.shape),
    "read-only": read_only,
    "unaligned": unaligned,
}


@pytest.mark.parametrize("order", ["<f4", ">f4"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_npz(tmp_path: Path, layout: str, order: str) -> None:
    array = LAYOUTS[layout](np.arange(24, dtype=order).reshape(4, 6))
    npz.write(tmp_path / "x.npz", [("x", array)])
    for found in (npz.read(tmp_path / "x.npz")["x"], np.load(tmp_path / "x.npz")["x"]):
        np.testing.assert_array_equal(found, array, strict=True)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(tmp_path: Path, name: str) -> None:
    """Each leaf in another layout; against the same values, contiguous."""
    case, module = small.case("plain"), formats.module(name)
    pairs = zip(case.params.items(), cycle(LAYOUTS.values()), strict=False)
    odd = {leaf: layout(values) for (leaf, values), layout in pairs}
    usual = {leaf: np.array(values, order="C") for leaf, values in odd.items()}
    outputs = []
    for params in (odd, usual):
        folder = tmp_path / str(len(outputs))
        folder.mkdir()
        module.export(Export(architecture=case.architecture, variant="classifier"), params, folder)
        outputs.append(module.load(folder)(case.images))
    np.testing.assert_array_equal(*outputs)
    for leaf, values in usual.items():
        np.testing.assert_array_equal(odd[leaf], values, err_msg="an exporter wrote into its input")
