"""`vitport bisect` finds the step at which an artifact leaves the oracle, names the cause, and finds nothing else."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import small
from runs import DIGITS, ROOT, convert

from vitport import bisect, checkpoint, manifest, yardstick
from vitport.arrays import Taps
from vitport.backends import foreign
from vitport.backends import numpy as backend
from vitport.bisect import Found, Request
from vitport.faults import FAULTS, Planted
from vitport.formats import Export, module
from vitport.images import fixed
from vitport.job_arguments import identity
from vitport.parity import tapping
from vitport.parity.run_schema import Growth
from vitport.rendering import bisection

SUSPECTS = {"timm": "safetensors-timm", "transformers": "safetensors-transformers"}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bisect") / "digits"
    done = convert(DIGITS, "--out", out, "--format", "safetensors,onnx", "--variant", "classifier")
    assert done.returncode == 0, done.stderr
    return out


def run(out: Path, *arguments: str) -> tuple[int, dict]:
    done = subprocess.run(
        [sys.executable, "-m", "vitport", "bisect", str(DIGITS), "--artifacts", str(out), "--json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, json.loads(done.stdout)


def with_setting(artifacts: Path, out: Path, name: str, **settings: object) -> Path:
    """A copy whose folder of `name` says something else in its config.json."""
    shutil.copytree(artifacts, out)
    path = out / "classifier" / name / "config.json"
    values = json.loads(path.read_text())
    values.get("model_args", values).update(settings)
    path.write_text(json.dumps(values))
    return out


def with_weights(artifacts: Path, out: Path, name: str, fault: Planted) -> Path:
    """A copy whose artifact was written with a fault in its weights."""
    shutil.copytree(artifacts, out)
    port = manifest.read(DIGITS)
    folder = out / "classifier" / name
    shutil.rmtree(folder)
    folder.mkdir()
    params = checkpoint.read(ROOT / "checkpoints/digits.npz", port.architecture)
    module(name).export(
        Export(architecture=port.architecture, variant="classifier"), fault.weights(dict(params)), folder
    )
    return out


@pytest.mark.parametrize("backend_name", ["onnx", "timm"])
def test_an_artifact_that_is_the_function_does_not_diverge(artifacts: Path, backend_name: str) -> None:
    code, found = run(artifacts, "--backend", backend_name)
    assert (code, found["first"]) == (0, None)
    assert found["cause"] == "no step differs by more than rounding"
    assert found["steps"][-1]["tap"] == "logits"


STOCK = {
    "timm": ({"act_layer": "gelu"}, "GELU is erf, not tanh: explains 99."),
    "transformers": (
        {"hidden_act": "gelu", "layer_norm_eps": 1e-12},
        "GELU is erf, not tanh and LayerNorm's epsilon is 1e-12, not 1e-6: explains 99.",
    ),
}
"""What the clients do where nobody tells them otherwise."""


@pytest.mark.parametrize("client", STOCK)
def test_a_stock_client_fails_and_gelu_is_named(artifacts: Path, client: str, tmp_path: Path) -> None:
    if find_spec(client) is None:
        pytest.skip(f"{client} is not installed")
    settings, sentence = STOCK[client]
    code, found = run(with_setting(artifacts, tmp_path / "stock", SUSPECTS[client], **settings), "--backend", client)
    assert code == 1
    assert found["first"] is not None
    assert found["cause"].startswith(sentence)
    assert found["named"]


@pytest.mark.parametrize(
    ("name", "differ"), [("sign_flipped", "1 leaf differs"), ("query_key_swapped_once", "4 leaves differ")]
)
def test_wrong_weights_are_named_bit_by_bit(artifacts: Path, name: str, differ: str, tmp_path: Path) -> None:
    fault = FAULTS[name].typical(manifest.read(DIGITS).architecture)
    code, found = run(with_weights(artifacts, tmp_path / "wrong", "onnx", fault), "--backend", "onnx")
    assert code == 1
    assert found["cause"] == f"{fault.sentence}: bit by bit what its weights say ({differ})"


def test_two_suspects_or_none_are_a_wrong_command(artifacts: Path) -> None:
    code, found = run(artifacts)
    assert code == 2
    assert found["error"]["message"] == "name one suspect, with --backend or with --port"
    code, found = run(artifacts, "--backend", "onyx")
    assert code == 2
    assert found["error"]["message"].startswith("unknown backend 'onyx'; did you mean")


def test_an_artifact_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, found = run(tmp_path / "nothing", "--backend", "onnx")
    assert code == 2
    missing = tmp_path / "nothing"
    assert found["error"]["message"].endswith(f"make it first: vitport convert {DIGITS} --out {missing}")
    _, found = run(tmp_path / "nothing", "--backend", "torch_export")
    assert found["error"]["message"].endswith(f"convert {DIGITS} --out {missing} --format torch_export")


# The steps, from taps that are made here.


def found(case: small.Case, *faults: Planted, dtype: str = "float32") -> Found:
    """What the children leave for a suspect that is NumPy with faults in it."""
    rounding = yardstick.run(case.architecture, case.params, case.images)
    return Found(_taps(case, faults, dtype), case.oracle, case.oracle, rounding, "NumPy", None)


def _taps(case: small.Case, faults: tuple[Planted, ...], dtype: str) -> Taps:
    ops: type = backend.NumPyOps
    params, pixels = case.params, case.images
    for fault in faults:
        ops, params, pixels = fault.operations(ops, foreign.words("numpy")), fault.weights(params), fault.images(pixels)
    machine = ops()
    backend.forward(case.architecture, machine, backend.Cast(params, dtype), pixels.astype(dtype), "classifier")
    return machine.taps


FIRST = {
    "gelu_erf": "encoderblock_0/MlpBlock_3/gelu",
    "layer_norm_1e-5": "encoderblock_0/LayerNorm_0",
    "query_key_swapped_once": "encoderblock_1/MultiHeadDotProductAttention_1",
    "positions_shifted": "posembed_input",
    "bgr": "embedding",
    "final_norm_bias": "encoder_norm",
    "head_bias": "logits",
}
"""Where each leaves first."""


@pytest.mark.parametrize("name", FIRST)
def test_the_first_divergence_is_where_the_fault_is(name: str) -> None:
    case = small.case("plain")
    steps = bisect.steps(found(case, FAULTS[name].typical(case.architecture)), Request(manifest=DIGITS))
    assert next(step.tap for step in steps if step.diverged) == FIRST[name]


def test_a_block_that_misleads_is_given_up(tmp_path: Path) -> None:
    """The first difference may be another than the one that matters."""
    port, asset = manifest.read(DIGITS), ROOT / "checkpoints/digits.npz"
    params, pixels = checkpoint.read(asset, port.architecture), fixed(port.architecture.resolution)
    fault = FAULTS["query_key_swapped_once"].at(2)
    outputs = backend.run(port.architecture, fault.weights(dict(params)), pixels, "classifier", "float32")["logits"]
    truth = backend.run(port.architecture, params, pixels, "classifier")["logits"]
    np.savez(tmp_path / "question.npz", outputs=outputs, truth=truth)
    np.save(tmp_path / "images.npy", pixels)
    job = {"asset": str(asset), "identity": identity(asset), "architecture": asdict(port.architecture)}
    job |= {"any_value": [], "images": str(tmp_path / "images.npy"), "question": str(tmp_path / "question.npz")}
    found = tapping.explain({**job, "variant": "classifier", "rounding": float(1e-6 * truth.std()), "block": 1})
    assert found["verdict"].startswith("query and key are swapped in block 2: explains 99.9")


@pytest.mark.parametrize("name", ["plain", "representation", "hybrid"])
def test_good_float32_diverges_nowhere(name: str) -> None:
    steps = bisect.steps(found(small.case(name)), Request(manifest=DIGITS))
    assert [step.tap for step in steps] == list(small.case(name).oracle)[: len(steps)] or len(steps) > 10
    assert not any(step.diverged for step in steps)


def test_nan_diverges_where_it_begins() -> None:
    case = small.case("plain")
    broken = FAULTS["weight_nan"].at("Transformer/encoderblock_1/MlpBlock_3/Dense_0/kernel")
    steps = bisect.steps(found(case, broken), Request(manifest=DIGITS))
    first = next(step for step in steps if step.diverged)
    assert (first.tap, first.error) == ("encoderblock_1/MlpBlock_3/Dense_0", None)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_yardstick_that_is_no_number_allows_nothing(value: float) -> None:
    good = found(small.case("plain"))
    good.rounding["embedding"][1, 0, 0, 0] = value
    steps = bisect.steps(good, Request(manifest=DIGITS))
    (first,) = (step for step in steps if step.diverged)
    assert (first.tap, first.rounding, first.limit) == ("embedding", None, None)
    assert first.error < 1e-6
    assert Growth(tap=first.tap, relative=first.error, rounding=first.rounding).rounding is None


def test_the_oracle_s_taps_are_those_of_the_definition() -> None:
    case = small.case("plain")
    assert set(case.oracle) == set(_taps(case, (), "float32"))
    last = f"encoderblock_{case.architecture.depth - 1}/+mlp"
    assert case.oracle[last].shape == (2, case.architecture.width)
    assert tapping.as_defined is small.as_defined


def outcome(*faults: Planted) -> bisect.Outcome:
    case = small.case("plain")
    steps = tuple(bisect.steps(found(case, *faults), Request(manifest=DIGITS)))
    first = next((step.tap for step in steps if step.diverged), None)
    facts = {"name": "plain", "suspect": "numpy", "against": "flax", "variant": "classifier", "how": "NumPy"}
    return bisect.Outcome(
        **facts, steps=steps, first=first, weights=None, cause="<cause> & more", named=True, causes=()
    )


@pytest.mark.parametrize("name", [None, "gelu_erf", "weight_nan"])
def test_the_growth_curve_is_a_picture_with_all_three_lines(name: str | None) -> None:
    faults = [FAULTS[name].typical(small.PLAIN)] if name else []
    drawn = bisection.draw(outcome(*faults))
    root, plot = ElementTree.fromstring(drawn), bisection.PLOT
    lines = list(root.iter("{http://www.w3.org/2000/svg}path"))
    assert [line.get("class") for line in lines] == ["rounding", "limit", "error"]
    points = [tuple(map(float, point.split())) for line in lines for point in line.get("d")[1:].split("L")]
    assert all(np.isfinite(points).ravel())
    assert all(plot.left <= x <= plot.right and plot.top <= y <= plot.bottom for x, y in points)
    assert ('class="first"' in drawn) == (name is not None)
    assert "&lt;cause&gt; &amp; more" in drawn
