"""Every primitive of every backend equals its formula; every backend's definition equals the oracle, tap by tap."""

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
import small
import tensorflow as tf
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from primitives import CHECKS, Check, gelu_erf, gelu_tanh, once
from small import EXACT, assert_exact, disagreement

from vitport.architectures import hybrid as hybrid_stem
from vitport.architectures import vit
from vitport.architectures.ops import Ops
from vitport.arrays import Params
from vitport.backends import numpy as numpy_backend
from vitport.backends.jax import JaxOps, wide_types
from vitport.backends.numpy import NumPyOps
from vitport.backends.onnx import OnnxOps
from vitport.backends.onnx_graph import BATCH, Graph, Value, Weight
from vitport.backends.tensorflow import TensorFlowOps
from vitport.backends.torch import TorchOps

OPERATIONS = {"numpy": NumPyOps, "tensorflow": TensorFlowOps, "torch": TorchOps, "onnx": OnnxOps, "jax": JaxOps}
METHODS = [name for name in vars(Ops) if inspect.isfunction(vars(Ops)[name]) and not name.startswith("_")]

OPSET = 20
FLOAT32 = 4e-6
"""Of the largest value of a result: dozens of roundings."""


# One call of one operation in each framework: NumPy arrays in, a NumPy array out.


def _converted(value: object, tensor: Callable) -> object:
    if isinstance(value, dict):
        return {name: tensor(leaf) for name, leaf in value.items()}
    return tensor(value) if isinstance(value, np.ndarray) else value


def by_numpy(check: Check, dtype: str) -> np.ndarray:
    return getattr(NumPyOps(), check.method)(**check.rounded(dtype))


def by_tensorflow(check: Check, dtype: str) -> np.ndarray:
    arguments = once(check.rounded(dtype), lambda value: _converted(value, tf.constant))
    return getattr(TensorFlowOps(), check.method)(**arguments).numpy()


def by_torch(check: Check, dtype: str) -> np.ndarray:
    arguments = once(check.rounded(dtype), lambda value: _converted(value, torch.tensor))
    return getattr(TorchOps(), check.method)(**arguments).numpy()


def by_jax(check: Check, dtype: str) -> np.ndarray:
    with wide_types(dtype == "float64"):
        arguments = {name: _converted(value, jax.numpy.asarray) for name, value in check.rounded(dtype).items()}
        return np.asarray(getattr(JaxOps(), check.method)(**arguments))


def by_onnx_reference(check: Check, dtype: str, opset: int = OPSET, channels_first: bool = False) -> np.ndarray:
    return _by_onnx(
        check, dtype, opset, channels_first, lambda model, feeds: ReferenceEvaluator(model).run(None, feeds)
    )


def by_onnxruntime(check: Check, dtype: str, opset: int = OPSET, channels_first: bool = False) -> np.ndarray:
    def infer(model: onnx.ModelProto, feeds: dict) -> list[np.ndarray]:
        return onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)

    return _by_onnx(check, dtype, opset, channels_first, infer)


def _by_onnx(check: Check, dtype: str, opset: int, channels_first: bool, infer: Callable) -> np.ndarray:
    graph, feeds, arguments = Graph(opset, np.dtype(dtype)), {}, {}
    rounded = check.rounded(dtype)
    for name, value in rounded.items():
        same = next(first for first, other in rounded.items() if other is value)
        if same != name and same in feeds:
            arguments[name] = arguments[same]
        elif isinstance(value, np.ndarray) and name not in check.weights:
            turned = channels_first and value.ndim == 4
            feeds[name] = np.ascontiguousarray(value.transpose(0, 3, 1, 2)) if turned else value
            arguments[name] = Value(graph.input(name), value.shape[1:], channels_first=turned)
        elif isinstance(value, dict):
            arguments[name] = {leaf: Weight(f"scope/{leaf}", array) for leaf, array in value.items()}
        else:
            arguments[name] = Weight(name, value) if isinstance(value, np.ndarray) else value
    result = getattr(OnnxOps(graph), check.method)(**arguments)
    if isinstance(result, Weight):
        return result.array.astype(dtype)
    if not graph.taps:
        graph.tap("result", result.wire)
    (found,) = infer(_model(graph, feeds), feeds)
    assert result.shape == (found.transpose(0, 2, 3, 1) if result.channels_first else found).shape[1:]
    return found.transpose(0, 2, 3, 1) if result.channels_first else found


