"""Plants faults in one backend: `python -m vitport.faults.planting job.json`, a worker that knows one task more.

A fault of weights or operations is planted where the artifact is written, by the exporter that writes all others; one
of a run, where the backend's answer comes back. What comes out is measured as `verify` measures it. Every fault has a
fork of its own, which shares the import and forgets the fault.
"""

import json
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType

import numpy as np

from vitport import formats, runners, worker
from vitport.architectures import Architecture
from vitport.arrays import Images, Logits
from vitport.backend_table import BACKENDS
from vitport.backends.foreign import words
from vitport.devices import Runner
from vitport.errors import VitportError
from vitport.faults import FAULTS, Planted
from vitport.faults.operations import shortened
from vitport.formats import Export
from vitport.formats.transformers_config import PREPROCESSOR
from vitport.job_arguments import model_of, say
from vitport.layouts import huggingface, timm
from vitport.parity import measuring

CONTROL = "none"
"""Nothing is planted: what must pass."""

OPERATIONS = MappingProxyType(
    {
        "saved_model": ("vitport.formats.saved_model", "TensorFlowOps", "tensorflow"),
        "torchscript": ("vitport.formats.torch_module", "TorchOps", "torch"),
        "torch": ("vitport.formats.torch_module", "TorchOps", "torch"),
        "torch_export": ("vitport.formats.torch_module", "TorchOps", "torch"),
        "onnx": ("vitport.backends.onnx", "OnnxOps", "onnx"),
        "onnx-reference": ("vitport.backends.onnx", "OnnxOps", "onnx"),
        "stablehlo": ("vitport.formats.stablehlo", "JaxOps", "jax"),
    }
)
"""Backend → the module that writes what it runs, its name of the operations, and whose they are."""

SETTINGS = MappingProxyType(
    {
        "timm": {
            "gelu_erf": {"act_layer": "gelu"},
            "gelu_quick": {"act_layer": "quick_gelu"},
            "relu_for_gelu": {"act_layer": "relu"},
        },
        "transformers": {
            "gelu_erf": {"hidden_act": "gelu"},
            "gelu_quick": {"hidden_act": "quick_gelu"},
            "relu_for_gelu": {"hidden_act": "relu"},
            "layer_norm_1e-12": {"layer_norm_eps": 1e-12},
            "layer_norm_1e-5": {"layer_norm_eps": 1e-5},
        },
    }
)
"""Backend → fault of operations → what a folder's `config.json` says then: the operations are the client's own."""

LABELS_SHIFTED = "labels_shifted"
"""A fault of folders that name their classes."""

CONFIGURED = MappingProxyType(
    {"timm": timm, "transformers": huggingface, "onnx": huggingface, "onnx-reference": huggingface}
)
"""Backend whose folders name classes and prepare pictures → the layout that says of which architectures they can."""

IMAGENET_MEAN, BICUBIC, LARGER = [0.485, 0.456, 0.406], 3, 256
"""What other networks are fed: their mean, PIL's number of their interpolation, their size before a crop."""


@dataclass(frozen=True, slots=True)
class Misprepared:
    """A fault of what a folder tells its clients to make of a picture: the settings in each library's words."""

    name: str
    sentence: str
    timm: dict
    transformers: dict


MISPREPARED = MappingProxyType(
    {
        fault.name: fault
        for fault in (
            Misprepared(
                "preprocessor_mean",
                "clients are told ImageNet's mean, not 0.5",
                {"mean": IMAGENET_MEAN},
                {"image_mean": IMAGENET_MEAN},
            ),
            Misprepared(
                "preprocessor_bicubic",
                "clients are told to resize with another interpolation",
                {"interpolation": "bicubic"},
                {"resample": BICUBIC},
            ),
            Misprepared(
                "preprocessor_size",
                "clients are told another size than the model takes",
                {"input_size": [3, LARGER, LARGER]},
                {"size": {"height": LARGER, "width": LARGER}},
            ),
        )
    }
)
"""Name → fault of a folder's preprocessor."""

FEW = MappingProxyType({"flax": ("bfloat16", "positions_halved", "classes_permuted", "sign_flipped", "weight_nan")})
"""Faults of weights that are planted in a backend without an artifact of its own, which compiles for seconds."""

OF_ARTIFACTS = ("weights", "semantic")
"""Measures that depend on the artifact alone: where it is the control's, they are too."""

