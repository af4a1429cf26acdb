"""`vitport convert`: one manifest in, proven artifacts out. `convert` is the list of steps.

All or nothing: every artifact is written to a staging folder, read back from there, run on the two fixed images, unless
it is to the last bit what the yardstick ran, and judged against the oracle; only if all pass do they take their names.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from os.path import normpath
from pathlib import Path

import numpy as np

from vitport import (
    __version__,
    artifacts,
    assets,
    checkpoint,
    devices,
    formats,
    images,
    jobs,
    lock,
    manifest,
    proof,
    publishing,
)
from vitport.architectures import parameter_shapes
from vitport.assets import Asset
from vitport.assets.addresses import is_remote
from vitport.errors import UsageError
from vitport.job_arguments import model_arguments
from vitport.jobs import Job, Watch
from vitport.manifest import Manifest
from vitport.manifest_errors import suggestion
from vitport.opsets import OPSETS

TIMEOUT = 3600.0
"""Seconds that one framework may take over one format."""

LARGEST_TOGETHER = 2_000_000_000
"""Bytes of a checkpoint of which two frameworks may hold copies at once: H/14 (2.5 GB) took 10.4 GB so, and 8 are
what a machine for it must have."""

WITNESSES = ("oracle", "yardstick")
"""Tasks of `exporting.py` that the exporters' results are held to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for; None and empty mean what the manifest says.

    asset: another place of the checkpoint, a path or an address. out: output folder, `build/<name>` by default.
    device: where the artifacts are read back and run for their proof, `cpu` or `cuda`.
    allow_nonfinite: leaves that no chosen variant uses may hold NaN or infinity; no gate lets an output of that pass.
    """

    manifest: Path
    asset: str | None = None
    out: Path | None = None
    formats: Sequence[str] = ()
    variants: Sequence[str] = ()
    opset: int | None = None
    resolution: int | None = None
    cache: Path | None = None
    offline: bool = False
    timeout: float = TIMEOUT
    device: str = "cpu"
    allow_nonfinite: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """listing: what `artifacts.json` says of this run's artifacts. timings: seconds by format and variant, to write."""

    out: Path
    listing: dict
    timings: dict[str, dict[str, float]]


def convert(request: Request, watch: Watch, fetched: assets.Progress | None = None) -> Outcome:
    """Fetches, checks, converts, proves, publishes.

    watch: told (part, what it is doing). fetched: told (bytes, bytes in all) during a download.
    Raises the errors of `vitport.errors`; then nothing has changed.
    """
    port = plan(request)
    asset = fetch(port, request, watch, fetched)
    watch("checkpoint", "checking every leaf")
    checkpoint.read(asset.path, port.architecture, any_value(port, request))
    watch("checkpoint", "done")
    out = request.out or artifacts.home(port.name)
    with publishing.staging(out, lambda: watch("output", f"waiting for another vitport to finish with {out}")) as stage:
        results = run_jobs(port, asset, stage, watch, request)
        watch("parity", "comparing every artifact with the oracle")
        reference = proof.references({task: results[task]["outputs"] for task in WITNESSES}, port.variants)
        entries = [
            _entry(port, results[name][variant], reference[variant], (name, variant)) for name, variant in _each(port)
        ]
        watch("output", f"publishing to {out}")
        listing = _listing(port, asset, reference, results, entries)
        publishing.publish(stage, out, listing)
    return Outcome(out, listing, {name: _timings(results[name]) for name in port.formats})


def plan(request: Request) -> Manifest:
    """The manifest with the request's choices in it. Raises UsageError, ManifestError or EnvironmentFault early."""
    port = manifest.read(request.manifest)
    if request.resolution:
        port = manifest.with_resolution(port, request.resolution)
    if request.opset is not None and request.opset not in OPSETS:
        raise UsageError(f"opset {request.opset} can't be written; choose from {OPSETS.start} to {OPSETS.stop - 1}")
    variants = _chosen(request.variants, port.variants, "variant")
    chosen = (
        _chosen(_expanded(request.formats, port), tuple(formats.FORMATS), "format") if request.formats else port.formats
    )
    for name in chosen:
        reason = manifest.inapplicable(port.architecture, name)
        if reason:
            raise UsageError(f"{port.name} can't become {name}: {reason}")
        formats.require(name, formats.FORMATS[name].packages)
    formats.require("the oracle", formats.ORACLE_PACKAGES)
    devices.require(request.device)
    opset = port.opset if request.opset is None else request.opset
    return replace(port, variants=variants, formats=chosen, opset=opset)


def fetch(port: Manifest, request: Request, watch: Watch, fetched: assets.Progress | None) -> Asset:
    """The verified checkpoint file: the manifest's, held to its SHA-256 or the locked one, or what the request names.

    A file named on purpose may be another checkpoint of the same architecture; the run then says so.
    """
    asset = lock.checkpoint(port, request.asset, watch, fetched, request.cache, request.offline)
    if request.asset and port.asset.sha256 not in (None, asset.sha256):
        watch("asset", f"note: {request.asset} is not the manifest's file, its SHA-256 is {asset.sha256}")
    return replace(asset, url=asset.url if is_remote(asset.url) else normpath(asset.url))


