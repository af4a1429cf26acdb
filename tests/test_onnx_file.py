"""The streaming ONNX writer makes the bytes that protobuf would, inside the model and beside it."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from vitport.formats import onnx_file
from vitport.formats.onnx_file import ALIGNMENT, INLINE_BELOW

SHAPES = {"a": (3, 400), "b/kernel": (1,), "scalar": (), "long": (5000,), "empty": (0, 2), "π": (2, 2, 2)}


def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    return {**arrays, "shape": np.array([0, -1, 2**40], np.int64)}


def skeleton() -> ModelProto:
    """y = x a', and every other weight unused."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", 400)) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "a"], ["y"], "product", transB=1)], "g", ports[:1], ports[1:]
    )
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="test")


def written(folder: Path, arrays: dict[str, np.ndarray], **options) -> Path:
    path = folder / "model.onnx"
    onnx_file.write(path, skeleton(), arrays, **options)
    return path


def values(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Names in order, types, shapes and every bit."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


LIMITS = {"inside": {}, "beside": {"limit": 20_000}}


@pytest.mark.parametrize("where", LIMITS)
def test_onnx_reads_what_was_written(tmp_path: Path, where: str) -> None:
    path = written(tmp_path, weights(), **LIMITS[where])
    assert_equal(values(onnx.load(path)), weights())
    onnx.checker.check_model(str(path), full_check=True)
    assert (tmp_path / "model.onnx.data").exists() == (where == "beside")


def test_the_file_parses_to_the_message_that_protobuf_would_write(tmp_path: Path) -> None:
    data = written(tmp_path, weights()).read_bytes()
    expected = skeleton()
    expected.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights().items())
    parsed = ModelProto.FromString(data)
    assert parsed.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    assert len(data) == expected.ByteSize()


def test_metadata_and_functions_of_the_model_survive(tmp_path: Path) -> None:
    model = skeleton()
    model.doc_string = "what it is"
    helper.set_model_props(model, {"license": "Apache-2.0", "author": "someone"})
    onnx_file.write(tmp_path / "model.onnx", model, weights())
    parsed = onnx.load(tmp_path / "model.onnx")
    del parsed.graph.initializer[:]
    assert parsed == model


# Varints grow a byte at these lengths, and the length of the graph with them.
@pytest.mark.parametrize("size", [31, 32, 4095, 4096, 524_287, 524_288], ids=lambda size: f"{4 * size} bytes")
def test_lengths_around_the_steps_of_a_varint(tmp_path: Path, size: int) -> None:
    arrays = {"a": np.ones((3, 400), np.float32), "b": np.arange(size, dtype=np.float32)}
    assert_equal(values(onnx.load(written(tmp_path, arrays))), arrays)


def counted(rows: int = 24, columns: int = 32) -> np.ndarray:
    return np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)


def unaligned() -> np.ndarray:
    """At an address that float32 does not like."""
    raw = np.zeros(counted().nbytes + 1, np.uint8)
    raw[1:] = counted().ravel().view(np.uint8)
    return raw[1:].view(np.float32).reshape(24, 32)


def read_only() -> np.ndarray:
    array = counted()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "Fortran": lambda: np.asfortranarray(counted()),
    "transposed": lambda: counted(32, 24).T,
    "strided": lambda: counted(48, 64)[::2, ::2],
    "backwards": lambda: counted()[::-1, ::-1],
    "broadcast": lambda: np.broadcast_to(np.arange(32, dtype=np.float32), (24, 32)),
    "unaligned": unaligned,
    "read-only": read_only,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", [{}, {"limit": 1}], ids=["inside", "beside"])
def test_arrays_of_any_memory_layout(tmp_path: Path, layout: str, where: dict) -> None:
    array = LAYOUTS[layout]()
    found = values(onnx.load(written(tmp_path, {"a": array}, **where)))
    assert np.array_equal(found["a"], array)
    assert found["a"].dtype == np.float32


# Beside the model.


def entries(path: Path) -> dict[str, dict[str, str]]:
    model = onnx.load(path, load_external_data=False)
    return {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in model.graph.initializer
    }


def test_data_beside_the_model_is_aligned_apart_and_relative(tmp_path: Path) -> None:
    path = written(tmp_path, weights(), limit=20_000)
    listed, end = {name: entry for name, entry in entries(path).items() if entry}, 0
    assert list(listed) == [name for name, array in weights().items() if array.nbytes >= INLINE_BELOW] == ["a", "long"]
    for name, entry in listed.items():
        assert entry["location"] == "model.onnx.data"
        assert int(entry["offset"]) % ALIGNMENT == 0
        assert int(entry["offset"]) >= end
        assert int(entry["length"]) == weights()[name].nbytes
        end = int(entry["offset"]) + int(entry["length"])
    assert (tmp_path / "model.onnx.data").stat().st_size == end
    assert path.stat().st_size < 2000


def test_the_model_may_move_with_its_data(tmp_path: Path) -> None:
    path = written(tmp_path, weights(), limit=1)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in (path, tmp_path / "model.onnx.data"):
        file.rename(moved / file.name)
    assert_equal(values(onnx.load(moved / "model.onnx")), weights())


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model, before = skeleton(), skeleton().SerializeToString(deterministic=True)
    for limit in (1, 2**31 - 1):
        onnx_file.write(tmp_path / "model.onnx", model, weights(), limit=limit)
        assert model.SerializeToString(deterministic=True) == before


def test_onnx_runtime_computes_the_same_from_either(tmp_path: Path) -> None:
    arrays, x = {"a": weights()["a"]}, np.random.default_rng(1).normal(size=(5, 400)).astype(np.float32)
    results = []
    for name, options in (("one", {}), ("two", {"limit": 1})):
        (tmp_path / name).mkdir()
        session = onnxruntime.InferenceSession(str(written(tmp_path / name, arrays, **options)))
        results.append(session.run(None, {"x": x})[0])
    assert np.array_equal(*results)
    assert np.allclose(results[0], x @ arrays["a"].T, atol=1e-4)


@pytest.mark.parametrize("where", LIMITS)
def test_the_same_bytes_every_time(tmp_path: Path, where: str) -> None:
    contents = []
    for attempt in ("first", "second"):
        (tmp_path / attempt).mkdir()
        written(tmp_path / attempt, weights(), **LIMITS[where])
        contents.append({file.name: file.read_bytes() for file in sorted((tmp_path / attempt).iterdir())})
    assert contents[0] == contents[1]


def test_the_limit_is_where_weights_leave_the_model(tmp_path: Path) -> None:
    """The largest file written whole stays below the limit, a slack of one page included."""
    whole = written(tmp_path, weights()).stat().st_size
    outside = []
    for limit, name in itertools.product((whole, whole + ALIGNMENT, whole + 2 * ALIGNMENT), ["model.onnx.data"]):
        (tmp_path / name).unlink(missing_ok=True)
        written(tmp_path, weights(), limit=limit)
        outside.append((tmp_path / name).exists())
    assert outside == [True, False, False] or outside == [True, True, False]
