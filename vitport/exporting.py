"""The tasks of a conversion's children: write and read back in one format, and run what the artifacts are held to."""

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np

from vitport import artifacts, formats, yardstick
from vitport.appearing import sync
from vitport.architectures import TAPS, parameter_shapes
from vitport.backends.numpy import Model
from vitport.devices import Runner
from vitport.errors import AssetError, ParityError
from vitport.forks import forked
from vitport.job_arguments import architecture_of, model_and_images, model_of, say

M_ARENA_MAX = -8
"""From <malloc.h> of glibc: how many heaps threads may share."""


def export(job: dict) -> dict:
    """Writes every variant in one format and reads it back, each step in a fork of its own.

    The fork shares the import, which is most of the time, and makes an artifact depend on nothing that was exported
    before it: frameworks number their functions through the life of a process. What wrote an artifact can't help in
    reading it, and neither holds the other's memory.
    """
    row = formats.FORMATS[job["format"]]
    say(f"importing {' and '.join(row.packages) or 'nothing'}")
    formats.import_packages(row.name, row.packages, row.unneeded)
    module = formats.module(job["format"])
    return {variant: _write(job, module, variant) | _read_back(job, module, variant) for variant in job["variants"]}


def _write(job: dict, module: ModuleType, variant: str) -> dict:
    spec = formats.Export(
        architecture=architecture_of(job["architecture"]),
        variant=variant,
        output_name=job["output_name"],
        opset=job["opset"],
        labels=tuple(job["labels"]) if job["labels"] else None,
        provenance=job["provenance"],
    )
    folder = _folder(job, variant)
    folder.mkdir(parents=True)

    def write() -> dict:
        say(f"writing {variant}")
        _, params, _ = model_and_images(job)
        started = time.perf_counter()
        module.export(spec, params, folder)
        return {
            "seconds": time.perf_counter() - started,
            "input": {"name": module.INPUT.name, "layout": module.INPUT.layout},
            "output": {"name": module.output(spec), "width": spec.architecture.output_width(variant)},
        }

    return forked(write, Path(f"{job['result']}.{variant}.written"))


def _read_back(job: dict, module: ModuleType, variant: str) -> dict:
    folder, outputs = _folder(job, variant), Path(f"{job['result']}.{variant}.npy")

    def read() -> dict:
        say(f"reading {variant} back")
        with ThreadPoolExecutor(1) as disk:  # works meanwhile: publishing would wait for it
            synced = disk.submit(sync, folder)
            files = artifacts.files(folder)
            runner = _loaded(module, folder, job["device"])
            found = _computed(job, runner, variant, outputs)
            synced.result()
        return {"files": files, **found, "versions": module.VERSIONS}

    return forked(read, Path(f"{job['result']}.{variant}.read"))


def _loaded(module: ModuleType, folder: Path, device: str) -> Runner:
    """The artifact as a runner; one that its own format refuses is not the checkpoint's function."""
    try:
        return module.load(folder, device)
    except AssetError as error:
        raise ParityError(
            f"what was written is refused when it is read back, and nothing published: {error}"
        ) from error


def _computed(job: dict, runner: Runner, variant: str, outputs: Path) -> dict:
    """What the artifact makes of the images, and where.

    A model in NumPy that has the checkpoint's weights, bit for bit, is what the yardstick runs: its outputs are there.
    """
    if runner.model and runner.model.same(_definition(job, variant)):
        return {"outputs": None, "device": runner.facts()}
    np.save(outputs, runner(np.load(job["images"])))
    return {"outputs": str(outputs), "device": runner.facts()}


def _definition(job: dict, variant: str) -> Model:
    architecture, params = model_of(job)
    return Model(architecture, variant, {name: params[name] for name in parameter_shapes(architecture, variant)})


def _folder(job: dict, variant: str) -> Path:
    return Path(job["folder"]) / variant / job["format"]


def oracle(job: dict) -> dict:
    """The Flax reference in float64, and in float32 for what JAX itself achieves; both variants' outputs."""
    _share_one_heap()
    say("importing jax and flax")
    formats.import_packages("the oracle", formats.ORACLE_PACKAGES)
    from vitport.reference import flax_run

    arguments = model_and_images(job)
    outputs = {}
    for dtype in ("float64", "float32"):
        say(f"running the reference in {dtype}")
        taps = flax_run.run(*arguments, dtype)
        outputs |= {f"{dtype}/{tap}": taps[tap] for tap in TAPS.values()}
    np.savez(job["outputs"], **outputs)
    return {"outputs": job["outputs"], "versions": flax_run.facts()}


def in_numpy(job: dict) -> dict:
    """The definition in NumPy: in float64, to be held to the oracle; in float32, a good implementation of it.

    In float32 it runs on the images and on copies one last bit away (`yardstick.run`).
    """
    from vitport.backends import numpy as backend

    *model, pixels = model_and_images(job)
    kept = TAPS.values()
    say("running the definition in float64")
    runs = {"float64": backend.run(*model, pixels, "classifier", "float64", kept)}
    runs["float32"] = yardstick.run(*model, pixels, kept)
    outputs = {f"{run}/{tap}": taps[tap] for run, taps in runs.items() for tap in kept}
    np.savez(job["outputs"], **outputs)
    return {"outputs": job["outputs"], "versions": {"numpy": np.__version__}}


def _share_one_heap() -> None:
    """XLA's compiler runs in many threads, and each would fill a heap of its own and keep it: 50 MB for S/16."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


TASKS: dict[str, Callable[[dict], dict]] = {"export": export, "oracle": oracle, "yardstick": in_numpy}
