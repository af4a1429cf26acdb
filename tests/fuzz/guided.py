"""Fuzzing guided by coverage: `python -m fuzz.guided npz corpus/ -max_total_time=300`, from the folder `tests`.

Needs atheris, which only `nox -s fuzz` installs. Arguments after the target are libFuzzer's. An input that gets out of
a reader what is not its documented error, or takes longer than `-timeout`, is left in a file and ends the run.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vitport", "yaml", "json", "zipfile"]):
    from fuzz.targets import MEMORY, TARGETS


def main(name: str, options: list[str]) -> None:
    """Runs one target until libFuzzer ends the process."""
    target = TARGETS[name]

    def once(data: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            target(data, Path(folder))

    for number, seed in enumerate(target.seeds()):
        Path(options[0], f"seed_{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
