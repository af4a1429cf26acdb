"""One contract for every format: export both variants, read them back, and be the function; then each format's own."""

import json
import os
import re
import subprocess
import sys
import tomllib
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import jax.export
import numpy as np
import onnx
import pytest
import small
import tensorflow as tf
import torch
from clients import need
from export_all import NAMES, PROVENANCE, applicable
from flax.traverse_util import flatten_dict
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2
from tensorflow.python.eager import context

from vitport import formats
from vitport.architectures import VARIANTS, parameter_shapes
from vitport.arrays import Params
from vitport.backends import numpy
from vitport.backends.numpy import Model, NumPyOps
from vitport.backends.tensorflow import TensorFlowOps
from vitport.errors import AssetError, EnvironmentFault
from vitport.formats import FORMATS, Export, Port, safetensors_timm, torch_export, transformers_config
from vitport.formats.safetensors_timm import TimmOps, mlp_ratio, rescale
from vitport.reference import flax_run, flax_vit

ROOT = Path(__file__).parents[1]

TAPS = {"classifier": "logits", "features": "pre_logits"}

CONTRACT = [(f, name, v) for f in FORMATS for name in NAMES for v in VARIANTS if applicable(name, f)]

each = pytest.mark.parametrize(("format_name", "name", "variant"), CONTRACT, ids=["-".join(row) for row in CONTRACT])
each_variant = pytest.mark.parametrize("variant", VARIANTS)
each_format = pytest.mark.parametrize("format_name", FORMATS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@cache
def exported(folder: Path, format_name: str, name: str, variant: str) -> Path:
    return write(folder / format_name / name / variant, format_name, name, variant)


def write(target: Path, format_name: str, name: str, variant: str, params: Params | None = None, **options) -> Path:
    target.mkdir(parents=True)
    spec = Export(architecture=small.ARCHITECTURES[name], variant=variant, provenance=PROVENANCE, **options)
    formats.module(format_name).export(spec, small.case(name).params if params is None else params, target)
    return target


# The contract.


@each
def test_what_is_read_back_is_the_function_in_any_batch(
    folder: Path, format_name: str, name: str, variant: str
) -> None:
    case, tap = small.case(name), TAPS[variant]
    run = formats.module(format_name).load(exported(folder, format_name, name, variant))
    found = run(case.images)
    assert found.dtype == np.float32
    judged = small.verdict(name, "realistic", tap, found)
    assert judged.passed, judged.reason
    for count in (1, 5):
        which = np.arange(count) % 2
        again = run(np.ascontiguousarray(case.images[which]))
        assert again.shape == (count, case.architecture.output_width(variant))
        assert np.abs(again - found[which]).max() <= 2 * judged.limit


@each
def test_an_artifact_holds_the_leaves_of_its_variant_alone(
    folder: Path, format_name: str, name: str, variant: str
) -> None:
    """As many float32 values as the checkpoint has for it: nothing is there twice, and no head among features."""
    path = exported(folder, format_name, name, variant)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    values = 4 * sum(int(np.prod(shape)) for shape in parameter_shapes(small.ARCHITECTURES[name], variant).values())
    assert values <= size < values + 500_000


INPUTS = {
    "saved_model": Port("inputs", "NHWC"),
    "torchscript": Port("pixel_values", "NCHW"),
    "onnx": Port("pixel_values", "NCHW"),
    "safetensors-transformers": Port("pixel_values", "NCHW"),
    "safetensors-timm": Port("pixel_values", "NCHW"),
    "torch_export": Port("pixel_values", "NCHW"),
    "stablehlo": Port("images", "NHWC"),
}


@each_format
@each_variant
def test_input_and_output_are_named(format_name: str, variant: str) -> None:
    module, spec = formats.module(format_name), Export(architecture=small.PLAIN, variant=variant)
    assert INPUTS[format_name] == module.INPUT
    assert module.output(spec) == ("logits" if format_name == "safetensors-transformers" else TAPS[variant])
    assert all(isinstance(version, str) for version in module.VERSIONS.values())


def _read_only(leaf: np.ndarray) -> np.ndarray:
    copy = leaf.copy()
    copy.flags.writeable = False
    return copy


def _unaligned(leaf: np.ndarray) -> np.ndarray:
    """As a map of a file may lie."""
    raw = np.frombuffer(b"x" + leaf.tobytes(), np.uint8)[1:]
    return raw.view(np.float32).reshape(leaf.shape)


def _strided(leaf: np.ndarray) -> np.ndarray:
    return np.repeat(leaf, 2, axis=-1)[..., ::2]


MEMORY = {"Fortran": np.asfortranarray, "strided": _strided, "read-only": _read_only, "unaligned": _unaligned}


@each_format
@pytest.mark.parametrize("memory", MEMORY)
def test_leaves_may_lie_in_memory_as_they_like(tmp_path: Path, folder: Path, format_name: str, memory: str) -> None:
    case, module = small.case("plain"), formats.module(format_name)
    params = {name: MEMORY[memory](leaf) for name, leaf in case.params.items()}
    before = {name: leaf.copy() for name, leaf in params.items()}
    path = write(tmp_path / "odd", format_name, "plain", "classifier", params)
    usual = exported(folder, format_name, "plain", "classifier")
    assert np.array_equal(module.load(path)(case.images), module.load(usual)(case.images))
    assert all(np.array_equal(leaf, params[name]) for name, leaf in before.items())


# The bytes.


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Everything exported by two interpreters that differ in what must not matter: folder, hash seed, directory."""
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "another-one")]
    script = str(Path(__file__).with_name("export_all.py"))
    children = [
        subprocess.Popen(
            [sys.executable, script, str(folder), *FORMATS],
            cwd=directory,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        )
        for folder, directory, seed in zip(folders, (ROOT, folders[1]), ("0", "7"), strict=True)
    ]
    assert [child.wait() for child in children] == [0, 0]
    return folders


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@each
def test_two_processes_write_the_same_bytes(runs: list[Path], format_name: str, name: str, variant: str) -> None:
    first, second = (files(run / format_name / name / variant) for run in runs)
    assert first
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []


def traces(folder: Path, written_to: Path) -> list[str]:
    """Paths of this machine inside the files, members of archives included."""
    places = (ROOT, written_to, Path.home(), Path(sys.prefix), Path(tf.__file__).parent)
    paths = {*(str(place) for place in places), "site-packages", "dist-packages"} - {"/"}
    texts = [data for path in folder.rglob("*") if path.is_file() for data in contents(path)]
    return sorted(path for path in paths if any(path.encode() in text for text in texts))


def contents(path: Path) -> list[bytes]:
    if not zipfile.is_zipfile(path):
        return [path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist()] + [path.read_bytes()]


@each
def test_no_file_tells_where_it_was_made(runs: list[Path], format_name: str, name: str, variant: str) -> None:
    assert traces(runs[1] / format_name / name / variant, runs[1]) == []


def test_a_trace_would_be_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", f'File "{tf.__file__}", line 1' * 100)
    assert "site-packages" in traces(tmp_path, tmp_path)


def test_plain_torchscript_does_tell(tmp_path: Path) -> None:
    """Why the debug records are dropped: torch's own writer leaves paths."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(torch.nn.Linear(2, 3), torch.zeros(2, 2))
        torch.jit.save(traced, str(tmp_path / "model.pt"))
    assert "site-packages" in traces(tmp_path, tmp_path)


# Gradients: a classifier is fine-tuned from the artifact, so its derivative is part of the promise.


@cache
def cotangent(name: str, variant: str) -> np.ndarray:
    shape = 2, small.ARCHITECTURES[name].output_width(variant)
    return np.random.default_rng(1).normal(size=shape)


@cache
def true_gradients(name: str, variant: str) -> dict[str, np.ndarray]:
    """Of `sum(cotangent * outputs)`, by Flax in float64."""
    case = small.case(name)
    model = flax_vit.module(case.architecture, "float64", head=variant == "classifier")
    with flax_run.numerics("float64"):
        variables = flax_vit.tree({leaf: jax.numpy.asarray(x, "float64") for leaf, x in case.leaves(variant).items()})
        pixels = jax.numpy.asarray(case.images, "float64")

        def loss(variables: dict) -> jax.Array:
            return (model.apply(variables, pixels)[TAPS[variant]] * cotangent(name, variant)).sum()

        return {
            leaf: np.asarray(g)
            for leaf, g in flatten_dict(jax.jit(jax.grad(loss))(variables)["params"], sep="/").items()
        }


def assert_gradients(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Equal leaf by leaf to 1e-4 of the leaf's largest entry.

    The gradient of a key's bias is zero, since softmax does not see a shift: there only its smallness is asked for.
    """
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = np.abs(expected[name.replace("/key/bias", "/query/bias")]).max()
        difference = np.abs(found[name] - gradient).max() / scale
        assert difference <= 1e-4, f"the gradient of {name} is off by {difference:.1e}"


def exported_gradients(path: Path, name: str, variant: str) -> dict[str, np.ndarray]:
    return _gradients(torch.export.load(path / "model.pt2").module(), name, variant)


def jax_gradients(path: Path, name: str, variant: str) -> dict[str, np.ndarray]:
    program, params = jax_program(path)
    weights = jax.numpy.asarray(cotangent(name, variant), np.float32)

    def loss(params: dict[str, np.ndarray]) -> jax.Array:
        return (program.call(params, small.case(name).images) * weights).sum()

    return {leaf: np.asarray(gradient) for leaf, gradient in jax.jit(jax.grad(loss))(params).items()}


def jax_program(path: Path) -> tuple[jax.export.Exported, dict[str, np.ndarray]]:
    program = jax.export.deserialize(bytearray((path / "model.jax_export").read_bytes()))
    return program, dict(np.load(path / "params.npz"))


def tensorflow_gradients(path: Path, name: str, variant: str) -> dict[str, np.ndarray]:
    model = tf.saved_model.load(str(path))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.constant(small.case(name).images)) * cotangent(name, variant).astype(np.float32))
    gradients = tape.gradient(loss, model.trainable_variables)
    names = [variable.name.removesuffix(":0") for variable in model.trainable_variables]
    return {leaf: gradient.numpy() for leaf, gradient in zip(names, gradients, strict=True)}


def torch_gradients(path: Path, name: str, variant: str) -> dict[str, np.ndarray]:
    return _gradients(torch_model(path), name, variant)


def _gradients(model: torch.nn.Module, name: str, variant: str) -> dict[str, np.ndarray]:
    pixels = torch.tensor(small.case(name).images.transpose(0, 3, 1, 2).copy())
    (model(pixels) * torch.tensor(cotangent(name, variant), dtype=torch.float32)).sum().backward()
    return {leaf.replace(".", "/"): parameter.grad.numpy() for leaf, parameter in model.named_parameters()}


def torch_model(path: Path) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path / "model.pt"))


GRADIENTS = {
    "saved_model": tensorflow_gradients,
    "torchscript": torch_gradients,
    "torch_export": exported_gradients,
    "stablehlo": jax_gradients,
}


@pytest.mark.parametrize("name", ["plain", "stem", "hybrid"])
@pytest.mark.parametrize("format_name", GRADIENTS)
@each_variant
def test_gradients_are_the_references(folder: Path, format_name: str, name: str, variant: str) -> None:
    path = exported(folder, format_name, name, variant)
    assert_gradients(GRADIENTS[format_name](path, name, variant), true_gradients(name, variant))


@pytest.mark.parametrize("fault", ["one leaf detached", "one entry wrong", "a leaf lost"])
def test_wrong_gradients_are_found(fault: str) -> None:
    true = true_gradients("plain", "classifier")
    wrong = {name: gradient.copy() for name, gradient in true.items()}
    leaf = "Transformer/encoderblock_0/MlpBlock_3/Dense_0/bias"
    if fault == "a leaf lost":
        del wrong[leaf]
    else:
        wrong[leaf][0 if fault == "one entry wrong" else ...] *= 0 if fault == "one leaf detached" else 1.01
    with pytest.raises(AssertionError):
        assert_gradients(wrong, true)


# SavedModel.

ARITHMETIC = {"AddV2", "BatchMatMulV2", "BiasAdd", "Conv2D", "MatMul", "MaxPool", "Mean", "Mul", "RealDiv", "Relu"}
ARITHMETIC |= {"Rsqrt", "Softmax", "Sqrt", "Square", "Sub", "Tanh"}
SHAPING = {"ConcatV2", "Const", "Identity", "NoOp", "Pack", "Placeholder", "Reshape", "Shape", "StridedSlice", "Tile"}
SHAPING |= {"Transpose"}
VARIABLES = {"AssignVariableOp", "DisableCopyOnRead", "ReadVariableOp", "StatefulPartitionedCall", "VarHandleOp"}
SAVING = {
    "MergeV2Checkpoints",
    "RestoreV2",
    "SaveV2",
    "Select",
    "ShardedFilename",
    "StaticRegexFullMatch",
    "StringJoin",
}

ALLOWED = ARITHMETIC | SHAPING | VARIABLES | SAVING
"""No file is read but the weights, no Python and no XLA is called."""


def operations(path: Path) -> set[str]:
    """Every operation of the graph and of its function library."""
    (graph,) = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    library = graph.graph_def.library.function
    return {node.op for node in graph.graph_def.node} | {node.op for f in library for node in f.node_def}


@pytest.mark.parametrize("name", NAMES)
@each_variant
def test_saved_model_uses_native_operations_alone(folder: Path, name: str, variant: str) -> None:
    found = operations(exported(folder, "saved_model", name, variant))
    assert found - ALLOWED == set()
    assert {"MatMul", "Softmax", "Tanh"} <= found


def fused(call: Callable, x: np.ndarray) -> Counter[tuple[str, ...]]:
    """What TensorFlow's optimizer puts into one kernel with a product when a function first runs."""
    context.context().enable_graph_collection()
    call(tf.constant(x))
    graphs = [function.post_optimization_graph for function in context.context().export_run_metadata().function_graphs]
    context.context().disable_graph_collection()
    nodes = (node for graph in graphs for node in graph.node if "FusedMatMul" in node.op)
    return Counter(tuple(name.decode() for name in node.attr["fused_ops"].list.s) for node in nodes)


def dense_and_gelu(between: Callable) -> Callable:
    """The least there is to fuse, with something `between` the two."""
    kernel, bias = tf.Variable(tf.ones((4, 5))), tf.Variable(tf.ones(5))
    y = lambda x: between(tf.nn.bias_add(tf.matmul(x, kernel), bias))  # noqa: E731
    return tf.function(lambda x: TensorFlowOps().gelu_tanh(y(x)), input_signature=[tf.TensorSpec((None, 4))])


GELU_KERNEL = ("BiasAdd", "GeluApproximate")


def test_tensorflow_runs_every_gelu_inside_its_product(folder: Path) -> None:
    """13 % of a whole S/16 at batch 8."""
    rows = np.ones((3, 4), np.float32)
    if not fused(dense_and_gelu(lambda y: y), rows)[GELU_KERNEL]:
        pytest.skip("this TensorFlow fuses no GELU on this processor: oneDNN is off")
    serve = tf.saved_model.load(str(exported(folder, "saved_model", "plain", "classifier"))).signatures[
        "serving_default"
    ]
    assert fused(lambda x: serve(inputs=x), small.case("plain").images)[GELU_KERNEL] == small.PLAIN.depth
    assert fused(dense_and_gelu(lambda y: y * 1.5), rows)[GELU_KERNEL] == 0


def test_an_operation_that_is_not_allowed_is_found(tmp_path: Path) -> None:
    model = tf.Module()
    model.call = tf.function(lambda x: tf.numpy_function(np.sin, [x], tf.float32), input_signature=[tf.TensorSpec([1])])
    tf.saved_model.save(model, str(tmp_path))
    assert operations(tmp_path) - ALLOWED >= {"PyFunc"}


@pytest.mark.parametrize("name", NAMES)
@each_variant
def test_saved_model_is_reusable_and_has_one_signature(folder: Path, name: str, variant: str) -> None:
    case = small.case(name)
    model = tf.saved_model.load(str(exported(folder, "saved_model", name, variant)))
    side, width = case.architecture.resolution, case.architecture.output_width(variant)
    assert list(model.signatures) == ["serving_default"]
    serve = model.signatures["serving_default"]
    assert serve.structured_input_signature == ((), {"inputs": tf.TensorSpec((None, side, side, 3), name="inputs")})
    assert serve.structured_outputs == {TAPS[variant]: tf.TensorSpec((None, width), name=TAPS[variant])}
    shapes = parameter_shapes(case.architecture, variant)
    assert {v.name.removesuffix(":0"): tuple(v.shape) for v in model.trainable_variables} == shapes
    assert len(model.trainable_variables) == len(model.variables) == len(shapes)
    assert list(model.regularization_losses) == []
    for options in ({}, {"training": False}, {"training": True}):
        # Not bit for bit what is served: TensorFlow optimizes every entry by itself.
        assert small.verdict(
            name, "realistic", TAPS[variant], model(tf.constant(case.images), **options).numpy()
        ).passed


NAMED = [("logits", "classifier", "logits"), ("output_0", "classifier", "output_0"), ("scores", "classifier", "scores")]
NAMED += [
    ("logits", "features", "pre_logits"),
    ("output_0", "features", "output_0"),
    ("scores", "features", "pre_logits"),
]


@pytest.mark.parametrize(("asked", "variant", "expected"), NAMED)
def test_saved_model_output_has_the_manifests_name(tmp_path: Path, asked: str, variant: str, expected: str) -> None:
    path = write(tmp_path / "model", "saved_model", "plain", variant, output_name=asked)
    model = tf.saved_model.load(str(path))
    assert list(model.signatures["serving_default"].structured_outputs) == [expected]
    spec = Export(architecture=small.PLAIN, variant=variant, output_name=asked)
    assert formats.module("saved_model").output(spec) == expected


def test_saved_model_has_no_random_id(folder: Path) -> None:
    path = exported(folder, "saved_model", "plain", "classifier")
    fingerprint = fingerprint_pb2.FingerprintDef.FromString((path / "fingerprint.pb").read_bytes())
    assert fingerprint.uuid == ""
    assert fingerprint.saved_model_checksum


def test_saved_model_trains(folder: Path) -> None:
    case = small.case("plain")
    model = tf.saved_model.load(str(exported(folder, "saved_model", "plain", "classifier")))
    before = model(tf.constant(case.images)).numpy()
    for variable in model.trainable_variables:
        variable.assign_add(tf.ones_like(variable) / 100)
    assert np.abs(model(tf.constant(case.images)).numpy() - before).max() > 1e-3


# TorchScript.


def test_torchscript_has_no_debug_records_and_carries_its_facts(folder: Path) -> None:
    path = exported(folder, "torchscript", "hybrid", "classifier")
    assert [file.name for file in path.iterdir()] == ["model.pt"]
    with zipfile.ZipFile(path / "model.pt") as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    assert not [name for name in names if name.endswith(".debug_pkl")]
    extra = {"vitport.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(path / "model.pt"), _extra_files=extra)
    assert json.loads(extra["vitport.json"]) == PROVENANCE


@pytest.mark.parametrize("name", NAMES)
@each_variant
def test_torchscript_is_the_definition_in_float64_too(folder: Path, name: str, variant: str) -> None:
    case = small.case(name)
    model = torch_model(exported(folder, "torchscript", name, variant)).to(torch.float64)
    with torch.inference_mode():
        found = model(torch.tensor(case.images.transpose(0, 3, 1, 2).copy()).double()).numpy()
    oracle = case.oracle[TAPS[variant]]
    assert np.abs(found - oracle).max() <= small.EXACT * oracle.std()


@pytest.mark.parametrize("name", NAMES)
@each_variant
def test_torchscript_parameters_are_the_published_leaves(folder: Path, name: str, variant: str) -> None:
    model = torch_model(exported(folder, "torchscript", name, variant))
    found = {leaf.replace(".", "/"): parameter.detach().numpy() for leaf, parameter in model.named_parameters()}
    expected = small.case(name).leaves(variant)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[leaf], expected[leaf]) for leaf in expected)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


# torch.export and StableHLO.


@pytest.mark.parametrize("format_name", ["torch_export", "stablehlo"])
@each_variant
def test_optional_formats_hold_a_pre_logits_layer(tmp_path: Path, format_name: str, variant: str) -> None:
    path = write(tmp_path / "model", format_name, "representation", variant)
    found = formats.module(format_name).load(path)(small.case("representation").images)
    judged = small.verdict("representation", "realistic", TAPS[variant], found)
    assert judged.passed, judged.reason


def test_exported_program_has_published_parameters_and_carries_its_facts(folder: Path) -> None:
    path, extra = exported(folder, "torch_export", "hybrid", "classifier"), {"vitport.json": ""}
    model = torch.export.load(path / "model.pt2", extra_files=extra).module()
    found = {leaf.replace(".", "/"): parameter for leaf, parameter in model.named_parameters()}
    expected = small.case("hybrid").leaves("classifier")
    assert json.loads(extra["vitport.json"]) == PROVENANCE
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[leaf].detach().numpy(), expected[leaf]) for leaf in expected)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_plain_torch_export_does_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the stack traces are dropped."""
    monkeypatch.setattr(torch_export, "_drop_stack_traces", lambda program: None)
    assert str(ROOT) in traces(write(tmp_path / "model", "torch_export", "plain", "features"), tmp_path)


def test_plain_jax_export_does_tell(tmp_path: Path) -> None:
    """Why locations are left out."""
    limit = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 10)
    program = jax.export.export(jax.jit(lambda x: jax.numpy.sin(x) + 1))(jax.ShapeDtypeStruct((3,), np.float32))
    jax.config.update("jax_traceback_in_locations_limit", limit)
    (tmp_path / "model").write_bytes(program.serialize())
    assert str(ROOT) in traces(tmp_path, tmp_path)


@pytest.mark.parametrize("name", NAMES)
@each_variant
def test_stablehlo_is_a_program_of_published_leaves_for_every_platform(folder: Path, name: str, variant: str) -> None:
    """Calls to what only some runtimes have would end its portability, and a default precision its exactness."""
    program, params = jax_program(exported(folder, "stablehlo", name, variant))
    expected, text = small.case(name).leaves(variant), program.mlir_module()
    assert list(params) == list(expected)
    assert all(np.array_equal(params[leaf], expected[leaf]) for leaf in expected)
    assert set(program.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    assert set(re.findall(r"custom_call @(\w+)", text)) <= {"shape_assertion"}, "which JAX resolves itself"
    products = [line for line in text.splitlines() if re.search(r"stablehlo\.(dot_general|convolution)", line)]
    assert products
    assert [line for line in products if line.count("HIGHEST") != 2] == []


# The folders of transformers and timm.


def test_transformers_configuration(folder: Path) -> None:
    path = exported(folder, "safetensors-transformers", "plain", "classifier")
    assert json.loads((path / "config.json").read_text()) == {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": 15,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 22,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "image_size": 20,
        "patch_size": 4,
        "num_channels": 3,
        "qkv_bias": True,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "id2label": {str(index): f"LABEL_{index}" for index in range(7)},
        "label2id": {f"LABEL_{index}": index for index in range(7)},
        "dtype": "float32",
    }
    assert json.loads((path / "preprocessor_config.json").read_text()) == {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": 20, "width": 20},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def test_timm_configuration(folder: Path) -> None:
    values = json.loads((exported(folder, "safetensors-timm", "plain", "classifier") / "config.json").read_text())
    preprocessing = values.pop("pretrained_cfg")
    assert values == {
        "architecture": "vit_base_patch16_224",
        "num_classes": 7,
        "num_features": 15,
        "global_pool": "token",
        "model_args": {
            "img_size": 20,
            "patch_size": 4,
            "embed_dim": 15,
            "depth": 2,
            "num_heads": 3,
            "mlp_ratio": 22 / 15,
            "act_layer": "gelu_tanh",
        },
    }
    assert preprocessing == {
        "input_size": [3, 20, 20],
        "fixed_input_size": True,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "num_classes": 7,
        "pool_size": None,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }


def test_features_have_no_labels(folder: Path) -> None:
    paths = {f: exported(folder, f, "plain", "features") for f in ("safetensors-transformers", "safetensors-timm")}
    values = {name: json.loads((path / "config.json").read_text()) for name, path in paths.items()}
    assert values["safetensors-transformers"]["id2label"] == {}
    assert (values["safetensors-timm"]["num_classes"], values["safetensors-timm"]["num_features"]) == (0, 15)


LABELS = ("tench", "goldfish", "Müller's", "a, b", "e", "f", "g")


def test_labels_travel_with_the_classifier(tmp_path: Path) -> None:
    for format_name, read in (
        ("safetensors-transformers", lambda values: [values["id2label"][str(index)] for index in range(7)]),
        ("safetensors-timm", lambda values: values["pretrained_cfg"]["label_names"]),
    ):
        path = write(tmp_path / format_name, format_name, "plain", "classifier", labels=LABELS)
        assert read(json.loads((path / "config.json").read_text(encoding="utf-8"))) == list(LABELS)


def test_a_name_leads_back_to_its_class(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "safetensors-transformers", "plain", "classifier", labels=LABELS)
    assert transformers_config.labels(folder) == list(LABELS)
    values = json.loads((folder / "config.json").read_text())
    values["label2id"] |= {"tench": 1, "goldfish": 0}
    (folder / "config.json").write_text(json.dumps(values))
    assert transformers_config.labels(folder) == ["tench, which is no 0", "goldfish, which is no 1", *LABELS[2:]]
    del values["label2id"]
    (folder / "config.json").write_text(json.dumps(values))
    assert transformers_config.labels(folder) == list(LABELS)


SIDE = 20
"""Of small.py's plain architecture."""

