"""Published ports that are judged beside the artifacts: what `--port` names, and what the manifest says where it lies.

A port is a folder or a file on this machine. One that a manifest knows by its handle is looked for where the library of
its collection keeps what it has downloaded; vitport itself downloads none.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitport import artifacts, runners
from vitport.architectures import VARIANTS
from vitport.assets.hub_caches import COLLECTIONS
from vitport.errors import AssetError, UsageError
from vitport.manifest import Manifest
from vitport.manifest_errors import suggestion
from vitport.manifest_schema import PortFields

USUAL = VARIANTS[:1]
"""What a port is judged as where nobody says: the classifier."""

LONGEST = 100
"""Letters of a name: of a file's name, which has variant, precision and device too, systems allow 255 bytes."""


@dataclass(frozen=True, slots=True)
class Port:
    """A published port: its name in the report, its folder or file, and the backend that can open it."""

    name: str
    path: Path
    backend: str
    sha256: str
    variant: str = "classifier"


def asked(texts: Iterable[str], manifest: Manifest, variants: Sequence[str] = ()) -> tuple[Port, ...]:
    """The ports that `--port` names: `NAME=PATH`, or the id of one in the manifest.

    variants: what the former are judged as. Raises UsageError, and AssetError for what no backend can open.
    """
    return _different(port for text in texts for port in _asked(text, manifest, variants))


def _asked(text: str, manifest: Manifest, variants: Sequence[str]) -> list[Port]:
    name, separator, path = text.partition("=")
    if separator:
        return _at(text, name, path, variants or USUAL)
    rows = _known(text, manifest)
    wanted = [fields for fields in rows if fields.variant in (variants or VARIANTS)]
    if not wanted:
        raise UsageError(f"--port {text} is the {rows[0].variant} variant, which --variant leaves out")
    return [_port(fields, _place(fields, manifest) if fields.path else _downloaded(fields)) for fields in wanted]


def named(manifest: Manifest, variants: Sequence[str], but: Iterable[Port]) -> tuple[Port, ...]:
    """The ports of the manifest that say where they lie, have the same weights, and are none of `but`.

    Raises UsageError where there is nothing, and AssetError for what no backend can open.
    """
    rows = [fields for fields in manifest.published.ports if fields.path and fields.same_weights]
    wanted = [fields for fields in rows if fields.variant in (variants or VARIANTS)]
    others = {(port.name, port.variant) for port in but}
    return _different(
        _port(fields, _place(fields, manifest)) for fields in wanted if (_name(fields), fields.variant) not in others
    )


def _different(ports: Iterable[Port]) -> tuple[Port, ...]:
    found = tuple(ports)
    if len({(port.name, port.variant) for port in found}) < len(found):
        raise UsageError("two ports have the same name")
    return found


def _at(text: str, name: str, path: str, variants: Sequence[str]) -> list[Port]:
    """What `NAME=PATH` means, as each of the variants."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UsageError(f"--port {text}: write NAME=PATH, the name in letters, digits, - and _")
    if len(name) > LONGEST:
        raise UsageError(f"--port {text}: the name is longer than {LONGEST} letters, and files are named after it")
    if not path or not os.path.exists(path):
        raise UsageError(f"--port {text}: there is no {path or 'path behind ='}")
    return [_opened(name, Path(path), variant) for variant in variants]


def _known(handle: str, manifest: Manifest) -> list[PortFields]:
    """The manifest's rows of this id, one a variant. Raises UsageError where there is none, or none to compare with."""
    rows = [fields for fields in manifest.published.ports if fields.id == handle]
    if not rows:
        ids = list(dict.fromkeys(fields.id for fields in manifest.published.ports))
        hint = suggestion(handle, ids) or f"it names {', '.join(ids) or 'none'}"
        raise UsageError(f"--port {handle}: {manifest.path} names no such port; {hint}. Write NAME=PATH for any other")
    same = [fields for fields in rows if fields.same_weights]
    if not same:
        raise UsageError(
            f"--port {handle}: {manifest.path} says that it has other weights, so there is nothing to compare; "
            f"NAME=PATH runs it all the same"
        )
    return same


def _downloaded(fields: PortFields) -> Path:
    """The folder of a handle. Raises UsageError, with the command that downloads it."""
    collection = COLLECTIONS[fields.where]
    folder = collection.find(fields.id)
    if folder is None:
        raise UsageError(f"--port {fields.id}: it is not on this machine; download it: {collection.get(fields.id)}")
    return folder


def _place(fields: PortFields, manifest: Manifest) -> Path:
    """The path of a port, which is relative to the manifest's folder."""
    path = manifest.path.parent / fields.path
    if not os.path.exists(path):
        raise UsageError(f"{manifest.path} says that {fields.id} lies in {path}, where there is nothing")
    return path


def _port(fields: PortFields, path: Path) -> Port:
    return _opened(_name(fields), path, fields.variant)


def _name(fields: PortFields) -> str:
    """A handle as reports and files can have it: `google-vit-base-patch16-224`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", fields.id).lstrip("_.-")[:LONGEST] or fields.where


def _opened(name: str, path: Path, variant: str) -> Port:
    """Raises AssetError for what no backend can open, or nobody read."""
    try:
        return Port(name, path, runners.kind(path), artifacts.fingerprint(path), variant)
    except OSError as error:
        raise AssetError(f"{path} can't be read: {error.strerror or error}") from error
