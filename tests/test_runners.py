"""Every backend that `verify` can run is opened, asked, and held to the oracle, on the smallest checkpoints."""

import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import small
from onnx import numpy_helper

from vitport import formats, runners
from vitport.architectures import TAPS
from vitport.backend_table import BACKENDS
from vitport.backends import numpy
from vitport.devices import Runner
from vitport.errors import AssetError, EnvironmentFault
from vitport.formats import Export, safetensors_file
from vitport.layouts import huggingface, timm
from vitport.parity import measuring
from vitport.parity.gradient_parts import part_of
from vitport.reference import flax_run
from vitport.runners import Inapplicable, Subject, precision_of

HOLDS = {"safetensors-transformers": huggingface, "safetensors-timm": timm}
"""Formats that can't hold every architecture."""

FLOAT32 = 3e-6
"""Of the spread: several times what the worst backend has on these models."""


def having(*names: str) -> list[tuple[str, str]]:
    """(case, backend) wherever the backend has something to run."""
    architectures = {name: small.ARCHITECTURES[name] for name in names}
    return [
        (name, backend)
        for name, architecture in architectures.items()
        for backend, row in BACKENDS.items()
        if row.artifact not in HOLDS or HOLDS[row.artifact].inapplicable(architecture) is None
    ]


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory):
    """(case, backend, variant) to what is run, its artifact written once."""

    @cache
    def artifact(name: str, format: str, variant: str) -> Path:
        folder = tmp_path_factory.mktemp(f"{name}_{format}_{variant}")
        case = small.case(name)
        formats.module(format).export(Export(architecture=case.architecture, variant=variant), case.params, folder)
        return folder

    def made(name: str, backend: str, variant: str = "classifier") -> Subject:
        format = BACKENDS[backend].artifact
        folder = artifact(name, format, variant) if format else None
        return Subject(small.case(name).architecture, variant, folder, small.case(name).params)

    return made


def relative(found: np.ndarray, truth: np.ndarray) -> float:
    """RMS difference of the spread."""
    assert found.shape == truth.shape
    return float(np.sqrt(np.square(found - truth).mean()) / truth.std())


EVERY = [(backend, "classifier") for backend in BACKENDS]
EVERY += [(backend, "features") for backend in ("flax", "saved_model", "timm", "transformers")]
"""Features where they are more than another graph."""


@pytest.mark.parametrize(("backend", "variant"), EVERY)
def test_in_float32_it_is_the_oracle_to_rounding_and_says_what_it_is(subject, backend, variant) -> None:
    runner = runners.module(backend).open(subject("plain", backend, variant), "cpu", "float32")
    outputs = runner(small.case("plain").images)
    assert outputs.dtype == np.float32
    assert relative(outputs, small.case("plain").oracle[TAPS[variant]]) < FLOAT32
    facts = runner.facts()
    assert (facts["kind"], facts["precision"]) == ("cpu", "float32")
    assert all(isinstance(value, str) and value for value in facts.values())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backend"), having("stem", "hybrid"))
def test_with_a_stem_too(subject, name, backend) -> None:
    outputs = runners.module(backend).open(subject(name, backend), "cpu", "float32")(small.case(name).images)
    assert relative(outputs, small.case(name).oracle["logits"]) < FLOAT32


SEMANTIC = small.EXACT
"""Of the spread, the limit of the gate."""


WITH_A_STEM = [("hybrid", "onnx"), ("hybrid", "torchscript"), ("hybrid", "saved_model"), ("stem", "timm")]


@pytest.mark.parametrize(("name", "backend"), having("plain") + WITH_A_STEM)
def test_in_float64_it_is_the_oracle_itself(subject, name, backend) -> None:
    outputs, how = runners.module(backend).semantic(subject(name, backend), small.case(name).images)
    assert outputs.dtype == np.float64
    assert relative(outputs, small.case(name).oracle["logits"]) < SEMANTIC / 1000, "rounding, no constant in float32"
    assert "float64" in how


def test_a_saved_model_too_large_for_a_graph_in_float64_is_measured_by_the_definition(subject, monkeypatch) -> None:
    module, run = runners.module("saved_model"), subject("plain", "saved_model")
    assert "own graph" in module.semantic(run, small.case("plain").images)[1]
    monkeypatch.setattr(module.saved_model_double, "LARGEST", 10)
    outputs, how = module.semantic(run, small.case("plain").images)
    assert "definition" in how
    assert relative(outputs, small.case("plain").oracle["logits"]) < SEMANTIC / 1000


