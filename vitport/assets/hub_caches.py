"""Where the libraries of the collections keep the ports that they have downloaded, and how they are told to."""

import hashlib
import os
import re
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Collection:
    """One of `published.ports[].where`. find: the folder of an id, None where it is not on this machine. get: the
    command line that downloads it."""

    find: Callable[[str], Path | None]
    get: Callable[[str], str]


def _tensorflow_hub(handle: str) -> Path | None:
    """By the SHA-1 of the address, as tensorflow_hub 0.16 has it (compressed_module_resolver.py)."""
    cache = os.environ.get("TFHUB_CACHE_DIR") or os.path.join(tempfile.gettempdir(), "tfhub_modules")
    folder = Path(cache, hashlib.sha1(_address(handle).encode(), usedforsecurity=False).hexdigest())
    return folder if folder.is_dir() else None


def _address(handle: str) -> str:
    return f"https://tfhub.dev/{handle}"


def _hugging_face(repository: str) -> Path | None:
    """The snapshot of `main`, as huggingface_hub lays out its cache (guides/manage-cache of its documentation)."""
    folder = _hugging_face_cache() / f"models--{repository.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if re.fullmatch(r"[0-9a-f]{40}", commit) and snapshot.is_dir() else None


def _hugging_face_cache() -> Path:
    """By the variables that huggingface_hub 1.2 reads (constants.py)."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(base, "huggingface")
    return Path(home, "hub").expanduser()


def _hub_resolve(handle: str) -> str:
    program = f"import tensorflow_hub; tensorflow_hub.resolve({_address(handle)!r})"
    return f"python -c {shlex.quote(program)}"


def _timm(model: str) -> str:
    """timm's weights lie in repositories of its own organization."""
    return f"timm/{model}"


COLLECTIONS = MappingProxyType(
    {
        "tfhub": Collection(_tensorflow_hub, _hub_resolve),
        "huggingface": Collection(_hugging_face, lambda name: f"hf download {shlex.quote(name)}"),
        "timm": Collection(
            lambda name: _hugging_face(_timm(name)), lambda name: f"hf download {shlex.quote(_timm(name))}"
        ),
    }
)
"""By the name of the collection in a manifest."""
