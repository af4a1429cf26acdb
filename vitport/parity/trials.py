"""What a verification runs: one trial a backend, variant, precision and device, and for each what it runs on.

Names are chosen here, and everything that can be known without a framework is said here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitport import artifacts
from vitport.architectures import VARIANTS
from vitport.backend_table import BACKENDS, PRECISIONS, Backend
from vitport.devices import DEVICES
from vitport.errors import EnvironmentFault, UsageError, VitportError
from vitport.format_table import FORMATS, STANDARD
from vitport.formats import require
from vitport.manifest_errors import suggestion
from vitport.parity.gate_rules import PORT_PREFIX
from vitport.parity.judged_ports import Port
from vitport.runners import Absent, Inapplicable


@dataclass(frozen=True, slots=True)
class Trial:
    """One run to come. name: the backend's in the report. folder: of what is run, None for the checkpoint itself.

    thorough: whether what does not depend on the precision is measured too. impossible: why it can't run.
    """

    name: str
    backend: str
    variant: str
    precision: str
    device: str
    folder: Path | None
    sha256: str
    required: bool
    thorough: bool
    impossible: VitportError | None = None

    @property
    def id(self) -> str:
        return f"{self.name}/{self.variant}/{self.precision}/{self.device}"

    @property
    def port(self) -> bool:
        return self.name.startswith(PORT_PREFIX)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for; empty means everything.

    listing: `artifacts.json` in `out`, None where there are no artifacts. checkpoint: SHA-256 of it.
    """

    backends: Sequence[str]
    variants: Sequence[str]
    precisions: Sequence[str]
    devices: Sequence[str]
    out: Path
    listing: dict | None
    checkpoint: str
    ports: Sequence[Port] = ()


def plan(asked: Asked) -> list[Trial]:
    """Every trial, in the order of the table of backends, then the ports. Raises UsageError for what does not exist."""
    backends = choose(asked.backends, tuple(BACKENDS), "backend")
    precisions, devices = choose(asked.precisions, PRECISIONS, "precision"), choose(asked.devices, DEVICES, "device")
    trials = [
        trial
        for name in backends
        for device in devices
        for precision in precisions
        for trial in _trials(BACKENDS[name], precision, device, asked)
    ]
    trials += [
        _of_port(port, precision, device) for port in asked.ports for device in devices for precision in precisions
    ]
    if not trials:
        raise UsageError(
            f"there is nothing to verify in {asked.out}; make it first: vitport convert MANIFEST --out DIR"
        )
    return trials


def choose(asked: Sequence[str], known: Sequence[str], kind: str) -> tuple[str, ...]:
    """`asked` in the order of `known`; all backends, the first precision or device where nothing is asked."""
    for name in asked:
        if name not in known:
            hint = suggestion(name, known) or f"there are {', '.join(known)}"
            raise UsageError(f"unknown {kind} {name!r}; {hint}")
    if not asked:
        return tuple(known) if kind in ("backend", "variant") else tuple(known[:1])
    return tuple(name for name in known if name in asked)


def _trials(row: Backend, precision: str, device: str, asked: Asked) -> Iterator[Trial]:
    """Of one backend: a trial a variant that it has something to run of."""
    wanted = choose(asked.variants, VARIANTS, "variant")
    impossible = _impossible(row, precision, device)
    for variant, folder, digest in _subjects(row, asked):
        if variant in wanted:
            yield Trial(
                name=row.name,
                backend=row.name,
                variant=variant,
                precision=precision,
                device=device,
                folder=folder,
                sha256=digest,
                required=row.name in asked.backends and not impossible,
                thorough=precision == "float32",
                impossible=impossible,
            )
    if row.artifact and not list(_subjects(row, asked)):
        yield from _absent(row, precision, device, wanted, asked)


def _impossible(row: Backend, precision: str, device: str) -> Inapplicable | None:
    """Why a backend can't run so, whatever it is given."""
    reason = row.impossible(precision, device)
    return Inapplicable(reason) if reason else None


def _absent(row: Backend, precision: str, device: str, wanted: Sequence[str], asked: Asked) -> Iterator[Trial]:
    """Of a standard format that was not made for want of its framework: a report that is silent of it would look whole.

    Raises UsageError where it could have been made, and the backend is asked for by name.
    """
    if row.name in asked.backends:
        raise UsageError(
            f"--backends {row.name} runs {row.artifact}, and {asked.out} has none; make it: vitport convert"
        )
    made = {entry["variant"] for entry in asked.listing["artifacts"]} if asked.listing else set()
    problem = _wanting(row.artifact)
    for variant in wanted:
        if problem and variant in made and not asked.backends:
            facts = {"folder": None, "sha256": "", "required": False, "thorough": False, "impossible": problem}
            yield Trial(row.name, row.name, variant, precision, device, **facts)


def _wanting(name: str) -> Absent | None:
    """Why a standard format can't be made on this machine."""
    try:
        require(name, FORMATS[name].packages)
    except EnvironmentFault as problem:
        return Absent(f"{problem}. Without it there is no {name} here to run") if name in STANDARD else None
    return None


def _subjects(row: Backend, asked: Asked) -> Iterator[tuple[str, Path | None, str]]:
    """Variant, folder and digest of what a backend can run."""
    listed = asked.listing["artifacts"] if asked.listing else []
    if row.artifact:
        for entry in listed:
            if entry["format"] == row.artifact:
                yield entry["variant"], asked.out / artifacts.folder(entry), entry["sha256"]
    else:
        there = {entry["variant"] for entry in listed} or set(VARIANTS)
        yield from ((variant, None, asked.checkpoint) for variant in VARIANTS if variant in there)


def _of_port(port: Port, precision: str, device: str) -> Trial:
    row = BACKENDS[port.backend]
    impossible = _impossible(row, precision, device)
    name = f"{PORT_PREFIX}{port.name}"
    facts = {"folder": port.path, "sha256": port.sha256, "required": not impossible, "thorough": precision == "float32"}
    return Trial(name, port.backend, port.variant, precision, device, **facts, impossible=impossible)
