"""Published ports: what they are made for is found out, and so is where images go in and logits come out."""

import json
import pickle
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import small
from onnx import TensorProto, helper

from vitport import formats, runners
from vitport.arrays import Logits
from vitport.backends import tensorflow as tf_backend
from vitport.errors import AssetError
from vitport.faults import FAULTS, causes
from vitport.faults.causes import Question
from vitport.formats import Export, torchscript
from vitport.runners import Subject, ports, saved_model_operations

tf = pytest.importorskip("tensorflow")
torch = pytest.importorskip("torch")

from tensorflow.core.framework.function_pb2 import FunctionDef  # noqa: E402
from tensorflow.core.framework.node_def_pb2 import NodeDef  # noqa: E402
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef  # noqa: E402
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: E402

PLAIN = small.case("plain")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the classifier, by format."""
    names = ("saved_model", "torchscript", "onnx", "safetensors-timm", "safetensors-transformers")
    folders = {name: tmp_path_factory.mktemp(name) for name in names}
    for name, folder in folders.items():
        spec = Export(architecture=PLAIN.architecture, variant="classifier", output_name="output_0")
        formats.module(name).export(spec, PLAIN.params, folder)
    return folders


def run(path: Path, variant: str = "classifier", port: bool = True) -> Logits:
    """As `verify` runs a port, or an artifact."""
    subject = Subject(PLAIN.architecture, variant, path, PLAIN.params, port=port)
    return runners.module(runners.kind(path)).open(subject, "cpu", "float32")(PLAIN.images)


def assert_is_the_oracle(outputs: Logits, tap: str = "logits") -> None:
    assert outputs.shape == PLAIN.oracle[tap].shape
    np.testing.assert_allclose(outputs, PLAIN.oracle[tap], atol=1e-5, rtol=0)


KINDS = {
    "saved_model": "saved_model",
    "torchscript": "torchscript",
    "onnx": "onnx",
    "safetensors-timm": "timm",
    "safetensors-transformers": "transformers",
}


@pytest.mark.parametrize("format", KINDS)
def test_our_own_artifacts_are_ports_like_any(artifacts, format) -> None:
    path = artifacts[format] / "model.pt" if format == "torchscript" else artifacts[format]
    assert runners.kind(path) == KINDS[format]
    assert_is_the_oracle(run(path))


@pytest.mark.parametrize("format", ["safetensors-timm", "safetensors-transformers"])
def test_the_features_of_a_port_with_a_head(artifacts, format) -> None:
    assert_is_the_oracle(run(artifacts[format], "features"), "pre_logits")


def test_an_onnx_file_is_a_port_without_its_folder(artifacts) -> None:
    assert_is_the_oracle(run(artifacts["onnx"] / "model.onnx"))


# SavedModels.


def save(path: Path, shape: tuple | None, forward, signature: str = "serving_default", extra=None) -> Path:
    """A SavedModel whose function `forward(logits, pre_logits)` has one input of `shape`; extra: another variable."""

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.extra = extra
            self.leaves = {name.replace("/", "."): tf.Variable(leaf) for name, leaf in PLAIN.params.items()}

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, "x")], autograph=False)
        def serve(self, x):
            pixels = tf.transpose(x, (0, 2, 3, 1)) if shape and shape[1] == 3 else x
            pixels = tf.ensure_shape(pixels, (None, 20, 20, 3))
            ops = tf_backend.TensorFlowOps(remember=True)
            weights = {name.replace(".", "/"): leaf for name, leaf in self.leaves.items()}
            tf_backend.forward(PLAIN.architecture, ops, weights, pixels, "classifier")
            if extra is not None:
                ops.taps["logits"] += tf.cast(self.extra.read_value() * 0, tf.float32)
            return forward(ops.taps["logits"], ops.taps["pre_logits"])

    model = Model()
    tf.saved_model.save(model, str(path), signatures={signature: model.serve})
    return path


@pytest.mark.parametrize("shape", [(None, 20, 20, 3), (None, 3, 20, 20), (None, None, None, 3), [None] * 4, None])
def test_order_and_output_of_a_saved_model_are_found(tmp_path: Path, shape) -> None:
    path = save(tmp_path / "port", shape, lambda logits, features: {"features": features, "anything": logits})
    assert_is_the_oracle(run(path))
    assert_is_the_oracle(run(path, "features"), "pre_logits")


def test_the_only_signature_will_do(tmp_path: Path) -> None:
    path = save(tmp_path / "port", (None, 20, 20, 3), lambda logits, _: {"default": logits}, "default")
    assert_is_the_oracle(run(path))


def test_no_output_of_the_width_says_what_there_is(tmp_path: Path) -> None:
    path = save(tmp_path / "port", (None, 20, 20, 3), lambda logits, _: {"one": logits[:, 1:], "two": logits[:, 2:]})
    with pytest.raises(AssetError, match=r"has 0 outputs of shape \(n, 7\), not one; .* one \(1, 6\), two \(1, 5\)"):
        run(path)


def test_an_output_in_half_precision_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "port", (None, 20, 20, 3), lambda logits, _: {"half": tf.cast(logits, tf.float16)})
    with pytest.raises(AssetError, match="in float16; what is judged computes in float32"):
        run(path)


def test_variables_that_are_no_weights_have_no_precision(tmp_path: Path) -> None:
    path = save(tmp_path / "port", (None, 20, 20, 3), lambda logits, _: {"logits": logits}, extra=tf.Variable(1))
    assert_is_the_oracle(run(path))


def test_two_outputs_of_the_width_are_not_guessed(tmp_path: Path) -> None:
    path = save(tmp_path / "port", (None, 20, 20, 3), lambda logits, _: {"one": logits, "two": logits * 2})
    with pytest.raises(AssetError, match=r"has 2 outputs of shape \(n, 7\)"):
        run(path)


def test_another_resolution_is_told(tmp_path: Path) -> None:
    path = save(tmp_path / "port", (None, 20, 20, 3), lambda logits, _: {"logits": logits})
    other = small.replace(PLAIN.architecture, resolution=24)
    subject = Subject(other, "classifier", path, PLAIN.params, port=True)
    with pytest.raises(AssetError, match="does not take an image of 24 x 24"):
        runners.module("saved_model").open(subject, "cpu", "float32")


def read(place: str) -> tf.Operation:
    return tf.io.read_file("/etc/passwd")


def printed(place: str) -> tf.Operation:
    return tf.print("text", output_stream=f"file://{place}")


def saved(place: str) -> tf.Operation:
    return tf.raw_ops.SaveV2(prefix=place, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.zeros(1)])


def matched(place: str) -> tf.Operation:
    return tf.io.matching_files("/etc/*")


def of_python(place: str) -> tf.Operation:
    return tf.py_function(lambda: tf.zeros(1), [], tf.float32)


SPIES = {"ReadFile": read, "PrintV2": printed, "SaveV2": saved, "MatchingFiles": matched, "EagerPyFunc": of_python}


@pytest.mark.parametrize("within", ["the graph", "a branch"])
@pytest.mark.parametrize("op", SPIES)
def test_a_graph_that_reaches_out_is_refused_before_it_runs(tmp_path: Path, op: str, within: str) -> None:
    place = tmp_path / "written"

    def spy(logits, _):
        def reach() -> tf.Tensor:
            with tf.control_dependencies([SPIES[op](str(place))]):
                return tf.identity(logits)

        if within == "a branch":
            return {"logits": tf.cond(tf.reduce_sum(logits) > -1e9, reach, lambda: logits)}
        return {"logits": reach()}

    path = save(tmp_path / "port", (None, 20, 20, 3), spy)
    for port in (True, False):
        with pytest.raises(AssetError, match=f"operations that no ViT needs and that touch this machine: {op}"):
            run(path, port=port)
    assert not list(tmp_path.glob("written*"))


def constant_of_a_file(place: str) -> tf.Operation:
    return tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[1], memory_region_name="/etc/passwd").op


def proto_of_a_file(place: str) -> tf.Operation:
    names = {"message_type": "M", "field_names": ["f"], "output_types": [tf.float32], "descriptor_source": place}
    return tf.raw_ops.DecodeProtoV2(bytes=[""], **names).sizes.op


UNMARKED = {"ImmutableConst": constant_of_a_file, "DecodeProtoV2": proto_of_a_file}


@pytest.mark.parametrize("op", UNMARKED)
def test_files_that_tensorflow_calls_no_side_effect_are_refused(tmp_path: Path, op: str) -> None:
    def spy(logits, _):
        with tf.control_dependencies([UNMARKED[op](str(tmp_path))]):
            return {"logits": tf.identity(logits)}

    with pytest.raises(AssetError, match=f"touch this machine: {op}"):
        run(save(tmp_path / "port", (None, 20, 20, 3), spy))


def uncalled(meta: MetaGraphDef) -> FunctionDef:
    """A function that nothing calls, and that writes a file."""
    function = meta.graph_def.library.function.add()
    function.signature.name = "spy"
    function.node_def.add(name="spy", op="WriteFile", input=["place", "text"])
    return function


def among_what_saves(meta: MetaGraphDef) -> FunctionDef:
    """What only saves the model is not looked at."""
    function = uncalled(meta)
    (saving,) = (node for node in meta.graph_def.node if f"{node.name}:0" == meta.saver_def.save_tensor_name)
    saving.input.append("^spy")
    meta.graph_def.node.add(name="spy", op="PartitionedCall").attr["f"].func.name = "spy"
    return function


def one_for_another(meta: MetaGraphDef) -> None:
    """TensorFlow may run one function in place of another that implements the same."""
    among_what_saves(meta).attr["api_implements"].s = b"vit"


def handed_over(meta: MetaGraphDef) -> None:
    """A function's attribute is filled by the one who calls it."""
    among_what_saves(meta)
    names = set(meta.object_graph_def.concrete_functions)
    served = next(each for each in meta.graph_def.library.function if each.signature.name in names)
    call = served.node_def.add(name="call", op="PartitionedCall").attr["f"].func
    call.name = "outer"
    call.attr["g"].func.name = "spy"