PREPARED = {
    "as written": ("safetensors-transformers", {}, []),
    "as written for ONNX": ("onnx", {}, []),
    "as written for timm": ("safetensors-timm", {}, []),
    "the name of its own day": ("safetensors-transformers", {"image_processor_type": "ViTFeatureExtractor"}, []),
    "a size without words": ("safetensors-transformers", {"size": SIDE}, []),
    "what is left out is the default": ("safetensors-transformers", {"rescale_factor": None, "image_mean": None}, []),
    "a default of another size": (
        "safetensors-transformers",
        {"size": None},
        ["size is {'height': 224, 'width': 224}"],
    ),
    "another mean": ("safetensors-transformers", {"image_mean": [0.485, 0.456, 0.406]}, ["image_mean is [0.485"]),
    "another mean for ONNX": ("onnx", {"image_mean": [0.485, 0.456, 0.406]}, ["image_mean is [0.485"]),
    "bicubic": ("safetensors-transformers", {"resample": 3}, ["resample is 3, not 2"]),
    "[0, 1]": ("safetensors-transformers", {"do_normalize": False}, ["do_normalize is False, not True"]),
    "a crop": ("safetensors-transformers", {"do_center_crop": True}, ["do_center_crop is True, not False"]),
    "the shortest edge": ("safetensors-transformers", {"size": {"shortest_edge": SIDE}}, ["size is {'shortest_edge'"]),
    "another processor": (
        "safetensors-transformers",
        {"image_processor_type": "CLIPImageProcessor"},
        ["image_processor_type is 'CLIPImageProcessor', not 'ViTImageProcessor'"],
    ),
    "anything": (
        "safetensors-transformers",
        {"image_mean": "x" * 1000, "size": [[[]]], "resample": {}},
        ["size is", "resample is", "image_mean is"],
    ),
    "timm's own crop": ("safetensors-timm", {"crop_pct": 0.9, "crop_mode": "center"}, ["crop_pct is", "crop_mode is"]),
    "timm's own mean": ("safetensors-timm", {"mean": None}, ["mean is None, not [0.5, 0.5, 0.5]"]),
    "timm's size": ("safetensors-timm", {"input_size": [3, 224, 224]}, ["input_size is [3, 224, 224], not"]),
}


