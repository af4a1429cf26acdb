"""The order of runs. Contestants that are compared take turns, A B C A B C …, so that a slow minute hits them all.

Round 0 of every contestant is not timed: it fills the caches, its memory is sampled, and its artifacts are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from benchmarks.contestants import CONVERSIONS, IMPORTS, Artifact, Contestant, Size, startup

PARTS = ("startup", "imports", "convert", "check", "throughput")

ROUNDS = {"startup": 15, "imports": 5}

THROUGHPUT_SECONDS = 1.5
"""Of calls, a contestant's turn at a batch size."""


@dataclass(frozen=True, slots=True)
class Run:
    """One process. maker: the contestant, or whoever made the `artifact` that this runs. command: with its words in
    braces. makes: whether it leaves artifacts. limit: seconds."""

    part: str
    size: str
    key: str
    round: int
    label: str
    maker: str
    command: tuple[str, ...]
    environment: str = ""
    makes: bool = False
    limit: float = 3600
    artifact: Artifact | None = None

    @property
    def races(self) -> bool:
        """Whether it is loaded beside others, and takes turns with them."""
        return self.part == "throughput"


def runs(parts: Sequence[str], sizes: Sequence[Size], only: Sequence[str] = (), rounds: int | None = None) -> list[Run]:
    """Every run, in order. only: keys of contestants. rounds: instead of each size's own number.

    To run artifacts, they are made and checked first, whether or not those parts are asked for.
    """
    parts = {*parts, *(("check",) if "throughput" in parts else ())}

    planned = [
        *_fixed("startup", startup(), rounds),
        *_fixed("imports", IMPORTS, rounds),
        *(run for size in sizes for run in _conversions(size, rounds)),
        *(run for size in sizes for run in _checks(size)),
        *(run for size in sizes for run in _throughput(size, rounds)),
    ]
    makers = ("convert",) if "check" in parts else ()
    wanted = [run for run in planned if run.part in parts or (run.part in makers and run.makes and not run.round)]
    return [run for run in wanted if not only or run.maker in only]


def groups(planned: Sequence[Run]) -> Iterator[list[Run]]:
    """Artifacts that race, of one format and size, with all their rounds; any other run alone."""
    for _, group in groupby(planned, key=lambda run: (run.size, run.artifact.format) if run.races else run):
        yield list(group)


def artifacts(size: Size) -> list[tuple[Contestant, Artifact]]:
    """What is run at this size, and who makes it."""
    if not size.throughput_rounds:
        return []
    return [(maker, artifact) for maker in CONVERSIONS for artifact in maker.artifacts]


def _fixed(part: str, contestants: Sequence[Contestant], rounds: int | None) -> Iterator[Run]:
    for number in range((ROUNDS[part] if rounds is None else rounds) + 1):
        for each in contestants:
            yield _run(part, "", each, number)


def _conversions(size: Size, rounds: int | None) -> Iterator[Run]:
    for number in range((size.rounds if rounds is None else rounds) + 1):
        for each in CONVERSIONS:
            if size.times(each) if number else size.runs(each):
                yield _run("convert", size.name, each, number)


def _checks(size: Size) -> Iterator[Run]:
    for maker, artifact in artifacts(size):
        yield _of_artifact("check", size, maker, artifact, 0)


def _throughput(size: Size, rounds: int | None) -> Iterator[Run]:
    """Artifacts of one format take turns; two formats are not compared."""
    made = artifacts(size)
    for name in dict.fromkeys(artifact.format for _, artifact in made):
        for number in range(1, (size.throughput_rounds if rounds is None else rounds) + 1):
            for maker, artifact in made:
                if artifact.format == name:
                    yield _of_artifact("throughput", size, maker, artifact, number)


def _run(part: str, size: str, each: Contestant, number: int) -> Run:
    return Run(
        part=part,
        size=size,
        key=each.key,
        round=number,
        label=each.label,
        maker=each.key,
        command=each.command,
        environment=each.environment,
        makes=bool(each.artifacts),
        limit=each.limit,
    )


def _of_artifact(part: str, size: Size, maker: Contestant, artifact: Artifact, number: int) -> Run:
    options = () if part == "check" else (str(THROUGHPUT_SECONDS),)
    command = ("{python}", "-m", f"benchmarks.{part}", artifact.format, "{artifact}", "{model}", *options)
    return Run(part, size.name, artifact.key, number, artifact.label, maker.key, command, artifact=artifact)