HIDDEN = {uncalled: ["WriteFile"], among_what_saves: [], one_for_another: ["WriteFile"], handed_over: ["WriteFile"]}


@pytest.mark.parametrize("hide", HIDDEN)
def test_a_function_that_is_called_by_no_name_is_looked_at(tmp_path: Path, hide) -> None:
    path = save(tmp_path / "port", (None, 20, 20, 3), lambda logits, _: {"logits": logits})
    saved = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    assert saved_model_operations.reaching_out(saved) == []
    hide(saved.meta_graphs[0])
    assert saved_model_operations.reaching_out(saved) == HIDDEN[hide]


@pytest.mark.parametrize("collection", ["table_initializer", "local_variables"])
def test_what_an_old_model_runs_when_it_is_loaded(tmp_path: Path, collection: str) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images = tf.compat.v1.placeholder(tf.float32, (None, 20, 20, 3))
        spy = tf.io.write_file(str(tmp_path / "written"), "x")
        if collection == "table_initializer":
            tf.compat.v1.add_to_collection(collection, spy)
        else:
            with tf.control_dependencies([spy]):
                start = tf.zeros(1)
            tf.compat.v1.get_variable("local", initializer=start, collections=[collection])
        outputs = {"logits": tf.reduce_mean(images, (1, 2))}
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "old"), {"images": images}, outputs)
    with pytest.raises(AssetError, match="touch this machine: WriteFile"):
        run(tmp_path / "old")
    assert not (tmp_path / "written").exists()


