"""Exports as `vitport.worker` does, each in a fork of its own: `python export_all.py FOLDER FORMAT...`."""

import os
import sys
from pathlib import Path

import small

from vitport import formats
from vitport.architectures import VARIANTS

NAMES = ("plain", "stem", "hybrid")
PROVENANCE = {"name": "tiny", "title": "A tiny model", "license": "Apache-2.0"}


def applicable(name: str, format_name: str) -> bool:
    """Whether a client of the format has a model for the architecture."""
    from vitport.layouts import huggingface, timm

    layouts = {"safetensors-transformers": huggingface, "safetensors-timm": timm}
    return format_name not in layouts or not layouts[format_name].inapplicable(small.ARCHITECTURES[name])


def main(folder: Path, names: list[str]) -> None:
    for format_name in names:
        module = formats.module(format_name)
        cases = [(name, variant) for name in NAMES for variant in VARIANTS if applicable(name, format_name)]
        for name, variant in cases:
            target = folder / format_name / name / variant
            target.mkdir(parents=True)
            spec = formats.Export(
                architecture=small.ARCHITECTURES[name], variant=variant, provenance=PROVENANCE, labels=None
            )
            params = small.case(name).params
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    module.export(spec, params, target)
                    code = 0
                finally:
                    os._exit(code)
            if os.waitpid(child, 0)[1]:
                raise SystemExit(f"{format_name} of {name}, {variant}, failed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
