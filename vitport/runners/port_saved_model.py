"""A published SavedModel of any maker, as TF-Hub had them: which signature, which input, which output."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from vitport.arrays import Images, Logits
from vitport.devices import Runner
from vitport.errors import AssetError
from vitport.formats import saved_model
from vitport.runners import Subject, ports

SERVING = "serving_default"


def load(subject: Subject, device: str) -> Runner:
    """The model, and the one of its outputs that has the right width. Raises AssetError, with what there is."""
    serve, layout, shapes = opened(subject, device)
    chosen = ports.choose(shapes, subject.width, subject.folder)
    leaves = [leaf for leaf in serve.variables if leaf.dtype.is_floating]
    for what in (serve.structured_outputs[chosen], *leaves):
        _require_float32(what, subject.folder)

    def infer(images: Images) -> tuple[Logits, str]:
        result = _asked(serve, ports.arranged(images, layout))[chosen]
        return result.numpy(), saved_model.reported(result)

    infer.leaves = leaves
    return Runner("TensorFlow", device, infer)


def opened(subject: Subject, device: str) -> tuple[Any, str, dict[str, tuple[int, ...]]]:
    """`serve`, the layout of its only input, and the shapes of its outputs for one image.

    `serve` is `serving_default`, or the only signature. Raises AssetError, with what there is.
    """
    path = subject.folder
    model = saved_model.read(path, device)
    serve = _signature(model, path)
    serve.model = model  # a signature does not keep its variables alive
    inputs = serve.structured_input_signature[1]
    if len(inputs) != 1:
        raise AssetError(f"{path} takes {sorted(inputs)}, where one input is needed")
    (port,) = inputs.values()
    _require_float32(port, path)
    shape = None if port.shape.rank is None else tuple(port.shape)
    layouts = ports.layouts(shape, saved_model.INPUT.layout, path)
    return serve, *ports.probe(lambda pixels: _asked(serve, pixels), layouts, subject.architecture.resolution, path)


def _require_float32(tensor: Any, path: Path) -> None:
    """Of an input, an output, a variable."""
    if tensor.dtype != tf.float32:
        raise AssetError(f"{path} has {tensor.name} in {tensor.dtype.name}; what is judged computes in float32")


def _asked(serve: Any, pixels: np.ndarray) -> dict[str, tf.Tensor]:
    (name,) = serve.structured_input_signature[1]
    return serve(**{name: tf.constant(pixels)})


def _signature(model: Any, path: Path) -> Any:
    signatures = dict(model.signatures)
    if SERVING not in signatures and len(signatures) != 1:
        raise AssetError(f"{path} has the signatures {sorted(signatures)}, and none is {SERVING}")
    return signatures.get(SERVING) or next(iter(signatures.values()))
