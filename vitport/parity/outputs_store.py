"""Outputs of earlier runs, by a digest of everything that they depend on: a second verification takes seconds.

A run's key is made of what was run (hashes of artifact, checkpoint and images), how (backend, precision, device, batch
sizes), and by what: versions of all packages, the source of vitport, the processor, the GPUs and the variables by which
frameworks are switched. What is kept carries its own hash, and is thrown away where that is wrong.
"""

import contextlib
import hashlib
import io
import json
import os
import platform
import re
import shutil
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from vitport import hardware
from vitport.appearing import appearing

FOLDER = "outputs"
"""In the cache."""

MOST = 400
"""Runs that are kept; the oldest go. One of ten thousand logits on 16 images is 700 kB."""


class Store:
    """What is kept in one cache; with `fresh` nothing is taken from it."""

    def __init__(self, cache: Path, fresh: bool) -> None:
        self._folder, self._fresh = cache / FOLDER, fresh

    def load(self, key: str) -> tuple[dict, dict[str, np.ndarray]] | None:
        """The facts of a run and its arrays; None where there are none, or not whole.

        What is hashed is what is returned: another vitport may drop the files at any time. A run that is taken is
        among the youngest again.
        """
        facts_path, arrays = self._paths(key)
        if self._fresh:
            return None
        try:
            facts, content = json.loads(facts_path.read_text()), arrays.read_bytes()
            if facts["key"] != key or hashlib.sha256(content).hexdigest() != facts["result"]["sha256"]:
                return None
            os.utime(facts_path)
            return facts["result"], dict(np.load(io.BytesIO(content)))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, key: str, result: dict, arrays: Path) -> None:
        """Keeps a run; a cache that can't be written is no reason to fail."""
        facts_path, kept = self._paths(key)
        with contextlib.suppress(Exception):
            self._folder.mkdir(parents=True, exist_ok=True)
            with appearing(kept) as file, arrays.open("rb") as source:
                shutil.copyfileobj(source, file)
            with appearing(facts_path) as file:
                file.write(json.dumps({"key": key, "result": result}).encode())
            self._drop_oldest()

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self._folder / f"{key}.json", self._folder / f"{key}.npz"

    def _drop_oldest(self) -> None:
        """The arrays of a run go with its facts; those of a run that was killed in between count by themselves."""
        ages: dict[str, float] = {}
        for path in self._folder.glob("*.[jn][sp][oz]*"):
            ages[path.stem] = max(ages.get(path.stem, 0.0), path.stat().st_mtime)
        for key in sorted(ages, key=ages.__getitem__)[:-MOST]:
            for path in self._paths(key):
                path.unlink(missing_ok=True)


SWITCHES = re.compile("(XLA|TF|JAX|TORCH|PYTORCH|ORT|OMP|MKL|KMP|GOMP|OPENBLAS|NVIDIA|CUDA|CUDNN|CUBLAS)_")
"""What the names of variables begin with by which frameworks and their libraries choose kernels and threads."""


def key_of(**facts: Any) -> str:
    """SHA-256 of all that outputs depend on. facts: what was run and how, as JSON has it."""
    switches = {name: value for name, value in os.environ.items() if SWITCHES.match(name)}
    whole = {**facts, "switches": switches, **_makers()}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@cache
def _makers() -> dict[str, Any]:
    """The source of vitport, all that is installed (a framework has builds under many names), and the machine."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return {
        "vitport": digest.hexdigest(),
        "python": platform.python_version(),
        "installed": sorted({f"{each.name}=={each.version}" for each in metadata.distributions()}),
        "processor": hardware.processor(),
        "gpus": hardware.gpus(),
    }