def _model(graph: Graph, feeds: dict[str, np.ndarray]) -> onnx.ModelProto:
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    inputs = [helper.make_tensor_value_info(n, kind, (BATCH, *array.shape[1:])) for n, array in feeds.items()]
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in graph.taps]
    weights = [numpy_helper.from_array(np.asarray(a, order="C"), name) for name, a in graph.weights.items()]
    opsets = [helper.make_opsetid("", graph.opset)]
    body = helper.make_graph(graph.nodes(), "one", inputs, outputs, weights)
    return helper.make_model(body, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))


ENGINES: dict[str, tuple[Callable, str]] = {
    "numpy-float64": (by_numpy, "float64"),
    "numpy-float32": (by_numpy, "float32"),
    "tensorflow-float64": (by_tensorflow, "float64"),
    "tensorflow-float32": (by_tensorflow, "float32"),
    "torch-float64": (by_torch, "float64"),
    "torch-float32": (by_torch, "float32"),
    "jax-float64": (by_jax, "float64"),
    "jax-float32": (by_jax, "float32"),
    "onnx.reference-float64": (by_onnx_reference, "float64"),
    "onnxruntime-float32": (by_onnxruntime, "float32"),
}


def assert_formula(found: np.ndarray, check: Check, dtype: str) -> None:
    """`found` is what the formula says, to rounding."""
    expected = check.expected(dtype)
    tolerance = check.float64 if dtype == "float64" else FLOAT32 * check.slack
    assert found.dtype == dtype
    assert found.shape == expected.shape
    worst = np.abs(found - expected).max() / np.abs(expected).max()
    assert worst <= tolerance, f"{check.method} is off by {worst:.2e} of its largest value, {tolerance:.0e} allowed"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.method}: {check.name}")
@pytest.mark.parametrize("engine", ENGINES)
def test_primitive_equals_its_formula(engine: str, check: Check) -> None:
    call, dtype = ENGINES[engine]
    assert_formula(call(check, dtype), check, dtype)


ON_GRIDS = [check for check in CHECKS if np.ndim(check.arguments.get("x")) == 4]


@pytest.mark.parametrize("check", ON_GRIDS, ids=lambda check: f"{check.method}: {check.name}")
def test_onnx_primitive_takes_either_channel_order(check: Check) -> None:
    assert_formula(by_onnx_reference(check, "float64", channels_first=True), check, "float64")


BY_OPSET = [check for check in CHECKS if check.method in ("attention", "gelu_tanh", "layer_norm", "prepend_token")]


@pytest.mark.parametrize("check", BY_OPSET, ids=lambda check: f"{check.method}: {check.name}")
@pytest.mark.parametrize("opset", [17, 23, 26])
def test_onnx_primitive_is_the_same_in_every_opset(opset: int, check: Check) -> None:
    assert_formula(by_onnxruntime(check, "float32", opset), check, "float32")
    assert_formula(by_onnx_reference(check, "float64", opset), check, "float64")


FORMULA_FAULTS = {
    "erf for tanh": ("tanh GELU", lambda check: gelu_erf(check.arguments["x"])),
    "relu unclipped": ("relu", lambda check: check.arguments["x"]),
    "last token": ("row 0 of 2", lambda check: check.arguments["x"][:, -1]),
}


@pytest.mark.parametrize("fault", FORMULA_FAULTS)
def test_another_formula_is_told_apart(fault: str) -> None:
    name, wrong = FORMULA_FAULTS[fault]
    check = next(check for check in CHECKS if check.name == name)
    with pytest.raises(AssertionError, match="of its largest value"):
        assert_formula(wrong(check), check, "float64")


