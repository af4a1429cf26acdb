"""A published SavedModel of any maker, as TF-Hub had them: which signature, which input, which output."""

from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from vitport.arrays import Images, Logits
from vitport.devices import Runner
from vitport.errors import AssetError
from vitport.formats import saved_model
from vitport.runners import Subject, ports

SERVING = "serving_default"

REFUSED = {"ReadFile", "WriteFile", "PyFunc", "PyFuncStateless", "EagerPyFunc"}
"""Operations that a ViT has no use for: of files, its variables' apart, and of Python."""


def load(subject: Subject, device: str) -> Runner:
    """`serving_default`, or the only signature; one input of images, in either order; the output of the right width.

    Raises AssetError, with what there is, where these can't be found.
    """
    path = subject.folder
    _refuse_files(path)
    model = saved_model.read(path, device)
    serve = _signature(model, path)
    if len(serve.structured_input_signature[1]) != 1:
        raise AssetError(f"{path} takes {sorted(serve.structured_input_signature[1])}, where one input is needed")
    ((name, spec),) = serve.structured_input_signature[1].items()
    first = ports.channels_first(tuple(spec.shape), path)

    def all_of(images: Images) -> dict[str, tf.Tensor]:
        return serve(**{name: tf.constant(ports.arranged(images, first))})

    chosen = ports.choose(ports.probe(all_of, subject.architecture.resolution, path), subject.width, path)

    def infer(images: Images) -> tuple[Logits, str]:
        result = all_of(images)[chosen]
        return result.numpy(), saved_model.reported(result)

    infer.model, infer.leaves = model, serve.variables  # a signature does not keep its variables alive
    return Runner("TensorFlow", device, infer)


def _signature(model: Any, path: Path) -> Any:
    signatures = dict(model.signatures)
    if SERVING not in signatures and len(signatures) != 1:
        raise AssetError(f"{path} has the signatures {sorted(signatures)}, and none is {SERVING}")
    return signatures.get(SERVING) or next(iter(signatures.values()))


def _refuse_files(folder: Path) -> None:
    """Raises AssetError for a graph that reads or writes files, or calls Python."""
    try:
        saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise AssetError(f"{folder} is no SavedModel: {error}") from error
    graphs = [meta.graph_def for meta in saved.meta_graphs]
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for graph in graphs for function in graph.library.function for node in function.node_def]
    if found := sorted({node.op for node in nodes} & REFUSED):
        raise AssetError(f"{folder} has operations that no ViT needs and that touch this machine: {', '.join(found)}")
