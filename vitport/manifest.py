"""Reads a manifest: one YAML file that says which published checkpoint to port, and into what.

`manifest_schema.py` is the format, field by field; here a file becomes a `Manifest`, or one ManifestError that lists
everything wrong with it as `path:line:column: field: sentence`. `python -m vitport.manifest` rewrites the JSON schema
that editors use.
"""

import hashlib
import json
import os
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vitport import yaml_marks
from vitport.architectures import VARIANTS, Architecture, published
from vitport.errors import ManifestError, UsageError
from vitport.format_table import FORMATS, STANDARD
from vitport.layouts import huggingface, timm
from vitport.manifest_errors import Problem, listing, problem, suggestion
from vitport.manifest_files import named
from vitport.manifest_schema import (
    IMAGENET,
    LARGEST_RESOLUTION,
    ArchitectureFields,
    AssetFields,
    GatesFields,
    ManifestFields,
    PreprocessingFields,
    PublishedFields,
    json_schema,
)

__all__ = [
    "Asset",
    "Manifest",
    "applicable_formats",
    "find",
    "inapplicable",
    "named",
    "read",
    "with_resolution",
]

SCHEMA = Path(__file__).parent / "schemas" / "manifest.schema.json"

LAYOUTS = {"safetensors-transformers": huggingface.inapplicable, "safetensors-timm": timm.inapplicable}
"""Formats that hold weights for another project's model, to what that model can't be; the others hold any graph."""

_IMAGENET_CLASSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """The checkpoint file. urls: where it is, in the order to try; local paths are absolute or start at the
    manifest's folder. sha256, bytes: of the file, None if unknown."""

    urls: tuple[str, ...]
    sha256: str | None
    bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A valid manifest, ready for use: defaults filled in, paths resolved, lists in canonical order.

    path, digest: the file and the SHA-256 of its bytes. architecture: with the resolution and the head applied.
    labels: `imagenet2012`, a name for each class, or None. output_name: of the SavedModel.
    """

    path: Path
    digest: str
    name: str
    title: str
    asset: Asset
    architecture: Architecture
    labels: str | tuple[str, ...] | None
    preprocessing: PreprocessingFields
    variants: tuple[str, ...]
    formats: tuple[str, ...]
    output_name: str
    opset: int
    license: str
    published: PublishedFields
    gates: GatesFields

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of every class, where the manifest itself has them."""
        return self.labels if isinstance(self.labels, tuple) else ()


def read(path: Path) -> Manifest:
    """The manifest at `path`.

    Raises ManifestError: first for a file that can't be read or is not strict YAML, then for every field that is
    missing, unknown, of another type or impossible, all at once.
    """
    content = _content(path)
    document = yaml_marks.read(content, str(path))
    valid: dict[str, Any] = {}
    try:
        fields = ManifestFields.model_validate(document.data, context=valid)
        problems = []
    except ValidationError as error:
        found = error.errors(include_url=False)[: yaml_marks.MAX_ERRORS + 1]
        problems = [problem(document, details) for details in found]
    problems += _contradictions(valid, path.stem)
    if problems:
        raise ManifestError(listing(document, problems))
    return _resolve(fields, path, hashlib.sha256(content).hexdigest())


def find(name_or_path: str) -> Path:
    """The manifest file that the command line means: a file, or the name of one in `manifests` (`s16`).

    Raises UsageError with the closest names if there is none.
    """
    if os.path.isfile(name_or_path):
        return Path(name_or_path)
    names = named()
    if name_or_path in names:
        return names[name_or_path]
    if os.path.isdir(name_or_path):
        raise UsageError(f"{name_or_path} is a folder; name a manifest, or see what is there: vitport list FOLDER")
    hint = suggestion(Path(name_or_path).stem, names) or f"known: {', '.join(names) or 'none'}"
    raise UsageError(f"there is no manifest {reprlib.repr(name_or_path)}, neither a file nor a name; {hint}")


def with_resolution(manifest: Manifest, resolution: int) -> Manifest:
    """The same checkpoint at another input size. Raises UsageError for one that is too large or not tiled."""
    if resolution > LARGEST_RESOLUTION:
        raise UsageError(f"resolution {resolution} is too large; the largest is {LARGEST_RESOLUTION}")
    return replace(manifest, architecture=replace(manifest.architecture, resolution=resolution))


def inapplicable(architecture: Architecture, format: str) -> str | None:
    """Why `format` can't hold this architecture; None if it can."""
    layout = LAYOUTS.get(format)
    return layout(architecture) if layout else None


def applicable_formats(architecture: Architecture) -> tuple[str, ...]:
    """The standard formats that can hold this architecture, in canonical order."""
    return tuple(format for format in STANDARD if inapplicable(architecture, format) is None)


def _content(path: Path) -> bytes:
    if not os.path.isfile(path):
        raise ManifestError(f"{path}: this is not a file" if os.path.exists(path) else f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            return file.read(yaml_marks.MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path}: the manifest can't be read: {error.strerror}") from error


def _contradictions(valid: dict[str, Any], stem: str) -> Iterator[Problem]:
    """What is wrong between fields that are valid each for itself; `valid` may lack those that are not."""
    if valid.get("name", stem) != stem:
        yield ("name",), f"must be {stem!r}, as the file's name is; rename one of the two"
    if {"architecture", "resolution", "num_classes"} <= valid.keys():
        yield from _impossible(valid)
    labels, classes = valid.get("labels"), valid.get("num_classes")
    count = _IMAGENET_CLASSES if labels == IMAGENET else len(labels or ())
    if labels is not None and classes is not None and count != classes:
        yield ("labels",), f"{count} labels for {classes} classes"


def _impossible(valid: dict[str, Any]) -> Iterator[Problem]:
    try:
        architecture = _architecture(valid["architecture"], valid["resolution"], valid["num_classes"])
    except UsageError as error:
        yield ("resolution",), str(error)
        return
    for index, format in enumerate(valid.get("formats") or ()):
        if reason := inapplicable(architecture, format):
            yield ("formats", index), f"{format} can't hold this architecture: {reason}"


def _architecture(fields: str | ArchitectureFields, resolution: int, num_classes: int) -> Architecture:
    if isinstance(fields, str):
        return published(fields, resolution=resolution, num_classes=num_classes)
    return fields.build(resolution=resolution, num_classes=num_classes)


def _resolve(fields: ManifestFields, path: Path, digest: str) -> Manifest:
    architecture = _architecture(fields.architecture, fields.resolution, fields.num_classes)
    formats = fields.formats or applicable_formats(architecture)
    return Manifest(
        path=path,
        digest=digest,
        name=fields.name,
        title=fields.title,
        asset=_asset(fields.asset, path.parent),
        architecture=architecture,
        labels=fields.labels,
        preprocessing=fields.preprocessing,
        variants=tuple(variant for variant in VARIANTS if variant in fields.variants),
        formats=tuple(format for format in FORMATS if format in formats),
        output_name=fields.saved_model.name,
        opset=fields.onnx.opset,
        license=fields.license,
        published=fields.published,
        gates=fields.gates,
    )


def _asset(fields: AssetFields, folder: Path) -> Asset:
    urls = tuple(url if "://" in url else str(folder / url) for url in (fields.url, *fields.mirrors))
    return Asset(urls=urls, sha256=fields.sha256, bytes=fields.bytes)


def write_schema(path: Path = SCHEMA) -> None:
    """Writes the JSON schema of manifests."""
    path.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schema()
