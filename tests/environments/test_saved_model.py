"""SavedModels under TensorFlow itself, its command line, tensorflow_hub and Keras 3."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
from faults import OTHER_CURVE
from models import having, named
from tensorflow.core.protobuf import saved_model_pb2
from verdicts import Client, Verdict, judge

SERVED = Client('tf.saved_model.load(…).signatures["serving_default"]', "saved_model", ("tensorflow",))
HUB = Client("tensorflow_hub.KerasLayer", "saved_model", ("tensorflow_hub", "tf_keras"))
KERAS = Client("keras.layers.TFSMLayer", "saved_model", ("keras",))
CLI = Client("saved_model_cli show, scan", "saved_model", ("tensorflow",))

FORWARD = {
    *("AddV2", "BatchMatMulV2", "BiasAdd", "ConcatV2", "Const", "Conv2D", "MatMul", "MaxPool", "Mean", "Mul", "Pack"),
    *("RealDiv", "Relu", "Reshape", "Rsqrt", "Shape", "Softmax", "Sqrt", "Square", "StridedSlice", "Sub", "Tanh"),
    *("Tile", "Transpose"),
}
"""Operations of the definition (vitport/backends/tensorflow.py)."""

BOOKKEEPING = {
    *(
        "AssignVariableOp",
        "DisableCopyOnRead",
        "Identity",
        "MergeV2Checkpoints",
        "NoOp",
        "Placeholder",
        "ReadVariableOp",
    ),
    *("RestoreV2", "SaveV2", "Select", "ShardedFilename", "StatefulPartitionedCall", "StaticRegexFullMatch"),
    *("StringJoin", "VarHandleOp"),
}
"""Operations that every SavedModel has, to call functions and to restore variables."""

on_each_model = pytest.mark.parametrize("model", having("saved_model"), ids=str)


def serve(path, pixels):
    (outputs,) = tf.saved_model.load(str(path)).signatures["serving_default"](inputs=tf.constant(pixels)).values()
    return outputs.numpy()


@on_each_model
def test_served(model, variant, book):
    outputs = serve(model.path(variant, "saved_model"), model.images())
    book.enter(judge(SERVED, model, variant, outputs))


@on_each_model
def test_layer_of_tensorflow_hub(model, variant, book):
    outputs = hub.KerasLayer(str(model.path(variant, "saved_model")), trainable=True)(model.images())
    book.enter(judge(HUB, model, variant, outputs.numpy()))


@on_each_model
def test_layer_of_keras(model, variant, book):
    layer = keras.layers.TFSMLayer(str(model.path(variant, "saved_model")), call_endpoint="serving_default")
    (outputs,) = layer(model.images()).values()
    book.enter(judge(KERAS, model, variant, np.asarray(outputs)))


def operations(path) -> set[str]:
    """Of the main graph and of every function in its library."""
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    nodes = [node for graph in saved.meta_graphs for node in graph.graph_def.node]
    functions = [each for graph in saved.meta_graphs for each in graph.graph_def.library.function]
    return {node.op for node in nodes} | {node.op for each in functions for node in each.node_def}


def command_line(*arguments) -> str:
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@on_each_model
def test_only_operations_of_the_definition(model, variant, book):
    foreign = operations(model.path(variant, "saved_model")) - FORWARD - BOOKKEEPING
    assert not foreign, "XlaCallModule or a custom operation would shut out TFLite, OpenVINO and tf2onnx"


def test_a_foreign_operation_is_seen(tmp_path):
    module = tf.Module()
    module.call = tf.function(lambda x: tf.math.erf(x), input_signature=[tf.TensorSpec((None,), tf.float32)])
    tf.saved_model.save(module, str(tmp_path))
    assert operations(tmp_path) - FORWARD - BOOKKEEPING >= {"Erf"}


@pytest.mark.parametrize("name", ["digits", "r_ti_16"])
def test_command_line_shows_and_scans(name, variant, book):
    model = named(name)
    path, entry = model.path(variant, "saved_model"), model.entry(variant, "saved_model")
    shown = command_line("show", "--dir", path, "--all")
    side = entry["input"]["resolution"]
    for text in (
        f"inputs['{entry['input']['name']}']",
        f"shape: (-1, {side}, {side}, 3)",
        f"outputs['{entry['output']['name']}']",
        f"shape: (-1, {entry['output']['width']})",
        "tensorflow/serving/predict",
    ):
        assert text in shown
    assert "does not contain the default denylisted ops" in command_line("scan", "--dir", path)
    foreign = operations(path) - FORWARD - BOOKKEEPING
    book.enter(Verdict(CLI, model, variant, len(foreign), 0, "foreign operations"))


def test_another_gelu_is_seen(spoiled):
    model = named("digits")
    path = spoiled(model.path("classifier", "saved_model"), *OTHER_CURVE, "saved_model.pb")
    assert not judge(SERVED, model, "classifier", serve(path, model.images())).passed


def test_swapped_colours_are_seen():
    model = named("ti_16")
    outputs = serve(model.path("features", "saved_model"), model.images()[..., ::-1].copy())
    assert not judge(SERVED, model, "features", outputs).passed
