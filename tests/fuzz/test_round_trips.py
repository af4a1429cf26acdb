"""What is written is read back to the bit, whatever the values, types, shapes and memory layouts."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fuzz.targets import MEMORY, same
from vitport import checkpoint, npz
from vitport.architectures import Architecture, parameter_shapes
from vitport.errors import CheckpointError
from vitport.formats import safetensors_file
from vitport.member_names import bad_name

KINDS = [f"{order}{kind}" for kind in ("f2", "f4", "f8", "i4", "i8", "u2", "c8", "U3") for order in "<>"] + [
    "|b1",
    "|S4",
    "|V2",
]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: not bad_name(name))


@st.composite
def any_array(draw: st.DrawFn, kinds: list[str]) -> np.ndarray:
    """Random bytes seen as an array: NaN with payloads, infinities, minus zero and denormals are all in it."""
    dtype, shape = np.dtype(draw(st.sampled_from(kinds))), draw(SHAPES)
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    raw = draw(
        st.sampled_from([bytes(count), b"\x00\x00\x00\x80" * count, b"\x01\x00\xc0\x7f" * count])
        | st.binary(min_size=count)
    )
    array = np.frombuffer(raw[:count], dtype).reshape(shape)
    if dtype.kind in "bU":
        array = np.zeros(shape, dtype)
    turn = draw(st.sampled_from([lambda x: x, np.asfortranarray, np.transpose, lambda x: x[::-1] if x.ndim else x]))
    return turn(array)


@given(st.dictionaries(NAMES, any_array(KINDS), max_size=4))
def test_npz(values: dict[str, np.ndarray]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder, "x.npz")
        npz.write(path, values.items())
        npz.verify(path)
        same(npz.read(path), values)
        with np.load(path) as file:
            same({name: file[name] for name in file.files}, values)


@given(st.dictionaries(NAMES, any_array(["<f4", ">f4"]), max_size=4))
def test_safetensors(values: dict[str, np.ndarray]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder, "x.safetensors")
        safetensors_file.write(path, values)
        found = safetensors_file.read(path)
        same({name: found[name] for name in values}, {name: array.astype("<f4") for name, array in values.items()})


TINY = Architecture(patch=4, width=6, depth=1, heads=3, mlp_width=5, resolution=8, num_classes=2)
WHOLE = {name: np.ones(shape, np.float32) for name, shape in parameter_shapes(TINY).items()}
LEAVES = st.sampled_from(
    [*WHOLE, "pre_logits/bias", "pre_logits/kernel", "extra/x", "opt/target/cls", "params/cls", "?"]
)


@given(st.dictionaries(LEAVES, any_array(KINDS)), st.sets(st.sampled_from([*WHOLE]), max_size=3))
def test_a_checkpoint_of_any_leaves_is_that_of_the_architecture_or_refused(changed: dict, missing: set) -> None:
    leaves = {name: leaf for name, leaf in {**WHOLE, **changed}.items() if name not in missing}
    try:
        found = checkpoint.normalise(leaves)
        checkpoint.check(found, TINY)
        found[checkpoint.POSITIONS] = checkpoint.resize(found[checkpoint.POSITIONS], TINY.grid)
    except CheckpointError:
        return
    assert {name: leaf.shape for name, leaf in found.items()} == parameter_shapes(TINY)
    assert all(leaf.dtype == np.dtype("<f4") and np.isfinite(leaf).all() for leaf in found.values())


def test_the_whole_checkpoint_passes() -> None:
    checkpoint.check(checkpoint.normalise(WHOLE), TINY)
    with pytest.raises(CheckpointError):
        checkpoint.check({**WHOLE, "cls": np.full((1, 1, 6), np.nan, np.float32)}, TINY)
