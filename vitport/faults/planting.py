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
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType

import numpy as np

from vitport import formats, runners, worker
from vitport.architectures import Architecture
from vitport.arrays import Images
from vitport.backend_table import BACKENDS
from vitport.backends.foreign import words
from vitport.devices import Runner
from vitport.errors import VitportError
from vitport.faults import CONTROL, FAULTS, Planted, folders
from vitport.faults.slips import SLIPS, Infer, Slip
from vitport.forks import forked, left_by
from vitport.formats import Export
from vitport.job_arguments import model_of, say
from vitport.parity import measuring

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

FEW = MappingProxyType({"flax": ("bfloat16", "positions_halved", "classes_permuted", "sign_flipped", "weight_nan")})
"""Faults of weights that are planted in a backend without an artifact of its own, which compiles for seconds."""

OF_ARTIFACTS = ("weights", "semantic")
"""Measures that depend on the artifact alone: where it is the control's, they are too."""

COMPILED = {"JAX_COMPILATION_CACHE_DIR": "{0}/xla", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
"""Forks compile the same programs: what one has compiled the next one reads."""


def names(backend: str, architecture: Architecture) -> list[str]:
    """Every fault that can be planted there, the control first."""
    placed = [fault for fault in FAULTS.values() if fault.places(architecture)]
    operations = [fault.name for fault in placed if fault.operations and _takes(backend, fault.name)]
    leaves = [fault.name for fault in placed if fault.weights and fault.name in FEW.get(backend, FAULTS)]
    said = folders.names(backend, architecture)
    images = [fault.name for fault in placed if fault.images]
    slips = [slip.name for slip in SLIPS.values() if backend in (slip.backends or BACKENDS)]
    return [CONTROL, *operations, *leaves, *said, *images, *slips]


def _takes(backend: str, fault: str) -> bool:
    """Whether a fault of operations can be planted in a backend."""
    if backend in OPERATIONS:
        return OPERATIONS[backend][2] in FAULTS[fault].backends
    return fault in folders.SETTINGS.get(backend, {})


def sentence(name: str, architecture: Architecture) -> str:
    """What a fault is, in words."""
    if name in SLIPS:
        return SLIPS[name].sentence
    if name in folders.SENTENCES:
        return folders.SENTENCES[name]
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
        return forked(lambda: _measured(job, name), Path(f"{job['result']}.{name}"))
    except VitportError as error:
        return left_by(error)


def _measured(job: dict, name: str) -> dict:
    architecture, params = model_of(job)
    planted = FAULTS[name].typical(architecture) if name in FAULTS else None
    if planted and planted.fault.images:
        return _answered(job, Slip(name, planted.sentence, _fed(planted.images)))
    if name in SLIPS:
        return _answered(job, SLIPS[name])
    folder = _folder(job, name)
    if planted:
        _sabotage(job["backend"], planted)
    if BACKENDS[job["backend"]].artifact:
        folder.mkdir(parents=True)
        leaves = planted.weights(dict(params)) if planted else params
        labels = folders.labels(name, job["labels"]) or None
        spec = Export(architecture=architecture, variant=job["variant"], labels=labels)
        formats.module(BACKENDS[job["backend"]].artifact).export(spec, leaves, folder)
        folders.change(folder, job["backend"], name)
    return _measure(job, folder, f"{folder}.npz", job["measures"])


def _answered(job: dict, slip: Slip) -> dict:
    """The control's artifact, answering otherwise."""
    right = json.loads(Path(f"{job['result']}.{CONTROL}").read_text())
    _wrap(runners.module(job["backend"]), slip)
    outputs = f"{_folder(job, slip.name)}.npz"
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


def _wrap(module: ModuleType, slip: Slip) -> None:
    """Makes the runners that a backend's function returns, one or a list, answer otherwise."""
    right = getattr(module, slip.way)

    def wrong(*arguments: object) -> Runner | list[Runner]:
        found = right(*arguments)
        for runner in found if isinstance(found, list) else [found]:
            runner.infer = slip.change(runner.infer)
        return found

    setattr(module, slip.way, wrong)


worker.TASKS["plant"] = plant

if __name__ == "__main__":
    sys.exit(worker.main(sys.argv[1]))
