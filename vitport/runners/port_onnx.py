"""A published ONNX file of any maker in ONNX Runtime: which input, which output, how many images at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from vitport.arrays import Images, Logits
from vitport.errors import AssetError
from vitport.formats import onnx_check
from vitport.runners import Subject, ports


def file(path: Path) -> Path:
    """The file itself, or the one in a folder. Raises AssetError where its data points out of its folder."""
    path = next(path.glob("*.onnx")) if path.is_dir() else path
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise AssetError(f"{path} is no ONNX model: {error}") from error
    entries = (entry for tensor in onnx_check.tensors(model) for entry in tensor.external_data)
    ports.require_inside(path, [entry.value for entry in entries if entry.key == "location"])
    return path


def answer(session: onnxruntime.InferenceSession, subject: Subject, path: Path) -> Callable[[Images], Logits]:
    """Images to the one output of the right width; one at a time where the file says so."""
    if len(session.get_inputs()) != 1:
        raise AssetError(f"{path} takes {[port.name for port in session.get_inputs()]}, where one input is needed")
    (port,), names = session.get_inputs(), [output.name for output in session.get_outputs()]
    first = ports.channels_first(tuple(port.shape), path)

    def run(images: Images, names: list[str]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {port.name: ports.arranged(images, first)}), strict=True))

    shapes = ports.probe(lambda images: run(images, names), subject.architecture.resolution, path)
    name = ports.choose(shapes, subject.width, path)
    if port.shape[0] != 1:
        return lambda images: run(images, [name])[name]
    return lambda images: np.concatenate([run(image[None], [name])[name] for image in images])