COMPILED = {"JAX_COMPILATION_CACHE_DIR": "{0}/xla", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
"""Forks compile the same programs: what one has compiled the next one reads."""

Infer = Callable[[Images], tuple[Logits, str]]


@dataclass(frozen=True, slots=True)
class Slip:
    """A fault of a run: of what a backend answers, whatever its artifact is."""

    name: str
    sentence: str
    change: Callable[[Infer], Infer]


def _of_outputs(change: Callable[[Logits], Logits]) -> Callable[[Infer], Infer]:
    def planted(infer: Infer) -> Infer:
        def wrong(images: Images) -> tuple[Logits, str]:
            outputs, where = infer(images)
            return change(outputs.copy()), where

        return wrong

    return planted


def _one_nan(outputs: Logits) -> Logits:
    outputs[-1, 0] = np.nan
    return outputs


def _softmax(outputs: Logits) -> Logits:
    return np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)


def _leaking(outputs: Logits) -> Logits:
    """Images of a batch see each other."""
    return outputs + np.float32(1e-3) * (outputs.mean(axis=0) - outputs)


def _unsteady(infer: Infer) -> Infer:
    """As with dropout left on: every answer is another, the first the right one."""
    calls: list[int] = []

    def wrong(images: Images) -> tuple[Logits, str]:
        outputs, where = infer(images)
        calls.append(1)
        return outputs + np.float32(1e-3) * (len(calls) - 1), where

    return wrong


def _elsewhere(infer: Infer) -> Infer:
    return lambda images: (infer(images)[0], "gpu: another device")


SLIPS = MappingProxyType(
    {
        slip.name: slip
        for slip in (
            Slip("nan_output", "one output is NaN", _of_outputs(_one_nan)),
            Slip("infinite_output", "an output is infinite", _of_outputs(lambda y: np.where(y == y.max(), np.inf, y))),
            Slip("images_reordered", "outputs come in another order", _of_outputs(lambda y: y[::-1])),
            Slip("first_image_only", "every image gets the outputs of the first", _of_outputs(lambda y: y[:1] + 0 * y)),
            Slip("zeros", "all outputs are zero", _of_outputs(np.zeros_like)),
            Slip("class_missing", "the last class is missing", _of_outputs(lambda y: y[:, :-1])),
            Slip("one_row", "one row comes for a batch", _of_outputs(lambda y: y.mean(axis=0, keepdims=True))),
            Slip("probabilities", "outputs went through a softmax", _of_outputs(_softmax)),
            Slip("rounded_outputs", "outputs went through bfloat16", _of_outputs(lambda y: shortened(y, 16))),
            Slip("leaking_batch", "images of a batch see each other", _of_outputs(_leaking)),
            Slip("unsteady", "a repeated run gives other outputs", _unsteady),
            Slip("elsewhere", "it was computed on another device", _elsewhere),
        )
    }
)
"""Name → fault of a run."""


def names(backend: str, architecture: Architecture) -> list[str]:
    """Every fault that can be planted there, the control first."""
    placed = [fault for fault in FAULTS.values() if fault.places(architecture)]
    operations = [fault.name for fault in placed if fault.operations and _takes(backend, fault.name)]
    leaves = [fault.name for fault in placed if fault.weights and fault.name in FEW.get(backend, FAULTS)]
    folders = [LABELS_SHIFTED, *MISPREPARED] if _configured(backend, architecture) else []
    return [CONTROL, *operations, *leaves, *folders, *(fault.name for fault in placed if fault.images), *SLIPS]


def _configured(backend: str, architecture: Architecture) -> bool:
    """Whether the backend's folder says what classes are called and pictures become."""
    return backend in CONFIGURED and not CONFIGURED[backend].inapplicable(architecture)


def _takes(backend: str, fault: str) -> bool:
    """Whether a fault of operations can be planted in a backend."""
    if backend in OPERATIONS:
        return OPERATIONS[backend][2] in FAULTS[fault].backends
    return fault in SETTINGS.get(backend, {})


def sentence(name: str, architecture: Architecture) -> str:
    """What a fault is, in words."""
    if name in SLIPS:
        return SLIPS[name].sentence
    if name == LABELS_SHIFTED:
        return "every class has the name of the next"
    if name in MISPREPARED:
        return MISPREPARED[name].sentence
    return FAULTS[name].typical(architecture).sentence if name in FAULTS else "nothing is planted"


def plant(job: dict) -> dict:
    """By fault: what `measuring.measure` says of the backend with it, or the error."""
    say(f"importing {' and '.join(BACKENDS[job['backend']].packages)}")
    os.environ |= {name: value.format(job["scratch"]) for name, value in COMPILED.items()}
    runners.module(job["backend"])
    artifact = BACKENDS[job["backend"]].artifact
    if artifact:
        formats.module(artifact)
    results = {}
    for index, name in enumerate(job["faults"]):
        say(f"{index + 1} of {len(job['faults'])}: {name}")
        results[name] = _attempt(job, name)
    return results