NEAR_GELU = np.linspace(-6, 6, 241).reshape(1, 241)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name.endswith("float64")])
def test_gelu_is_the_tanh_one_and_no_other(engine: str) -> None:
    call, dtype = ENGINES[engine]
    found = call(Check("GELU", "gelu_tanh", gelu_tanh, {"x": NEAR_GELU}), dtype)
    assert np.abs(found - gelu_tanh(NEAR_GELU)).max() <= 1e-12
    assert np.abs(found - gelu_erf(NEAR_GELU)).max() > 1e-4


# Completeness.


def missing_or_different(backend: type) -> list[str]:
    """Methods of the protocol that `backend` lacks or takes other arguments in."""
    return [
        method
        for method in METHODS
        if not hasattr(backend, method)
        or list(inspect.signature(getattr(backend, method)).parameters)
        != list(inspect.signature(getattr(Ops, method)).parameters)
    ]


@pytest.mark.parametrize("backend", OPERATIONS)
def test_backend_has_every_operation(backend: str) -> None:
    assert missing_or_different(OPERATIONS[backend]) == []


def test_a_missing_or_different_operation_is_noticed() -> None:
    class Incomplete(NumPyOps):
        add = None

        def relu(self, y: np.ndarray) -> np.ndarray:
            return y

    del Incomplete.add
    assert missing_or_different(Incomplete) == ["relu"]
    assert missing_or_different(object) == METHODS


def test_every_operation_has_a_formula() -> None:
    assert {check.method for check in CHECKS} == set(METHODS)
    assert len(METHODS) == 15


def test_every_backend_in_the_folder_is_tested() -> None:
    folder = Path(inspect.getfile(numpy_backend)).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "onnx_graph", "foreign"}
    assert files == set(OPERATIONS)


# The whole definition.

WHOLE = [(name, profile) for name in small.ARCHITECTURES for profile in ("realistic", "stress")]
WHOLE += [("R_Ti_16@64", "realistic"), ("R_Ti_16@64", "stress"), ("R26_S_32@64", "stress")]


@pytest.mark.parametrize(("name", "profile"), WHOLE, ids=[f"{name}-{profile}" for name, profile in WHOLE])
@pytest.mark.parametrize("backend", OPERATIONS)
def test_definition_equals_the_oracle_at_every_tap(backend: str, name: str, profile: str) -> None:
    case = small.case(name, profile)
    module = import_module(f"vitport.backends.{backend}")
    assert_exact(module.run(case.architecture, case.params, case.images, "classifier"), case.oracle)


@pytest.mark.parametrize("backend", OPERATIONS)
def test_features_end_at_the_pre_logits(backend: str, each: small.Case) -> None:
    module = import_module(f"vitport.backends.{backend}")
    taps = module.run(each.architecture, each.leaves("features"), each.images, "features")
    assert_exact(taps, {name: value for name, value in each.oracle.items() if name != "logits"})
    assert list(taps)[-1] == "pre_logits"


@pytest.mark.parametrize("backend", OPERATIONS)
def test_float32_is_float32(backend: str, hybrid: small.Case) -> None:
    module = import_module(f"vitport.backends.{backend}")
    taps = module.run(hybrid.architecture, hybrid.params, hybrid.images, "classifier", "float32")
    assert {value.dtype for value in taps.values()} == {np.dtype("float32")}
    assert 1e-8 < disagreement(taps, hybrid.oracle)["logits"] < 1e-3


# Faults planted in the definition: the comparison must find every one.


def _append_token(self: NumPyOps, token: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.broadcast_to(token, (len(x), 1, x.shape[-1]))], axis=1)


def _eps_in_the_variance(self: NumPyOps, kernel: np.ndarray, eps: float) -> np.ndarray:
    centred = kernel - kernel.mean(axis=(0, 1, 2))
    return centred / np.sqrt(np.square(centred).mean(axis=(0, 1, 2)) + eps)


def _swapped_query_and_key(self: NumPyOps, queries: np.ndarray, tokens: np.ndarray, weights: Params) -> np.ndarray:
    swapped = {"query": "key", "key": "query"}
    parts = {name: name.split("/") for name in weights}
    exchanged = {name: weights[f"{swapped.get(p, p)}/{leaf}"] for name, (p, leaf) in parts.items()}
    return ATTENTION(self, queries, tokens, exchanged)