@pytest.mark.parametrize("case", PREPARED)
def test_a_folder_is_held_to_the_published_preprocessing(tmp_path: Path, case: str) -> None:
    format_name, changes, expected = PREPARED[case]
    folder = write(tmp_path / "model", format_name, "plain", "classifier")
    of_timm = format_name == "safetensors-timm"
    path = folder / ("config.json" if of_timm else transformers_config.PREPROCESSOR)
    values = json.loads(path.read_text())
    said = values["pretrained_cfg"] if of_timm else values
    said |= changes
    for key in [key for key, value in changes.items() if value is None]:
        del said[key]
    path.write_text(json.dumps(values))
    found = (safetensors_timm if of_timm else transformers_config).preprocessing(folder, SIDE)
    assert len(found) == len(expected)
    assert all(one.startswith(begin) and len(one) < 200 for one, begin in zip(found, expected, strict=True)), found


def test_a_folder_without_a_preprocessor_says_nothing_of_pictures(tmp_path: Path) -> None:
    assert transformers_config.preprocessing(tmp_path, SIDE) is None


def test_what_timm_reads_is_what_the_folder_says(tmp_path: Path) -> None:
    """timm fills in its own defaults; of ours it must find every setting said."""
    values = json.loads((write(tmp_path / "m", "safetensors-timm", "plain", "classifier") / "config.json").read_text())
    found = need("timm").data.resolve_data_config(pretrained_cfg=values["pretrained_cfg"])
    expected = {"input_size": [3, SIDE, SIDE], **safetensors_timm.SQUASH}
    assert {key: found[key] for key in expected} == expected


