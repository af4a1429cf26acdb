"""The tasks of a verification's children: run one backend on the images, and find out what it is held to.

Every result carries the job's nonce and the digests of what was read and written, so that the parent can tell it from
another run's.
"""

import math
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from vitport import artifacts, formats, images, runners, yardstick
from vitport.architectures import TAPS, forward
from vitport.arrays import Images, Logits, Params
from vitport.backend_table import BACKENDS
from vitport.devices import Runner
from vitport.job_arguments import model_of, say
from vitport.parity.gradient_parts import part_of
from vitport.runners import Subject

ORACLE_BATCH = 4
"""Images at a time in float64: little memory, and few enough shapes to compile."""

COLD = 2
"""Batches in which frameworks compile: XLA in the first, TorchScript in the second, of what it saw in the first."""

YARDSTICK_IMAGES = 4
"""Images on which NumPy is run in float32: with its draws 12 samples of the error's scale, twice those of `convert`."""


def measure(job: dict) -> dict:
    """Runs one backend on all images, and takes the job's `measures` of it, of `MEASURES`."""
    started = time.perf_counter()
    row = BACKENDS[job["backend"]]
    say(f"importing {' and '.join(row.packages)}")
    module, subject, pixels = runners.module(row.name), subject_of(job), np.load(job["images"], mmap_mode="r")
    say("loading")
    runner = module.open(subject, job["device"], job["precision"])
    loaded = time.perf_counter()
    pace = Pace(len(pixels))
    outputs = run_in_batches(runner, pixels, job["batch"], pace)
    speed = {"load": loaded - started, "infer": pace.seconds, "rate": pace.rate}
    result = {"speed": {**speed, "memory": _peak_memory()}, "facts": runner.facts()}
    arrays = {"outputs": outputs}
    for name in job["measures"]:
        found = MEASURES[name](Opened(job, module, subject, runner, pixels, outputs))
        arrays |= found.pop("arrays", {})
        result |= found
    return {**result, **_left(job, dict(module.VERSIONS), **arrays)}


def reference(job: dict) -> dict:
    """Flax in float64 on the images and on the fixed ones, both variants."""
    flax_run = _flax()
    architecture, params = model_of(job)
    arrays: dict[str, list[Logits]] = {}
    for name in ("images", "fixed"):
        pixels = np.load(job[name], mmap_mode="r")
        for done, batch in _batches(pixels, ORACLE_BATCH):
            taps = flax_run.run(architecture, params, np.asarray(batch), "float64")
            for tap in TAPS.values():
                arrays.setdefault(f"{name}/{tap}", []).append(taps[tap])
            say(f"the oracle in float64, {name}: {done} of {len(pixels)}")
    return _left(job, flax_run.facts(), **{name: np.concatenate(parts) for name, parts in arrays.items()})


def gradients(job: dict) -> dict:
    """Flax's gradients in float64 on the fixed images, and how far its own in float32 are from them."""
    flax_run = _flax()
    architecture, params = model_of(job)
    fixed = np.load(job["fixed"])
    labels = labels_of(fixed, architecture.num_classes)
    say("the oracle's gradients in float64")
    truth = flax_run.gradients(architecture, params, fixed, labels, job["variant"], "float64")
    say("Flax's gradients in float32")
    single = flax_run.gradients(architecture, params, fixed, labels, job["variant"], "float32")
    result = {"reference": relative_errors(single, truth)}
    return result | _left(job, flax_run.facts(), **truth)


def _flax() -> ModuleType:
    say("importing jax and flax")
    formats.import_packages("the oracle", formats.ORACLE_PACKAGES)
    from vitport.reference import flax_run

    return flax_run


def _left(job: dict, versions: dict, **arrays: np.ndarray) -> dict:
    """Writes the arrays, and says whose they are, and which images the job was given."""
    np.savez(job["outputs"], **arrays)
    fed = images.digest(np.load(job["images"], mmap_mode="r"))
    return {"nonce": job["nonce"], "fed": fed, "versions": versions, "sha256": artifacts.sha256(Path(job["outputs"]))}