def _scaled_by_the_width(self: NumPyOps, queries: np.ndarray, tokens: np.ndarray, weights: Params) -> np.ndarray:
    factor = np.sqrt(weights["query/kernel"].shape[2] / weights["query/kernel"].shape[0])
    scaled = {name: leaf * (factor if name.startswith("query") else 1) for name, leaf in weights.items()}
    return ATTENTION(self, queries, tokens, scaled)


def _last_token_asks(self: NumPyOps, queries: np.ndarray, tokens: np.ndarray, weights: Params) -> np.ndarray:
    return ATTENTION(self, queries if queries.ndim == 3 else tokens[:, -1], tokens, weights)


def _no_norm_of_single_tokens(self: NumPyOps, x: np.ndarray, scale: np.ndarray, bias: np.ndarray, eps: float):
    return x if x.ndim == 2 else LAYER_NORM(self, x, scale, bias, eps)


def _by_column(self: NumPyOps, x: np.ndarray) -> np.ndarray:
    return x.swapaxes(1, 2).reshape(len(x), -1, x.shape[-1])


ATTENTION, LAYER_NORM = NumPyOps.attention, NumPyOps.layer_norm

FAULTS: dict[str, tuple[str, object, str, object]] = {
    "erf GELU": ("plain", NumPyOps, "gelu_tanh", lambda self, x: gelu_erf(x)),
    "LayerNorm epsilon 1e-12": ("plain", vit, "LAYER_NORM_EPS", 1e-12),
    "LayerNorm epsilon 1e-5": ("plain", vit, "LAYER_NORM_EPS", 1e-5),
    "query and key swapped": ("plain", NumPyOps, "attention", _swapped_query_and_key),
    "attention scaled by the width": ("plain", NumPyOps, "attention", _scaled_by_the_width),
    "another than the class token asks": ("plain", NumPyOps, "attention", _last_token_asks),
    "no encoder_norm": ("plain", NumPyOps, "layer_norm", _no_norm_of_single_tokens),
    "class token at the end": ("plain", NumPyOps, "prepend_token", _append_token),
    "grid read by column": ("plain", NumPyOps, "flatten_grid", _by_column),
    "no tanh in pre_logits": ("representation", NumPyOps, "tanh", lambda self, x: x),
    "StdConv epsilon in the variance": ("hybrid", NumPyOps, "standardize", _eps_in_the_variance),
    "StdConv epsilon 1e-6": ("hybrid", hybrid_stem, "STD_CONV_EPS", 1e-6),
    "symmetric padding": (
        "hybrid",
        numpy_backend,
        "same_padding",
        lambda size, window, stride: ((window - 1) // 2,) * 2,
    ),
    "16 groups": ("hybrid", hybrid_stem, "GROUPS", 16),
    "GroupNorm epsilon 1e-5": ("hybrid", hybrid_stem, "GROUP_NORM_EPS", 1e-5),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_definition_is_found(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    name, target, attribute, wrong = FAULTS[fault]
    case = small.case(name)
    oracle = case.oracle
    monkeypatch.setattr(target, attribute, wrong)
    taps = numpy_backend.run(case.architecture, case.params, case.images, "classifier")
    monkeypatch.undo()
    with pytest.raises(AssertionError, match="of its spread away from the oracle"):
        assert_exact(taps, oracle)
    assert disagreement(taps, oracle)["logits"] > EXACT


def test_a_nan_or_a_lost_tap_is_no_agreement(plain: small.Case) -> None:
    taps = {name: value.copy() for name, value in plain.oracle.items()}
    taps["logits"][0, 0] = np.nan
    with pytest.raises(AssertionError, match="logits is nan of its spread"):
        assert_exact(taps, plain.oracle)
    del taps["logits"]
    with pytest.raises(AssertionError, match=r"taps differ: \['logits'\]"):
        assert_exact(taps, plain.oracle)