def of_an_artifact(*names: str) -> list[tuple[str, str]]:
    return [(name, backend) for name, backend in having(*names) if BACKENDS[backend].artifact]


@pytest.mark.parametrize(("name", "backend"), of_an_artifact("plain", "stem"))
def test_its_weights_are_the_checkpoints_to_the_bit(subject, name, backend) -> None:
    module, run = runners.module(backend), subject(name, backend)
    found, expected = module.weights(run), module.expected(run)
    assert {leaf: (array.dtype, array.shape) for leaf, array in found.items()} == {
        leaf: (np.dtype("float32"), array.shape) for leaf, array in small.case(name).leaves("classifier").items()
    }
    assert [leaf for leaf in expected if found[leaf].tobytes() != expected[leaf].tobytes()] == []


@pytest.mark.parametrize("opset", [17, 18, 20, 23, 26])
def test_an_onnx_graph_of_any_opset_is_run_in_float64(tmp_path: Path, opset) -> None:
    case = small.case("plain")
    spec = Export(architecture=case.architecture, variant="classifier", opset=opset)
    formats.module("onnx").export(spec, case.params, tmp_path)
    run = Subject(case.architecture, "classifier", tmp_path, case.params)
    outputs, _ = runners.module("onnx").semantic(run, case.images)
    assert relative(outputs, case.oracle["logits"]) < SEMANTIC / 1000


def spoilt(folder: Path, tmp_path: Path, spoil) -> Path:
    """A copy of an ONNX folder whose model went through `spoil`."""
    copy = shutil.copytree(folder, tmp_path / "spoilt")
    model = onnx.load(str(copy / "model.onnx"))
    spoil(model)
    onnx.save(model, str(copy / "model.onnx"))
    return copy


def _erf(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Gelu":
            del node.attribute[:]


def _bit(name: str, model: onnx.ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1).view(np.uint32)[0] ^= 1
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def test_a_wrong_gelu_in_the_file_is_seen_in_float64(subject, tmp_path: Path) -> None:
    whole = subject("plain", "onnx")
    wrong = replace(whole, folder=spoilt(whole.folder, tmp_path, _erf))
    outputs, _ = runners.module("onnx").semantic(wrong, small.case("plain").images)
    assert relative(outputs, small.case("plain").oracle["logits"]) > 1e-5


def test_the_last_bit_of_a_folded_kernel_is_seen(subject, tmp_path: Path) -> None:
    """What was rounded is put back onto the kernel that is there, not in its place."""
    whole, module = subject("stem", "onnx"), runners.module("onnx")
    wrong = replace(whole, folder=spoilt(whole.folder, tmp_path, lambda model: _bit("conv_root/kernel", model)))
    expected = module.expected(wrong)
    assert [leaf for leaf, array in module.weights(wrong).items() if (array != expected[leaf]).any()] == [
        "conv_root/kernel"
    ]
    outputs, _ = module.semantic(wrong, small.case("stem").images)
    assert relative(outputs, small.case("stem").oracle["logits"]) > SEMANTIC / 100


# Gradients.

LABELS = np.arange(2)

GRADIENTS = [name for name, row in BACKENDS.items() if row.gradients]


@cache
def slopes(name: str, variant: str = "classifier") -> dict[str, np.ndarray]:
    case = small.case(name)
    return flax_run.gradients(case.architecture, case.params, case.images, LABELS, variant)


def differences(found: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> dict[str, float]:
    """By leaf, the largest difference over its largest value; over a thousandth of its part's, where that is more.

    A key's bias moves every score of a row alike, so that its true gradient is 0.
    """
    assert {leaf: array.shape for leaf, array in found.items()} == {leaf: array.shape for leaf, array in truth.items()}
    scale: dict[str, float] = {}
    for leaf, exact in truth.items():
        scale[part_of(leaf)] = max(scale.get(part_of(leaf), 0.0), float(np.abs(exact).max()))
    return {
        leaf: float(np.abs(found[leaf] - exact).max() / max(np.abs(exact).max(), scale[part_of(leaf)] / 1000))
        for leaf, exact in truth.items()
    }


SLOW = pytest.mark.slow

WITH_GRADIENTS = [("plain", "classifier", backend) for backend in GRADIENTS]
WITH_GRADIENTS += [
    ("plain", "features", "saved_model"),
    ("stem", "features", "timm"),
    ("stem", "features", "torchscript"),
]


IN_FLOAT64 = [*WITH_GRADIENTS, ("stem", "classifier", "saved_model"), ("stem", "classifier", "torch")]
IN_FLOAT64 += [pytest.param("hybrid", "features", backend, marks=SLOW) for backend in ("saved_model", "torch")]


@pytest.mark.parametrize(("name", "variant", "backend"), IN_FLOAT64)
def test_in_float64_the_gradients_are_those_of_flax(subject, name, variant, backend) -> None:
    run = subject(name, backend, variant)
    found = runners.module(backend).gradients(run, "cpu", small.case(name).images, LABELS, "float64")
    assert {array.dtype.name for array in found.values()} == {"float64"}
    worst = differences(found, slopes(name, variant))
    assert max(worst.values()) < small.EXACT, max(worst, key=worst.get)


def test_a_graph_too_large_for_float64_is_differentiated_as_the_definition(subject, monkeypatch) -> None:
    module = runners.module("saved_model")
    monkeypatch.setattr(module.saved_model_double, "LARGEST", 0)
    found = module.gradients(subject("plain", "saved_model"), "cpu", small.case("plain").images, LABELS, "float64")
    worst = differences(found, slopes("plain"))
    assert max(worst.values()) < small.EXACT, max(worst, key=worst.get)


@pytest.mark.parametrize(("name", "variant", "backend"), WITH_GRADIENTS)
def test_in_float32_the_gradients_are_those_of_flax(subject, name, variant, backend) -> None:
    run = subject(name, backend, variant)
    found = runners.module(backend).gradients(run, "cpu", small.case(name).images, LABELS)
    assert {array.dtype.name for array in found.values()} == {"float32"}
    worst = differences(found, slopes(name, variant))
    assert max(worst.values()) < 2e-4, max(worst, key=worst.get)


def test_the_oracles_gradient_is_that_of_its_loss() -> None:
    """Against the difference of two losses, in NumPy's definition: no framework differentiates here."""
    case, leaf = small.case("plain"), "Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"
    direction = np.random.default_rng(0).standard_normal(case.params[leaf].shape)

    def loss(step: float) -> float:
        params = {**case.params, leaf: case.params[leaf].astype(np.float64) + step * direction}
        logits = numpy.run(case.architecture, params, case.images, "classifier")["logits"]
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[LABELS, LABELS]))

    along = float((slopes("plain")[leaf] * direction).sum())
    assert abs((loss(1e-5) - loss(-1e-5)) / 2e-5 - along) < 1e-6 * abs(along)


