"""Whether an ONNX file is whole, and its weights lie in it or in the one file beside it, before a runtime maps them.

onnx.checker passes lengths beyond the end of the data, negative ones and keys it does not know, and ONNX Runtime
follows a hard link; here only what `onnx_file` writes passes. Weights are stepped over: checking costs no memory.
Wire format: https://protobuf.dev/programming-guides/encoding/; external data: onnx/docs/ExternalData.md.
"""

import math
import mmap
import os
import re
import stat
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from google.protobuf.message import DecodeError, Message
from onnx import ModelProto, TensorProto

from vitport.errors import AssetError
from vitport.formats.onnx_file import ALIGNMENT, GRAPH_INITIALIZER, MODEL_GRAPH, TENSOR_RAW_DATA, data_of
from vitport.member_names import bad_name

ITEM_BYTES = {TensorProto.FLOAT: 4, TensorProto.DOUBLE: 8, TensorProto.INT32: 4, TensorProto.INT64: 8}
"""Types of the weights that are written."""

FIELDS = {"name", "dims", "data_type", "data_location", "external_data"}
"""Of a weight, beside its raw bytes."""

KEYS = ["length", "location", "offset"]

LARGEST = 2**48

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5

Span = tuple[int, int]
"""Where bytes of a file begin and end."""


def verify(path: Path) -> None:
    """Raises AssetError, with the reason, unless the model at `path` has every weight's bytes where they belong."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            weights, rest = _apart(data)
        for tensor in tensors(rest):
            if tensor.data_location != TensorProto.DEFAULT:
                raise ValueError(f"tensor {_short(tensor.name)} is no weight, yet its data lies elsewhere")
        for tensor, raw in weights:
            _refuse_strange(tensor, raw)
        _refuse_data(data_of(path), [tensor for tensor, _ in weights if tensor.external_data])
        if len({tensor.name for tensor, _ in weights}) < len(weights):
            raise ValueError("a weight is there twice")
    except (OSError, ValueError, DecodeError) as error:
        raise AssetError(f"{path} is not an ONNX model such as vitport writes: {error}") from error


def _apart(data: mmap.mmap) -> tuple[list[tuple[TensorProto, int | None]], ModelProto]:
    """Every weight without its raw bytes but with their number, and the model without its weights."""
    weights, shell, graph = [], bytearray(), bytearray()
    graphs = 0
    for number, whole, inside in _fields(data, (0, len(data))):
        if number != MODEL_GRAPH:
            shell += data[slice(*whole)]
            continue
        graphs += 1
        for part, span, content in _fields(data, inside):
            if part == GRAPH_INITIALIZER:
                weights.append(_weight(data, content))
            else:
                graph += data[slice(*span)]
    if graphs != 1:
        raise ValueError(f"it has {graphs} graphs")
    model = ModelProto.FromString(bytes(shell))
    model.graph.ParseFromString(bytes(graph))
    return weights, model


def _weight(data: mmap.mmap, inside: Span) -> tuple[TensorProto, int | None]:
    kept, raw = bytearray(), None
    for number, whole, content in _fields(data, inside):
        if number != TENSOR_RAW_DATA:
            kept += data[slice(*whole)]
        elif raw is None:
            raw = content[1] - content[0]
        else:
            raise ValueError("a weight has two values")
    tensor = TensorProto.FromString(bytes(kept))
    texts = [tensor.name, *(text for entry in tensor.external_data for text in (entry.key, entry.value))]
    if not all(isinstance(text, str) for text in texts):  # protobuf gives bytes for what is not UTF-8
        raise ValueError("a weight has a text that is not UTF-8")
    return tensor, raw


def _fields(data: mmap.mmap, span: Span) -> Iterator[tuple[int, Span, Span]]:
    """Number, place and content of each field of a message."""
    at, end = span
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == DELIMITED:
            length, at = _varint(data, at, end)
        elif kind == VARINT:
            length = _varint(data, at, end)[1] - at
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"there is no field of kind {kind}, as stands at byte {start}")
        if length > end - at:
            raise ValueError(f"it is truncated or damaged at byte {start}")
        if kind != DELIMITED and tag >> 3 in (MODEL_GRAPH, TENSOR_RAW_DATA):
            raise ValueError(f"field {tag >> 3} at byte {start} is of another kind")
        yield tag >> 3, (start, at + length), (at, at + length)
        at += length


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, and where the next byte is."""
    value = 0
    for index, byte in enumerate(data[at : min(at + 10, end)]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError(f"it is truncated or damaged at byte {at}")


def tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor anywhere in a message."""
    if isinstance(message, TensorProto):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                yield from tensors(each)


def _refuse_strange(tensor: TensorProto, raw: int | None) -> None:
    """Raises ValueError for a weight that vitport would not write, or that has not the bytes of its shape."""
    if complaint := bad_name(tensor.name):
        raise ValueError(f"the name of weight {_short(tensor.name)} {complaint}")
    if tensor.data_type not in ITEM_BYTES or {field.name for field, _ in tensor.ListFields()} - FIELDS:
        raise ValueError(f"weight {_short(tensor.name)} is of a type or form that vitport does not write")
    if any(size < 0 for size in tensor.dims) or math.prod(max(size, 1) for size in tensor.dims) > LARGEST:
        raise ValueError(f"weight {_short(tensor.name)} has an impossible shape")
    external = tensor.data_location == TensorProto.EXTERNAL
    if external != bool(tensor.external_data) or (external and raw is not None):
        raise ValueError(f"weight {_short(tensor.name)} contradicts itself about where its data is")
    if not external and (raw or 0) != _needed(tensor):
        raise ValueError(f"weight {_short(tensor.name)} has {raw or 0} bytes and needs {_needed(tensor)}")


def _refuse_data(data: Path, weights: list[TensorProto]) -> None:
    """Raises ValueError or OSError unless the weights beside the model tile the file `data`, padding aside."""
    if not weights:
        return
    regions = sorted(_region(tensor, data.name) for tensor in weights)
    facts = os.lstat(data)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        raise ValueError(f"{data.name} is a link, or no regular file")
    for (_, end), (start, _) in pairwise([(0, 0), *regions]):
        if not 0 <= start - end < ALIGNMENT:
            raise ValueError(f"there is an overlap or a gap at byte {start} of {data.name}")
    if regions[-1][1] != facts.st_size:
        raise ValueError(f"{data.name} has {facts.st_size} bytes, the weights in it end at {regions[-1][1]}")


def _region(tensor: TensorProto, name: str) -> Span:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if sorted(entry.key for entry in tensor.external_data) != KEYS:
        raise ValueError(f"weight {_short(tensor.name)} has the keys {_short(', '.join(sorted(entries)))}")
    if entries["location"] != name:
        raise ValueError(f"weight {_short(tensor.name)} lies at {_short(entries['location'])}, not in {name} beside it")
    if not all(re.fullmatch("[0-9]{1,15}", entries[key]) for key in ("offset", "length")):
        raise ValueError(f"weight {_short(tensor.name)} has an impossible offset or length")
    start, length = int(entries["offset"]), int(entries["length"])
    if length != _needed(tensor):
        raise ValueError(f"weight {_short(tensor.name)} has {length} bytes and needs {_needed(tensor)}")
    return start, start + length


def _needed(tensor: TensorProto) -> int:
    return math.prod(tensor.dims) * ITEM_BYTES[tensor.data_type]


def _short(text: str) -> str:
    return f"{text[:100]!a}"
