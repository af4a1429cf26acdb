"""The house has floors: imports point down, frameworks stay in their rooms, and help is printed without any of them."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FRAMEWORKS = {
    "jax",
    "jaxlib",
    "flax",
    "tensorflow",
    "torch",
    "onnx",
    "onnxruntime",
    "keras",
    "tf_keras",
    "transformers",
}
FRAMEWORKS |= {"timm", "torchvision", "safetensors", "tensorflow_hub"}

ROOMS = ("vitport.backends", "vitport.formats", "vitport.reference", "vitport.runners")
"""Where a framework may be imported."""

NEVER = {"keras", "tf_keras", "transformers", "timm", "torchvision", "safetensors", "tensorflow_hub"}
"""What loads the artifacts elsewhere, and the library whose format is written by hand."""

GUESTS = {"vitport.runners.timm": {"timm"}, "vitport.runners.transformers": {"transformers"}}
"""Where a client is run on purpose, to be judged."""

FLOORS: dict[str, int] = {
    "vitport.cli": 4,
    "vitport.console": 4,
    "vitport.console_faults": 4,
    "vitport.__main__": 4,
    "vitport.convert": 3,
    "vitport.artifacts": 2,
    "vitport.publishing": 2,
    "vitport.listing": 2,
    "vitport.check": 3,
    "vitport.catalogue": 3,
    "vitport.lock": 3,
    "vitport.new": 3,
    "vitport.report": 3,
    "vitport.chart": 3,
    "vitport.svg": 3,
    "vitport.axes": 3,
    "vitport.bisect": 3,
    "vitport.selftest": 3,
    "vitport.rendering": 3,
    "vitport.gate": 3,
    "vitport.diff": 3,
    "vitport.synthesize": 3,
    "vitport.jobs": 2,
    "vitport.parity.tapping": 2,
    "vitport.faults.folders": 1,
    "vitport.faults.planting": 2,
    "vitport.faults.saboteur": 2,
    "vitport.faults.tampering": 2,
    "vitport.worker": 2,
    "vitport.exporting": 2,
    "vitport.forks": 2,
    "vitport.parity.measuring": 2,
    "vitport.parity.outputs_store": 2,
    "vitport.parity.bench": 2,
    "vitport.parity.machine": 3,
    "vitport.parity.run_report": 3,
    "vitport.parity.trials": 3,
    "vitport.parity.judged_ports": 3,
    "vitport.parity.references": 3,
    "vitport.parity.attempts": 3,
    "vitport.parity.held_artifacts": 3,
    "vitport.verify": 3,
    "vitport.parity.assembling": 3,
    "vitport.parity.diagnosis": 3,
    "vitport.golden": 3,
    "vitport.doctor": 3,
    "vitport.yardstick": 1,
    "vitport.backends": 1,
    "vitport.faults.causes": 1,
    "vitport.formats": 1,
    "vitport.reference": 1,
    "vitport.runners": 1,
}
"""Door, stories, processes, frameworks; everything else is a value or knowledge, on the ground."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = (ROOT / "vitport").rglob("*.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


MODULES = modules()