def _attempt(job: dict, name: str) -> dict:
    try:
        return worker.forked(lambda: _measured(job, name), Path(f"{job['result']}.{name}"))
    except VitportError as error:
        return {"error": str(error), "exit_code": error.exit_code}


def _measured(job: dict, name: str) -> dict:
    architecture, params = model_of(job)
    planted = FAULTS[name].typical(architecture) if name in FAULTS else None
    if name in SLIPS or (planted and planted.fault.images):
        return _answered(job, name, SLIPS[name].change if name in SLIPS else _fed(planted.images))
    folder = _folder(job, name)
    if planted:
        _sabotage(job["backend"], planted)
    if BACKENDS[job["backend"]].artifact:
        folder.mkdir(parents=True)
        leaves = planted.weights(dict(params)) if planted else params
        shift = int(name == LABELS_SHIFTED)
        labels = tuple(job["labels"][shift:] + job["labels"][:shift])
        spec = Export(architecture=architecture, variant=job["variant"], labels=labels or None)
        formats.module(BACKENDS[job["backend"]].artifact).export(spec, leaves, folder)
        _set(folder / "config.json", "model_args", SETTINGS.get(job["backend"], {}).get(name, {}))
        if name in MISPREPARED:
            _misprepare(folder, job["backend"], MISPREPARED[name])
    return _measure(job, folder, f"{folder}.npz", job["measures"])


def _answered(job: dict, name: str, change: Callable[[Infer], Infer]) -> dict:
    """The control's artifact, answering otherwise."""
    right = json.loads(Path(f"{job['result']}.{CONTROL}").read_text())
    _wrap(runners.module(job["backend"]), change)
    outputs = f"{_folder(job, name)}.npz"
    measures = [measure for measure in job["measures"] if measure not in OF_ARTIFACTS]
    measured = _measure(job, _folder(job, CONTROL), outputs, measures)
    with np.load(outputs) as found, np.load(right["outputs"]) as control:
        arrays = {**{key: control[key] for key in control if key in OF_ARTIFACTS}, **found}
    np.savez(outputs, **arrays)
    return {**{key: right[key] for key in ("weights", "how") if key in right}, **measured}


def _folder(job: dict, name: str) -> Path:
    return Path(job["scratch"]) / job["backend"] / name


def _measure(job: dict, folder: Path, outputs: str, measures: Sequence[str]) -> dict:
    """As `verify` has it measured."""
    place = str(folder) if BACKENDS[job["backend"]].artifact else ""
    folder.parent.mkdir(parents=True, exist_ok=True)
    arguments = {"folder": place, "port": False, "outputs": outputs, "measures": measures}
    return {**measuring.measure({**job, **arguments, "nonce": secrets.token_hex(8)}), "outputs": outputs}


def _fed(images: Callable[[Images], Images]) -> Callable[[Infer], Infer]:
    """Images that are changed on their way in."""
    return lambda infer: lambda pixels: infer(images(pixels))


def _sabotage(backend: str, planted: Planted) -> None:
    """Makes whoever writes or reads the backend's model do it wrong, in this process."""
    if planted.fault.operations and backend in OPERATIONS:
        place, name, framework = OPERATIONS[backend]
        exporter = import_module(place)
        setattr(exporter, name, planted.operations(getattr(exporter, name), words(framework)))
    if planted.fault.weights and backend == "torch":
        torch_module = import_module("vitport.formats.torch_module")
        right = torch_module.ViT
        torch_module.ViT = lambda spec, params: right(spec, planted.weights(dict(params)))
    if planted.fault.weights and backend == "flax":
        flax = import_module("vitport.runners.flax")
        own = flax.own
        flax.own = lambda subject: planted.weights(own(subject))


def _wrap(module: ModuleType, change: Callable[[Infer], Infer]) -> None:
    """Makes a backend answer otherwise."""
    right = module.open

    def wrong(*arguments: object) -> Runner:
        runner = right(*arguments)
        runner.infer = change(runner.infer)
        return runner

    module.open = wrong


def _misprepare(folder: Path, backend: str, fault: Misprepared) -> None:
    if backend == "timm":
        _set(folder / "config.json", "pretrained_cfg", fault.timm)
    else:
        _set(folder / PREPROCESSOR, "", fault.transformers)


def _set(path: Path, section: str, changes: dict) -> None:
    """Changes settings in a JSON file: in its `section`, if it has one."""
    if changes:
        values = json.loads(path.read_text())
        values.get(section, values).update(changes)
        path.write_text(json.dumps(values))


worker.TASKS["plant"] = plant

if __name__ == "__main__":
    sys.exit(worker.main(sys.argv[1]))
