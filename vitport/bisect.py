"""`vitport bisect`: the first step at which an artifact leaves the oracle, and the likely cause. `bisect` is the steps.

Every tap of a backend is held to the same tap of Flax in float64, and allowed what NumPy in float32 is off there, times
the gate's ratio. The cause is looked for in the weights first, bit by bit, and then in what was returned (`causes.py`).
"""

import shlex
from dataclasses import asdict, dataclass
from math import isfinite, nan
from pathlib import Path

import numpy as np

from vitport import artifacts, assets, gates, images, jobs, lock, manifest, metrics, temporary
from vitport.architectures import TAPS
from vitport.arrays import Taps
from vitport.assets import Asset
from vitport.backend_table import BACKENDS
from vitport.errors import UsageError
from vitport.formats import ORACLE_PACKAGES, require
from vitport.job_arguments import model_arguments
from vitport.jobs import Job, Watch
from vitport.manifest import Manifest
from vitport.manifest_errors import suggestion
from vitport.parity.gate_rules import PORT_PREFIX
from vitport.parity.judged_ports import Port
from vitport.wording import plural

ORACLE = "flax"
"""What is taken for right, unless another backend is named."""

TIMEOUT = 1800.0
"""Seconds that one child may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for.

    backend: the suspect, or empty where `port` is. against: what it is compared with: `flax`, in float64, or another
    backend. artifacts: the folder that `convert` wrote, `build/<name>`.
    """

    manifest: Path
    backend: str = ""
    port: Port | None = None
    against: str = ORACLE
    variant: str = "classifier"
    artifacts: Path | None = None
    asset: str | None = None
    cache: Path | None = None
    offline: bool = False
    timeout: float = TIMEOUT

    @property
    def suspect(self) -> str:
        """Its name in messages."""
        return f"{PORT_PREFIX}{self.port.name}" if self.port else self.backend


