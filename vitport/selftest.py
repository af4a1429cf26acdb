"""`vitport selftest`: plants every known fault, and requires each to be caught. `selftest` is the steps.

Faults are planted in the artifacts of every backend and in its runs (`planting.py`), in the processes that run them
(`saboteur.py`), in the folder of artifacts (`tampering.py`) and in the definition. What they do is measured, compared
and judged by what `verify` measures, compares and judges with, under the default policy. Where nothing is planted
everything must pass: a gate that always fails catches everything too.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from vitport import assets, check, checkpoint, convert, images, jobs, lock, manifest, metrics, temporary
from vitport.architectures import forward
from vitport.backend_table import BACKENDS
from vitport.backends.foreign import words
from vitport.backends.numpy import Cast, NumPyOps
from vitport.errors import AssetError, BackendError, CheckpointError, EnvironmentFault, UsageError, VitportError
from vitport.faults import CONTROL, FAULTS, folders, planting
from vitport.faults.saboteur import BACKEND, HARMS
from vitport.faults.slips import SLIPS
from vitport.faults.tampering import HARMS as TAMPERINGS
from vitport.formats import FORMATS, require
from vitport.job_arguments import model_arguments
from vitport.jobs import Job, Watch, error_of
from vitport.manifest import Manifest
from vitport.parity import image_sets, judging, measuring, policy
from vitport.parity.bench import Bench, Errand, Result
from vitport.parity.comparison import Truth, number
from vitport.parity.outputs_store import Store
from vitport.parity.references import references
from vitport.parity.report_schema import Judgement, Report, Spread
from vitport.parity.run_report import did_not_run, ran
from vitport.parity.run_schema import Run
from vitport.parity.trials import Trial, choose

VARIANT = "classifier"

IMAGES, BATCH, BATCHES = 3, 3, (1,)
"""Images that are drawn, how many at a time, and in which other batches."""

UNMEASURED = ("gradients", "semantic_gradients")
"""Faults are planted in what is returned; `tests/test_runners.py` stops a gradient."""

MEASURES = tuple(name for name in measuring.MEASURES if name not in UNMEASURED)
"""What is measured beside the outputs."""

PATIENCE = 5.0
"""Seconds after which a child that hangs is stopped: NumPy takes one."""

TIMEOUT = 900.0
"""Seconds for all faults of one backend."""

PROCESSES, FOLDER, DEFINITION = "processes", "artifacts", "definition"
"""What else faults are planted in, beside backends."""


OPTIONAL = [name for name, row in BACKENDS.items() if row.artifact and FORMATS[row.artifact].optional]

USUAL = (*(name for name in BACKENDS if name not in OPTIONAL), PROCESSES, FOLDER, DEFINITION)
"""Backends of formats that are made only where they are asked for are left out: they trace and compile for minutes."""


SOON = ("onnx", "safetensors-transformers", "safetensors-timm")
"""Formats of the folder that is changed: written in a moment. Bytes are bytes in any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for; empty means the usual places, as far as they are installed, and all faults.

    manifest: of a small checkpoint. backends: of the table, or `processes`, `artifacts`, `definition`. faults: names.
    """

    manifest: Path
    backends: Sequence[str] = ()
    faults: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One fault in one place. caught: by what: names of gates, or why it did not run. passed: whether it was caught;
    of the control, whether it passed. reason: what did not happen, in words."""

    place: str
    fault: str
    sentence: str
    caught: tuple[str, ...]
    passed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """rows: every fault in every place. missing: backends that are not installed, and why."""

    rows: list[Row]
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return bool(self.rows) and all(row.passed for row in self.rows)

    def to_json(self) -> dict:
        """For scripts."""
        return {"passed": self.passed, "missing": self.missing, "rows": [asdict(row) for row in self.rows]}


def selftest(request: Request, watch: Watch) -> Outcome:
    """Plants and judges. Raises UsageError for what does not exist, and the oracle's errors."""
    port = manifest.read(request.manifest)
    places = choose(request.backends or USUAL, (*BACKENDS, PROCESSES, FOLDER, DEFINITION), "backend")
    backends, missing = _installed([name for name in places if name in BACKENDS], port, bool(request.backends))
    wanted = _wanted(request.faults, port)
    if not any(_chosen(_names(place, port), wanted) for place in (*backends, *places)):
        raise UsageError("none of these faults can be planted there; leave --backend or --fault out to see them all")
    with temporary.folder() as scratch:
        lab = _Lab(port, scratch, watch)
        rows = list(lab.backends(backends, wanted))
        rows += lab.definition(wanted) if DEFINITION in places else []
        rows += lab.processes(wanted) if PROCESSES in places else []
        rows += lab.folder(wanted) if FOLDER in places else []
    return Outcome(rows, missing)


