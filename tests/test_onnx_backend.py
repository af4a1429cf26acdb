"""The ONNX graph: valid in every opset, equal to the definition in two engines, named by taps, free of this machine."""

import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import small
from onnx import helper
from onnx.reference import ReferenceEvaluator

from vitport import gates, images, metrics
from vitport.architectures import VARIANTS
from vitport.backends import numpy as numpy_backend
from vitport.backends import onnx as backend
from vitport.backends.onnx_graph import CONSTANT
from vitport.formats import Export
from vitport.formats import onnx as onnx_format
from vitport.opsets import ATTENTION_SINCE, DEFAULT, GELU_SINCE, OPSETS

PROVENANCE = {
    "name": "tiny",
    "title": "A tiny model",
    "license": "Apache-2.0",
    "converted_from": "https://storage.googleapis.com/vit_models/tiny.npz",
}

each_opset = pytest.mark.parametrize("opset", OPSETS)
each_variant = pytest.mark.parametrize("variant", VARIANTS)
each_model = pytest.mark.parametrize("name", small.ARCHITECTURES)


@cache
def exported(name: str, variant: str, opset: int, folder: Path) -> bytes:
    case = small.case(name)
    spec = Export(architecture=case.architecture, variant=variant, opset=opset, provenance=PROVENANCE)
    target = folder / f"{name}-{variant}-{opset}"
    target.mkdir()
    onnx_format.export(spec, case.params, target)
    return (target / "model.onnx").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture
def model(request: pytest.FixtureRequest, folder: Path) -> onnx.ModelProto:
    """The classifier of the hybrid in the default opset."""
    return onnx.load_model_from_string(exported("hybrid", "classifier", DEFAULT, folder))


@each_opset
@each_variant
@each_model
def test_every_opset_is_valid_and_the_same_function(name: str, variant: str, opset: int, folder: Path) -> None:
    case, data = small.case(name), exported(name, variant, opset, folder)
    onnx.checker.check_model(data, full_check=True)
    session = onnxruntime.InferenceSession(data)
    (found,) = session.run(None, {"pixel_values": np.ascontiguousarray(case.images.transpose(0, 3, 1, 2))})
    measured = metrics.error(found, case.oracle[session.get_outputs()[0].name])
    assert gates.float32(measured, yardstick(name, variant)).passed, measured


@cache
def yardstick(name: str, variant: str) -> float:
    case, tap = small.case(name), "logits" if variant == "classifier" else "pre_logits"
    found = numpy_backend.run(case.architecture, case.params, case.images, "classifier", "float32")[tap]
    # One draw on two images of a tiny model is a small sample; a wrong function is hundreds of times away.
    return 3 * metrics.error(found, case.oracle[tap]).rms


