"""The artifacts that are verified: every byte hashed before they run, and kept as they are until they have."""

from contextlib import AbstractContextManager
from pathlib import Path

from vitport import artifacts, check
from vitport.errors import AssetError
from vitport.jobs import Watch


def held(out: Path, watch: Watch) -> AbstractContextManager:
    """Keeps `convert` out of the artifacts while they are run: what is hashed is what runs."""
    busy = f"waiting for another vitport to finish with {out}"
    return check.shared(out, lambda: watch("artifacts", busy))


def whole(out: Path, watch: Watch) -> dict | None:
    """The list of the artifacts, after every byte of them was hashed; None where there is none.

    Raises AssetError where a byte is another than the list says.
    """
    if not (out / artifacts.LISTING).exists():
        return None
    watch("artifacts", f"hashing {out}")
    busy = f"waiting for another vitport to finish with {out}"
    verdict = check.folder(out, None, lambda: watch("artifacts", busy), lambda done, total: None)
    if verdict.findings:
        first = verdict.findings[0]
        raise AssetError(
            f"{out} is not what its list says: {first.path}: expected {first.expected}, found {first.found}; "
            f"{len(verdict.findings)} in all, see: vitport check {out}"
        )
    watch("artifacts", "done")
    return artifacts.read(out)
