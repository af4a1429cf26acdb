"""The SavedModel's `serving_default`, run by TensorFlow."""

import tensorflow as tf

from vitport.devices import Runner
from vitport.formats import saved_model
from vitport.runners import Subject, precision_of, require

VERSIONS = {"tensorflow": tf.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("saved_model", device, precision)
    loaded = saved_model.load(subject.folder, device)
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
    dtypes = {variable.dtype.name for variable in loaded.infer.model.variables}
    return Runner("TensorFlow", device, loaded.infer, precision, lambda: facts(dtypes, device))


def facts(dtypes: set[str], device: str) -> dict[str, str]:
    """What TensorFlow says of itself, and the types of the weights; 0 threads are as many as it likes."""
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    return {
        "precision": precision_of(dtypes, device == "cuda" and tf32),
        "weights": ", ".join(sorted(dtypes)),
        "tensor_float_32_execution": str(tf32),
        "intra_op_threads": str(tf.config.threading.get_intra_op_parallelism_threads()),
        "inter_op_threads": str(tf.config.threading.get_inter_op_parallelism_threads()),
    }
