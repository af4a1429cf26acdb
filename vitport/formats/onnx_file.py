"""Writes an ONNX file whose weights are never held in memory: each array goes from the checkpoint's map to the disk.

A protobuf message is its fields one after another, each a tag, a length and the bytes; lengths are known beforehand,
so the graph's initializers can be appended as they are read. https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 5, 9
"""Field numbers in onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data."""

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes that one protobuf message can hold."""

ALIGNMENT = 4096
"""Of arrays in the external file, so that a runtime can map them (onnx/docs/ExternalData.md)."""


INLINE_BELOW = 1024
"""Bytes. Smaller arrays stay in the model: shape inference reads the shapes of reshapes, and only there."""


def write(path: Path, model: ModelProto, weights: Mapping[str, np.ndarray], limit: int = PROTOBUF_LIMIT) -> None:
    """`model` with `weights` as its initializers; past `limit` bytes the weights go to `<name>.data` beside it."""
    inline = [(_tensor(name, array), array) for name, array in weights.items()]
    graph, shell = model.graph.SerializeToString(deterministic=True), ModelProto()
    shell.CopyFrom(model)
    shell.ClearField("graph")
    size = len(graph) + sum(_field_size(_tensor_size(header, array)) for header, array in inline)
    if size > limit - shell.ByteSize() - ALIGNMENT:
        _write_external(path, model, weights)
        return
    with path.open("wb") as file:
        file.write(shell.SerializeToString(deterministic=True))
        file.write(_prefix(MODEL_GRAPH, size))
        file.write(graph)
        for header, array in inline:
            file.write(_prefix(GRAPH_INITIALIZER, _tensor_size(header, array)))
            file.write(header)
            file.write(_prefix(TENSOR_RAW_DATA, array.nbytes))
            _write_array(file, array)


def check(path: Path, model: ModelProto, weights: Mapping[str, np.ndarray]) -> None:
    """The full checker over what `write` wrote, large weights left in the file: with them it takes twice their memory.

    Whether they can be read is for a runtime to show. Raises onnx.checker.ValidationError and
    onnx.shape_inference.InferenceError.
    """
    shell = ModelProto.FromString(model.SerializeToString())
    for name, array in weights.items():
        small = array.nbytes < INLINE_BELOW
        tensor = _inline_tensor(name, array) if small else _external_tensor(name, array, path.name, 0)
        shell.graph.initializer.append(tensor)
    beside = path.with_name(f"{path.name}.check")
    try:
        beside.write_bytes(shell.SerializeToString(deterministic=True))
        checker.check_model(str(beside), full_check=True)
    finally:
        beside.unlink(missing_ok=True)


def _write_external(path: Path, model: ModelProto, weights: Mapping[str, np.ndarray]) -> None:
    data = data_of(path)
    model = ModelProto.FromString(model.SerializeToString())
    with data.open("wb") as file:
        for name, array in weights.items():
            if array.nbytes < INLINE_BELOW:
                model.graph.initializer.append(_inline_tensor(name, array))
                continue
            file.write(bytes(-file.tell() % ALIGNMENT))
            model.graph.initializer.append(_external_tensor(name, array, data.name, file.tell()))
            _write_array(file, array)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _inline_tensor(name: str, array: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array, order="C"), name)


def data_of(path: Path) -> Path:
    """Where the weights of a large model lie."""
    return path.with_name(f"{path.name}.data")


def _external_tensor(name: str, array: np.ndarray, location: str, offset: int) -> TensorProto:
    tensor = TensorProto.FromString(_tensor(name, array))
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _tensor(name: str, array: np.ndarray) -> bytes:
    """A TensorProto but for its data."""
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return TensorProto(name=name, dims=array.shape, data_type=kind).SerializeToString(deterministic=True)


def _tensor_size(header: bytes, array: np.ndarray) -> int:
    return len(header) + _field_size(array.nbytes)


def _field_size(length: int) -> int:
    """Bytes of a field that carries `length` bytes; every field number here takes a one-byte tag."""
    return 1 + len(_varint(length)) + length


def _prefix(number: int, length: int) -> bytes:
    """Tag (field number, wire type 2: length-delimited) and length."""
    return bytes([number << 3 | 2]) + _varint(length)


def _varint(value: int) -> bytes:
    return bytes(_septets(value))


def _septets(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value


def _write_array(file: BinaryIO, array: np.ndarray) -> None:
    little_endian = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    file.write(little_endian.data.cast("B") if little_endian.size else b"")
