"""Plants one fault in one worker: Python imports this before the worker's own first line, where PYTHONPATH says so.

VITPORT_FAULT is `<job>:<fault>`; faults of `PROCESS` strike before the worker starts, those of `EXPORT` later.
VITPORT_HIDDEN names a package that shall look as if it were not installed, in every process.
VITPORT_DRIVER, set to anything, makes the NVIDIA driver look as if it had a GPU; the frameworks still find none.
"""

import ctypes
import importlib.machinery
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def _hang():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def _grandchild():
    child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    Path(os.environ["VITPORT_WITNESS"]).write_text(str(child.pid))
    _hang()


def _deserter():
    """Leaves a child behind that holds no pipe."""
    child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    Path(os.environ["VITPORT_WITNESS"]).write_text(str(child.pid))
    os._exit(9)


def _garbage():
    os.write(1, b"\xff\xfe\x00 not text " * 100_000)
    os.write(1, b"\nvitport \x1e\n\x1evitpor")
    os.write(2, b"\xff\xfe last words \xf0\n")
    os._exit(3)


def _liar():
    """Ends well, but leaves nothing."""
    os._exit(0)


PROCESS = {
    "hang": _hang,
    "grandchild": _grandchild,
    "deserter": _deserter,
    "garbage": _garbage,
    "liar": _liar,
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "abort": os.abort,
}


def _epsilon():
    """A slip in the definition that every artifact, and the yardstick with them, is made of."""
    from vitport.architectures import vit

    vit.LAYER_NORM_EPS = 1.001e-6


EVERYWHERE = {"epsilon": _epsilon}
"""Faults of all workers at once, for the job `all`."""


def _raise(error):
    raise error


def _one_weight(name, factor):
    def plant(module):
        export = module.export
        module.export = lambda spec, params, folder: export(
            spec, {**params, name: params[name] * params[name].dtype.type(factor)}, folder
        )

    return plant


def _erf_gelu(module):
    import torch

    from vitport.backends.torch import TorchOps

    TorchOps.gelu_tanh = lambda self, x: torch.nn.functional.gelu(x)


def _outputs(change):
    def plant(module):
        load = module.load

        def changed(folder, device):
            runner = load(folder, device)
            infer = runner.infer
            runner.infer = lambda images: change(*infer(images))
            return runner

        module.load = changed

    return plant


def _at_export(strike):
    def plant(module):
        export = module.export

        def struck(spec, params, folder):
            export(spec, params, folder)
            strike()

        module.export = struck

    return plant


def _full_disk():
    raise OSError(28, "No space left on device", "model.safetensors")


EXPORT = {
    "scaled": _one_weight("Transformer/encoderblock_2/MlpBlock_3/Dense_0/kernel", 1.001),
    "nan-weight": _one_weight("Transformer/encoder_norm/scale", float("nan")),
    "erf": _erf_gelu,
    "nan-output": _outputs(lambda outputs, place: (outputs * float("nan"), place)),
    "shape": _outputs(lambda outputs, place: (outputs[:1], place)),
    "raises": _at_export(lambda: _raise(RuntimeError("the exporter\nis confused"))),
    "memory": _at_export(lambda: _raise(MemoryError())),
    "full": _at_export(_full_disk),
    "fork-segfault": _at_export(lambda: os.kill(os.getpid(), signal.SIGSEGV)),
    "fork-hang": _at_export(_hang),
}


def _plant(fault):
    from vitport import formats

    module = formats.module

    def planted(name):
        loaded = module(name)
        EXPORT[fault](loaded)
        return loaded

    formats.module = planted


def _runs(change):
    """Of a backend that `verify` runs: `change` gets its runner and returns another `infer`."""

    def plant(module):
        opener = module.open

        def changed(*arguments):
            runner = opener(*arguments)
            runner.infer = change(runner.infer)
            return runner

        module.open = changed

    return plant


def _then(change):
    return _runs(lambda infer: lambda images: change(*infer(images)))


def _forgetful(infer):
    """Every second call is another function."""
    calls = iter(range(1000))

    def called(images):
        outputs, place = infer(images)
        return outputs * (1 + 1e-3 * (next(calls) % 2)), place

    return called


RUN = {
    "run-nan": _then(lambda outputs, place: (outputs * float("nan"), place)),
    "run-shape": _then(lambda outputs, place: (outputs[:, :-1], place)),
    "run-scaled": _then(lambda outputs, place: (outputs * outputs.dtype.type(1.0001), place)),
    "run-elsewhere": _then(lambda outputs, place: (outputs, "cuda: a dream")),
    "run-reversed": _runs(lambda infer: lambda images: infer(images[::-1].copy())),
    "run-forgetful": _runs(_forgetful),
    "run-memory": _runs(lambda infer: lambda images: _raise(MemoryError())),
    "run-gpu-memory": _runs(lambda infer: lambda images: _raise(RuntimeError("CUDA out of memory. Tried to"))),
    "run-segfault": _runs(lambda infer: lambda images: os.kill(os.getpid(), signal.SIGSEGV)),
    "run-hang": _runs(lambda infer: lambda images: _hang()),
}


def _stale():
    """Leaves the result of another job."""
    from vitport.parity import measuring

    left = measuring._left
    measuring._left = lambda job, *rest, **arrays: {**left(job, *rest, **arrays), "nonce": "0" * 32}


def _other_images():
    import numpy

    load = numpy.load
    numpy.load = lambda path, *rest, **options: (
        load(path)[::-1].copy() if str(path).endswith("images.npy") else load(path, *rest, **options)
    )


def _forged():
    """Changes its outputs after it has said what they are."""
    from vitport.parity import measuring

    left = measuring._left

    def changed(job, *rest, **arrays):
        facts = left(job, *rest, **arrays)
        with open(job["outputs"], "r+b") as file:
            file.seek(-300, 2)
            file.write(b"x")
        return facts

    measuring._left = changed


CHILD = {"stale": _stale, "other-images": _other_images, "forged": _forged}


def _plant_run(fault):
    from vitport import runners

    module = runners.module

    def planted(name):
        loaded = module(name)
        RUN[fault](loaded)
        return loaded

    runners.module = planted


class _Blind(importlib.machinery.PathFinder):
    """Finds every package but one."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.split(".")[0] == os.environ["VITPORT_HIDDEN"]:
            return None
        return super().find_spec(fullname, path, target)


class _Driver:
    """libcuda of a machine with one GPU."""

    def cuInit(self, flags):
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = 1
        return 0


if "VITPORT_HIDDEN" in os.environ:
    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = _Blind

if "VITPORT_DRIVER" in os.environ:
    LIBRARY = ctypes.CDLL
    ctypes.CDLL = lambda name, *rest, **options: (
        _Driver() if name == "libcuda.so.1" else LIBRARY(name, *rest, **options)
    )

if "vitport.worker" in sys.orig_argv and "VITPORT_FAULT" in os.environ:
    JOB, FAULT = os.environ["VITPORT_FAULT"].split(":")
    if JOB == "all":
        EVERYWHERE[FAULT]()
    elif Path(sys.orig_argv[-1]).name == f"{JOB}.job.json":
        if FAULT in PROCESS | CHILD:
            (PROCESS | CHILD)[FAULT]()
        else:
            (_plant_run if FAULT in RUN else _plant)(FAULT)
