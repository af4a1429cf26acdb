"""Our safetensors files are the library's, the same bytes everywhere; whatever the format forbids is refused."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clients import need
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitport import strict_json
from vitport.arrays import Params
from vitport.errors import AssetError
from vitport.formats import safetensors_file
from vitport.formats.safetensors_file import ALIGNMENT, METADATA

library = need("safetensors.numpy")

SHAPES = {"b": (3, 4), "a.weight": (2, 3, 5), "scalar": (), "empty": (0, 7), "π": (1,)}


def tensors() -> Params:
    random = np.random.default_rng(0)
    return {name: np.array(random.normal(size=shape), np.float32) for name, shape in SHAPES.items()}


def written(folder: Path, values: Params | None = None) -> Path:
    path = folder / "model.safetensors"
    safetensors_file.write(path, tensors() if values is None else values)
    return path


def assert_equal(found: Params, expected: Params) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].shape, found[name].dtype) == (tensor.shape, np.float32), name
        assert found[name].tobytes() == tensor.tobytes(), name


def test_the_library_reads_ours(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert_equal(library.load_file(path), tensors())
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        assert file.metadata() == METADATA


def test_we_read_the_librarys(tmp_path: Path) -> None:
    for metadata in (None, METADATA, {"format": "pt", "other": "text"}):
        library.save_file(tensors(), tmp_path / "theirs.safetensors", metadata)
        assert_equal(safetensors_file.read(tmp_path / "theirs.safetensors"), tensors())


def test_we_read_ours(tmp_path: Path) -> None:
    assert_equal(safetensors_file.read(written(tmp_path)), tensors())


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FC00001, 0x7F800001, 0xFF800000, 0x80000000, 1])
def test_every_bit_of_a_value_is_kept(tmp_path: Path, bits: int) -> None:
    """NaN with its payload, infinity, minus zero and the smallest denormal are values like others."""
    special = {"x": np.array([bits], np.uint32).view(np.float32)}
    assert_equal(safetensors_file.read(written(tmp_path, special)), special)


def test_no_tensors_at_all(tmp_path: Path) -> None:
    assert safetensors_file.read(written(tmp_path, {})) == {}
    assert library.load_file(written(tmp_path, {})) == {}


def test_names_are_sorted_and_the_data_is_aligned(tmp_path: Path) -> None:
    data = written(tmp_path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert length % ALIGNMENT == 0
    assert list(json.loads(data[8 : 8 + length])) == ["__metadata__", *sorted(SHAPES)]


def test_tensors_are_maps_that_can_not_be_written(tmp_path: Path) -> None:
    for tensor in safetensors_file.read(written(tmp_path)).values():
        assert not tensor.flags.writeable


COUNT = np.arange(24, dtype=np.float32)

LAYOUTS = {
    "Fortran": np.asfortranarray(COUNT.reshape(4, 6)),
    "transposed": COUNT.reshape(4, 6).T,
    "strided": COUNT.reshape(4, 6)[::2, ::3],
    "backwards": COUNT[::-1],
    "broadcast": np.broadcast_to(COUNT[:3], (2, 3)),
    "big-endian": COUNT.astype(">f4"),
    "unaligned": np.frombuffer(b"x" + COUNT.tobytes(), np.uint8)[1:].view(np.float32),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_memory_layout(tmp_path: Path, layout: str) -> None:
    """safetensors.numpy.save_file of 0.8.0 scrambles the first four (issue 825)."""
    array = LAYOUTS[layout]
    found = safetensors_file.read(written(tmp_path, {"x": array}))["x"]
    assert found.dtype == np.dtype("<f4")
    assert np.array_equal(found, array)


SCRIPT = """
import sys, numpy
from pathlib import Path
from vitport.formats import safetensors_file
names = {f"layer.{index}.weight" for index in range(20)}
tensors = {name: numpy.full(3, len(name), numpy.float32) for name in names}
safetensors_file.write(Path(sys.argv[1]), tensors)
"""


def test_the_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    contents = set()
    for seed in map(str, range(5)):
        path = tmp_path / f"{seed}.safetensors"
        command = [sys.executable, "-c", SCRIPT, str(path)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=Path(__file__).parents[1])
        contents.add(path.read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], ids=oct)
def test_the_mode_follows_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = written(tmp_path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


# What the format forbids. Each entry makes a whole file.


def file_of(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int = 0, stop: int = 8, shape: object = (2,), dtype: object = "F32", **more: object) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop], **more}


EIGHT, SIXTEEN = bytes(8), bytes(16)

VALID = {
    "one tensor": file_of({"x": entry()}, EIGHT),
    "two tensors": file_of({"x": entry(), "y": entry(8, 16)}, SIXTEEN),
    "two in the other order": file_of({"x": entry(8, 16), "y": entry()}, SIXTEEN),
    "spaces behind the header": file_of(b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   ', EIGHT),
    "a scalar": file_of({"x": entry(0, 4, [])}, bytes(4)),
    "an empty tensor": file_of({"x": entry(0, 0, [0, 3])}),
    "an empty tensor between": file_of({"x": entry(), "y": entry(8, 8, [0]), "z": entry(8, 16)}, SIXTEEN),
    "metadata": file_of({"__metadata__": {"a": "b"}, "x": entry()}, EIGHT),
}

DUPLICATE = (
    b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
)

MALFORMED = {
    "nothing": b"",
    "half a length": b"\x01\x00",
    "a length alone": struct.pack("<Q", 0),
    "a header too long for the file": file_of({"x": entry()}, EIGHT, length=10_000),
    "a header too long for the format": file_of({"x": entry()}, EIGHT, length=100_000_001),
    "a length of 2^64 - 1": file_of({"x": entry()}, EIGHT, length=2**64 - 1),
    "a length of 2^63": file_of({"x": entry()}, EIGHT, length=2**63),
    "a header cut short": file_of({"x": entry()}, EIGHT, length=20),
    "a header that is no JSON": file_of(b"<html>not found</html>"),
    "a header that is not UTF-8": file_of(b'{"\xff":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT),
    "UTF-16": file_of('{"x":1}'.encode("utf-16")),
    "a list": file_of([]),
    "a number": file_of(b"7"),
    "null": file_of(b"null"),
    "a space first": file_of(b' {"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT),
    "nested too deep": file_of(b"[" * 100_000 + b"]" * 100_000),
    "an integer of 5000 digits": file_of(b'{"x":' + b"9" * 5000 + b"}"),
    "a tensor twice": file_of(DUPLICATE, EIGHT),
    "a field twice": file_of(b'{"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT),
    "metadata twice": file_of(b'{"__metadata__":{},"__metadata__":{}}'),
    "metadata that is a list": file_of({"__metadata__": ["a"]}),
    "metadata of numbers": file_of({"__metadata__": {"a": 1}}),
    "an entry that is a list": file_of({"x": [1]}, EIGHT),
    "an entry that is null": file_of({"x": None}),
    "no dtype": file_of({"x": {"shape": [2], "data_offsets": [0, 8]}}, EIGHT),
    "no shape": file_of({"x": {"dtype": "F32", "data_offsets": [0, 8]}}, EIGHT),
    "no offsets": file_of({"x": {"dtype": "F32", "shape": [2]}}, EIGHT),
    "an unknown field": file_of({"x": entry(more=1)}, EIGHT),
    "another dtype": file_of({"x": entry(dtype="F16", shape=(4,))}, EIGHT),
    "integers": file_of({"x": entry(dtype="I32")}, EIGHT),
    "no such dtype": file_of({"x": entry(dtype="float32")}, EIGHT),
    "a dtype that is a number": file_of({"x": entry(dtype=32)}, EIGHT),
    "a negative offset": file_of({"x": entry(-8, 0)}, EIGHT),
    "offsets backwards": file_of({"x": entry(8, 0)}, EIGHT),
    "one offset": file_of({"x": {**entry(), "data_offsets": [0]}}, EIGHT),
    "three offsets": file_of({"x": {**entry(), "data_offsets": [0, 4, 8]}}, EIGHT),
    "offsets of text": file_of({"x": {**entry(), "data_offsets": ["0", "8"]}}, EIGHT),
    "offsets with a fraction": file_of({"x": entry(0.0, 8.0)}, EIGHT),
    "offsets that are true": file_of({"x": entry(False, 8)}, EIGHT),
    "offsets that are a text": file_of({"x": {**entry(), "data_offsets": "08"}}, EIGHT),
    "an offset that is not a number": file_of({"x": entry(0, float("nan"))}, EIGHT),
    "an offset past the end": file_of({"x": entry(0, 16, [4])}, EIGHT),
    "an overlap": file_of({"x": entry(0, 8), "y": entry(4, 12)}, bytes(12)),
    "the same bytes twice": file_of({"x": entry(0, 8), "y": entry(0, 8)}, EIGHT),
    "a hole": file_of({"x": entry(0, 8), "y": entry(12, 20)}, bytes(20)),
    "a hole first": file_of({"x": entry(4, 12)}, bytes(12)),
    "bytes left over": file_of({"x": entry()}, bytes(9)),
    "a byte missing": file_of({"x": entry()}, bytes(7)),
    "no tensor but bytes": file_of({}, EIGHT),
    "a shape too small": file_of({"x": entry(shape=(1,))}, EIGHT),
    "a shape too large": file_of({"x": entry(shape=(3,))}, EIGHT),
    "a negative shape": file_of({"x": entry(shape=(-1, -2))}, EIGHT),
    "a shape to infer": file_of({"x": entry(0, 0, (-1, 0))}),
    "a shape that overflows": file_of({"x": entry(0, 0, (2**32, 2**32))}),
    "a shape past 64 bits": file_of({"x": entry(0, 0, (2**70, 0))}),
    "a shape of zero and the longest": file_of({"x": entry(0, 0, (0, 2**48, 2))}),
    "a shape of many long numbers": file_of({"x": entry(shape=(10**3999,) * 250)}, EIGHT),
    "a shape of 100 axes": file_of({"x": entry(0, 4, (1,) * 100)}, bytes(4)),
    "a shape with a fraction": file_of({"x": entry(shape=(2.0,))}, EIGHT),
    "a shape that is a number": file_of({"x": entry(shape=2)}, EIGHT),
    "a shape of text": file_of({"x": entry(shape=("2",))}, EIGHT),
    "a shape of true": file_of({"x": entry(0, 4, (True,))}, bytes(4)),
    "a shape that is a text": file_of({"x": entry(shape="2")}, EIGHT),
    "a shape that is infinite": file_of({"x": entry(shape=(float("inf"),))}, EIGHT),
}


@pytest.mark.parametrize("kind", VALID)
def test_what_the_format_allows_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(VALID[kind])
    found = safetensors_file.read(path)
    assert found.keys() == library.load(VALID[kind]).keys()


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_the_format_forbids_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(MALFORMED[kind])
    with pytest.raises(AssetError) as refused:
        safetensors_file.read(path)
    assert str(refused.value).startswith(f"{path} is not a valid safetensors file: ")
    assert len(str(refused.value)) < 400 + len(str(path))


CONFIGURATIONS = {
    "nested too deep": b"[" * 100_000,
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "a name twice": b'{"a": 1, "a": 2}',
    "a list": b"[]",
    "not UTF-8": b'{"\xff": 1}',
    "too large": b'{"a": 1}' + b" " * strict_json.MAX_BYTES,
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "config.json").write_bytes(CONFIGURATIONS[kind])
    with pytest.raises(AssetError, match=r"config\.json"):
        safetensors_file.read_config(tmp_path / "config.json")


@pytest.mark.parametrize("name", ["", "../x", "/x", "a\\b", "a\0b", "a\nb", "x" * 1001], ids=ascii)
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(file_of({name: entry()}, EIGHT))
    with pytest.raises(AssetError, match="the name of tensor"):
        safetensors_file.read(tmp_path / "file")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_verify_refuses_what_is_not_finite_and_read_keeps_it(tmp_path: Path, value: float) -> None:
    path = written(tmp_path, {"good": np.ones(3, np.float32), "bad": np.float32([0, value])})
    assert safetensors_file.read(path).keys() == {"good", "bad"}
    with pytest.raises(AssetError, match="tensor 'bad' holds values that are not finite"):
        safetensors_file.verify(path)


def test_a_file_that_is_not_there_is_an_asset_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(AssetError):
            safetensors_file.read(path)


# Anything else either reads as the library reads it, or is refused; there is no third outcome.


def outcome(path: Path, data: bytes) -> Params | None:
    path.write_bytes(data)
    try:
        return safetensors_file.read(path)
    except AssetError:
        return None


quick = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

WHOLE = VALID["two tensors"]


@quick
@given(position=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255), cut=st.integers(0, len(WHOLE)))
def test_flipped_and_truncated_files_are_read_or_refused(tmp_path: Path, position: int, value: int, cut: int) -> None:
    changed = bytearray(WHOLE)
    changed[position] = value
    for data in (bytes(changed), bytes(changed[:cut])):
        found = outcome(tmp_path / "file", data)
        if found is not None:
            assert found.keys() == library.load(data).keys()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=2), children, max_size=3),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {"dtype": st.just("F32") | JSON, "shape": st.lists(st.integers(-2, 5), max_size=3) | JSON}
    | {"data_offsets": st.lists(st.integers(-4, 24), min_size=2, max_size=2) | JSON}
)


@quick
@given(header=st.dictionaries(st.text(max_size=2), ENTRY | JSON, max_size=3), size=st.integers(0, 24))
def test_any_header_is_read_or_refused(tmp_path: Path, header: dict, size: int) -> None:
    data = file_of(header, bytes(size))
    found = outcome(tmp_path / "file", data)
    if found is not None:
        assert found.keys() == library.load(data).keys()


@quick
@given(data=st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    outcome(tmp_path / "file", data)
