"""`vitport verify`: every artifact run by every backend, held to the oracle, judged by a policy. `verify` is the steps.

The verdict is what releases stand on, so nothing is believed: artifacts are hashed before they run, each backend runs
in a process of its own and says what it was fed, outputs carry the job's nonce, and an old report is gone before the
first backend starts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitport import artifacts, assets, bisect, images, lock, manifest, rendering, temporary
from vitport.assets import Asset
from vitport.errors import AssetError, UsageError
from vitport.formats import ORACLE_PACKAGES, require
from vitport.jobs import Watch
from vitport.manifest import Manifest
from vitport.metrics import error
from vitport.parity import golden_file, held_artifacts, image_sets, judged_ports, policy
from vitport.parity.assembling import Case, Outcome, report_of
from vitport.parity.attempts import attempt
from vitport.parity.bench import Bench
from vitport.parity.comparison import Truth
from vitport.parity.diagnosis import diagnosed
from vitport.parity.image_sets import ImageSet
from vitport.parity.judged_ports import Port
from vitport.parity.judging import judged
from vitport.parity.outputs_store import Store
from vitport.parity.references import references
from vitport.parity.report_schema import File, Report
from vitport.parity.trials import Asked, plan

TIMEOUT = 1800.0
"""Seconds that one backend may take."""

GOLDEN_LIMIT = 1e-6
"""RMS difference of golden outputs, rounded to float32, from the oracle, relative to the spread, at most."""

BATCH, BATCHES = 8, (1, 2)
"""Images at a time, and the other sizes that are tried: alone, and with a ragged last batch."""


def batch_sizes(asked: Sequence[int]) -> tuple[int, ...]:
    """The main run's images at a time, then other sizes, which are the usual ones where nobody asks for others."""
    first, *others = asked or (BATCH, *BATCHES)
    different = [size for size in dict.fromkeys(others) if size != first]
    return (first, *(different or [size for size in BATCHES if size != first]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for; None and empty mean what is usual.

    artifacts: the folder that `convert` wrote, `build/<name>`. batches: the first is that of the main run, the others
    are tried on a few images. images: `seeded`, a folder or a .npy. ports: beside those of the manifest. report: folder
    of the report, `reports/<name>`.
    """

    manifest: Path
    artifacts: Path | None = None
    asset: str | None = None
    backends: Sequence[str] = ()
    variants: Sequence[str] = ()
    precisions: Sequence[str] = ()
    devices: Sequence[str] = ()
    batches: Sequence[int] = ()
    images: str = image_sets.SEEDED
    count: int = image_sets.COUNT
    policy: Path | None = None
    ports: Sequence[Port] = ()
    report: Path | None = None
    cache: Path | None = None
    offline: bool = False
    fresh: bool = False
    timeout: float = TIMEOUT
    command: str = "vitport verify"


def verify(request: Request, watch: Watch, fetched: assets.Progress | None = None) -> tuple[Report, Path]:
    """The report and its folder. Raises the errors of `vitport.errors` where there is nothing to report on."""
    port, rules = manifest.read(request.manifest), policy.read(request.policy)
    out = request.artifacts or artifacts.home(port.name)
    folder = request.report or Path("reports") / port.name
    if folder.resolve().is_relative_to(out.resolve()):
        raise UsageError(f"a report in {folder} would be among the artifacts, which `vitport check` does not allow")
    busy = f"waiting for another vitport to finish with {folder}"
    with rendering.prepared(folder, lambda: watch("report", busy)), held_artifacts.held(out, watch):
        report = _verified(port, rules, out, request, watch, fetched)
        watch("report", f"writing {folder}")
        rendering.write(report, folder)
    return report, folder


def _verified(
    port: Manifest, rules: policy.Policy, out: Path, request: Request, watch: Watch, fetched: assets.Progress | None
) -> Report:
    """Every number, judged, and what failed looked into."""
    listed = held_artifacts.whole(out, watch)
    if listed is None and (request.artifacts or not (request.backends or request.ports)):
        raise UsageError(
            f"{out} holds no {artifacts.LISTING}; make it first: vitport convert {port.name} --out {out}, or name "
            f"backends that run the checkpoint itself: --backends flax,torch"
        )
    if listed:
        port = manifest.with_resolution(port, listed["resolution"])
    require("the oracle", ORACLE_PACKAGES)
    asset = _checkpoint(port, listed, request, watch, fetched)
    ports = _ports(request, port)
    trials = plan(_asked(request, out, listed, asset, ports))
    with temporary.folder() as scratch:
        pictures, fixed = _pictures(port, request, scratch, watch)
        store = Store(request.cache or assets.default_cache(), request.fresh)
        bench = Bench(port.architecture, asset, scratch, pictures, fixed, store, watch, request.timeout)
        tf32 = any(trial.precision == "tf32" for trial in trials)
        truths, spreads = references(bench, tuple(dict.fromkeys(trial.variant for trial in trials)), tf32)
        if request.images == image_sets.GOLDEN:
            _hold_to_golden(port, asset, pictures, truths)
        outcomes = [
            Outcome(trial, attempt(bench, trial, batch_sizes(request.batches), labels=port.class_names))
            for trial in trials
        ]
        checkpoint = File(path=asset.url, sha256=asset.sha256, bytes=asset.bytes)
        case = Case(port, request.command, out, listed, checkpoint, pictures, named=bool(request.backends))
        report = report_of(case, outcomes, truths, spreads)
    report = judged(report, policy.with_rules(rules, port.name, port.gates.overrides))
    return diagnosed(report, _suspicion(request), ports, watch)


def _hold_to_golden(port: Manifest, asset: Asset, pictures: ImageSet, truths: dict[str, Truth]) -> None:
    """Raises AssetError where the oracle says something else today than when the golden file was made."""
    path = golden_file.place(port.path)
    golden = golden_file.of(port.name, path)
    if (golden.checkpoint, golden.images) != (asset.sha256, pictures.sha256):
        raise AssetError(f"{path} is of another checkpoint or of other images; make it again: vitport golden make")
    for variant, truth in truths.items():
        known = golden.variants.get(variant)
        if known and not _same(known.array(), truth.outputs):
            raise AssetError(f"{path} has other {variant} outputs than the oracle; make it again: vitport golden make")


def _same(golden: np.ndarray, oracle: np.ndarray) -> bool:
    """Written so that NaN, and another shape, differ."""
    return golden.shape == oracle.shape and error(golden, oracle).relative <= GOLDEN_LIMIT


def _suspicion(request: Request) -> bisect.Request:
    """Where `bisect` finds what this verification was about."""
    shared = ("manifest", "artifacts", "asset", "cache", "offline", "timeout")
    return bisect.Request(**{name: getattr(request, name) for name in shared})


def _checkpoint(
    port: Manifest, listed: dict | None, request: Request, watch: Watch, fetched: assets.Progress | None
) -> Asset:
    """The checkpoint, which must be the one that the artifacts were made of."""
    asset = lock.checkpoint(port, request.asset, watch, fetched, request.cache, request.offline)
    if listed and listed["asset"]["sha256"] != asset.sha256:
        raise AssetError(
            f"the artifacts were made of another checkpoint, SHA-256 {listed['asset']['sha256']}; {asset.url} has "
            f"{asset.sha256}. Name theirs with --asset, or convert again"
        )
    return asset


def _ports(request: Request, port: Manifest) -> tuple[Port, ...]:
    """Those that are asked for, and where no backends are, those that the manifest says where they lie."""
    named = () if request.backends else judged_ports.named(port, request.variants, request.ports)
    return (*request.ports, *named)


def _asked(request: Request, out: Path, listed: dict | None, asset: Asset, ports: Sequence[Port]) -> Asked:
    return Asked(
        backends=request.backends,
        variants=request.variants,
        precisions=request.precisions,
        devices=request.devices,
        out=out,
        listing=listed,
        checkpoint=asset.sha256,
        ports=ports,
    )


def _pictures(port: Manifest, request: Request, scratch: Path, watch: Watch) -> tuple[ImageSet, Path]:
    """The images that all backends are fed, and the fixed ones, as files."""
    resolution = port.architecture.resolution
    tell = _sparingly(lambda done, total: watch("images", f"decoded {done} of {total}"))
    watch("images", request.images)
    pictures = image_sets.write(
        request.images, resolution, scratch / "images.npy", request.count, port.class_names, tell
    )
    fixed = scratch / "fixed.npy"
    np.save(fixed, images.fixed(resolution))
    watch("images", "done")
    return pictures, fixed


def _sparingly(tell: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """A hundred times at most."""
    return lambda done, total: tell(done, total) if done == total or done % max(total // 100, 1) == 0 else None