def test_a_stopped_gradient_and_a_wrong_variable_are_seen(subject) -> None:
    eager, images = runners.module("torch"), small.case("plain").images
    model = eager._model(subject("plain", "torch"))
    blocks = model.module.Transformer
    blocks.encoderblock_0.LayerNorm_0.scale.requires_grad_(False)
    one, other = blocks.encoderblock_0.LayerNorm_2, blocks.encoderblock_1.LayerNorm_2
    found = eager.torch_models.canonical(eager.torch_models.gradients(model, "cpu", images, LABELS, "classifier"))
    wrong = {leaf for leaf, difference in differences(found, slopes("plain")).items() if difference > 1e-3}
    assert wrong == {"Transformer/encoderblock_0/LayerNorm_0/scale"}
    one.scale, other.scale = other.scale, one.scale
    found = eager.torch_models.canonical(eager.torch_models.gradients(model, "cpu", images, LABELS, "classifier"))
    wrong = {leaf for leaf, difference in differences(found, slopes("plain")).items() if difference > 1e-3}
    assert {f"Transformer/encoderblock_{index}/LayerNorm_2/scale" for index in (0, 1)} <= wrong


# Intermediates.

TAPPED = having("plain") + WITH_A_STEM


@pytest.mark.parametrize(("name", "backend"), TAPPED)
def test_every_step_is_that_of_the_oracle_and_its_own(subject, name, backend) -> None:
    case = small.case(name)
    taps, how = runners.module(backend).taps(subject(name, backend), case.images)
    assert list(taps) == list(numpy.run(case.architecture, case.params, case.images, "classifier"))
    worst = {tap: relative(found, case.oracle[tap]) for tap, found in taps.items()}
    assert max(worst.values()) < 5e-6, max(worst, key=worst.get)
    assert ("definition" in how) == (backend == "stablehlo"), "all others show what they computed"


def _scaled(params: dict, leaf: str, factor: float) -> dict:
    return {**params, leaf: params[leaf] * np.float32(factor)}


