"""`vitport golden`: a few kilobytes by which continuous integration checks artifacts, without checkpoint or JAX.

`make` asks the oracle once, where the checkpoint is. `check` runs the artifacts in whatever backends are there and
judges them by the answers: nonfinite, numeric, flips, repeat and batches. Whether weights are the checkpoint's to the
bit, the semantic lane and gradients need the checkpoint: that is `vitport verify`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitport import artifacts, assets, lock, manifest, temporary
from vitport.appearing import appearing, prepare_folder
from vitport.architectures import Architecture
from vitport.assets import Asset
from vitport.backend_table import BACKENDS
from vitport.errors import AssetError, CheckpointError, UsageError
from vitport.formats import ORACLE_PACKAGES, require
from vitport.jobs import Watch
from vitport.parity import golden_file, held_artifacts, image_sets, policy
from vitport.parity.assembling import Case, Outcome, report_of
from vitport.parity.attempts import attempt
from vitport.parity.bench import Bench
from vitport.parity.comparison import Truth, number
from vitport.parity.golden_file import Answers, Golden
from vitport.parity.judging import judged
from vitport.parity.outputs_store import Store
from vitport.parity.references import references
from vitport.parity.report_schema import File, Report, Spread
from vitport.parity.run_report import did_not_run
from vitport.parity.run_schema import Run
from vitport.parity.trials import Asked, Trial, plan
from vitport.verify import TIMEOUT

UNMEASURED = ("weights", "labels", "preprocessing", "semantic", "gradients", "semantic_gradients")
"""Gates on what is held to the checkpoint, or to Flax, and not to answers alone."""

SIZES = (1, 2)
"""Images at a time, and then both at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for. golden: the file, beside the manifest if None."""

    manifest: Path
    golden: Path | None = None
    artifacts: Path | None = None
    asset: str | None = None
    resolution: int | None = None
    backends: Sequence[str] = ()
    cache: Path | None = None
    offline: bool = False
    timeout: float = TIMEOUT
    command: str = "vitport golden"

    @property
    def path(self) -> Path:
        return self.golden or golden_file.place(self.manifest)


def make(request: Request, watch: Watch, fetched: assets.Progress | None = None) -> Path:
    """Writes the golden file of a manifest, and returns its path."""
    port = manifest.read(request.manifest)
    if request.resolution:
        port = manifest.with_resolution(port, request.resolution)
    require("the oracle", ORACLE_PACKAGES)
    prepare_folder(request.path, "golden file")
    asset = lock.checkpoint(port, request.asset, watch, fetched, request.cache, request.offline)
    with temporary.folder() as folder:
        bench = _bench(folder, port.architecture, request, watch, asset)
        truths, spreads = references(bench, port.variants)
    golden = Golden(
        schema=1,
        name=port.name,
        checkpoint=asset.sha256,
        resolution=port.architecture.resolution,
        images=bench.pictures.sha256,
        variants={variant: _answers(variant, truths[variant], spreads[variant]) for variant in port.variants},
    )
    with appearing(request.path) as file:
        file.write(golden_file.text(golden).encode())
    return request.path


def check_golden(request: Request, watch: Watch) -> Report:
    """The report of a folder's artifacts, judged by the golden file.

    Raises AssetError where the two don't belong together.
    """
    port = manifest.read(request.manifest)
    golden = golden_file.of(port.name, request.path)
    out = request.artifacts or artifacts.home(port.name)
    listed = _belonging(held_artifacts.whole(out, watch), golden, out)
    port = manifest.with_resolution(port, golden.resolution)
    trials = _trials(request, golden, listed, out)
    with temporary.folder() as folder:
        bench = _bench(folder, port.architecture, request, watch, None)
        if bench.pictures.sha256 != golden.images:
            raise AssetError(f"{request.path} is of other images than this vitport makes; make it again")
        truths = {variant: _truth(answers, bench, variant) for variant, answers in golden.variants.items()}
        spreads = {variant: _spread(answers, truths[variant]) for variant, answers in golden.variants.items()}
        outcomes = [Outcome(trial, attempt(bench, trial, SIZES, ("noise",))) for trial in trials]
        checkpoint = File(path=str(request.path), sha256=golden.checkpoint)
        case = Case(port, request.command, out, listed, checkpoint, bench.pictures, named=bool(request.backends))
        rules = policy.with_rules(policy.read(), port.name, port.gates.overrides)
        report = report_of(case, outcomes, truths, spreads)
    report = report.model_copy(update={"runs": [*report.runs, *_unanswered(request, golden, listed, out)]})
    return judged(report, policy.without(rules, UNMEASURED, "the checkpoint"))


def _trials(request: Request, golden: Golden, listed: dict, out: Path) -> list[Trial]:
    """Of every backend that runs an artifact which is there; those that the command names are required."""
    trials = _planned(request, tuple(golden.variants), golden, listed, out)
    return [replace(trial, required=bool(request.backends)) for trial in trials]


def _unanswered(request: Request, golden: Golden, listed: dict, out: Path) -> list[Run]:
    """Of artifacts whose variant has no answers. They are required: what nobody checked is no pass."""
    made = {entry["variant"] for entry in listed["artifacts"]}
    unknown = tuple(sorted(made - golden.variants.keys()))
    if not unknown:
        return []
    problem = AssetError(f"{request.path} has no answers of this variant; make it again: vitport golden make")
    trials = _planned(request, unknown, golden, listed, out)
    return [did_not_run(replace(trial, required=True), problem) for trial in trials]


def _planned(request: Request, variants: tuple[str, ...], golden: Golden, listed: dict, out: Path) -> list[Trial]:
    there = {entry["format"] for entry in listed["artifacts"]}
    able = [name for name, row in BACKENDS.items() if row.artifact in there]
    return plan(Asked(request.backends or able, variants, (), (), out, listed, golden.checkpoint))


def _bench(folder: Path, architecture: Architecture, request: Request, watch: Watch, asset: Asset | None) -> Bench:
    """A place to run things on the fixed images alone."""
    path = folder / "images.npy"
    pictures = image_sets.write(image_sets.GOLDEN, architecture.resolution, path)
    store = Store(request.cache or assets.default_cache(), fresh=False)
    return Bench(architecture, asset, folder, pictures, path, store, watch, request.timeout)


def _answers(variant: str, truth: Truth, spread: Spread) -> Answers:
    """Raises CheckpointError where float32 can't hold the answers, or is no measure for them."""
    rough = spread.yardstick is None or not spread.yardstick <= golden_file.ROUGHEST
    with np.errstate(over="ignore"):
        held = np.isfinite(truth.outputs.astype(np.float32)).all()
    if rough or spread.definition is None or not held:
        raise CheckpointError(
            f"the {variant} outputs of this checkpoint can't be had in float32 to {golden_file.ROUGHEST:g} of their "
            "spread, so there are no answers that an artifact could be held to"
        )
    return Answers(
        columns=truth.outputs.shape[1],
        values=golden_file.encode(truth.outputs),
        yardstick=spread.yardstick,
        definition=spread.definition,
    )


def _truth(answers: Answers, bench: Bench, variant: str) -> Truth:
    outputs = answers.array()
    return Truth(outputs, bench.pictures.ids, None, variant == "classifier", outputs)


def _spread(answers: Answers, truth: Truth) -> Spread:
    numbers = {"spread": truth.spread, "definition": answers.definition, "yardstick": answers.yardstick}
    return Spread(**{name: number(value) for name, value in numbers.items()}, jax={})


def _belonging(listed: dict | None, golden: Golden, out: Path) -> dict:
    """The list of artifacts that the golden file is about. Raises AssetError, UsageError."""
    if listed is None:
        raise UsageError(f"{out} holds no artifacts; make them first: vitport convert")
    if listed["asset"]["sha256"] != golden.checkpoint or listed["resolution"] != golden.resolution:
        raise AssetError(
            f"{out} was made of the checkpoint {listed['asset']['sha256'][:12]} at {listed['resolution']} px, "
            f"the golden file is of {golden.checkpoint[:12]} at {golden.resolution} px"
        )
    return listed
