"""What anybody can check of an output folder who knows no more than docs/artifacts.md; nothing of vitport is used."""

import hashlib
import json
from pathlib import Path


def digest(folder: Path) -> str | None:
    """SHA-256 of the artifact in `folder` as the documents define it, None where there is none."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    lines = "".join(f"{sha}  {path.relative_to(folder).as_posix()}\n" for sha, path in zip(hashes, paths, strict=True))
    several = hashlib.sha256(lines.encode()).hexdigest() if paths else None
    return hashes[0] if len(hashes) == 1 else several


def assert_whole_and_listed(out: Path) -> None:
    """Every artifact that is listed is whole, every one that is there is listed, under what it is or was."""
    path = out / "artifacts.json"
    listing = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"artifacts": []}
    for entry in listing["artifacts"]:
        assert digest(out / entry["variant"] / entry["format"]) == entry["sha256"], f"the list lies: {entry['path']}"
    named: dict[str, set[str]] = {}
    for entry in [*listing["artifacts"], *(each for part in listing.get("publishing", {}).values() for each in part)]:
        named.setdefault(f"{entry['variant']}/{entry['format']}", set()).add(entry["sha256"])
    there = {
        path.relative_to(out).as_posix() for variant in ("classifier", "features") for path in out.glob(f"{variant}/*")
    }
    assert {each for each in there if digest(out / each) not in named.get(each, ())} == set(), "neither old nor new"


def assert_nothing_left(out: Path) -> None:
    """No staging, no temporary file: the list and the variants."""
    assert {path.name for path in out.iterdir()} <= {"artifacts.json", "classifier", "features"}
    assert "publishing" not in json.loads((out / "artifacts.json").read_text(encoding="utf-8"))


def assert_no_debris(cache: Path, url: str) -> None:
    """Of a file that came: no part of its download, no temporary file, nothing put aside."""
    of_it = [path for path in cache.iterdir() if url.rpartition("/")[2] in path.name]
    assert [path.name for path in of_it if path.suffix in (".part", ".tmp", ".bad")] == []