@dataclass(frozen=True, slots=True)
class Step:
    """One tap. error: RMS difference, over the tap's own spread; None for NaN. rounding: the same of NumPy in float32.
    limit: what is allowed; None where NumPy's is NaN too, which allows nothing."""

    tap: str
    error: float | None
    rounding: float | None
    limit: float | None

    @property
    def diverged(self) -> bool:
        return self.error is None or self.limit is None or not self.error <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was found.

    how: what was tapped. first: the first step that leaves; None where none does. weights: leaves that are not the
    checkpoint's; None where they can't be read. cause: one line. named: whether the cause is sure. causes: the best
    guesses, with the part of the difference that they leave.
    """

    name: str
    suspect: str
    against: str
    variant: str
    how: str
    steps: tuple[Step, ...]
    first: str | None
    weights: tuple[str, ...] | None
    cause: str
    named: bool
    causes: tuple[dict, ...]

    @property
    def diverged(self) -> bool:
        """Whether it is another function, or has other weights."""
        return bool(self.first or self.weights)

    def to_json(self) -> dict:
        """For scripts."""
        return {**asdict(self), "diverged": self.diverged}


NOTHING = {"verdict": "no step differs by more than rounding", "named": True}
"""The cause of no difference."""


def bisect(request: Request, watch: Watch, fetched: assets.Progress | None = None) -> Outcome:
    """Taps of both sides, the first divergence and its likely cause. Raises the errors of `vitport.errors`."""
    port = _plan(request)
    listed = _listing(request, port)
    if listed:
        port = manifest.with_resolution(port, listed["resolution"])
    asset = lock.checkpoint(port, request.asset, watch, fetched, request.cache, request.offline)
    with temporary.folder() as scratch:
        desk = _Desk(port, asset, scratch, request, watch)
        found = desk.taps()
        walked = steps(found, request)
        first = next((step.tap for step in walked if step.diverged), None)
        different = bool(found.weights and found.weights["different"])
        cause = desk.cause(found, first) if first or different else NOTHING
    return Outcome(
        name=port.name,
        suspect=request.suspect,
        against=request.against,
        variant=request.variant,
        how=found.how,
        steps=tuple(walked),
        first=first,
        weights=tuple(found.weights["different"]) if found.weights else None,
        cause=cause["verdict"],
        named=cause["named"],
        causes=tuple(cause.get("causes", ())),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """What the children left: taps of the suspect, of the side taken for right, of the oracle, and as `rounding` those
    of NumPy, (DRAWS, n, ...). weights: what `tapping.tap_backend` says of them."""

    suspect: Taps
    truth: Taps
    oracle: Taps
    rounding: Taps
    how: str
    weights: dict | None


class _Desk:
    """The jobs of one bisection, and where they leave what they find."""

    def __init__(self, port: Manifest, asset: Asset, scratch: Path, request: Request, watch: Watch) -> None:
        self._port, self._scratch, self._request, self._watch = port, scratch, request, watch
        np.save(scratch / "images.npy", images.fixed(port.architecture.resolution))
        self._shared = {
            **model_arguments(asset.path, port.architecture, scratch / "images.npy"),
            "variant": request.variant,
        }

    def taps(self) -> Found:
        """Runs the suspect, the oracle, the yardstick, and the other backend where one is named."""
        request = self._request
        wanted = [
            self._tapped(request.suspect, request.port.backend if request.port else request.backend, request.port)
        ]
        wanted += [self._job(name, name) for name in ("tap_oracle", "tap_yardstick")]
        if request.against != ORACLE:
            wanted.append(self._tapped(f"against {request.against}", request.against, None))
        done = jobs.run(wanted, self._scratch, self._watch, request.timeout)
        suspect, oracle, yardstick, *other = (done[job.name] for job in wanted)
        truth = _read(other[0] if other else oracle)
        return Found(_read(suspect), truth, _read(oracle), _read(yardstick), suspect["how"], suspect["weights"])

    def cause(self, found: Found, first: str | None) -> dict:
        """The likely cause of what the suspect returns."""
        if found.weights and found.weights["sentence"]:
            count = len(found.weights["different"])
            differ = f"{count} {plural(count, 'leaf differs', 'leaves differ')}"
            sentence = f"{found.weights['sentence']}: bit by bit what its weights say ({differ})"
            return {"verdict": sentence, "named": True, "causes": [{"faults": [found.weights["fault"]], "left": 0.0}]}
        tap = TAPS[self._request.variant]
        truth, question = found.oracle[tap], self._scratch / "question.npz"
        np.savez(question, outputs=found.suspect[tap], truth=truth)
        least = gates.FLOOR / gates.RATIO * metrics.spread(truth)
        rounding = metrics.worst_rms(found.rounding[tap], truth)
        rounding = max(rounding, least) if isfinite(rounding) else least
        block = _block(first) if first and len(found.suspect) > 1 else None
        job = self._job("cause", "explain", question=str(question), rounding=rounding, block=block)
        cause = jobs.run([job], self._scratch, self._watch, self._request.timeout)["cause"]
        if found.weights and found.weights["different"] and not cause["named"]:
            different = found.weights["different"]
            are = f"{len(different)} {plural(len(different), 'leaf is', 'leaves are')}"
            cause["verdict"] += f"; {are} not the checkpoint's: {', '.join(different[:3])}"
        return cause

    def _tapped(self, name: str, backend: str, port: Port | None) -> Job:
        row, request = BACKENDS[backend], self._request
        out = request.artifacts or artifacts.home(self._port.name)
        folder = port.path if port else out / request.variant / row.artifact if row.artifact else None
        arguments = {"backend": backend, "folder": str(folder or ""), "port": port is not None}
        return self._job(name.replace(":", "."), "tap_backend", **arguments)

    def _job(self, name: str, task: str, **arguments: object) -> Job:
        return Job(name, task, {**self._shared, "outputs": str(self._scratch / f"{name}.npz"), **arguments})


def _plan(request: Request) -> Manifest:
    """The manifest. Raises UsageError and EnvironmentFault early."""
    port = manifest.read(request.manifest)
    for name in filter(None, (request.backend, request.against)):
        if name not in BACKENDS:
            raise UsageError(
                f"unknown backend {name!r}; {suggestion(name, BACKENDS) or 'there are ' + ', '.join(BACKENDS)}"
            )
        require(name, BACKENDS[name].packages)
    if bool(request.backend) == bool(request.port):
        raise UsageError("name one suspect, with --backend or with --port")
    require("the oracle", ORACLE_PACKAGES)
    return port


def _listing(request: Request, port: Manifest) -> dict | None:
    """The list of the artifacts, where one of them is run. Raises UsageError where it is not there."""
    needed = [
        BACKENDS[name].artifact for name in (request.backend, request.against) if name and BACKENDS[name].artifact
    ]
    out = request.artifacts or artifacts.home(port.name)
    listed = artifacts.read(out)
    there = {(entry["format"], entry["variant"]) for entry in listed["artifacts"]} if listed else set()
    for name in needed:
        if (name, request.variant) not in there:
            asked = "" if name in port.formats else f" --format {name}"
            raise UsageError(
                f"{out} holds no {name} of the {request.variant}; make it first: "
                f"vitport convert {shlex.quote(str(request.manifest))} --out {shlex.quote(str(out))}{asked}"
            )
    return listed


def _read(result: dict) -> Taps:
    with np.load(result["outputs"]) as file:
        return dict(file)


def steps(found: Found, request: Request) -> list[Step]:
    """In the order of the definition; a tap that the suspect has not is left out."""
    last, doubled = TAPS[request.variant], 1 if request.against == ORACLE else 2
    names = list(found.rounding)
    names = names[: names.index(last) + 1]
    return [_step(found, name, doubled) for name in names if name in found.suspect and name in found.truth]


def _step(found: Found, tap: str, doubled: int) -> Step:
    oracle, suspect, truth = found.oracle[tap], found.suspect[tap], found.truth[tap]
    spread = metrics.spread(oracle.reshape(len(oracle), -1))
    error = metrics.rms(suspect, truth) / spread if suspect.shape == truth.shape else nan
    rounding = metrics.worst_rms(found.rounding[tap], oracle)
    limit = doubled * float(np.maximum(gates.RATIO * rounding / spread, gates.FLOOR))  # NaN stays NaN
    return Step(tap, *(value if isfinite(value) else None for value in (error, rounding / spread, limit)))


def _block(tap: str) -> int | None:
    """The encoder block that a tap is in."""
    head, _, _ = tap.partition("/")
    return int(head.removeprefix("encoderblock_")) if head.startswith("encoderblock_") else None
