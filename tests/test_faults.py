"""The table of faults: each changes the function, leaves the rest alone, and is the same fault in every framework."""

import numpy as np
import pytest
import small

from vitport.architectures import Architecture, forward
from vitport.arrays import Logits, shortened, tf32
from vitport.backends import foreign, jax, onnx, tensorflow, torch
from vitport.backends import numpy as backend
from vitport.faults import FAULTS, Fault, Planted, folders, saboteur, tampering
from vitport.faults.slips import SLIPS

CASES = {**small.ARCHITECTURES}

PLACED = [
    (case, fault.name)
    for case, architecture in CASES.items()
    for fault in FAULTS.values()
    if fault.places(architecture)
]

each = pytest.mark.parametrize(("case", "name"), PLACED, ids=["-".join(row) for row in PLACED])

WEIGHTS = [row for row in PLACED if FAULTS[row[1]].weights]
each_of_weights = pytest.mark.parametrize(("case", "name"), WEIGHTS, ids=["-".join(row) for row in WEIGHTS])

INVISIBLE = {"sign_flipped"}
"""What moves outputs by less than the semantic gate allows is for the gate of weights."""


def planted(case: str, name: str) -> Planted:
    found = FAULTS[name].typical(small.ARCHITECTURES[case])
    assert found is not None
    return found


def outputs(case: small.Case, fault: Planted | None = None, dtype: str = "float64") -> Logits:
    """Of the definition in NumPy, with a fault in it."""
    if fault is None:
        return backend.run(case.architecture, case.params, case.images, "classifier", dtype)["logits"]
    ops = fault.operations(backend.NumPyOps, foreign.words("numpy"))(keep=())
    leaves = backend.Cast(fault.weights(case.params), dtype)
    return forward(case.architecture, ops, leaves, fault.images(case.images).astype(dtype), "classifier")


@each
def test_a_fault_changes_the_function(case: str, name: str) -> None:
    model = small.case(case)
    right, wrong = outputs(model), outputs(model, planted(case, name))
    changed = not np.sqrt(np.square(wrong - right).mean()) <= small.EXACT * right.std()
    assert changed or name in INVISIBLE


@each_of_weights
def test_a_fault_of_weights_keeps_names_shapes_and_types_and_touches_what_it_changes_alone(
    case: str, name: str
) -> None:
    params = small.case(case).params
    before = {leaf: array.copy() for leaf, array in params.items()}
    after = planted(case, name).weights(params)
    assert list(after) == list(params)
    assert {leaf: (a.shape, a.dtype) for leaf, a in after.items()} == {k: (a.shape, a.dtype) for k, a in params.items()}
    assert all(array.flags.c_contiguous for array in after.values())
    assert all(np.array_equal(params[leaf], before[leaf]) for leaf in params), "the checkpoint itself was changed"
    different = [leaf for leaf in after if not np.array_equal(after[leaf], params[leaf])]
    assert different
    assert all(after[leaf] is not params[leaf] for leaf in different)


def test_a_flipped_sign_is_one_bit_of_one_weight() -> None:
    params = small.case("plain").params
    fault = planted("plain", "sign_flipped")
    leaf = fault.place
    bits = params[leaf].view(np.uint32) ^ fault.weights(params)[leaf].view(np.uint32)
    assert sorted(bits.ravel())[-2:] == [0, 0x80000000]


@pytest.mark.parametrize("case", CASES)
def test_places_are_of_the_architecture(case: str) -> None:
    """Faults of hybrids in hybrids only; a place that is not there would raise."""
    architecture = small.ARCHITECTURES[case]
    names = {fault.name for fault in FAULTS.values() if fault.places(architecture)}
    assert ("std_conv_inside" in names) == (architecture.resnet is not None)
    assert ("tanh_missing" in names) == (architecture.representation_size is not None)
    for fault in FAULTS.values():
        for place in fault.places(architecture):
            assert "{" not in fault.at(place).sentence
            fault.at(place).weights(small.case(case).params)