CHANGED = {
    "transformers' erf": ("safetensors-transformers", "gelu_pytorch_tanh", "gelu", "hidden_act 'gelu'"),
    "timm's erf": ("safetensors-timm", "gelu_tanh", "gelu", "act_layer 'gelu'"),
    "no JSON": ("safetensors-timm", "{", "", "can't be read"),
    "a list": ("safetensors-timm", r"(?s).*", "[]", "is no JSON object"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_changed_configuration_is_refused(tmp_path: Path, change: str) -> None:
    format_name, old, new, message = CHANGED[change]
    path = write(tmp_path / "model", format_name, "plain", "classifier")
    text = (path / "config.json").read_text()
    (path / "config.json").write_text(re.sub(old, new, text, count=1))
    with pytest.raises(AssetError, match=message):
        formats.module(format_name).load(path)


def test_a_changed_epsilon_changes_what_the_folder_computes(tmp_path: Path) -> None:
    """`load` runs what the folder says, not what vitport would have written."""
    path = write(tmp_path / "model", "safetensors-transformers", "plain", "classifier")
    text = (path / "config.json").read_text()
    (path / "config.json").write_text(text.replace('"layer_norm_eps": 1e-06', '"layer_norm_eps": 1e-12'))
    found = formats.module("safetensors-transformers").load(path)(small.case("plain").images)
    assert not small.verdict("plain", "realistic", "logits", found).passed


def definition(name: str, variant: str) -> Model:
    return Model(small.ARCHITECTURES[name], variant, small.case(name).leaves(variant))


def last_bit(path: Path) -> None:
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-4] ^= 1
    (path / "model.safetensors").write_bytes(content)


def reconfigured(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = (path / "config.json").read_text()
        assert text.count(old) == 1
        (path / "config.json").write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize("format_name", ["safetensors-transformers", "safetensors-timm"])
@each_variant
def test_an_untouched_folder_is_the_definition_itself(folder: Path, format_name: str, variant: str) -> None:
    """And computes what the yardstick does, bit for bit: nothing is lost where it is not run."""
    case, runner = (
        small.case("plain"),
        formats.module(format_name).load(exported(folder, format_name, "plain", variant)),
    )
    assert runner.model.same(definition("plain", variant))
    taps = numpy.run(case.architecture, case.params, case.images, "classifier", "float32")
    assert np.array_equal(runner(case.images), taps[TAPS[variant]])


OTHERS = {
    "one bit": ("safetensors-timm", last_bit),
    "timm's heads": ("safetensors-timm", reconfigured('"num_heads": 3', '"num_heads": 5')),
    "transformers' heads": ("safetensors-transformers", reconfigured('_heads": 3', '_heads": 5')),
    "epsilon": ("safetensors-transformers", reconfigured("1e-06", "1.0001e-06")),
}


@pytest.mark.parametrize("change", OTHERS)
def test_a_folder_that_is_not_the_definition_is_told_from_it(tmp_path: Path, change: str) -> None:
    format_name, spoil = OTHERS[change]
    path = write(tmp_path / "model", format_name, "plain", "features")
    spoil(path)
    assert not formats.module(format_name).load(path).model.same(definition("plain", "features"))


def test_a_hybrid_for_timm_is_not_the_definition(folder: Path) -> None:
    """Its kernels are rescaled, and timm's operations are others: it has to be run."""
    model = formats.module("safetensors-timm").load(exported(folder, "safetensors-timm", "stem", "classifier")).model
    assert model.ops is TimmOps
    assert not model.same(definition("stem", "classifier"))


WIDTHS = [(width, mlp) for width in (7, 11, 15, 48, 56, 192, 1280) for mlp in range(1, 600)]


def test_timms_mlp_width_survives_its_ratio() -> None:
    """`int(width * ratio)`, as timm computes it (vision_transformer.py, Block)."""
    truncated = 0
    for width, mlp in WIDTHS:
        architecture = small.replace(small.PLAIN, width=width, heads=1, mlp_width=mlp)
        assert int(width * mlp_ratio(architecture)) == mlp
        truncated += int(width * (mlp / width)) != mlp
    assert truncated > 50


# timm's StdConv: another formula, and kernels that arrive at the same result through it.

KERNELS = {
    f"std {std:g}, mean {ratio:g} std": np.random.default_rng(0).normal(ratio * std, std, (3, 3, 16, 8))
    for std in (1e-6, 1e-5, 1e-4, 1e-2, 1.0)
    for ratio in (0, 1, 100)
}


def stock(kernel: np.ndarray) -> np.ndarray:
    """timm's own words (layers/std_conv.py, StdConv2dSame): a batch norm in training over each output channel."""
    weight = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
    flat = torch.nn.functional.batch_norm(
        weight.reshape(1, len(weight), -1), None, None, training=True, momentum=0.0, eps=1e-8
    )
    return flat.reshape(weight.shape).numpy().transpose(2, 3, 1, 0)


@pytest.mark.parametrize("kind", KERNELS)
def test_rescaled_kernels_make_timms_formula_the_original(kind: str) -> None:
    kernel = KERNELS[kind]
    expected = NumPyOps().standardize(kernel, 1e-5)
    for standardized in (TimmOps().standardize(rescale(kernel), 1e-5), stock(rescale(kernel))):
        assert np.abs(standardized - expected).max() <= 1e-12 * np.abs(expected).max()
    if "std 1e-0" in kind:
        assert np.abs(stock(kernel) - expected).max() > 1e-2, "without the rescale it is another function"


@pytest.mark.parametrize("kind", KERNELS)
def test_timm_ops_are_timms_own_formula(kind: str) -> None:
    found, expected = TimmOps().standardize(KERNELS[kind], 1e-5), stock(KERNELS[kind])
    assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


def test_rescaling_a_constant_kernel_leaves_no_nan() -> None:
    assert np.array_equal(rescale(np.ones((1, 1, 4, 2), np.float32)), np.zeros((1, 1, 4, 2), np.float32))


def test_timms_epsilons_are_those_of_its_model() -> None:
    client = need("timm")
    with torch.device("meta"):
        model = client.create_model("vit_small_r26_s32_224", pretrained=False)
    kinds = {"StdConv2dSame": safetensors_timm.TIMM_STD_CONV_EPS, "GroupNormAct": safetensors_timm.TIMM_GROUP_NORM_EPS}
    for kind, eps in kinds.items():
        assert {module.eps for module in model.modules() if type(module).__name__ == kind} == {eps}


# The table.


def test_every_module_keeps_the_contract() -> None:
    for name in FORMATS:
        module = formats.module(name)
        assert all(callable(getattr(module, function)) for function in ("output", "export", "load"))
        assert isinstance(module.INPUT, Port)
        assert module.__doc__


def test_entries_are_files_that_are_written(folder: Path) -> None:
    for name, row in FORMATS.items():
        path = exported(folder, name, "plain", "classifier")
        assert (path / row.entry).exists()


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault) as fault:
        formats.require("onnx", formats.FORMATS["onnx"].packages)
    assert str(fault.value) == (
        "onnx needs onnx and onnxruntime, which can't be imported (no module named onnx); pip install onnx onnxruntime"
    )
    formats.require("safetensors-timm", formats.FORMATS["safetensors-timm"].packages)


def test_a_broken_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delitem(sys.modules, "vitport.formats.saved_model", raising=False)
    with pytest.raises(
        EnvironmentFault,
        match=r"^saved_model needs tensorflow, which can't be imported \(.*\); pip install tensorflow$",
    ):
        formats.module("saved_model")


def test_the_oldest_versions_are_those_that_are_asked_of_pip() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    found = dict(each.split(">=") for each in asked if each.split(">=")[0] in formats.OLDEST)
    assert found == dict(formats.OLDEST)
    assert {*formats.ORACLE_PACKAGES, *(name for row in FORMATS.values() for name in row.packages)} == set(found)


def test_onnx_takes_the_opset_of_the_manifest(tmp_path: Path) -> None:
    path = write(tmp_path / "model", "onnx", "plain", "features", opset=17)
    assert onnx.load(path / "model.onnx").opset_import[0].version == 17


def test_transformers_needs_no_norm_but_its_own() -> None:
    """The pre-logits of the features variant come out under the name that the class gives them."""
    values = transformers_config.config(Export(architecture=small.PLAIN, variant="features"))
    assert values["architectures"] == ["ViTForImageClassification"]


@each_variant
def test_onnx_of_a_plain_vit_has_the_configuration_that_optimum_opens_it_by(variant: str, tmp_path: Path) -> None:
    path, twin = (write(tmp_path / name, name, "plain", variant) for name in ("onnx", "safetensors-transformers"))
    for name in ("config.json", "preprocessor_config.json"):
        assert (path / name).read_bytes() == (twin / name).read_bytes()


@pytest.mark.parametrize("name", ["hybrid", "representation"])
def test_onnx_of_what_transformers_has_no_class_for_is_one_file(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model", "onnx", name, "classifier")
    assert [each.name for each in path.iterdir()] == ["model.onnx"]
