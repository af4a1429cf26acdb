"""What `vitport list` shows: a row for every manifest, valid or not.

The validator takes longer to import than the command may take. So the rows of the manifests that come along are kept in
`shipped.json`, by the SHA-256 of the file; a test holds them to what the validator says. Any other manifest is read and
validated. `python -m vitport.catalogue` rewrites the file.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from math import prod
from pathlib import Path

from vitport.architectures import Architecture, parameter_shapes
from vitport.errors import ManifestError, UsageError
from vitport.manifest_files import FOLDERS, named

SHIPPED = Path(__file__).parent / "shipped.json"

LARGEST = 1_000_000
"""Bytes of a manifest that are looked at; the validator refuses more."""

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


def write_shipped(path: Path = SHIPPED) -> None:
    """Writes the rows of the manifests that come along, each as the validator has it now."""
    paths = named(FOLDERS[1:]).values()
    known = {hashlib.sha256(each.read_bytes()).hexdigest(): asdict(_read(each)) for each in paths}
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def _row(path: Path) -> Row:
    return _known(path) or _read(path)


def _known(path: Path) -> Row | None:
    """The row of a manifest that came along and was not changed; its name is a part of it, so that must be the same."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST)
    except OSError:
        return None
    row = _shipped().get(hashlib.sha256(content).hexdigest())
    return row if row and row.name == path.stem else None


@cache
def _shipped() -> dict[str, Row]:
    """The rows of `shipped.json`, with lists as the tuples that they were."""
    known = json.loads(SHIPPED.read_text(encoding="utf-8"))
    tuples = ("variants", "formats")
    return {digest: Row(**row | {name: tuple(row[name]) for name in tuples}) for digest, row in known.items()}


def _read(path: Path) -> Row:
    from vitport.manifest import read

    try:
        manifest = read(path)
    except ManifestError as error:
        return Row(name=path.stem, problem=str(error))
    parameters, top1 = parameter_count(manifest.architecture), manifest.published.top1
    return Row(
        name=manifest.name,
        title=manifest.title,
        variants=manifest.variants,
        formats=manifest.formats,
        parameters=parameters,
        bytes=parameters * BYTES_PER_PARAMETER,
        top1=top1.value if top1 else None,
    )


if __name__ == "__main__":
    write_shipped()
