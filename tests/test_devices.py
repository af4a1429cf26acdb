"""A GPU that was asked for and is not there, or that a framework did not use, is an error that names it."""

import ctypes
import inspect
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import small
import tensorflow as tf
import torch
from runs import DIGITS, convert, succeed

from vitport import devices, formats, jobs
from vitport.devices import Runner
from vitport.errors import EnvironmentFault
from vitport.format_table import FORMATS
from vitport.formats import Export, onnx, saved_model, stablehlo, torch_module
from vitport.jobs import Job

REPORTED = {
    "cpu: PyTorch": "cpu",
    "cuda: NVIDIA H200": "cuda",
    "CPU: TensorFlow": "cpu",
    "GPU: NVIDIA H200": "cuda",
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider, CPUExecutionProvider": "cuda",
    "gpu: NVIDIA H200": "cuda",
    "cpu: NumPy": "cpu",
    "tpu: v5": None,
    "": None,
}


@pytest.mark.parametrize(("words", "kind"), REPORTED.items(), ids=REPORTED)
def test_frameworks_words_for_a_device(words: str, kind: str | None) -> None:
    assert devices.kind(words) == kind


@pytest.mark.parametrize("words", [words for words, kind in REPORTED.items() if kind != "cuda"])
def test_a_run_elsewhere_is_an_error_that_names_the_framework(words: str) -> None:
    runner = Runner("ONNX Runtime", "cuda", lambda images: (np.zeros((2, 7), np.float32), words))
    with pytest.raises(EnvironmentFault, match=r"^ONNX Runtime was to run on cuda and ran on ") as fault:
        runner(small.case("plain").images)
    assert repr(words) in str(fault.value)


def test_a_run_on_the_right_device_is_recorded() -> None:
    runner = Runner("PyTorch", "cuda", lambda images: (np.ones((2, 7), np.float32), "cuda: NVIDIA H200"))
    assert runner(small.case("plain").images).sum() == 14
    assert runner.facts() == {"kind": "cuda", "reported": "cuda: NVIDIA H200", "precision": "float32"}


