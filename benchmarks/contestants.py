"""Who is measured: a table of commands. Words in braces are filled in by `execute.py`.

{python}      interpreter of the contestant's environment     {out}         empty folder for what it writes
{model}       JSON with everything a peer needs (models.py)   {checkpoint}  the npz
{manifest}    vitport's manifest of it                        {digits}      a converted folder, for `check`
"""

from dataclasses import dataclass

from vitport.architectures import Architecture, published
from vitport.formats import FORMATS, ORACLE_PACKAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that a contestant leaves, to be run. path: below the contestant's folder."""

    key: str
    label: str
    format: str
    path: str

    @property
    def ours(self) -> bool:
        return self.key.startswith("vitport")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One command.

    environment: name in `environments.py`, empty for the interpreter that runs the benchmark.
    once: never timed; it only makes an artifact. limit: seconds after which it is given up.
    """

    key: str
    label: str
    command: tuple[str, ...]
    environment: str = ""
    artifacts: tuple[Artifact, ...] = ()
    once: bool = False
    limit: float = 3600

    @property
    def ours(self) -> bool:
        return self.key.startswith("vitport")


def _run(module: str, *arguments: str) -> tuple[str, ...]:
    return ("{python}", "-m", f"benchmarks.{module}", "{model}", "{out}", *arguments)


def _convert(*arguments: str) -> tuple[str, ...]:
    vitport = ("{python}", "-m", "vitport", "convert", "{manifest}")
    return (*vitport, "--asset", "{checkpoint}", "--out", "{out}/vitport", *arguments)


def _one(name: str, *arguments: str) -> tuple[str, ...]:
    return _convert("--format", name, "--variant", "classifier", *arguments)


def _ours(name: str, key: str = "", label: str = "vitport") -> Artifact:
    path = "/".join(filter(None, ("vitport/classifier", name, FORMATS[name].entry)))
    return Artifact(key=f"vitport-{key or name}", label=label, format=name, path=path)


def _theirs(key: str, label: str, name: str, path: str) -> tuple[Artifact]:
    return (Artifact(key=key, label=label, format=name, path=path),)


COPY = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"
"""The floor of an export: sendfile, no fsync. `vitport convert` flushes to the disk before it publishes; neither the
export step alone nor any peer does."""

OPTIONAL = {
    "torch_export": tuple(
        Contestant(
            key=f"torch_export-{source}",
            label=f"torch.export, {source}",
            command=_run("peers.torch_export", source),
            artifacts=_theirs(f"torch_export-{source}", f"torch.export, {source}", "torch_export", "model.pt2"),
            once=True,
        )
        for source in ("timm", "transformers")
    ),
    "stablehlo": (
        Contestant(
            key="jax_export",
            label="jax.export, Flax",
            command=_run("peers.jax_export"),
            artifacts=_theirs("jax_export", "jax.export, Flax", "stablehlo", "model.jax_export"),
            once=True,
        ),
    ),
}
"""Formats that vitport may not have, and their peers; they are run, and how long they take to make is not compared."""

CONVERSIONS = (
    Contestant(
        key="vitport",
        label="vitport: four formats, both variants, proven",
        command=_convert("--format", "saved_model,torchscript,onnx,safetensors"),
        artifacts=(_ours("saved_model"), _ours("torchscript"), _ours("onnx")),
    ),
    Contestant(key="vitport-onnx", label="vitport: ONNX, classifier, proven", command=_one("onnx")),
    Contestant(key="vitport-saved_model", label="vitport: SavedModel, classifier, proven", command=_one("saved_model")),
    Contestant(key="vitport-onnx-step", label="vitport: ONNX, the export step alone", command=_run("onnx_step")),
    Contestant(
        key="vitport-onnx-23",
        label="vitport: ONNX, opset 23",
        command=_one("onnx", "--opset", "23"),
        artifacts=(_ours("onnx", "onnx-23", "vitport, opset 23"),),
        once=True,
    ),
    Contestant(
        key="jax2tf",
        label="SavedModel: ViT-jax2tf recipe",
        command=_run("peers.jax2tf"),
        artifacts=_theirs("jax2tf", "jax2tf", "saved_model", "saved_model"),
    ),
    *(
        Contestant(
            key=f"dynamo-{source}",
            label=f"ONNX: torch.onnx dynamo, {source}",
            command=_run("peers.torch_onnx", source),
            environment="onnxscript",
            artifacts=_theirs(f"dynamo-{source}", f"dynamo, {source}", "onnx", "model.onnx"),
        )
        for source in ("timm", "transformers")
    ),
    Contestant(
        key="dynamo-timm-23",
        label="ONNX: torch.onnx dynamo, timm, opset 23",
        command=_run("peers.torch_onnx", "timm", "--opset", "23"),
        environment="onnxscript",
        artifacts=_theirs("dynamo-timm-23", "dynamo, timm, opset 23", "onnx", "model.onnx"),
        once=True,
    ),
    Contestant(
        key="legacy-timm",
        label="ONNX: torch.onnx tracer (deprecated), timm",
        command=_run("peers.torch_onnx", "timm", "--legacy"),
        environment="onnxscript",
        artifacts=_theirs("legacy-timm", "legacy tracer, timm", "onnx", "model.onnx"),
    ),
    Contestant(
        key="optimum-erf",
        label="ONNX: optimum as it comes, erf GELU",
        command=_run("peers.optimum", "erf"),
        environment="optimum",
        artifacts=_theirs("optimum-erf", "optimum, erf GELU", "onnx", "model.onnx"),
    ),
    Contestant(
        key="optimum",
        label="ONNX: optimum, tanh GELU",
        command=_run("peers.optimum", "tanh"),
        environment="optimum",
        artifacts=_theirs("optimum", "optimum, tanh GELU", "onnx", "model.onnx"),
    ),
    *(
        Contestant(
            key=f"trace-{source}",
            label=f"TorchScript: torch.jit.trace, {source}",
            command=_run("peers.torchscript", source),
            artifacts=_theirs(f"trace-{source}", f"traced, {source}", "torchscript", "model.pt"),
        )
        for source in ("timm", "transformers")
    ),
    *(
        contestant
        for name, peers in OPTIONAL.items()
        if name in FORMATS
        for contestant in (
            Contestant(
                key=f"vitport-{name}",
                label=f"vitport: {name}, classifier, proven",
                command=_one(name),
                artifacts=(_ours(name),),
                once=True,
            ),
            *peers,
        )
    ),
    Contestant(
        key="copy",
        label="floor: copy of the checkpoint",
        command=("{python}", "-c", COPY, "{checkpoint}", "{out}/copy"),
    ),
)

SAME_FUNCTION = 1e-5
"""RMS error over the spread of the logits, above which a peer's artifact is another function: float32 rounding is
below 1e-6, erf GELU above 2e-4 (vitport/chart.py)."""


def _imports(packages: tuple[str, ...]) -> Contestant:
    modules = ["flax.linen" if name == "flax" else name for name in packages]
    return Contestant(
        key=import_key(packages),
        label=f"import {', '.join(modules)}",
        command=("{python}", "-c", f"import {', '.join(modules)}"),
    )


def import_key(packages: tuple[str, ...]) -> str:
    """Key of the contestant that imports what a part of vitport cannot do without."""
    return f"import-{'-'.join(packages or ('numpy',))}"


_PACKAGES = dict.fromkeys((("numpy",), *(row.packages for row in FORMATS.values() if row.packages), ORACLE_PACKAGES))

IMPORTS = tuple(_imports(packages) for packages in _PACKAGES)
"""The floor of each worker: its framework, imported."""


def startup() -> tuple[Contestant, ...]:
    """What a command costs before it does anything; `check` where vitport has it."""
    from vitport import cli

    def vitport(name: str, *arguments: str) -> Contestant:
        return Contestant(
            key=f"vitport-{name}", label=f"vitport {name}", command=("{python}", "-m", "vitport", *arguments)
        )

    return (
        Contestant(key="pass", label="python -c pass", command=("{python}", "-c", "pass")),
        Contestant(key="click", label="import click", command=("{python}", "-c", "import click")),
        vitport("--help", "--help"),
        vitport("list", "list"),
        *([vitport("check", "check", "{digits}")] if "check" in cli.main.commands else []),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model to measure with.

    rounds, throughput_rounds: timed rounds. timed, once: keys of the contestants that are timed (None: all), and of
    those that run once, for their memory.
    """

    name: str
    architecture: Architecture
    rounds: int = 0
    throughput_rounds: int = 0
    timed: tuple[str, ...] | None = None
    once: tuple[str, ...] = ()

    def times(self, contestant: Contestant) -> bool:
        """Whether the contestant is timed at this size."""
        return bool(self.rounds) and not contestant.once and (self.timed is None or contestant.key in self.timed)

    def runs(self, contestant: Contestant) -> bool:
        """Whether the contestant runs at all."""
        return contestant.key in self.once or (bool(self.rounds) and self.timed is None) or self.times(contestant)


TINY = Architecture(patch=8, width=64, depth=2, heads=4, mlp_width=128, resolution=32, num_classes=10)

SIZES = {
    size.name: size
    for size in (
        Size(name="tiny", architecture=TINY, rounds=3, throughput_rounds=3),
        Size(name="Ti_16", architecture=published("Ti_16"), rounds=3, throughput_rounds=3),
        Size(name="S_16", architecture=published("S_16"), rounds=5, throughput_rounds=5),
        Size(name="B_16", architecture=published("B_16"), rounds=3, throughput_rounds=5),
        Size(
            name="L_16",
            architecture=published("L_16"),
            rounds=5,
            timed=("vitport-onnx-step", "copy"),
            once=("vitport", "vitport-onnx"),
        ),
        Size(name="H_14", architecture=published("H_14"), once=("vitport", "vitport-onnx-step")),
    )
}

DEFAULT_SIZES = ("S_16", "B_16", "L_16")

BATCHES = (1, 8, 32)
