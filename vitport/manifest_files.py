"""Where manifests are looked up by their name, without reading any."""

from collections.abc import Sequence
from pathlib import Path

FOLDERS = tuple(Path(folder) / "manifests" for folder in ("", Path(__file__).parent, Path(__file__).parents[1]))
"""The working folder's, those of an installed package, of a checkout."""


def named(folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Every manifest in `folders`, or where names are looked up, by its name; of equal names the first folder's."""
    found = {path.stem: path for folder in reversed(folders or FOLDERS) for path in folder.glob("*.yaml")}
    return dict(sorted(found.items()))