# Each framework, asked.


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small artifact of every format."""
    folders = {name: tmp_path_factory.mktemp(name) for name in FORMATS}
    for name, folder in folders.items():
        spec = Export(architecture=small.PLAIN, variant="features")
        formats.module(name).export(spec, small.case("plain").params, folder)
    return folders


def test_formats_without_a_framework_are_proven_on_the_cpu_whatever_is_asked(written: dict[str, Path]) -> None:
    cpu_alone = {name for name, row in FORMATS.items() if row.device("cuda") == "cpu"}
    assert cpu_alone == {name for name, row in FORMATS.items() if not row.packages}
    for name in cpu_alone:
        runner = formats.module(name).load(written[name], "cpu")
        runner(small.case("plain").images)
        assert runner.facts() == {"kind": "cpu", "reported": "cpu: NumPy", "precision": "float32"}


FRAMEWORKS = {
    "saved_model": "TensorFlow",
    "torchscript": "PyTorch",
    "onnx": "ONNX Runtime",
    "torch_export": "PyTorch",
    "stablehlo": "JAX",
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_that_sees_no_gpu_says_so(written: dict[str, Path], name: str) -> None:
    assert formats.module(name).load(written[name], "cpu")(small.case("plain").images).shape == (2, 15)
    with pytest.raises(EnvironmentFault, match=f"^{FRAMEWORKS[name]} sees no CUDA device"):
        formats.module(name).load(written[name], "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_onnx_runtimes_silent_fall_back_is_seen(written: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the provider is installed, and its libraries are not."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        runner = onnx.load(written["onnx"], "cuda")
    with pytest.raises(EnvironmentFault, match=r"^ONNX Runtime was to run on cuda and ran on 'CPUExecutionProvider'"):
        runner(small.case("plain").images)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_tensorflows_silent_fall_back_is_seen(written: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    runner = saved_model.load(written["saved_model"], "cuda")
    with pytest.raises(EnvironmentFault, match=r"^TensorFlow was to run on cuda and ran on 'CPU: TensorFlow'"):
        runner(small.case("plain").images)


NAME = "NVIDIA H200"


def test_words_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: NAME)
    result = SimpleNamespace(is_cuda=True, device=SimpleNamespace(type="cuda"))
    assert inspect.unwrap(torch_module.reported)(result) == f"cuda: {NAME}"
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"device_name": NAME})
    place = SimpleNamespace(device="/job:localhost/replica:0/task:0/device:GPU:0")
    assert inspect.unwrap(saved_model.reported)(place) == f"GPU: {NAME}"
    array = SimpleNamespace(devices=lambda: [SimpleNamespace(platform="gpu", device_kind=NAME)])
    assert inspect.unwrap(stablehlo.reported)(array) == f"gpu: {NAME}"


def test_products_are_full_float32_everywhere(written: dict[str, Path]) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch_module.prepare("cpu")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    tf.config.experimental.enable_tensor_float_32_execution(True)
    saved_model.load(written["saved_model"], "cpu")
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
    assert onnx.PROVIDERS["cuda"][1] == {"use_tf32": "0"}
    assert {environment["NVIDIA_TF32_OVERRIDE"] for environment in formats.ENVIRONMENTS.values()} == {"0"}
    assert set(formats.ENVIRONMENTS) == set(devices.DEVICES)


# The machine, asked before anything else.


def driver(code: int, count: int) -> SimpleNamespace:
    """What `ctypes` makes of libcuda."""

    def device_count(pointer: object) -> int:
        pointer._obj.value = count
        return 0

    return SimpleNamespace(cuInit=lambda flags: code, cuDeviceGetCount=device_count)


def _no_library(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


DRIVERS = {
    "no driver": (_no_library, "there is no NVIDIA driver (libcuda.so.1 can't be loaded)"),
    "no device": (lambda name: driver(100, 0), "the NVIDIA driver shows no GPU (code 100"),
    "none visible": (lambda name: driver(0, 0), "the NVIDIA driver shows no GPU (code 0"),
}


@pytest.mark.parametrize("kind", DRIVERS)
def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    library, sentence = DRIVERS[kind]
    monkeypatch.setattr(ctypes, "CDLL", library)
    devices.require("cpu")
    with pytest.raises(EnvironmentFault) as fault:
        devices.require("cuda")
    assert sentence in str(fault.value)


def test_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver(0, 1))
    devices.require("cuda")


def test_one_child_at_a_time_has_the_gpu() -> None:
    group, gpu, cpu = jobs._Group(), Job("x", "export", {}, "cuda"), Job("y", "export", {})
    with group.turn(gpu), group.turn(cpu), group.turn(cpu):
        assert group.turn(gpu).acquire(blocking=False) is False
    assert group.turn(gpu).acquire(blocking=False) is True


# The command.

HIDDEN = {"CUDA_VISIBLE_DEVICES": "-1"}


def test_an_absent_gpu_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    asset = ("--asset", "https://localhost:1/no.npz", "--cache", tmp_path / "cache")
    done = convert(DIGITS, "--out", tmp_path / "out", *asset, "--device", "cuda", **HIDDEN)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("vitport: --device cuda was asked for, but ")
    assert list(tmp_path.iterdir()) == []


def test_a_framework_that_sees_no_gpu_ends_the_run(tmp_path: Path) -> None:
    options = ("--format", "torchscript,safetensors-timm", "--device", "cuda")
    done = convert(DIGITS, "--out", tmp_path / "out", *options, VITPORT_DRIVER="1", **HIDDEN)
    assert (done.returncode, done.stdout) == (6, "")
    assert "vitport: torchscript: PyTorch sees no CUDA device (torch " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_proven_in_numpy_says_so(tmp_path: Path) -> None:
    options = ("--format", "safetensors-timm", "--variant", "features", "--device", "cuda")
    (entry,) = succeed(DIGITS, "--out", tmp_path / "out", *options, VITPORT_DRIVER="1", **HIDDEN)["artifacts"]
    assert entry["device"] == {"kind": "cpu", "reported": "cpu: NumPy", "precision": "float32"}
    assert json.loads((tmp_path / "out" / "artifacts.json").read_text())["artifacts"] == [entry]