FAULTY = {
    "position embedding times 5": ("Transformer/posembed_input/pos_embedding", 5, "posembed_input"),
    "no attention in the first block": (
        "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/out/kernel",
        0,
        "encoderblock_0/MultiHeadDotProductAttention_1",
    ),
    "the last MLP times -3": (
        "Transformer/encoderblock_1/MlpBlock_3/Dense_1/kernel",
        -3,
        "encoderblock_1/MlpBlock_3/Dense_1",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
@pytest.mark.parametrize("format", ["saved_model", "torchscript"])
def test_a_step_is_found_in_a_graph_that_computes_something_else(tmp_path: Path, format, fault) -> None:
    """Without names, by the values of the right model: those of the wrong one are far from them."""
    case, (leaf, factor, first) = small.case("plain"), FAULTY[fault]
    wrong = _scaled(case.params, leaf, factor)
    formats.module(format).export(Export(architecture=case.architecture, variant="classifier"), wrong, tmp_path)
    run = Subject(case.architecture, "classifier", tmp_path, case.params)
    taps, _ = runners.module(format).taps(run, case.images)
    truth = numpy.run(case.architecture, wrong, case.images, "classifier")
    assert [tap for tap in truth if not np.allclose(taps[tap], truth[tap], atol=1e-4)] == []
    assert next(tap for tap in taps if not np.allclose(taps[tap], case.oracle[tap], atol=1e-4)) == first


def test_another_gelu_is_found_where_it_is(subject, tmp_path: Path) -> None:
    case, whole = small.case("plain"), subject("plain", "transformers")
    folder = shutil.copytree(whole.folder, tmp_path / "erf")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("gelu_pytorch_tanh", "gelu"))
    taps, _ = runners.module("transformers").taps(replace(whole, folder=folder), case.images)
    assert next(tap for tap in taps if relative(taps[tap], case.oracle[tap]) > 1e-5) == "encoderblock_0/MlpBlock_3/gelu"


CAST = [backend for backend, row in BACKENDS.items() if row.cast]

BITS = {"bfloat16": 8, "float16": 11}
"""Of the significand."""


@pytest.mark.parametrize("precision", BITS)
@pytest.mark.parametrize("backend", CAST)
def test_narrow_types_cost_what_their_bits_say(subject, backend, precision) -> None:
    runner = runners.module(backend).open(subject("plain", backend), "cpu", precision)
    error = relative(runner(small.case("plain").images), small.case("plain").oracle["logits"])
    assert 2.0 ** -BITS[precision] / 8 < error < 2.0 ** -BITS[precision] * 8
    assert runner.facts()["precision"] == runner.facts()["weights"] == precision


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_to_be_had_is_refused(subject, backend) -> None:
    module, asked = runners.module(backend), subject("plain", backend)
    with pytest.raises(Inapplicable, match="TF32 exists on CUDA devices only"):
        module.open(asked, "cpu", "tf32")
    if backend not in CAST:
        with pytest.raises(Inapplicable, match="is fixed in its file"):
            module.open(asked, "cpu", "bfloat16")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gpu_that_is_not_there_is_missed(subject, backend) -> None:
    with pytest.raises(EnvironmentFault, match=r"sees no CUDA device|runs on cpu only"):
        runners.module(backend).open(subject("plain", backend), "cuda", "float32")


def test_another_precision_than_the_one_asked_for_is_an_error() -> None:
    said = {"precision": "tf32"}
    runner = Runner("PyTorch", "cuda", lambda images: (images, "cuda: NVIDIA H200"), "float32", lambda: said)
    with pytest.raises(EnvironmentFault, match="was to run in float32 and says that it ran in tf32"):
        runner.facts()
    said["precision"] = "float32"
    assert runner.facts()["precision"] == "float32"


@pytest.mark.parametrize(
    ("dtypes", "tf32", "precision"),
    [
        (["float32"], False, "float32"),
        (["float32"], True, "tf32"),
        (["bfloat16", "bfloat16"], True, "bfloat16"),
        (["float32", "float16"], True, "float16 and float32"),
    ],
)
def test_precision_is_of_the_weights_and_the_products(dtypes, tf32, precision) -> None:
    assert precision_of(dtypes, tf32) == precision


def test_the_users_flags_for_xla_come_after_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=4")
    assert formats.environment("cuda")["XLA_FLAGS"].split() == [formats.UNTUNED, "--xla_gpu_autotune_level=4"]
    assert "XLA_FLAGS" not in formats.environment("cpu")


def test_tf32_is_not_overruled_by_the_workers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert formats.environment("cuda")["NVIDIA_TF32_OVERRIDE"] == "0"
    assert "NVIDIA_TF32_OVERRIDE" not in formats.environment("cuda", "tf32")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    with pytest.raises(Inapplicable, match="NVIDIA_TF32_OVERRIDE=0 in the environment forbids TF32"):
        runners.require("torch", "cuda", "tf32")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    runners.require("torch", "cuda", "tf32")


def test_onnx_runtime_is_told_how_to_multiply_on_a_gpu() -> None:
    onnx = runners.module("onnx")
    assert onnx.provider("cpu", "float32") == "CPUExecutionProvider"
    assert onnx.provider("cuda", "float32") == ("CUDAExecutionProvider", {"use_tf32": "0"})
    assert onnx.provider("cuda", "tf32") == ("CUDAExecutionProvider", {"use_tf32": "1"})
    assert [onnx.tf32(options) for options in ({}, {"use_tf32": "0"}, {"use_tf32": "1"}, {"device_id": "0"})] == [
        False,
        False,
        True,
        True,
    ]


class Session:
    """What ONNX Runtime says on a GPU."""

    def __init__(self, use_tf32: str) -> None:
        self.use_tf32 = use_tf32

    def get_provider_options(self) -> dict:
        return {"CUDAExecutionProvider": {"use_tf32": self.use_tf32}, "CPUExecutionProvider": {}}

    def get_providers(self) -> list[str]:
        return list(self.get_provider_options())

    def get_session_options(self):
        return type("Options", (), {"intra_op_num_threads": 4, "inter_op_num_threads": 0})


@pytest.mark.parametrize(("use_tf32", "precision"), [("0", "float32"), ("1", "tf32")])
def test_onnx_runtimes_own_words_on_a_gpu(use_tf32, precision) -> None:
    facts = runners.module("onnx").facts.__wrapped__(Session(use_tf32), "tensor(float)")
    assert facts == {
        "precision": precision,
        "providers": "CUDAExecutionProvider, CPUExecutionProvider",
        "use_tf32": use_tf32,
        "intra_op_threads": "4",
        "inter_op_threads": "0",
    }


def test_frameworks_switches_are_read_back() -> None:
    tf, torch = pytest.importorskip("tensorflow"), pytest.importorskip("torch")
    saved_model, torch_models = runners.module("saved_model"), runners.module("torch").torch_models
    tf.config.experimental.enable_tensor_float_32_execution(True)
    assert saved_model.facts({"float32"}, "cuda")["precision"] == "tf32"
    tf.config.experimental.enable_tensor_float_32_execution(False)
    assert saved_model.facts({"float32"}, "cuda")["precision"] == "float32"
    linear = torch.nn.Linear(2, 2)
    for switch in (torch.backends.cuda.matmul, torch.backends.cudnn):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        assert torch_models.facts(linear, "cuda")["precision"] == "float32"
        switch.allow_tf32 = True
        assert torch_models.facts(linear, "cuda")["precision"] == "tf32"
        assert torch_models.facts(linear, "cpu")["precision"] == "float32", "there is none on a CPU"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def test_frameworks_that_count_a_gpus_memory_are_asked_for_the_peak(monkeypatch) -> None:
    """No GPU here: each framework's own count is put in its place."""
    jax, tf, torch = map(pytest.importorskip, ("jax", "tensorflow", "torch"))
    torch_models, saved_model = runners.module("torch").torch_models, runners.module("saved_model")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 1_500_000_000)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["one"])
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", lambda name: {"peak": 1_500_000_000})
    leaf = SimpleNamespace(
        dtype="float32",
        devices=lambda: [SimpleNamespace(memory_stats=lambda: {"peak_bytes_in_use": 1_500_000_000})],
    )
    monkeypatch.setattr(jax.tree, "leaves", lambda variables: [leaf])
    asked = (
        lambda device: torch_models.facts(torch.nn.Linear(2, 2), device),
        lambda device: saved_model.facts({"float32"}, device),
        lambda device: runners.module("flax").facts({}, device),
    )
    assert [facts("cuda")["gpu_memory"] for facts in asked] == ["1.5 GB"] * 3
    assert not [facts for facts in asked if "gpu_memory" in facts("cpu")]