def test_no_two_faults_of_any_kind_have_one_name() -> None:
    """`--fault` names them all, and results are kept by name."""
    names = [*FAULTS, *SLIPS, *folders.SENTENCES, *saboteur.HARMS, *tampering.HARMS]
    assert sorted(set(names)) == sorted(names)


def test_every_row_changes_one_thing() -> None:
    for fault in FAULTS.values():
        assert sum(change is not None for change in (fault.weights, fault.operations, fault.images)) == 1, fault.name
    assert len(FAULTS) >= 30


FRAMEWORKS = {
    "torch": (torch, "TorchOps"),
    "tensorflow": (tensorflow, "TensorFlowOps"),
    "onnx": (onnx, "OnnxOps"),
    "jax": (jax, "JaxOps"),
}

ERF_OF_ONNX = 1e-7
"""onnx 1.21's reference evaluator computes Erf in float32, whatever its input is (`onnx/reference/ops/op_erf.py`)."""

WORDS = ("gelu_erf", "gelu_quick", "attention_scale", "symmetric_padding")
"""Faults that need a framework's own words. JAX, which compiles for seconds, is held to these alone."""

OPERATIONS = [
    (framework, case, name)
    for framework in FRAMEWORKS
    for case, name in PLACED
    if FAULTS[name].operations
    and framework in FAULTS[name].backends
    and (framework != "jax" or name in WORDS)
    and case == ("representation" if FAULTS[name].places(small.REPRESENTATION) else "hybrid")
]


@pytest.mark.parametrize(("framework", "case", "name"), OPERATIONS, ids=["-".join(row) for row in OPERATIONS])
def test_a_fault_of_operations_is_the_same_in_every_framework(
    framework: str, case: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, against NumPy with the same fault: what `selftest` plants is what `bisect` looks for."""
    module, ops = FRAMEWORKS[framework]
    model, fault = small.case(case), planted(case, name)
    monkeypatch.setattr(module, ops, fault.operations(getattr(module, ops), foreign.words(framework)))
    found = module.run(model.architecture, model.params, model.images, "classifier", "float64")["logits"]
    wanted = outputs(model, fault)
    limit = ERF_OF_ONNX if (framework, name) == ("onnx", "gelu_erf") else small.EXACT
    assert np.abs(found - wanted).max() <= limit * wanted.std()


def test_rounding_to_fewer_bits_is_the_hardware_s() -> None:
    """Ties to even, and carries into the exponent; cut, towards zero. Values from the definition of bfloat16."""
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 2 - 2**-9, -1 - 2**-7 - 2**-9], np.float32)
    assert shortened(values, 16).tolist() == [1.0, 1.0, 1 + 2**-6, 2.0, -1 - 2**-7]
    assert shortened(values, 16, rounding=False).tolist() == [1.0, 1.0, 1 + 2**-7, 2 - 2**-7, -1 - 2**-7]
    assert shortened(values.astype(np.float64), 16).dtype == np.float64


def test_tf32_is_planted_as_the_product_measures_it() -> None:
    """The reference of TF32 and the fault of it are one thing; every product has both operands at 10 bits."""
    model, ops = small.case("hybrid"), backend.TF32Ops()
    forward(model.architecture, ops, backend.Cast(model.params, "float32"), model.images, "classifier")
    assert np.array_equal(ops.taps["logits"], outputs(model, planted("hybrid", "tf32"), "float32"))
    x, kernel = (np.array([[1 + 2**-11 + extra]], np.float32) for extra in (2**-12, 0.0))
    assert backend.TF32Ops().dense(x, kernel, np.zeros(1, np.float32)) == np.float32(1 + 2**-10) == tf32(x)


def test_typical_is_in_the_middle_or_nowhere() -> None:
    plain: Architecture = small.PLAIN
    assert FAULTS["query_key_swapped_once"].typical(plain).place == 1
    assert FAULTS["group_norm_1e-5"].typical(plain) is None
    assert isinstance(FAULTS["gelu_erf"], Fault)