@pytest.mark.parametrize("opset", [17, GELU_SINCE, ATTENTION_SINCE, OPSETS[-1]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_model
def test_the_reference_evaluator_agrees_with_numpy(name: str, dtype: str, opset: int) -> None:
    case = small.case(name)
    graph = backend.build(case.architecture, case.params, "classifier", opset, dtype)
    evaluator = ReferenceEvaluator(backend.model_of(graph, case.architecture, {"logits": 7}))
    feeds = {"pixel_values": case.images.transpose(0, 3, 1, 2).astype(dtype)}
    (found,) = evaluator.run(None, feeds)
    expected = numpy_backend.run(case.architecture, case.params, case.images, "classifier", "float64")["logits"]
    difference = np.abs(found - expected).max() / expected.std()
    assert difference <= (small.EXACT if dtype == "float64" else 1e-4)


@pytest.mark.parametrize("count", [1, 2, 5])
@each_variant
@each_model
def test_the_batch_is_free(name: str, variant: str, count: int, folder: Path) -> None:
    architecture = small.case(name).architecture
    session = onnxruntime.InferenceSession(exported(name, variant, DEFAULT, folder))
    pixels = images.fixed(architecture.resolution).transpose(0, 3, 1, 2)
    batch = np.ascontiguousarray(pixels[np.arange(count) % 2])
    (found,) = session.run(None, {"pixel_values": batch})
    (two,) = session.run(None, {"pixel_values": np.ascontiguousarray(pixels)})
    assert found.shape == (count, architecture.output_width(variant))
    assert np.abs(found - two[np.arange(count) % 2]).max() <= 1e-4 * two.std()


def test_input_and_output_say_what_they_are(model: onnx.ModelProto) -> None:
    (image,), (logits,) = model.graph.input, model.graph.output
    dimensions = image.type.tensor_type.shape.dim
    assert image.name == "pixel_values"
    assert [dimension.dim_param or dimension.dim_value for dimension in dimensions] == ["batch", 3, 40, 40]
    assert [dimension.denotation for dimension in dimensions][:2] == ["DATA_BATCH", "DATA_CHANNEL"]
    assert image.type.denotation == "IMAGE"
    assert logits.name == "logits"
    assert [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim] == ["batch", 7]


def test_features_are_called_pre_logits(folder: Path) -> None:
    features = onnx.load_model_from_string(exported("plain", "features", DEFAULT, folder))
    assert [output.name for output in features.graph.output] == ["pre_logits"]
    assert not [weight.name for weight in features.graph.initializer if weight.name.startswith("head/")]


# Names.


@each_model
@pytest.mark.parametrize("opset", [OPSETS[0], DEFAULT, OPSETS[-1]])
def test_every_tap_is_a_value_and_every_node_lies_under_its_tap(name: str, opset: int, folder: Path) -> None:
    taps = list(small.case(name).oracle)
    graph = onnx.load_model_from_string(exported(name, "classifier", opset, folder)).graph
    values = {output for node in graph.node for output in node.output}
    assert set(taps) <= values
    assert all(any(node.name.startswith(f"{tap}/") for tap in taps) for node in graph.node)


def bad_names(graph: onnx.GraphProto) -> list[str]:
    """Names of nodes and values that are empty or stand twice."""
    nodes = Counter(node.name for node in graph.node)
    values = Counter(value for node in graph.node for value in node.output)
    values.update([*(tensor.name for tensor in graph.initializer), *(value.name for value in graph.input)])
    return [name for names in (nodes, values) for name, count in names.items() if count > 1 or not name]


@each_model
@each_variant
@pytest.mark.parametrize("opset", [OPSETS[0], DEFAULT, OPSETS[-1]])
def test_no_name_is_empty_or_stands_twice(name: str, variant: str, opset: int, folder: Path) -> None:
    assert bad_names(onnx.load_model_from_string(exported(name, variant, opset, folder)).graph) == []


@pytest.mark.parametrize("fault", ["empty node", "twice a node", "twice a value"])
def test_bad_names_are_found(fault: str, model: onnx.ModelProto) -> None:
    first, second = model.graph.node[:2]
    if fault == "twice a value":
        second.output[0] = first.output[0]
    else:
        second.name = "" if fault == "empty node" else first.name
    assert bad_names(model.graph) == [second.output[0] if fault == "twice a value" else second.name]


def test_weights_carry_the_names_of_the_checkpoint(model: onnx.ModelProto, hybrid: small.Case) -> None:
    """All of them; the rest are constants, which say what they hold."""
    names = {tensor.name for tensor in model.graph.initializer}
    assert set(hybrid.params) <= names
    rest = names - set(hybrid.params)
    assert all(name.startswith(CONSTANT) for name in rest), sorted(rest)


# What else the file says.


def traces_of_this_machine(data: bytes) -> list[str]:
    """Paths of this process that stand in `data`."""
    paths = {str(Path.cwd()), str(Path.home()), sys.prefix, str(Path(onnx.__file__).parent), "site-packages", ".py"}
    return sorted(path for path in paths if path != "/" and path.encode() in data)


@each_model
@each_variant
def test_no_path_of_this_machine_is_inside(name: str, variant: str, folder: Path) -> None:
    data = exported(name, variant, DEFAULT, folder)
    assert traces_of_this_machine(data) == []
    assert str(folder).encode() not in data


def test_a_path_would_be_found(model: onnx.ModelProto) -> None:
    model.graph.node[0].doc_string = __file__
    assert ".py" in traces_of_this_machine(model.SerializeToString())


def test_provenance_is_where_viewers_look(model: onnx.ModelProto) -> None:
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties == {**PROVENANCE, **onnx_format.IMAGE_METADATA}
    assert (model.producer_name, model.graph.name, model.doc_string) == ("vitport", "tiny", "A tiny model")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert session.get_modelmeta().custom_metadata_map == properties


@each_opset
def test_versions_are_the_oldest_that_will_do(opset: int, folder: Path) -> None:
    model = onnx.load_model_from_string(exported("plain", "classifier", opset, folder))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert model.ir_version == helper.find_min_ir_version_for(list(model.opset_import))
    assert model.ir_version <= 13


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


@each_opset
@each_model
def test_operators_are_those_of_the_opset(name: str, opset: int, folder: Path) -> None:
    found = operators(onnx.load_model_from_string(exported(name, "classifier", opset, folder)))
    assert ("Attention" in found) == (opset >= ATTENTION_SINCE)
    assert ("Softmax" in found) == (opset < ATTENTION_SINCE)
    assert ("Gelu" in found) == (opset >= GELU_SINCE)
    assert {"Conv", "LayerNormalization"} <= found


def test_every_node_is_used(model: onnx.ModelProto) -> None:
    used = {source for node in model.graph.node for source in node.input} | {"logits"}
    assert {output for node in model.graph.node for output in node.output} <= used
    assert {tensor.name for tensor in model.graph.initializer} <= used


@pytest.mark.parametrize("other", [np.zeros(2), np.ones(3)], ids=["shape", "values"])
def test_two_weights_of_one_name_are_refused(other: np.ndarray) -> None:
    graph = backend.Graph(DEFAULT, np.dtype("float32"))
    wire = graph.input("x")
    for _ in range(2):
        graph.emit("Add", wire, backend.Weight("w", np.zeros(3)))
    with pytest.raises(ValueError, match=r"two different weights are called w, of shapes \(3,\) and "):
        graph.emit("Add", wire, backend.Weight("w", other))


def kernels(model: onnx.ModelProto, path: Path) -> Counter[str]:
    """What ONNX Runtime executes, after its optimizer."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@each_opset
def test_onnx_runtime_has_a_kernel_for_what_we_mean(opset: int, folder: Path, tmp_path: Path) -> None:
    """A GELU is one kernel, a bias is added by its product, and the scale and a transpose are part of the scores."""
    executed = kernels(onnx.load_model_from_string(exported("plain", "classifier", opset, folder)), tmp_path / "model")
    blocks = small.PLAIN.depth
    assert executed["Gelu"] + executed["FastGelu"] == blocks
    assert executed["Gemm"] == 6 * blocks + 1
    assert executed["Attention"] + executed["FusedMatMul"] == blocks
    assert not {"Tanh", "Pow", "Mul", "Div", "Split"} & set(executed)


def test_a_gelu_in_other_words_is_not_one_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cube as two products is the same function, for which ONNX Runtime has no kernel."""
    emit = backend.Graph.emit

    def in_other_words(self: backend.Graph, operator: str, *inputs, **options) -> tuple[int, ...]:
        if operator == "Pow":
            return emit(self, "Mul", inputs[0], *emit(self, "Mul", inputs[0], inputs[0]))
        return emit(self, operator, *inputs, **options)

    monkeypatch.setattr(backend.Graph, "emit", in_other_words)
    case = small.case("plain")
    graph = backend.build(case.architecture, case.params, "classifier", OPSETS[0])
    executed = kernels(backend.model_of(graph, case.architecture, {"logits": 7}), tmp_path / "model")
    assert executed["Gelu"] + executed["FastGelu"] == 0
    assert executed["Tanh"] == small.PLAIN.depth
