"""`vitport.lock`: which file each manifest means, where the manifest itself gives no SHA-256.

It lies beside the manifests, and belongs under version control as they do. An entry is made of the first download and
holds from then on; only `vitport lock` and a first download write it, whole or not at all. It is read as strictly as a
manifest.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitport import locks, yaml_marks
from vitport.appearing import appearing
from vitport.errors import ManifestError, OutputError
from vitport.manifest_errors import listing, problem
from vitport.manifest_types import LIST, Address, Name, Sha256

NAME = "vitport.lock"

HEAD = """\
# The files that manifests without a SHA-256 mean, as first downloaded. Written by vitport; keep it with the manifests.
# A file that changed on purpose: vitport lock --update MANIFEST

schema: 1
"""


class Entry(BaseModel):
    """One manifest's file. urls: where the manifest says it is, as it is written there."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    urls: Annotated[tuple[Address, ...], *LIST]
    bytes: Annotated[int, Field(ge=1)]
    sha256: Sha256


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal[1] = Field(alias="schema")
    assets: dict[Name, Entry] = {}


def read(folder: Path) -> dict[str, Entry]:
    """The entries of the lock file in `folder`, by the manifests' names; empty where there is none.

    Raises ManifestError for a file that can't be read or is not as `write` makes it, every fault with its place.
    """
    path = folder / NAME
    if not os.path.lexists(path):
        return {}
    document = yaml_marks.read(_content(path), str(path))
    try:
        return _Fields.model_validate(document.data).assets
    except ValidationError as error:
        problems = [problem(document, details, _Fields) for details in error.errors(include_url=False)]
        raise ManifestError(listing(document, problems)) from None


def write(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Replaces the lock file in one step; without entries there is none. Raises OutputError where it can't."""
    if not entries:
        _remove(folder / NAME)
        return
    with appearing(folder / NAME) as file:
        file.write(render(entries).encode())


def render(entries: Mapping[str, Entry]) -> str:
    """The text of the file: sorted by name, text in double quotes so that nothing reads as a number."""
    return HEAD + "assets:\n" + "".join(_rendered(name, entries[name]) for name in sorted(entries))


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[dict[str, Entry]]:
    """The entries, to be changed by one process at a time and written when the block ends well.

    Without locks on the file system the last of two processes wins; the file is whole all the same.
    Raises ManifestError as `read` does, OutputError where the folder can't be written.
    """
    with _locked(folder):
        before = read(folder)
        entries = dict(before)
        yield entries
        if entries != before:
            write(folder, entries)


def _rendered(name: str, entry: Entry) -> str:
    urls = "".join(f"      - {_quoted(url)}\n" for url in entry.urls)
    return f"  {_quoted(name)}:\n    urls:\n{urls}    bytes: {entry.bytes}\n    sha256: {_quoted(entry.sha256)}\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} can't be removed: {error.strerror}") from error


def _content(path: Path) -> bytes:
    if not os.path.isfile(path):
        raise ManifestError(f"{path}: this is not a file")
    try:
        with path.open("rb") as file:
            return file.read(yaml_marks.MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path}: the lock file can't be read: {error.strerror}") from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.held(folder))
        except OSError as error:
            raise OutputError(f"{folder} can't be read: {error.strerror}") from error
        yield