def standard(job: dict) -> dict:
    """The definition in NumPy: in float64 on the fixed images; in float32, as a good implementation, on the first.

    Where the job says `tf32` also with products as TensorFloat-32 has them.
    """
    from vitport.backends import numpy as backend

    architecture, params = model_of(job)
    kept, fixed = TAPS.values(), np.load(job["fixed"])
    say("the definition in float64")
    runs = {"float64": backend.run(architecture, params, fixed, "classifier", "float64", kept)}
    pixels = np.asarray(np.load(job["images"], mmap_mode="r")[:YARDSTICK_IMAGES])
    runs["float32"] = yardstick.run(architecture, params, pixels, kept)
    if job["tf32"]:
        say("NumPy in float32, its products in TF32")
        ops = backend.TF32Ops(kept)
        forward(architecture, ops, backend.Cast(params, "float32"), pixels, "classifier")
        runs["tf32"] = {name: tap[np.newaxis] for name, tap in ops.taps.items()}  # one draw
    arrays = {f"{run}/{tap}": taps[tap] for run, taps in runs.items() for tap in kept}
    return _left(job, {"numpy": np.__version__}, **arrays)


def health(job: dict) -> dict:
    """What a package says of itself."""
    from vitport.runners import health, torchvision_operators

    if job["package"] in ("timm", "transformers"):
        torchvision_operators.declare()
    formats.import_packages(job["package"], (job["package"],))
    return {"says": health.facts(job["package"])}


TASKS: dict[str, Callable[[dict], dict]] = {
    "health": health,
    "measure": measure,
    "reference": reference,
    "gradients": gradients,
    "standard": standard,
}


def subject_of(job: dict) -> Subject:
    """What a job runs."""
    architecture, params = model_of(job)
    folder = Path(job["folder"]) if job["folder"] else None
    return Subject(architecture, job["variant"], folder, params, job["port"])


def labels_of(fixed: Images, classes: int) -> np.ndarray:
    """The classes that losses take for true, (n,) int64: image i is of class i."""
    return np.arange(len(fixed)) % classes


class Pace:
    """How fast the main run goes: told after each batch, it says so."""

    def __init__(self, count: int) -> None:
        self.count, self._marks = count, [(0, time.perf_counter())]

    def __call__(self, done: int) -> None:
        """done: images until now."""
        self._marks.append((done, time.perf_counter()))
        say(f"{done} of {self.count} images, {self.rate:.1f} images/s, {(self.count - done) / self.rate:.0f} s left")

    @property
    def seconds(self) -> float:
        """Of all batches until now."""
        return self._marks[-1][1] - self._marks[0][1]

    @property
    def rate(self) -> float:
        """Images a second, without the first batches, in which frameworks compile, as soon as there is another."""
        (start, since), (end, until) = self._marks[min(COLD, len(self._marks) - 2)], self._marks[-1]
        return (end - start) / max(until - since, 1e-9)


def run_in_batches(
    runner: Runner, pixels: Images, size: int, told: Callable[[int], None] = lambda done: None
) -> Logits:
    """All outputs, (n, c), `size` images at a time; the last batch may be smaller. told: how many are done."""
    parts = []
    for done, batch in _batches(pixels, size):
        parts.append(runner(np.ascontiguousarray(batch)))
        told(done)
    return np.concatenate(parts)


def relative_errors(gradients: Params, truth: Params) -> dict[str, float]:
    """By part of the network: RMS difference of the gradients over the RMS of the true ones.

    Where the true one is no number nothing is compared: of a StdConv channel of equal weights JAX has none. A leaf
    without any is NaN.
    """
    squares: dict[str, list[float]] = {}
    for leaf in truth:
        exact = np.asarray(truth[leaf], np.float64)
        exists = np.isfinite(exact)
        sums = squares.setdefault(part_of(leaf), [0.0, 0.0])
        sums[0] += float(np.square(np.asarray(gradients[leaf], np.float64) - exact)[exists].sum())
        sums[1] += float(np.square(exact[exists]).sum()) if exists.any() else math.nan
    return {part: _root_of_quotient(error, exact) for part, (error, exact) in squares.items()}


def _root_of_quotient(error: float, exact: float) -> float:
    """Infinite where something stands beside nothing."""
    if exact == 0.0:
        return math.inf if error else 0.0
    return math.sqrt(error / exact)


@dataclass(frozen=True, slots=True)
class Opened:
    """A backend that has run: what else is measured of it starts here."""

    job: dict
    module: ModuleType
    subject: Subject
    runner: Runner
    pixels: Images
    outputs: Logits

    def fixed(self) -> tuple[Images, np.ndarray]:
        """The two fixed images, and the classes that losses take for theirs."""
        pixels = np.load(self.job["fixed"])
        return pixels, labels_of(pixels, self.subject.architecture.num_classes)

    def ways(self) -> list[Runner]:
        """Other ways by which clients call the artifact, where it has any."""
        found = getattr(self.module, "ways", None)
        return found(self.subject, self.job["device"]) if found and not self.subject.port else []