def imports(source: str) -> Iterator[str]:
    """Dotted names that a module imports, anywhere in it; of `from a import b` both a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the floor"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(module: str) -> int:
    """Of a module, by its longest known prefix."""
    parts = module.split(".")
    names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((FLOORS[name] for name in names if name in FLOORS), 0)


def offences(module: str, source: str) -> list[str]:
    """Imports that a module may not make."""
    found = []
    for name in imports(source):
        package = name.split(".")[0]
        if package in GUESTS.get(module, ()):
            continue
        if package in NEVER or (package in FRAMEWORKS and not module.startswith(ROOMS)):
            found.append(f"{module} imports {name}")
        if name in MODULES and floor(name) > floor(module):
            found.append(f"{module} on floor {floor(module)} imports {name} on floor {floor(name)}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_and_frameworks_stay_in_their_rooms(module: str) -> None:
    assert offences(module, MODULES[module].read_text(encoding="utf-8")) == []


OFFENDERS = {
    "a framework on the ground": ("vitport.names", "import torch.nn as nn"),
    "a framework inside a function": ("vitport.convert", "def f():\n    from jax import numpy"),
    "a framework under a condition": ("vitport.cli", "if True:\n    import tensorflow"),
    "a client": ("vitport.formats.safetensors_timm", "import timm"),
    "a library of which we have our own": ("vitport.formats.safetensors_file", "from safetensors import numpy"),
    "the ground imports a story": ("vitport.manifest", "from vitport.convert import plan"),
    "a framework's room imports a process": ("vitport.backends.numpy", "from vitport import worker"),
    "a process imports the door": ("vitport.jobs", "from vitport import console"),
}


@pytest.mark.parametrize("kind", OFFENDERS)
def test_an_offender_is_caught(kind: str) -> None:
    module, source = OFFENDERS[kind]
    assert module in MODULES
    assert offences(module, source)


INNOCENT = {
    "a framework in its room": ("vitport.backends.torch", "import torch"),
    "a room's own name": ("vitport.worker", "from vitport.backends import torch"),
    "text": ("vitport.cli", 'x = "import jax"'),
    "down": ("vitport.cli", "from vitport import convert, manifest"),
}


@pytest.mark.parametrize("kind", INNOCENT)
def test_the_innocent_are_left_alone(kind: str) -> None:
    assert offences(*INNOCENT[kind]) == []


def test_a_relative_import_is_no_way_around() -> None:
    with pytest.raises(AssertionError, match="relative imports hide the floor"):
        list(imports("from . import cli"))


def test_floors_are_of_modules_that_exist() -> None:
    assert set(FLOORS) <= set(MODULES)


SHARED = (
    "architectures.config",
    "architectures.config.Architecture",
    "architectures.config.ResNet",
    "arrays",
    "arrays.Images",
    "arrays.Params",
    "arrays.Taps",
    "arrays.release",
    "errors",
    "errors.BackendError",
)
"""What a witness may know of the rest: numbers, types, and what computes nothing."""


@pytest.mark.parametrize("witness", [name for name in MODULES if name.startswith("vitport.reference.")])
def test_the_witness_shares_nothing_with_the_definition(witness: str) -> None:
    """The numbers of an architecture, yes; the forward pass, operations and backends, no."""
    names = set(imports(MODULES[witness].read_text(encoding="utf-8")))
    ours = {name for name in names if name.startswith("vitport.") and not name.startswith("vitport.reference")}
    assert ours <= {f"vitport.{name}" for name in SHARED}


# What is really loaded.

HEAVY = sorted(FRAMEWORKS | {"scipy", "sklearn", "pandas", "matplotlib"})


def loaded_by(program: str, heavy: Iterable[str] = HEAVY) -> list[str]:
    """Packages among `heavy` in the memory of an interpreter that ran `program`."""
    script = f"{program}\nimport sys, json\nprint('@' + json.dumps([n for n in {sorted(heavy)!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.rsplit("@", 1)[1])


def command(*arguments: str) -> str:
    return (
        f"import sys\nfrom vitport import cli\nsys.argv[1:] = {list(arguments)!r}\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert end.code in (0, 3), end.code"
    )


COMMANDS = [("--help",), ("list",), ("convert", "--help"), ("--version",), ("check", ".")]


@pytest.mark.parametrize("arguments", COMMANDS, ids=[" ".join(arguments) for arguments in COMMANDS])
def test_no_framework_is_loaded(arguments: tuple[str, ...]) -> None:
    assert loaded_by(command(*arguments)) == []


SLOW_TO_IMPORT = {"numpy", "jaxtyping", "einops", "rich", "urllib3", "filelock", "platformdirs", "jsonschema"}
SLOW_TO_IMPORT |= {"asyncio", "unittest", "multiprocessing"}
SLOW_TO_IMPORT |= {"pydantic", "pydantic_core", "annotated_types", "typing_inspection", "yaml"}

QUICK = [("--help",), ("check", "."), ("list",)]
"""Commands that answer at once."""


@pytest.mark.parametrize("arguments", QUICK, ids=[arguments[0] for arguments in QUICK])
def test_what_takes_long_to_import_is_not_imported_for_a_quick_answer(arguments: tuple[str, ...]) -> None:
    program = command(*arguments)
    assert loaded_by(program, SLOW_TO_IMPORT) == []
    assert loaded_by(f"import einops\n{program}", SLOW_TO_IMPORT) == ["einops"], "the test can fail"


def test_the_values_and_the_knowledge_load_no_framework() -> None:
    ground = [name for name in MODULES if floor(name) in (0, 2, 3, 4) and name not in ("vitport.__main__",)]
    assert loaded_by("\n".join(f"import {name}" for name in ground)) == []


CURIOUS = """try:
    import wave
    found = True
except ImportError:
    found = False
"""

HIDES = """import sys
sys.path.insert(0, sys.argv[1])
from vitport import formats
formats.import_packages("it", ("curious",), ("wave", "xmlrpc"))
import curious, wave
print(curious.found, wave.__name__, "xmlrpc" in sys.modules)
"""


def test_what_a_framework_does_not_need_is_hidden_from_it_and_from_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "curious.py").write_text(CURIOUS)
    done = subprocess.run([sys.executable, "-c", HIDES, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False wave False\n"


def test_a_loaded_framework_is_seen() -> None:
    assert loaded_by("import onnx") == ["onnx"]
    assert loaded_by("from vitport.formats import module\nmodule('onnx')") == ["onnx"]
