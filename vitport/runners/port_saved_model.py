"""A published SavedModel of any maker, as TF-Hub had them: which signature, which input, which output."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from vitport.arrays import Images, Logits
from vitport.devices import Runner
from vitport.errors import AssetError
from vitport.formats import saved_model
from vitport.runners import Subject, ports, saved_model_operations

SERVING = "serving_default"


def load(subject: Subject, device: str) -> Runner:
    """The model, and the one of its outputs that has the right width. Raises AssetError, with what there is."""
    path = subject.folder
    serve, arrange = opened(path, device)
    (name,) = serve.structured_input_signature[1]

    def all_of(images: Images) -> dict[str, tf.Tensor]:
        return serve(**{name: tf.constant(arrange(images))})

    chosen = ports.choose(ports.probe(all_of, subject.architecture.resolution, path), subject.width, path)

    def infer(images: Images) -> tuple[Logits, str]:
        result = all_of(images)[chosen]
        return result.numpy(), saved_model.reported(result)

    infer.leaves = serve.variables
    return Runner("TensorFlow", device, infer)


def opened(path: Path, device: str) -> tuple[Any, Callable[[Images], np.ndarray]]:
    """`serving_default`, or the only signature, of one input; and what turns images into its order of axes."""
    _refuse_files(path)
    model = saved_model.read(path, device)
    serve = _signature(model, path)
    serve.model = model  # a signature does not keep its variables alive
    inputs = serve.structured_input_signature[1]
    if len(inputs) != 1:
        raise AssetError(f"{path} takes {sorted(inputs)}, where one input is needed")
    (port,) = inputs.values()
    first = ports.channels_first(tuple(port.shape), path)
    return serve, lambda images: ports.arranged(images, first)


def _signature(model: Any, path: Path) -> Any:
    signatures = dict(model.signatures)
    if SERVING not in signatures and len(signatures) != 1:
        raise AssetError(f"{path} has the signatures {sorted(signatures)}, and none is {SERVING}")
    return signatures.get(SERVING) or next(iter(signatures.values()))


def _refuse_files(folder: Path) -> None:
    """Raises AssetError for a graph that reaches out of itself: to files, the console, Python, other machines."""
    try:
        saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise AssetError(f"{folder} is no SavedModel: {error}") from error
    if found := saved_model_operations.reaching_out(saved):
        raise AssetError(f"{folder} has operations that no ViT needs and that touch this machine: {', '.join(found)}")