def any_value(port: Manifest, request: Request) -> list[str]:
    """The leaves whose values don't matter: with `--allow-nonfinite`, those that no chosen variant uses."""
    used = {leaf for variant in port.variants for leaf in parameter_shapes(port.architecture, variant)}
    return [leaf for leaf in parameter_shapes(port.architecture) if request.allow_nonfinite and leaf not in used]


def run_jobs(port: Manifest, asset: Asset, stage: Path, watch: Watch, request: Request) -> dict[str, dict]:
    """Oracle, yardstick and exporters, side by side in processes of their own."""
    scratch = stage / "scratch"
    scratch.mkdir()
    pixels = scratch / "images.npy"
    np.save(pixels, images.fixed(port.architecture.resolution))
    shared = model_arguments(asset.path, port.architecture, pixels, any_value(port, request))
    exports = [_export_job(port, asset, stage, name, shared, request.device) for name in port.formats]
    witnesses = [Job(task, task, {**shared, "outputs": str(scratch / f"{task}.npz")}) for task in WITNESSES]
    each = [replace(job, alone=asset.bytes > LARGEST_TOGETHER) for job in (*exports[:1], *witnesses, *exports[1:])]
    return jobs.run(each, scratch, watch, request.timeout)


def _export_job(port: Manifest, asset: Asset, stage: Path, name: str, shared: dict, device: str) -> Job:
    arguments = {
        "format": name,
        "variants": port.variants,
        "output_name": port.output_name,
        "opset": port.opset,
        "labels": port.class_names or None,
        "provenance": _provenance(port, asset),
        "folder": str(stage),
    }
    return Job(name, "export", {**shared, **arguments}, formats.FORMATS[name].device(device))


def _entry(port: Manifest, result: dict, reference: proof.Reference, which: tuple[str, str]) -> dict:
    """One artifact in `artifacts.json`. Raises ParityError where it is not the checkpoint's function."""
    name, variant = which
    ratio = port.gates.ratio(date.today())
    outputs = np.load(result["outputs"]) if result["outputs"] else reference.numpy
    error = proof.judge(f"{name} ({variant}) of {port.name}", outputs, reference, ratio)
    listed = result["files"]
    return {
        "format": name,
        "variant": variant,
        "path": "/".join(part for part in (variant, name, formats.FORMATS[name].entry) if part),
        "bytes": sum(entry["bytes"] for entry in listed),
        "sha256": artifacts.digest(listed),
        "files": listed,
        "input": {
            **result["input"],
            "dtype": "float32",
            "range": list(port.preprocessing.range),
            "resolution": port.architecture.resolution,
        },
        "output": result["output"],
        "device": result["device"],
        "error": error,
    }


def _listing(port: Manifest, asset: Asset, reference: dict, results: dict, entries: list[dict]) -> dict:
    pixels = images.fixed(port.architecture.resolution)
    return {
        "schema": artifacts.SCHEMA,
        "name": port.name,
        "title": port.title,
        "manifest": {"path": port.path.as_posix(), "sha256": port.digest},
        "asset": {"url": asset.url, "sha256": asset.sha256, "bytes": asset.bytes},
        "resolution": port.architecture.resolution,
        "images": {"sha256": images.digest(pixels), "count": len(pixels)},
        "versions": _versions(port, results),
        "reference": {variant: each.facts() for variant, each in reference.items()},
        "artifacts": entries,
    }


def _versions(port: Manifest, results: dict) -> dict[str, str]:
    versions = {"vitport": __version__, "python": platform.python_version()}
    for task in WITNESSES:
        versions |= results[task]["versions"]
    for name in port.formats:
        for variant in port.variants:
            versions |= results[name][variant]["versions"]
    return versions


def _provenance(port: Manifest, asset: Asset) -> dict[str, str]:
    """Text facts that travel inside the artifacts; no local path, so that bytes depend on the checkpoint alone."""
    return {
        "name": port.name,
        "title": port.title,
        "license": port.license,
        "converted_from": asset.url if is_remote(asset.url) else Path(asset.url).name,
        "checkpoint_sha256": asset.sha256,
        "converted_by": f"vitport {__version__}",
    }


def _each(port: Manifest) -> list[tuple[str, str]]:
    return [(name, variant) for variant in port.variants for name in port.formats]


def _timings(result: dict) -> dict[str, float]:
    return {variant: facts["seconds"] for variant, facts in result.items()}


def _expanded(names: Sequence[str], port: Manifest) -> list[str]:
    """`safetensors` means every safetensors folder that the architecture has."""
    every = [name for name in manifest.LAYOUTS if not manifest.inapplicable(port.architecture, name)]
    return [each for name in names for each in (every if name == "safetensors" and every else [name])]


def _chosen(asked: Sequence[str], known: Sequence[str], kind: str) -> tuple[str, ...]:
    """`asked` in the order of `known`; all of them where nothing is asked."""
    for name in asked:
        if name not in known:
            hint = suggestion(name, known) or f"there are {', '.join(known)}"
            raise UsageError(f"unknown {kind} {name!r}; {hint}")
    return tuple(name for name in known if not asked or name in asked)
