"""The SavedModel's `serving_default`, run by TensorFlow."""

from graphlib import TopologicalSorter
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from vitport.architectures import TAPS
from vitport.arrays import Images, Logits, Params, Taps
from vitport.backends import tensorflow
from vitport.devices import Runner, gpu_memory
from vitport.formats import saved_model
from vitport.parity.loss import slope
from vitport.runners import (
    Subject,
    matching,
    own,
    port_saved_model,
    ports,
    precision_of,
    require,
    saved_model_double,
    saved_model_operations,
)

expected = own

VERSIONS = {"tensorflow": tf.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run. Raises AssetError where a graph would touch this machine: artifacts may come from anywhere."""
    require("saved_model", device, precision)
    saved_model_operations.require_harmless(subject.folder)
    loaded = port_saved_model.load(subject, device) if subject.port else saved_model.load(subject.folder, device)
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
    dtypes = {variable.dtype.name for variable in loaded.infer.leaves}
    return Runner("TensorFlow", device, loaded.infer, precision, lambda: facts(dtypes or {"float32"}, device))


def ways(subject: Subject, device: str) -> list[Runner]:
    """`__call__`, which Keras and TF-Hub use, as it is and in both modes; none has dropout, so all must agree."""
    model = saved_model.read(subject.folder, device)

    def called(**mode: bool) -> Runner:
        def infer(images: Images) -> tuple[Logits, str]:
            result = model(tf.constant(images), **mode)
            return result.numpy(), saved_model.reported(result)

        return Runner("TensorFlow", device, infer)

    return [called(), called(training=False), called(training=True)]


def facts(dtypes: set[str], device: str) -> dict[str, str]:
    """What TensorFlow says of itself, and the types of the weights; 0 threads are as many as it likes."""
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    return {
        "precision": precision_of(dtypes, device == "cuda" and tf32),
        "weights": ", ".join(sorted(dtypes)),
        "tensor_float_32_execution": str(tf32),
        "intra_op_threads": str(tf.config.threading.get_intra_op_parallelism_threads()),
        "inter_op_threads": str(tf.config.threading.get_inter_op_parallelism_threads()),
        **gpu_memory(_peak() if device == "cuda" else None),
    }


def _peak() -> int | None:
    """The most bytes of the first GPU that were taken at once; None where TensorFlow sees none."""
    seen = tf.config.list_logical_devices("GPU")
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if seen else None


def weights(subject: Subject) -> Params:
    """Its variables, which have the checkpoint's names."""
    return {_leaf_name(variable): variable.numpy() for variable in _read(subject).variables}


def semantic(subject: Subject, images: Images) -> tuple[Logits, str] | None:
    """The graph itself in float64, or the definition where it is too large for that.

    None of a port, of whose constants nobody knows what they were rounded from.
    """
    if subject.port:
        return None
    model = _read(subject)  # a signature does not keep its variables alive
    if not _fits(model):
        taps = tensorflow.run(subject.architecture, weights(subject), images, subject.variant)
        return taps[TAPS[subject.variant]], "the definition in TensorFlow with the SavedModel's variables, in float64"
    outputs = saved_model_double.run(model.signatures["serving_default"], subject.architecture, images)
    return outputs, "the SavedModel's own graph, every float32 in it made float64"


def gradients(subject: Subject, device: str, images: Images, labels: np.ndarray, dtype: str = "float32") -> Params:
    """By leaf of the checkpoint, and `images`, through the `__call__` that Keras and fine-tuning use."""
    model = saved_model.read(subject.folder, device)
    leaves = list(model.trainable_variables)
    if dtype == "float64" and not _fits(model):
        return tensorflow.gradients(subject.architecture, weights(subject), images, labels, subject.variant)
    if dtype == "float64":
        found = saved_model_double.gradients(model, subject, images, labels)
    else:
        found = _slopes(model, leaves, images, labels, subject.variant)
    names = ["images", *(_leaf_name(leaf) for leaf in leaves)]
    return dict(zip(names, found, strict=True))


def _slopes(
    model: Any, leaves: list[tf.Variable], images: Images, labels: np.ndarray, variant: str
) -> list[np.ndarray]:
    pixels = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        outputs = model(pixels, training=True)
    by_output = tf.constant(slope(outputs.numpy(), labels, variant))
    found = tape.gradient(outputs, [pixels, *leaves], by_output, unconnected_gradients="zero")
    return [array.numpy() for array in found]


def taps(subject: Subject, images: Images) -> tuple[Taps, str]:
    """Every tensor of `serving_default`, its variables made constants, in float32 on the CPU."""
    serve, layout = _served(subject)
    frozen = convert_variables_to_constants_v2(serve)
    operations = TopologicalSorter({op: {x.op for x in op.inputs} for op in frozen.graph.get_operations()})
    kinds = ("Const", "Placeholder")
    tensors = [
        x for op in operations.static_order() if op.type not in kinds for x in op.outputs if x.dtype == tf.float32
    ]
    guide = matching.guide(subject, images)
    values = (
        value.numpy() for value in frozen.prune(frozen.inputs, tensors)(tf.constant(ports.arranged(images, layout)))
    )
    kept = [value for value in values if matching.could_be(value.shape, guide)]
    return matching.match(subject, images, kept), "every tensor of the SavedModel's own graph"


def _served(subject: Subject) -> tuple[Any, str]:
    """The signature, and the layout of its input."""
    if subject.port:
        serve, layout, _ = port_saved_model.opened(subject, "cpu")
        return serve, layout
    model = _read(subject)
    serve = model.signatures["serving_default"]
    serve.model = model  # a signature does not keep its variables alive
    return serve, saved_model.INPUT.layout


def _fits(model: Any) -> bool:
    """Whether its own graph can be made float64."""
    return sum(int(variable.shape.num_elements()) for variable in model.variables) <= saved_model_double.LARGEST


def _leaf_name(variable: tf.Variable) -> str:
    return variable.name.removesuffix(":0")


def _read(subject: Subject) -> Any:
    return saved_model.read(subject.folder, "cpu")
