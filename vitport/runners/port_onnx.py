"""A published ONNX file of any maker in ONNX Runtime: which input, which output, how many images at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from vitport.arrays import Images, Logits
from vitport.errors import AssetError
from vitport.formats import onnx_check
from vitport.runners import Subject, ports

USUAL = "NCHW"
"""The layout of most files, tried first where one does not say its own."""


def file(path: Path) -> Path:
    """The file itself, or the one in a folder.

    Raises AssetError where its data points out of its folder, or lies beside a file that was named alone: the digest of
    a port is of what was named.
    """
    alone = path.is_file()
    path = path if alone else ports.onnx_files(path)[0]
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise AssetError(f"{path} is no ONNX model: {error}") from error
    entries = (entry for tensor in onnx_check.tensors(model) for entry in tensor.external_data)
    locations = [entry.value for entry in entries if entry.key == "location"]
    ports.require_inside(path, locations)
    if alone and locations:
        raise AssetError(f"{path} has weights in {locations[0]!r:.200}; name the folder, so that they are hashed too")
    return path


@dataclass(frozen=True, slots=True)
class Interface:
    """How an opened file is used: what it takes, and the one of its outputs that is judged.

    layout: of its input. output: as ONNX Runtime describes it. ask: images (n, r, r, 3) to that output.
    """

    layout: str
    output: onnxruntime.NodeArg
    ask: Callable[[Images], Logits]


def interface(session: onnxruntime.InferenceSession, subject: Subject, path: Path) -> Interface:
    """Finds out the layout and the output of the right width; one image at a time where the file says so.

    Raises AssetError where there is more than one of either, or another type than float32.
    """
    if len(session.get_inputs()) != 1:
        raise AssetError(f"{path} takes {[port.name for port in session.get_inputs()]}, where one input is needed")
    (port,), outputs = session.get_inputs(), {output.name: output for output in session.get_outputs()}
    _require_float32(port, path)

    def run(pixels: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {port.name: pixels}), strict=True))

    side = subject.architecture.resolution
    shape = port.shape or None  # of an unknown rank ONNX Runtime says []
    layouts = ports.layouts(shape, USUAL, path)
    layout, shapes = ports.probe(lambda pixels: run(pixels, list(outputs)), layouts, side, path)
    name = ports.choose(shapes, subject.width, path)
    _require_float32(outputs[name], path)

    def ask(images: Images) -> Logits:
        return run(ports.arranged(images, layout), [name])[name]

    def one_by_one(images: Images) -> Logits:
        return np.concatenate([ask(image[None]) for image in images])

    return Interface(layout, outputs[name], one_by_one if shape and shape[0] == 1 else ask)


def _require_float32(port: onnxruntime.NodeArg, path: Path) -> None:
    """Of the input, or of the output that is judged."""
    if port.type != "tensor(float)":
        found = port.type.removeprefix("tensor(").removesuffix(")")
        raise AssetError(f"{path} has {port.name} in {found}; what is judged computes in float32")
