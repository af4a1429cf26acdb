"""Where the runs of a verification are made: one child at a time, its result checked, or taken from an earlier one."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vitport import artifacts, jobs
from vitport.architectures import Architecture
from vitport.assets import Asset
from vitport.errors import BackendError
from vitport.job_arguments import model_arguments
from vitport.jobs import Job, Watch
from vitport.parity.image_sets import ImageSet
from vitport.parity.outputs_store import Store, key_of


class Untrusted(BackendError):
    """A child's result can't be what it was asked for: another run's, of other images, or changed since.

    cause: as `run_schema.Cause` has it.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Errand:
    """A job of `measuring.py`. facts: arguments that its outputs depend on. places: arguments that they don't."""

    name: str
    task: str
    facts: Mapping = field(default_factory=dict)
    places: Mapping = field(default_factory=dict)
    device: str = "cpu"


@dataclass(frozen=True)
class Result:
    """What a child left. facts: its JSON. arrays: a few thousand numbers an image. reused: whether an earlier
    verification made them."""

    facts: dict
    arrays: dict[str, np.ndarray]
    reused: bool = False


@dataclass(frozen=True)
class Bench:
    """What all runs of a verification share.

    asset: the checkpoint, None where artifacts are run without it. timeout: seconds for each run. program: the module
    that a child runs. gradients: results of the oracle's, by variant, as they are needed.
    """

    architecture: Architecture
    asset: Asset | None
    scratch: Path
    pictures: ImageSet
    fixed: Path
    store: Store
    watch: Watch
    timeout: float
    program: str = "vitport.worker"
    gradients: dict[str, dict] = field(default_factory=dict)

    def run(self, errand: Errand, gradients: bool = False) -> Result:
        """The result of an errand. gradients: whether it is to be held to the oracle's.

        Raises BackendError, EnvironmentFault, AssetError or CheckpointError as the child did, and `Untrusted`.
        """
        key = self._key(errand)
        kept = self.store.load(key)
        if kept:
            self.watch(errand.name, "done, by an earlier run")
            return Result(*kept, reused=True)
        places = {**errand.places, "gradients": ""}
        found = None
        if gradients:
            found = self._gradients(errand.facts["variant"])
            places["gradients"] = found["outputs"]
        value = self._child(errand, places)
        if found:
            value["gradients_reference"] = found["reference"]
        outputs = Path(value.pop("outputs"))
        with np.load(outputs) as file:
            result = Result(value, dict(file))
        if self._sound(errand, result):
            self.store.save(key, result.facts, outputs)
        return result

    def _sound(self, errand: Errand, result: Result) -> bool:
        """Whether outputs are worth keeping: of another shape, or not finite, they may be of a moment."""
        outputs = result.arrays.get("outputs")
        if outputs is None:
            return True
        expected = (len(self.pictures.ids), self.architecture.output_width(errand.facts["variant"]))
        return outputs.shape == expected and bool(np.isfinite(outputs).all())

    def _key(self, errand: Errand) -> str:
        depends = {**errand.facts, "task": errand.task, "device": errand.device}
        depends["asset"] = self.asset.sha256 if self.asset else ""
        depends |= {"images": self.pictures.sha256, "architecture": asdict(self.architecture)}
        return key_of(**depends)

    def _gradients(self, variant: str) -> dict:
        """The oracle's, made when they are first needed: they are as large as the checkpoint, and not kept."""
        errand = Errand(f"gradients.{variant}", "gradients", {"variant": variant})
        if variant not in self.gradients:
            self.gradients[variant] = self._child(errand, {})
        return self.gradients[variant]

    def _child(self, errand: Errand, places: Mapping) -> dict:
        """Runs a job and returns its result, believed as far as it can be checked."""
        name = errand.name.replace("/", ".").replace(":", ".")
        outputs, nonce = self.scratch / f"{name}.npz", secrets.token_hex(16)
        arguments = {
            **model_arguments(self.asset and self.asset.path, self.architecture, self.pictures.path),
            "fixed": str(self.fixed),
            "outputs": str(outputs),
            "nonce": nonce,
            **errand.facts,
            **places,
        }
        job = Job(name, errand.task, arguments, errand.device, alone=True, program=self.program)
        started, before = time.monotonic(), _marks(errand)
        value = jobs.run([job], self.scratch, lambda _, text: self.watch(errand.name, text), self.timeout)[name]
        self._believe(errand, value, nonce, outputs)
        _require_unchanged(errand, before)
        return {**value, "wall": time.monotonic() - started, "outputs": str(outputs)}

    def _believe(self, errand: Errand, value: dict, nonce: str, outputs: Path) -> None:
        """Raises `Untrusted` where a result is not of this job."""
        if value.get("nonce") != nonce:
            raise Untrusted("stale", f"{errand.name} left the result of another run")
        if value.get("fed") != self.pictures.sha256:
            fed = value.get("fed", "it does not say which")
            raise Untrusted("fed", f"{errand.name} was fed other images: {fed}, not {self.pictures.sha256}")
        if not outputs.is_file() or artifacts.sha256(outputs) != value.get("sha256"):
            raise Untrusted("stale", f"{errand.name} left other outputs than it says")


def _marks(errand: Errand) -> tuple:
    folder = errand.places.get("folder")
    return artifacts.marks(Path(folder)) if folder else ()


def _require_unchanged(errand: Errand, before: tuple) -> None:
    """Raises `Untrusted` where what was run is not what was hashed, or was another thing for a while."""
    folder = errand.places.get("folder")
    if folder and (artifacts.fingerprint(Path(folder)) != errand.facts["subject"] or _marks(errand) != before):
        raise Untrusted("stale", f"{folder} changed while {errand.name} ran")
