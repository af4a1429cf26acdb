"""The list of an output folder, `artifacts.json`, as a stranger may have written it: read strictly and held to itself.

A list that is not of the form of its schema is none. One that is may still contradict itself: paths that leave the
folder, sizes and digests that are not those of the listed files, an error above its limit. Each is a finding.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vitport import strict_json
from vitport.artifacts import LISTING, OWN_DIGEST, PUBLISHING, digest, folder, ordered
from vitport.artifacts import SCHEMA as VERSION
from vitport.fields import describe, dotted, shown
from vitport.formats import FORMATS

SCHEMA = Path(__file__).parent / "schemas" / "artifacts.schema.json"

LONGEST_PATH = 1000
"""Characters, a quarter of what Linux allows."""

EXPECTED = "the list that `vitport convert` writes"


@dataclass(frozen=True, slots=True)
class Finding:
    """A place below the folder, or a field of the list, that is not what it must be."""

    path: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class File:
    """What the list promises of one file, by its path below the output folder."""

    path: str
    bytes: int
    sha256: str


def read(content: bytes) -> dict | list[Finding]:
    """The list, or everything that makes it none: it is no strict JSON, or not of the form that its schema says."""
    try:
        listing = strict_json.read(content)
    except ValueError as error:
        return [Finding(LISTING, EXPECTED, f"no such list: {error}")]
    version = listing.get("schema") if isinstance(listing, dict) else None
    if type(version) is int and version != VERSION:
        return [Finding(LISTING, f"schema {VERSION}, which this vitport reads", f"schema {version}")]
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    wrong = strict_json.violations(schema, listing)
    return [_field(shown(dotted(path)), "what docs/artifacts.md says", sentence) for path, sentence in wrong] or listing


def altered(content: bytes, listing: dict) -> Iterator[Finding]:
    """Where the file is not the one whose digest it carries: any accident, and every edit but a careful one."""
    own_line = re.compile(rb'^  "%b": "[0-9a-f]{64}",\n' % OWN_DIGEST.encode(), re.MULTILINE)
    digest = hashlib.sha256(own_line.sub(b"", content, count=1)).hexdigest()
    if listing.get(OWN_DIGEST) != digest:
        yield _field(OWN_DIGEST, f"{digest}, of its other lines", str(listing.get(OWN_DIGEST, "nothing")))


def settled(listing: dict, there: Callable[[str], bool], intact: Callable[[dict], bool]) -> dict:
    """The list without a field `publishing`, which a run leaves that is killed while artifacts change their names: of
    each folder in it the entry that it holds, or one that it should.

    there: whether something is in a folder. intact: whether it is what an entry says.
    """
    pending = listing.get(PUBLISHING, {"next": [], "earlier": []})
    choices: dict[str, list[dict]] = {}
    for entry in (*pending["next"], *pending["earlier"]):
        choices.setdefault(folder(entry), []).append(entry)
    either = [each for place, each in choices.items() if len(each) > 1 or there(place)]
    held = [next(filter(intact, each), each[0]) for each in either]
    return {**listing, "artifacts": ordered([*listing["artifacts"], *held])}


LEEWAY = 1 + 1e-9
"""Of two numbers that were rounded on their own ways."""


def contradictions(listing: dict) -> Iterator[Finding]:
    """Where a list of the right form says two things at once."""
    if not listing["artifacts"] and PUBLISHING not in listing:
        yield _field("artifacts", "at least one", "none")
    for twice in _repeated([folder(entry) for entry in listing["artifacts"]]):
        yield _field("artifacts", "each artifact once", f"{twice} again")
    for entry in listing["artifacts"]:
        place, error = folder(entry), entry["error"]
        for key, expected in _derived(entry).items():
            if entry[key] != expected:
                yield _field(f"{place}: {key}", str(expected), shown(str(entry[key])))
        if error["rms"] > error["limit"]:
            yield _field(f"{place}: error.rms", f"at most its limit, {error['limit']}", str(error["rms"]))
        if error["rms"] > error["max_abs"] * LEEWAY:
            yield _field(f"{place}: error.max_abs", f"at least error.rms, {error['rms']}", str(error["max_abs"]))
        if entry["input"]["resolution"] != listing["resolution"]:
            yield _field(f"{place}: input.resolution", str(listing["resolution"]), str(entry["input"]["resolution"]))
        if entry["variant"] not in listing["reference"]:
            yield _field(f"{place}: reference", f"the scale of {entry['variant']}", "nothing")
        yield from _unsafe([file["path"] for file in entry["files"]], place)


def _derived(entry: dict) -> dict[str, object]:
    """What an entry's other fields make of these."""
    return {
        "path": "/".join(part for part in (folder(entry), FORMATS[entry["format"]].entry) if part),
        "bytes": sum(file["bytes"] for file in entry["files"]),
        "sha256": digest(entry["files"]),
    }


def _unsafe(paths: list[str], place: str) -> Iterator[Finding]:
    """Paths that leave the artifact's folder or are no plain names, and paths that are listed twice."""
    for path in paths:
        if not _is_plain(path):
            yield _field(f"{place}: files", "paths inside the artifact's folder", describe(path))
    for twice in _repeated(paths):
        yield _field(f"{place}: files", "each file once", f"{describe(twice)} again")
    if paths != sorted(paths):
        yield _field(f"{place}: files", "files sorted by path", "another order")


def _is_plain(path: str) -> bool:
    """Whether a path is relative, normal, printable and not absurdly long: what a writer of artifacts makes."""
    return len(path) <= LONGEST_PATH and path.isprintable() and {"", ".", ".."}.isdisjoint(path.split("/"))


def _repeated(items: list[str]) -> list[str]:
    return [item for item, count in Counter(items).items() if count > 1]


def promised(listing: dict) -> dict[str, File]:
    """Every file that may be looked at, by its path below the output folder."""
    listed = ((f"{folder(entry)}/{file['path']}", file) for entry in listing["artifacts"] for file in entry["files"])
    return {path: File(path, file["bytes"], file["sha256"]) for path, file in listed if _is_plain(file["path"])}


def _field(place: str, expected: str, found: str) -> Finding:
    return Finding(f"{LISTING}: {place}" if place else LISTING, expected, found)
