"""TensorFlow SavedModel of native operations with the Reusable-SavedModel interface.

What `tensorflow_hub.KerasLayer(path, trainable=True)`, `keras.layers.TFSMLayer` and TF Serving expect: `__call__` with
and without `training`, `variables`, `trainable_variables`, `regularization_losses`, and one `serving_default` with one
output. https://www.tensorflow.org/hub/reusable_saved_models
"""

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2

from vitport.architectures import forward, parameter_shapes
from vitport.arrays import Images, Logits, Params
from vitport.backends.tensorflow import TensorFlowOps
from vitport.devices import Runner, absent
from vitport.errors import AssetError
from vitport.formats import Export, Port

INPUT = Port("inputs", "NHWC")

VERSIONS = {"tensorflow": tf.__version__}


def output(spec: Export) -> str:
    """The manifest's name; pre-logits keep their own unless TF-Hub's `output_0` is wanted."""
    return spec.output_name if spec.variant == "classifier" or spec.output_name == "output_0" else spec.tap


def export(spec: Export, params: Params, folder: Path) -> None:
    """Writes `saved_model.pb`, `variables/` and `fingerprint.pb`; the same bytes every time."""
    tf.config.experimental.enable_tensor_float_32_execution(False)
    model = _reusable(spec, params)
    tf.saved_model.save(model, str(folder), signatures={"serving_default": _signature(spec, model)})
    _clear_uuid(folder / "fingerprint.pb")


def load(folder: Path, device: str = "cpu") -> Runner:
    """Runs `serving_default` in TensorFlow."""
    model = read(folder, device)
    serve = model.signatures["serving_default"]

    def infer(images: Images) -> tuple[Logits, str]:
        (result,) = serve(**{INPUT.name: tf.constant(images)}).values()
        return result.numpy(), reported(result)

    infer.model, infer.leaves = model, model.variables  # a signature does not keep its variables alive
    return Runner("TensorFlow", device, infer)


def read(folder: Path, device: str) -> Any:
    """The model, once products are full float32. Raises EnvironmentFault where TensorFlow has no such device,
    AssetError for a damaged folder.
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise absent("TensorFlow", f"tensorflow {tf.__version__}")
    try:
        model = tf.saved_model.load(str(folder))
    except (OSError, tf.errors.OpError) as error:
        raise AssetError(f"{folder} is not a SavedModel that TensorFlow can read: {error}") from error
    tf.config.set_soft_device_placement(False)
    return model


def reported(result: tf.Tensor) -> str:
    """TensorFlow's words for where a tensor is."""
    place = tf.DeviceSpec.from_string(result.device)
    gpus = tf.config.list_physical_devices("GPU") if place.device_type == "GPU" else []
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "") for gpu in gpus]
    return f"{place.device_type}: {names[place.device_index] if names else 'TensorFlow'}"


def _reusable(spec: Export, params: Params) -> tf.train.Checkpoint:
    weights = {name: tf.Variable(params[name], name=name) for name in parameter_shapes(spec.architecture, spec.variant)}
    image = tf.TensorSpec((None, *_shape(spec)), tf.float32, INPUT.name)

    # Traced once, here: a polymorphic function would be traced again when it is saved.
    infer = tf.function(
        lambda inputs: forward(spec.architecture, TensorFlowOps(), weights, inputs, spec.variant), autograph=False
    ).get_concrete_function(image)

    @tf.function(autograph=False)
    def call(inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return infer(inputs)

    for arguments in ({}, {"training": False}, {"training": True}):
        call.get_concrete_function(image, **arguments)
    model = tf.train.Checkpoint()
    model.variables = list(weights.values())
    model.trainable_variables = list(weights.values())
    model.regularization_losses = []
    model.__call__ = call
    return model


def _signature(spec: Export, model: tf.train.Checkpoint) -> tf.types.experimental.ConcreteFunction:
    image = tf.TensorSpec((None, *_shape(spec)), tf.float32, INPUT.name)
    named = tf.function(lambda inputs: {output(spec): model.__call__(inputs)}, autograph=False)
    return named.get_concrete_function(image)


def _shape(spec: Export) -> tuple[int, int, int]:
    return spec.architecture.resolution, spec.architecture.resolution, 3


def _clear_uuid(path: Path) -> None:
    """TensorFlow draws a random id for every save; without it two saves of one model are the same bytes."""
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    fingerprint.uuid = ""
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))