def test_every_registered_operation_with_side_effects_is_refused_or_known() -> None:
    known = [op for op in tf.raw_ops.__dict__ if saved_model_operations.INSIDE.fullmatch(op)]
    assert not [op for op in known if saved_model_operations.OUTSIDE.search(op)]
    nodes = [NodeDef(op=op) for op in ("MergeV2Checkpoints", "WriteFile", "LookupTableFindV2", "XlaLaunch", "SendTPU")]
    refused = set(saved_model_operations._refused(nodes))
    assert {"MergeV2Checkpoints", "WriteFile"} <= refused


def test_a_model_without_an_object_graph(tmp_path: Path) -> None:
    """As TensorFlow 1 wrote them: its graph of restoring is no fault, a file within its output is."""
    for spy, path in ((False, tmp_path / "old"), (True, tmp_path / "spy")):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            images = tf.compat.v1.placeholder(tf.float32, (None, 20, 20, 3))
            kernel = tf.compat.v1.get_variable("kernel", (3, 7), use_resource=True)
            logits = tf.reduce_mean(images, (1, 2)) @ kernel
            if spy:
                with tf.control_dependencies([tf.io.write_file(str(tmp_path / "written"), "x")]):
                    logits = tf.identity(logits)
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.saved_model.simple_save(session, str(path), {"images": images}, {"logits": logits})
    assert run(tmp_path / "old").shape == (2, 7)
    with pytest.raises(AssetError, match="touch this machine: WriteFile"):
        run(tmp_path / "spy")
    assert not (tmp_path / "written").exists()


