"""The list of an output folder, `artifacts.json`: what it says, and whether the artifacts are what it says.

One folder an artifact, `<variant>/<format>/`. How artifacts come to stand there: publishing.py.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vitport import strict_json
from vitport.architectures import VARIANTS
from vitport.errors import AssetError
from vitport.formats import FORMATS

SCHEMA = 1
"""Version of `artifacts.json`; see docs/artifacts.md. 1: first."""

LISTING = "artifacts.json"

STAGING = ".staging"
"""A run's folder in the output folder; see publishing.py."""

OWN_DIGEST = "sha256"
"""Field of a list: the SHA-256 of the file without that field's line. It is for accidents: `vitport check` finds a
changed letter in a title. Who edits a list on purpose computes it anew."""

PUBLISHING = "publishing"
"""Field of a list whose run was killed while artifacts changed names: `earlier` and `next`, the entries of the folders
that hold one or the other."""


def home(name: str) -> Path:
    """Where the artifacts of a manifest are, unless the command line says otherwise."""
    return Path("build") / name


def files(folder: Path) -> list[dict]:
    """Every file below `folder`, links left out: its relative path, size and SHA-256, sorted by path."""
    return _listed(folder, (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()))


def _listed(folder: Path, paths: Iterable[Path]) -> list[dict]:
    return [
        {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(paths)
    ]


def digest(listed: list[dict]) -> str:
    """SHA-256 of an artifact: of its file, or of the lines `<sha256>  <path>` of its files (as `sha256sum` prints)."""
    if len(listed) == 1:
        return listed[0]["sha256"]
    lines = "".join(f"{entry['sha256']}  {entry['path']}\n" for entry in listed)
    return hashlib.sha256(lines.encode()).hexdigest()


def fingerprint(path: Path) -> str:
    """SHA-256 of an artifact as a framework finds it there: of a file, or of a folder's files by `digest`.

    Files behind links count, as Hugging Face's cache has nothing else. Raises AssetError for folders in a circle.
    """
    if not path.is_dir():
        return sha256(path)
    return digest(_listed(path, (found for found in _behind_links(path, ()) if found.is_file())))


def marks(path: Path) -> tuple[tuple[int, ...], ...]:
    """What the file system notes of all that a framework finds there: a change shows, even one that was taken back.

    Of every file, folder and link: which one it is, its size, when it was written, and when it was changed or renamed.
    """
    places = [path, *sorted(_behind_links(path, ()))] if path.is_dir() else [path]
    found = [entry for place in places for entry in (place.lstat(), place.stat())]
    return tuple((entry.st_dev, entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns) for entry in found)


def _behind_links(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Every file and folder that is found from `folder`. above: real paths of the folders that lead there."""
    here = os.path.realpath(folder)
    if here in above:
        raise AssetError(f"{folder} is a link to a folder that it lies in")
    for path in folder.iterdir():
        if path.is_dir():
            yield path
            yield from _behind_links(path, (*above, here))
        elif path.is_file():
            yield path


def sha256(path: Path) -> str:
    """Of one file, streaming."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(out: Path) -> dict | None:
    """The listing of an output folder, None where there is none. Raises AssetError for one that is not ours."""
    path = out / LISTING
    if not os.path.lexists(path):
        return None
    if not path.is_file():
        raise AssetError(f"{path} is no file; move it away, or choose another --out")
    try:
        with path.open("rb") as file:
            listing = strict_json.read(file.read(strict_json.MAX_BYTES + 1))
        if listing["schema"] != SCHEMA:
            raise AssetError(f"{path} has schema {listing['schema']!r:.40}; this vitport reads {SCHEMA}")
        _refuse_misshapen(listing)
        return listing
    except OSError as error:
        raise AssetError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        why = f"{error!s:.200}"
        raise AssetError(f"{path} is no list of artifacts ({why}); move it away, or choose another --out") from error


def _refuse_misshapen(listing: dict) -> None:
    """ValueError, KeyError or TypeError for a list that can't be held to its files and joined to another."""
    for key in ("asset", "versions", "reference"):
        if not isinstance(listing[key], dict):
            raise TypeError(f"{key} is no object")
    for entries in _every_list(listing):
        for entry in entries:
            if entry["variant"] not in VARIANTS or entry["format"] not in FORMATS:
                raise ValueError(f"it has an artifact {entry['format']!r} of variant {entry['variant']!r}")
            if not isinstance(entry["sha256"], str):
                raise TypeError("a sha256 is no text")
        if not isinstance(entries, list) or len({folder(entry) for entry in entries}) < len(entries):
            raise TypeError("artifacts are no list, or one is there twice")


def _every_list(listing: dict) -> Iterator[list[dict]]:
    yield listing["artifacts"]
    if PUBLISHING in listing:
        yield listing[PUBLISHING]["earlier"]
        yield listing[PUBLISHING]["next"]


def text(listing: dict) -> str:
    """As the file has it: line 2 is the digest of the other lines. Raises ValueError for a number that JSON has not."""
    facts = {key: value for key, value in listing.items() if key != OWN_DIGEST}
    lines = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    own = hashlib.sha256(lines.encode()).hexdigest()
    return lines.replace("{\n", f'{{\n  "{OWN_DIGEST}": "{own}",\n', 1)


def folder(entry: dict) -> str:
    """Where an artifact stands in the output folder."""
    return f"{entry['variant']}/{entry['format']}"


def intact(out: Path, entry: dict) -> bool:
    """Whether an artifact is what its entry says: it may have been deleted, edited, exchanged by a killed run."""
    return digest(files(out / folder(entry))) == entry["sha256"]


def ordered(entries: list[dict]) -> list[dict]:
    """By variant, then format."""
    return sorted(entries, key=lambda entry: (entry["variant"], entry["format"]))


def same_checkpoint(one: dict, other: dict) -> bool:
    """Whether two lists are of the same weights at the same resolution."""
    return (
        all(one.get(key) == other[key] for key in ("name", "resolution"))
        and one.get("asset", {}).get("sha256") == other["asset"]["sha256"]
    )