def test_an_operation_that_a_type_has_not_is_inapplicable() -> None:
    torch = pytest.importorskip("torch")
    torch_models = runners.module("torch").torch_models

    def answer(pixels):
        raise RuntimeError("\"group_norm\" not implemented for 'Half'")

    runner = torch_models.runner(torch_models.Model(torch.nn.Linear(2, 2), answer), "cpu", "float16")
    with pytest.raises(Inapplicable, match="PyTorch can't compute in float16 on cpu"):
        runner(small.case("plain").images)


def test_a_package_that_is_missing_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(EnvironmentFault, match=r"^timm needs .*; pip install torch torchvision timm$"):
        runners.module("timm")


@pytest.mark.parametrize("backend", ["timm", "transformers"])
def test_a_backend_is_ready_in_a_process_of_its_own(backend) -> None:
    """Where torchvision was built for another torch too, and nothing else has cured it before."""
    model = {"timm": "timm.models.VisionTransformer", "transformers": "transformers.ViTForImageClassification"}[backend]
    program = f"from vitport import runners\nrunners.module({backend!r})\nimport {backend}\nprint({model}.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == model.rpartition(".")[2]


def test_a_folder_with_something_missing_is_refused(subject, tmp_path: Path) -> None:
    for backend in ("transformers", "timm"):
        whole = subject("plain", backend)
        folder = shutil.copytree(whole.folder, tmp_path / backend)
        tensors = {name: np.array(leaf) for name, leaf in safetensors_file.read(folder / "model.safetensors").items()}
        tensors.pop("classifier.bias", None) if backend == "transformers" else tensors.pop("head.bias")
        safetensors_file.write(folder / "model.safetensors", tensors)
        less = Subject(whole.architecture, whole.variant, folder, whole.params)
        with pytest.raises(AssetError, match="bias"):
            runners.module(backend).open(less, "cpu", "float32")


