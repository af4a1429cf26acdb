"""What `vitport list` shows: a row for every manifest, valid or not."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from vitport.architectures import Architecture, parameter_shapes
from vitport.errors import ManifestError, UsageError
from vitport.manifest import Manifest, named, read

BYTES_PER_PARAMETER = 4
"""Published checkpoints are float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One manifest.

    parameters, bytes: of the whole checkpoint's arrays, the head's included. top1: published accuracy, per cent.
    problem: why the manifest is not valid, all errors of it; then only `name` is known besides.
    """

    name: str
    title: str | None = None
    variants: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    parameters: int | None = None
    bytes: int | None = None
    top1: float | None = None
    problem: str | None = None


def rows(folder: Path | None = None) -> list[Row]:
    """A row for each manifest in `folder`, by name; without one, for each that can be meant by its name.

    Raises UsageError if there is no such folder.
    """
    if folder and not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of manifests")
    return [_row(path) for path in named([folder] if folder else ()).values()]


def parameter_count(architecture: Architecture) -> int:
    """How many numbers a checkpoint of this architecture holds, its head included."""
    return sum(prod(shape) for shape in parameter_shapes(architecture).values())


def _row(path: Path) -> Row:
    try:
        manifest = read(path)
    except ManifestError as error:
        return Row(name=path.stem, problem=str(error))
    return _valid(manifest, parameter_count(manifest.architecture))


def _valid(manifest: Manifest, parameters: int) -> Row:
    top1 = manifest.published.top1
    return Row(
        name=manifest.name,
        title=manifest.title,
        variants=manifest.variants,
        formats=manifest.formats,
        parameters=parameters,
        bytes=parameters * BYTES_PER_PARAMETER,
        top1=top1.value if top1 else None,
    )
