"""A child that does harm: `python -m vitport.faults.saboteur job.json`, for the self-test of what runs the children.

It measures NumPy in the place of a framework, so that it starts in a moment, and then does what its job says.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import numpy as np

from vitport import runners, worker
from vitport.architectures import TAPS
from vitport.arrays import Images, Logits
from vitport.backends import numpy as backend
from vitport.devices import Runner
from vitport.faults import CONTROL
from vitport.parity import measuring
from vitport.runners import Subject, own

BACKEND = "torch"
"""The row of the table of backends whose part NumPy takes: one that runs the checkpoint itself."""


def _open(subject: Subject, device: str, precision: str) -> Runner:
    return backend.Model(subject.architecture, subject.variant, subject.params).runner()


def _semantic(subject: Subject, images: Images) -> tuple[Logits, str]:
    taps = backend.run(subject.architecture, own(subject), images, subject.variant)
    return taps[TAPS[subject.variant]], "the definition in NumPy"


NUMPY = SimpleNamespace(VERSIONS={"numpy": np.__version__}, open=_open, semantic=_semantic)


def honest(job: dict) -> dict:
    """No harm."""
    return measuring.measure(job)


def killed(job: dict) -> dict:
    """It is killed, as Linux does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def killed_at_the_end(job: dict) -> dict:
    """It leaves a whole result, and is killed."""
    Path(job["result"]).write_text(json.dumps(measuring.measure(job)))
    return killed(job)


def hanging(job: dict) -> dict:
    """It never ends."""
    while True:
        time.sleep(1)


def silent(job: dict) -> dict:
    """It ends with exit code 0 and leaves nothing."""
    os._exit(0)


def garbage(job: dict) -> dict:
    """It leaves a result that is no JSON."""
    Path(job["result"]).write_text('{"outputs": ')
    os._exit(0)


def crashing(job: dict) -> dict:
    """It raises an error."""
    raise RuntimeError("a framework's own error")


def out_of_memory(job: dict) -> dict:
    """Its memory ends."""
    raise MemoryError


def stale(job: dict) -> dict:
    """It leaves the result of an earlier run."""
    return measuring.measure({**job, "nonce": "0" * 32})


def other_images(job: dict) -> dict:
    """It runs other images than it was given."""
    return _with_images(job, lambda images: np.roll(images, 1, axis=1))


def images_swapped(job: dict) -> dict:
    """It runs the images in another order."""
    return _with_images(job, lambda images: images[::-1])


def one_image_fewer(job: dict) -> dict:
    """It leaves an image out."""
    return _with_images(job, lambda images: images[:-1])


def _with_images(job: dict, change: Callable[[Images], Images]) -> dict:
    path = f"{job['outputs']}.images.npy"
    np.save(path, np.ascontiguousarray(change(np.load(job["images"]))))
    return measuring.measure({**job, "images": path})


def outputs_changed(job: dict) -> dict:
    """Its outputs change after it has said what they are."""
    result = measuring.measure(job)
    with np.load(job["outputs"]) as file:
        arrays = dict(file)
    np.savez(job["outputs"], **{**arrays, "outputs": np.nextafter(arrays["outputs"], np.float32(np.inf))})
    return result


def outputs_lost(job: dict) -> dict:
    """Its outputs are gone."""
    result = measuring.measure(job)
    Path(job["outputs"]).unlink()
    return result


def digest_forged(job: dict) -> dict:
    """It claims the digest of other outputs."""
    return {**measuring.measure(job), "sha256": "0" * 64}


HARMS = MappingProxyType(
    {CONTROL: honest}
    | {
        harm.__name__: harm
        for harm in (
            killed,
            killed_at_the_end,
            hanging,
            silent,
            garbage,
            crashing,
            out_of_memory,
            stale,
            other_images,
            images_swapped,
            one_image_fewer,
            outputs_changed,
            outputs_lost,
            digest_forged,
        )
    }
)
"""Name → what it does."""

worker.TASKS["harm"] = lambda job: HARMS[job["harm"]](job)

if __name__ == "__main__":
    runners.module = lambda name: NUMPY
    sys.exit(worker.main(sys.argv[1]))