def _installed(asked: Sequence[str], port: Manifest, needed: bool) -> tuple[list[str], dict[str, str]]:
    """Backends that there are, and why others are not. Raises EnvironmentFault where one was asked for by name."""
    there, missing = [], {}
    for name in asked:
        row = BACKENDS[name]
        reason = manifest.inapplicable(port.architecture, row.artifact) if row.artifact else None
        try:
            require(name, row.packages)
        except EnvironmentFault as error:
            if needed:
                raise
            reason = str(error)
        if reason:
            missing[name] = reason
        else:
            there.append(name)
    return there, missing


def _names(place: str, port: Manifest) -> list[str]:
    """Of the faults that can be planted in one place."""
    if place in BACKENDS:
        return planting.names(place, port.architecture)
    operations = [f.name for f in FAULTS.values() if f.operations and f.places(port.architecture)]
    return {PROCESSES: list(HARMS), FOLDER: list(TAMPERINGS), DEFINITION: [CONTROL, *operations]}[place]


def _wanted(faults: Sequence[str], port: Manifest) -> set[str] | None:
    """Names of faults, the control among them; None for all of them."""
    known = {*FAULTS, *SLIPS, *folders.SENTENCES, *HARMS, *TAMPERINGS, CONTROL}
    if faults:
        choose(faults, sorted(known), "fault")
    return {CONTROL, *faults} if faults else None