def test_every_way_to_call_a_saved_model_is_a_second_run(subject, tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    plain = subject("plain", "saved_model")
    model = tf.saved_model.load(str(plain.folder))
    other = tf.train.Checkpoint(variables=list(model.variables))
    spec = tf.TensorSpec((None, 20, 20, 3), tf.float32)

    @tf.function(input_signature=[spec, tf.TensorSpec((), tf.bool)], autograph=False)
    def call(images, training):
        outputs = model(images)
        return tf.cond(training, lambda: outputs, lambda: tf.reverse(outputs, [1]))

    other.__call__ = tf.function(lambda images, training=False: call(images, tf.constant(training)), autograph=False)
    for mode in ({}, {"training": False}, {"training": True}):
        other.__call__.get_concrete_function(spec, **mode)
    tf.saved_model.save(other, str(tmp_path / "port"), {"serving_default": model.signatures["serving_default"]})
    assert repeated(plain) < 1e-6
    assert repeated(replace(plain, folder=tmp_path / "port")) > 0.1


def repeated(subject: Subject) -> float:
    """The largest difference of a second run, as `verify` measures it."""
    module, pixels = runners.module("saved_model"), small.case("plain").images
    runner = module.open(subject, "cpu", "float32")
    job = {"batch": 2, "batches": [1], "device": "cpu"}
    found = measuring.noise(measuring.Opened(job, module, subject, runner, pixels, runner(pixels)))
    return found["noise"]["repeat"]["max"]


def test_where_the_oracle_has_no_gradient_none_is_compared() -> None:
    truth = {"conv_root/kernel": np.array([1.0, np.nan, 2.0]), "head/bias": np.array([np.nan, np.nan])}
    found = {"conv_root/kernel": np.array([1.0, 7.0, 2.0]), "head/bias": np.zeros(2)}
    errors = measuring.relative_errors(found, truth)
    assert errors[part_of("conv_root/kernel")] == 0
    assert np.isnan(errors[part_of("head/bias")]), "nothing measured is never a pass"
    found["conv_root/kernel"][0] = np.nan
    assert np.isnan(measuring.relative_errors(found, truth)[part_of("conv_root/kernel")])


def test_a_gradient_where_there_is_none_is_no_small_error() -> None:
    truth = {"head/bias": np.zeros(2)}
    assert measuring.relative_errors({"head/bias": np.zeros(2)}, truth)[part_of("head/bias")] == 0
    assert measuring.relative_errors({"head/bias": np.full(2, 1e-6)}, truth)[part_of("head/bias")] == np.inf


def test_the_first_batches_do_not_count_where_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 20.0, 24.0, 24.5])
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(clock))
    pace = measuring.Pace(24)
    pace(8)
    assert pace.rate == 8 / 20
    pace(16)
    assert pace.rate == 8 / 4
    pace(24)
    assert (pace.rate, pace.seconds) == (16.0, 24.5)