def noise(opened: Opened) -> dict:
    """How far the backend is from itself: the first batch once more, by every way into it, and in other batch sizes."""
    say("repeating, and other batch sizes")
    size, others = opened.job["batch"], opened.job["batches"]
    again = [_differs(opened, opened.pixels[:size], size, runner) for runner in (opened.runner, *opened.ways())]
    repeat = max(again, key=lambda found: math.inf if found["max"] is None else found["max"])
    tried = [_differs(opened, opened.pixels[: max(b + 1, 3)], b, opened.runner) for b in others]
    return {"noise": {"repeat": repeat, "batches": tried}}


def weights(opened: Opened) -> dict:
    """The artifact's leaves that are not the checkpoint's, bit for bit."""
    if not hasattr(opened.module, "weights") or opened.subject.port:
        return {}
    say("comparing the weights")
    truth = opened.module.expected(opened.subject)
    different = runners.different_leaves(opened.module.weights(opened.subject), truth)
    return {"weights": {"leaves": len(truth), "different": different[:10], "count": len(different)}}


def labels(opened: Opened) -> dict:
    """Classes that the artifact calls otherwise than the manifest, where both name them."""
    expected = opened.job.get("labels")
    if not expected or opened.subject.variant != "classifier" or not hasattr(opened.module, "labels"):
        return {}
    found = opened.module.labels(opened.subject)
    if found is None:
        return {}
    wrong = [index for index, name in enumerate(expected) if found[index : index + 1] != [name]]
    return {"labels": {"classes": len(expected), "different": wrong[:10], "count": len(wrong)}}


def preprocessing(opened: Opened) -> dict:
    """What the artifact tells its clients to make of a picture otherwise than the published evaluation."""
    if not hasattr(opened.module, "preprocessing"):
        return {}
    found = opened.module.preprocessing(opened.subject)
    return {} if found is None else {"preprocessing": {"different": found[:10], "count": len(found)}}


def semantic(opened: Opened) -> dict:
    """The outputs in float64, where the backend has a way to them."""
    if not hasattr(opened.module, "semantic"):
        return {}
    say("running in float64")
    found = opened.module.semantic(opened.subject, opened.fixed()[0])
    return {"arrays": {"semantic": found[0]}, "how": found[1]} if found else {}


def gradient_errors(opened: Opened) -> dict:
    """By part of the network, in both lanes, where the job says where the oracle's gradients are."""
    if not opened.job["gradients"] or not hasattr(opened.module, "gradients"):
        return {}
    errors = {}
    for dtype, device in (("float32", opened.job["device"]), ("float64", "cpu")):
        say(f"gradients in {dtype}")
        found = opened.module.gradients(opened.subject, device, *opened.fixed(), dtype)
        with np.load(opened.job["gradients"]) as truth:
            errors[dtype] = relative_errors(found, truth)
    return {"gradients": errors}


MEASURES: dict[str, Callable[[Opened], dict]] = {
    "noise": noise,
    "weights": weights,
    "labels": labels,
    "preprocessing": preprocessing,
    "semantic": semantic,
    "gradients": gradient_errors,
}
"""What can be measured beside the outputs, once, in float32: fields of a result, with arrays for the parent under
`arrays`. The names are those by which a job asks, in the order in which it does."""


def _differs(opened: Opened, pixels: Images, size: int, runner: Runner) -> dict:
    """A run of the first images in batches of `size`, beside the main run."""
    again = run_in_batches(runner, pixels, size)
    expected = opened.outputs[: len(again)]
    delta = np.abs(np.subtract(again, expected, dtype=np.float64)).max()
    equal = bool(np.array_equal(again, expected, equal_nan=True))
    return {
        "batch": size,
        "images": len(again),
        "max": float(delta) if np.isfinite(delta) else None,
        "bit_equal": equal,
    }


def _batches(pixels: Images, size: int) -> Iterator[tuple[int, Images]]:
    """Images done after each batch, and the batch."""
    for start in range(0, len(pixels), size):
        batch = pixels[start : start + size]
        yield start + len(batch), batch


def _peak_memory() -> int:
    """Of this process until now, in bytes; Linux counts in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