class _Lab:
    """One checkpoint, its oracle, and the rules."""

    def __init__(self, port: Manifest, scratch: Path, watch: Watch) -> None:
        self._port, self._scratch, self._watch = port, scratch, watch
        self._asset = lock.fetch(port, lambda text: watch("asset", text), cache=assets.default_cache())
        resolution = port.architecture.resolution
        pictures = image_sets.write(image_sets.SEEDED, resolution, scratch / "images.npy", IMAGES)
        np.save(scratch / "fixed.npy", images.fixed(resolution))
        store = Store(scratch / "store", True)
        facts = (port.architecture, self._asset, scratch, pictures, scratch / "fixed.npy", store, watch)
        self._bench = Bench(*facts, TIMEOUT)
        self._careless = Bench(*facts, PATIENCE, "vitport.faults.saboteur")
        truths, spreads = references(self._bench, (VARIANT,))
        self._truth: Truth = truths[VARIANT]
        self._spread: Spread = spreads[VARIANT]
        self._rules = policy.without(policy.read(), UNMEASURED, "gradients")

    def backends(self, names: Sequence[str], wanted: set[str] | None) -> Iterator[Row]:
        """Every fault in every backend, two backends at a time."""
        chosen = {name: _chosen(planting.names(name, self._port.architecture), wanted) for name in names}
        planted = [self._planting(name, faults) for name, faults in chosen.items()]
        results = jobs.run(planted, self._scratch, self._watch, TIMEOUT)
        for name, faults in chosen.items():
            for fault in faults:
                run = self._run(name, _left(results[f"plant.{name}"][fault]))
                yield self._judged(name, fault, planting.sentence(fault, self._port.architecture), run)

    def _planting(self, backend: str, faults: Sequence[str]) -> Job:
        bench = self._bench
        arguments = {
            **model_arguments(bench.asset.path, bench.architecture, bench.pictures.path),
            "fixed": str(bench.fixed),
            "backend": backend,
            "variant": VARIANT,
            "precision": "float32",
            "labels": list(self._port.class_names),
            "batch": BATCH,
            "batches": BATCHES,
            "measures": MEASURES,
            "faults": list(faults),
            "scratch": str(self._scratch),
        }
        return Job(f"plant.{backend}", "plant", arguments, program="vitport.faults.planting")

    def definition(self, wanted: set[str] | None) -> list[Row]:
        """Wrong operations in the definition itself, of which every artifact is made: the oracle must see them."""
        return [self._defined(name) for name in _chosen(_names(DEFINITION, self._port), wanted)]

    def _defined(self, fault: str) -> Row:
        architecture, ops, sentence = (
            self._port.architecture,
            NumPyOps,
            planting.sentence(fault, self._port.architecture),
        )
        if fault != CONTROL:
            ops = FAULTS[fault].typical(architecture).operations(ops, words("numpy"))
        params = Cast(checkpoint.read(self._asset.path, architecture), "float64")
        outputs = forward(architecture, ops(keep=()), params, np.load(self._bench.fixed).astype(np.float64), VARIANT)
        error = number(metrics.error(outputs, self._truth.fixed).relative)
        judgement = self._judge(self._honest, self._spread.model_copy(update={"definition": error}))
        return self._row(DEFINITION, fault, sentence, judgement)

    def processes(self, wanted: set[str] | None) -> list[Row]:
        """Children that die, hang and lie."""
        rows = []
        for name in _chosen(list(HARMS), wanted):
            run = self._honest if name == CONTROL else self._harmed(name)
            rows.append(self._judged(PROCESSES, name, HARMS[name].__doc__ or "", run))
        return rows

    @cached_property
    def _honest(self) -> Run:
        """Of a child that does no harm."""
        return self._harmed(CONTROL)

    def _harmed(self, harm: str) -> Run:
        return self._run(BACKEND, self._child(harm))

    def _child(self, harm: str) -> Result | VitportError:
        facts = {"backend": BACKEND, "variant": VARIANT, "precision": "float32", "port": False, "harm": harm}
        facts |= {"measures": list(MEASURES), "batch": BATCH, "batches": BATCHES}
        try:
            return self._careless.run(Errand(f"harm.{harm}", "harm", facts, {"folder": ""}))
        except (BackendError, EnvironmentFault, AssetError, CheckpointError) as problem:
            return problem

    def folder(self, wanted: set[str] | None) -> list[Row]:
        """A folder of artifacts that was changed after it was proven."""
        names = _chosen(list(TAMPERINGS), wanted)
        if not names:
            return []
        right = self._scratch / "right"
        formats = [name for name in self._port.formats if name in SOON]
        asked = convert.Request(manifest=self._port.path, out=right, formats=formats, variants=(VARIANT, "features"))
        convert.convert(asked, self._watch)
        rows = [self._checked(right, CONTROL, "nothing is changed")]
        for name in names:
            wrong = self._scratch / name
            shutil.copytree(right, wrong, symlinks=True)
            TAMPERINGS[name](wrong)
            rows.append(self._checked(wrong, name, TAMPERINGS[name].__doc__ or ""))
        return rows

    def _checked(self, folder: Path, fault: str, sentence: str) -> Row:
        found = check.folder(folder, None, lambda: None, lambda done, total: None).findings
        caught = ("artifacts",) if found else ()
        return Row(FOLDER, fault, sentence, caught, bool(found) != (fault == CONTROL))

    def _run(self, backend: str, found: Result | VitportError) -> Run:
        """As `verify` has it."""
        trial = Trial(backend, backend, VARIANT, "float32", "cpu", None, "", required=True, thorough=True)
        return did_not_run(trial, found) if isinstance(found, VitportError) else ran(trial, found, self._truth)

    def _judge(self, run: Run, spread: Spread) -> Judgement:
        facts = {"runs": [run], "references": {VARIANT: spread}, "architecture": asdict(self._port.architecture)}
        return judging.judge(Report.model_construct(**facts), self._rules)

    def _judged(self, place: str, fault: str, sentence: str, run: Run) -> Row:
        judgement = self._judge(run, self._spread)
        return self._row(place, fault, sentence, judgement, run.cause)

    def _row(self, place: str, fault: str, sentence: str, judgement: Judgement, cause: str | None = None) -> Row:
        failed = [gate for gate in judgement.gates if gate.verdict == "FAIL"]
        caught = tuple(gate.gate for gate in failed) or ((cause or "not measured",) if judgement.exit_code else ())
        passed = bool(judgement.exit_code) != (fault == CONTROL)
        reason = (
            "; ".join(gate.reason for gate in judgement.gates if gate.verdict != "PASS") if fault == CONTROL else ""
        )
        return Row(place, fault, sentence, caught, passed, reason)


def _left(value: dict) -> Result | VitportError:
    """What a child left of one planted fault."""
    if "error" in value:
        return error_of(value)(value["error"])
    with np.load(value["outputs"]) as file:
        return Result({"wall": 0.0, **value}, dict(file))


def _chosen(names: Sequence[str], wanted: set[str] | None) -> list[str]:
    """Those that are wanted; none where that is the control alone."""
    chosen = [name for name in names if wanted is None or name in wanted]
    return chosen if set(chosen) - {CONTROL} else []