# ONNX.


def changed(folder: Path, tmp_path: Path, change) -> Path:
    model = onnx.load(str(folder / "model.onnx"))
    change(model)
    onnx.save(model, str(tmp_path / "port.onnx"))
    return tmp_path / "port.onnx"


def _one_at_a_time(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _channels_last(model: onnx.ModelProto) -> None:
    (port,) = model.graph.input
    inside = port.name
    model.graph.node.insert(0, helper.make_node("Transpose", ["images"], [inside], perm=[0, 3, 1, 2]))
    port.CopyFrom(helper.make_tensor_value_info("images", TensorProto.FLOAT, ("n", 20, 20, 3)))


def _no_axis_is_said(model: onnx.ModelProto) -> None:
    _name_axes(model)


def _channels_last_and_no_axis_is_said(model: onnx.ModelProto) -> None:
    _channels_last(model)
    _name_axes(model)


def _name_axes(model: onnx.ModelProto) -> None:
    for axis, name in zip(model.graph.input[0].type.tensor_type.shape.dim, "nabc", strict=True):
        axis.dim_param = name


def _no_rank_is_said(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def _a_label_beside(model: onnx.ModelProto) -> None:
    """As files with post-processing have it."""
    logits = model.graph.output[0].name
    model.graph.node.append(helper.make_node("ArgMax", [logits], ["label"], axis=1, keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))


def _cast_output(model: onnx.ModelProto, kind: int) -> None:
    (port,) = model.graph.output
    model.graph.node.append(helper.make_node("Cast", [port.name], ["cast"], to=kind))
    port.CopyFrom(helper.make_tensor_value_info("cast", kind, ["n", 7]))


def assert_steps_are_the_oracles(path: Path) -> None:
    subject = Subject(PLAIN.architecture, "classifier", path, PLAIN.params, port=True)
    taps, _ = runners.module(runners.kind(path)).taps(subject, PLAIN.images)
    assert len(taps) == 21
    for name, tap in taps.items():
        np.testing.assert_allclose(tap, PLAIN.oracle[name], atol=1e-4, rtol=0, err_msg=name)


@pytest.mark.parametrize("fault", ["unit_range_taken", "byte_range_taken", "softmax_inside"])
def test_what_a_port_does_beside_the_model_is_named(artifacts, tmp_path: Path, fault: str) -> None:
    """Files for servers normalise pictures and return probabilities."""

    def change(model: onnx.ModelProto) -> None:
        if fault == "softmax_inside":
            (port,) = model.graph.output
            model.graph.node.append(helper.make_node("Softmax", [port.name], ["chances"], axis=1))
            port.CopyFrom(helper.make_tensor_value_info("chances", TensorProto.FLOAT, ["n", 7]))
            return
        by = 2.0 if fault == "unit_range_taken" else 1 / 127.5
        (port,) = model.graph.input
        inside = port.name
        for name, value in (("by", by), ("one", 1.0)):
            model.graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
        model.graph.node.insert(0, helper.make_node("Sub", ["scaled", "one"], [inside]))
        model.graph.node.insert(0, helper.make_node("Mul", ["images", "by"], ["scaled"]))
        port.name = "images"

    outputs = run(changed(artifacts["onnx"], tmp_path, change))
    facts = {"architecture": PLAIN.architecture, "params": PLAIN.params, "images": PLAIN.images, "rounding": 1e-7}
    asked = Question(**facts, variant="classifier", outputs=outputs, truth=PLAIN.oracle["logits"])
    assert causes.verdict(asked, causes.explain(asked)).startswith(f"{FAULTS[fault].sentence}: explains 9")


def _without_names(model: onnx.ModelProto) -> None:
    """As another exporter names its tensors."""
    kept = {port.name for port in (*model.graph.input, *model.graph.output, *model.graph.initializer)}
    numbers: dict[str, str] = {}
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name not in kept:
                    names[index] = numbers.setdefault(name, f"val_{len(numbers)}")


def test_the_steps_of_a_port_are_found(artifacts, tmp_path: Path) -> None:
    assert_steps_are_the_oracles(changed(artifacts["onnx"], tmp_path, _without_names))
    forward = lambda logits, features: {"features": features, "logits": logits}  # noqa: E731
    assert_steps_are_the_oracles(save(tmp_path / "port", (None, 3, 20, 20), forward))


LAYOUTS = [
    _one_at_a_time,
    _channels_last,
    _no_axis_is_said,
    _channels_last_and_no_axis_is_said,
    _no_rank_is_said,
    _a_label_beside,
]


@pytest.mark.parametrize("change", LAYOUTS)
def test_order_and_batch_of_an_onnx_file_are_found(artifacts, tmp_path: Path, change) -> None:
    assert_is_the_oracle(run(changed(artifacts["onnx"], tmp_path, change)))


@pytest.mark.parametrize("change", LAYOUTS[1:])
def test_the_steps_are_found_in_any_layout(artifacts, tmp_path: Path, change) -> None:
    assert_steps_are_the_oracles(changed(artifacts["onnx"], tmp_path, change))


@pytest.mark.parametrize("kind", ["FLOAT16", "DOUBLE", "INT64"])
def test_another_type_than_float32_is_named(artifacts, tmp_path: Path, kind) -> None:
    path = changed(artifacts["onnx"], tmp_path, lambda model: _cast_output(model, getattr(TensorProto, kind)))
    with pytest.raises(AssetError, match=f"has cast in {kind.lower()}; what is judged computes in float32"):
        run(path)


def _in_a_branch(model: onnx.ModelProto, secret: TensorProto) -> None:
    branch = helper.make_graph([], "branch", [], [], [secret])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


def _in_a_function(model: onnx.ModelProto, secret: TensorProto) -> None:
    node = helper.make_node("Constant", [], ["y"], value=secret)
    model.functions.append(helper.make_function("spy", "spy", [], ["y"], [node], model.opset_import))


def _in_a_sparse_tensor(model: onnx.ModelProto, secret: TensorProto) -> None:
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(secret, indices, [9]))


def _among_the_weights(model: onnx.ModelProto, secret: TensorProto) -> None:
    model.graph.initializer.append(secret)


@pytest.mark.parametrize("put", [_among_the_weights, _in_a_branch, _in_a_function, _in_a_sparse_tensor])
def test_weights_outside_the_folder_are_refused(artifacts, tmp_path: Path, put) -> None:
    secret = TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    secret.external_data.add(key="location", value="../secrets")
    model = onnx.load(str(artifacts["onnx"] / "model.onnx"))
    put(model, secret)
    (tmp_path / "port.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(AssetError, match=r"wants to read '../secrets', which is outside its folder"):
        run(tmp_path / "port.onnx")


def test_weights_beside_a_file_are_hashed_with_it_or_it_is_refused(artifacts, tmp_path: Path) -> None:
    """Else its digest would be that of other weights too, and outputs of an earlier run be taken for theirs."""
    model = onnx.load(str(artifacts["onnx"] / "model.onnx"))
    onnx.save(model, tmp_path / "port.onnx", save_as_external_data=True, size_threshold=200, location="port.data")
    with pytest.raises(AssetError, match=r"port.onnx has weights in 'port.data'; name the folder"):
        run(tmp_path / "port.onnx")
    assert_is_the_oracle(run(tmp_path))


@pytest.mark.parametrize("location", ["../x", "/etc/passwd", "a/../../x", "x\0"])
def test_data_lies_in_the_models_folder(tmp_path: Path, location: str) -> None:
    ports.require_inside(tmp_path / "port.onnx", ["data", "a/data", "a/../data"])
    with pytest.raises(AssetError, match="which is outside its folder"):
        ports.require_inside(tmp_path / "port.onnx", [location])


# TorchScript.


@pytest.mark.parametrize("last", [False, True])
def test_order_and_output_of_torchscript_are_found(artifacts, tmp_path: Path, last) -> None:
    inner = torchscript.read(artifacts["torchscript"] / "model.pt")

    class Port(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return x, self.inner(x.permute(0, 3, 1, 2) if last else x)

    example = torch.zeros(2, 20, 20, 3) if last else torch.zeros(2, 3, 20, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(Port(), example), str(tmp_path / "port.pt"))
    assert_is_the_oracle(run(tmp_path / "port.pt"))


# Folders of timm and of transformers.


@pytest.mark.parametrize("format", ["safetensors-timm", "safetensors-transformers"])
def test_a_folder_for_another_size_or_with_other_classes_is_told(artifacts, format) -> None:
    for architecture, sentence in (
        (small.replace(PLAIN.architecture, resolution=24), "does not take an image of 24 x 24: "),
        (
            small.replace(PLAIN.architecture, num_classes=9),
            r"has 0 outputs of shape \(n, 9\), .* it has logits \(1, 7\)",
        ),
    ):
        subject = Subject(architecture, "classifier", artifacts[format], PLAIN.params, port=True)
        with pytest.raises(AssetError, match=sentence):
            runners.module(runners.kind(artifacts[format])).open(subject, "cpu", "float32")


# What is not opened.


def test_pickles_are_refused(artifacts, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "port.pt")
    with pytest.raises(AssetError, match="is a pickle, which may run anything when it is read"):
        runners.kind(tmp_path / "port.pt")
    folder = shutil.copytree(artifacts["safetensors-transformers"], tmp_path / "port")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(AssetError, match=r"has its weights in a pickle, pytorch_model.bin, which may run anything"):
        runners.kind(folder)


def test_what_is_no_port_says_what_would_be(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no port")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(AssetError, match="is no port that can be run: it must be a SavedModel folder"):
            runners.kind(path)


def test_code_beside_a_port_is_not_run(artifacts, tmp_path: Path) -> None:
    folder = shutil.copytree(artifacts["safetensors-transformers"], tmp_path / "port")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "spy", "auto_map": {name: f"spy.{name}" for name in ("AutoConfig", "AutoModel")}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "spy.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    with pytest.raises(AssetError, match="is refused by transformers"):
        run(folder)
    assert not (tmp_path / "ran").exists()


def test_an_input_in_no_known_order_is_refused(tmp_path: Path) -> None:
    for shape in ([None, 4, 20, 20], ["n", 3], [None, 20, 20, 1]):
        with pytest.raises(AssetError, match=rf"takes an input of shape {re.escape(str(shape))}, which is neither"):
            ports.layouts(shape, "NCHW", tmp_path)


@pytest.mark.parametrize(
    ("shape", "usual", "tried"),
    [
        (None, "NHWC", ("NHWC", "NCHW")),
        (None, "NCHW", ("NCHW", "NHWC")),
        (["n", "c", "h", "w"], "NCHW", ("NCHW", "NHWC")),
        ((None, None, None, 3), "NCHW", ("NHWC", "NCHW")),
        ((None, 3, 20, 20), "NHWC", ("NCHW",)),
        ((None, 3, 3, 3), "NHWC", ("NHWC", "NCHW")),
        ((None, 3, 3, 3), "NCHW", ("NCHW", "NHWC")),
    ],
)
def test_what_a_port_says_of_its_input_goes_before_what_is_usual(tmp_path: Path, shape, usual, tried) -> None:
    assert ports.layouts(shape, usual, tmp_path) == tried
