"""The goals, each with its verdict: PASS, MISSED, or NOT RUN with the reason. Not measured is never a pass.

A ratio is taken round by round, and its median decides; where its range holds the limit as well, that is said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from statistics import median

from benchmarks.contestants import (
    BATCHES,
    CONVERSIONS,
    SAME_FUNCTION,
    SIZES,
    Artifact,
    import_key,
)
from benchmarks.ledger import Ledger
from benchmarks.summary import Summary, ratios, summarize, total
from vitport.architectures import parameter_shapes
from vitport.formats import FORMATS, ORACLE_PACKAGES

SAVED_MODEL_PEERS = ("jax2tf",)

ONNX_PEERS = ("dynamo-timm", "dynamo-transformers", "optimum")
"""Of the goal's pair. The legacy tracer is deprecated and optimum with erf GELU makes another function."""

COPY_FACTOR, CHECKPOINT_FACTOR, MEMORY_LIMIT, STARTUP_LIMIT = 3.0, 2.5, 8e9, 0.150
"""Times a copy; times the checkpoint; bytes; seconds."""

MEBIBYTE = 2**20

PAIR = "all four formats, both variants, faster than one peer's SavedModel + ONNX"
ONE_PROCESS = f"any one process within its framework's import + {CHECKPOINT_FACTOR} × the checkpoint"
COPY = f"ONNX alone (one variant, no proof) within {COPY_FACTOR:g} × a copy of the bytes and interpreter start"
TOGETHER = "a whole conversion within 8 GB, all processes together"

AS_FAST = "{}, batch {}: at least as fast as the best peer"
AS_OPTIMUM = "onnx, batch {}: faster than optimum's as it comes"

ONNX_LIMIT = (
    "Four fifths are matrix products, as in every export; what else differs is less than measurements do: of the one "
    "before this, 1.07 for S/16 at batch 1 beside dynamo-timm, and 1.05 at batch 8."
)
"""From profiles by ONNX Runtime of S/16."""

TORCH_EXPORT_LIMIT = "PyTorch runs the same kernels in both programs; the rounds disagree."

LIMITS: dict[tuple[str, str], str] = {
    (
        PAIR,
        "B_16",
    ): "processor time, on two cores: the oracle and the yardstick have one of them for 10 s, and ten artifacts "
    "(3.4 GB) are written, hashed, flushed, read back and run; the pair writes 0.7 GB and proves nothing.",
    (
        AS_FAST.format("saved_model", 1),
        "S_16",
    ): "TensorFlow runs one operation after another, and at batch 1 the many small ones count; jax2tf's is one program "
    "of XLA. In `tf.function(model, jit_compile=True)` the same SavedModel is 1.14 times as fast.",
    (AS_FAST.format("torch_export", 32), "S_16"): TORCH_EXPORT_LIMIT,
    (COPY, "L_16"): "The bytes pass through user space, where a copy is one system call; the rounds disagree.",
    **{
        (goal.format(*words, batch), size): ONNX_LIMIT
        for goal, words in ((AS_FAST, ["onnx"]), (AS_OPTIMUM, []))
        for batch in BATCHES
        for size in ("S_16", "B_16")
    },
}
"""(goal, size) → what limits it, for the goals that are missed: written by hand, from the tables of the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One goal at one size. ratio: measured over allowed, at most 1 to pass; at least 1 where `floor`."""

    goal: str
    size: str
    measured: str = ""
    allowed: str = ""
    ratio: Summary | None = None
    floor: bool = False
    reason: str = ""

    @property
    def verdict(self) -> str:
        """PASS, MISSED or NOT RUN."""
        if self.ratio is None:
            return "NOT RUN"
        kept = self.ratio.median >= 1 if self.floor else self.ratio.median <= 1
        return "PASS" if kept else "MISSED"

    @property
    def note(self) -> str:
        """The reason, or that the rounds disagree, or what limits a goal that is missed."""
        if self.ratio and self.ratio.low < 1 < self.ratio.high:
            return f"within noise: {self.ratio.low:.2f} to {self.ratio.high:.2f}. {self._limit}".strip()
        return self.reason or self._limit

    @property
    def _limit(self) -> str:
        return LIMITS.get((self.goal, self.size), "") if self.verdict == "MISSED" else ""


def judge(ledger: Ledger, sizes: Sequence[str]) -> list[Verdict]:
    """Every goal, in the order of the tables."""
    found = [verdict for size in sizes for verdict in _of_size(ledger, size)]
    return [*found, *_startup(ledger)]


def _of_size(ledger: Ledger, size: str) -> Iterator[Verdict]:
    if SIZES[size].rounds and SIZES[size].timed is None:
        yield pair(ledger, size)
    if size == "L_16":
        yield copy(ledger, size)
    yield from memory(ledger, size)
    yield from throughput(ledger, size)


def seconds(ledger: Ledger, part: str, size: str, key: str) -> dict[int, float]:
    """Wall seconds by round."""
    return {number: row["wall"] for number, row in ledger.timed(part, size, key).items()}


def pair(ledger: Ledger, size: str) -> Verdict:
    """Everything vitport makes, against one SavedModel and one ONNX of the fastest peers, one after the other."""
    goal = {"goal": PAIR, "size": size}
    ours, makers = seconds(ledger, "convert", size, "vitport"), pair_of(ledger, size)
    if not ours or not makers:
        lacking = [key for key in ("vitport", *SAVED_MODEL_PEERS, *ONNX_PEERS) if not _walls(ledger, size, key)]
        return Verdict(**goal, reason=_why(ledger, "convert", size, lacking))
    theirs = total(*(seconds(ledger, "convert", size, key) for key in makers))
    mine, both = summarize(ours.values()), summarize(theirs.values())
    allowed = f"{both.median:.1f} s ({' + '.join(makers)})"
    return Verdict(**goal, measured=f"{mine.median:.1f} s", allowed=allowed, ratio=ratios(ours, theirs))


def pair_of(ledger: Ledger, size: str) -> list[str]:
    """Keys of the fastest peers, one of SavedModel and one of ONNX; empty where either has no numbers."""
    makers = [_fastest(ledger, size, peers) for peers in (SAVED_MODEL_PEERS, ONNX_PEERS)]
    return [] if None in makers else makers


def copy(ledger: Ledger, size: str) -> Verdict:
    """The export step of ONNX, against copying the checkpoint."""
    goal = {"goal": COPY, "size": size}
    ours, floor = (seconds(ledger, "convert", size, key) for key in ("vitport-onnx-step", "copy"))
    if not ours or not floor:
        return Verdict(**goal, reason=_why(ledger, "convert", size, ["vitport-onnx-step", "copy"]))
    allowed = {number: COPY_FACTOR * value for number, value in floor.items()}
    mine, limit = summarize(ours.values()), summarize(allowed.values())
    return Verdict(
        **goal, measured=f"{mine.median:.2f} s", allowed=f"{limit.median:.2f} s", ratio=ratios(ours, allowed)
    )


def memory(ledger: Ledger, size: str) -> Iterator[Verdict]:
    """The worst process of a whole conversion, and for the largest models all of them together."""
    goal = ONE_PROCESS
    row = ledger.first("convert", size, "vitport")
    if not row:
        yield Verdict(goal=goal, size=size, reason=_why(ledger, "convert", size, ["vitport"]))
        return
    worst = max(processes(ledger, size), key=lambda each: each.resident / each.allowed, default=None)
    if worst is None:
        yield Verdict(goal=goal, size=size, reason="the imports were not measured: --part imports")
    else:
        yield Verdict(
            goal=goal,
            size=size,
            measured=f"{worst.resident / MEBIBYTE:,.0f} MiB ({worst.name})",
            allowed=f"{worst.allowed / MEBIBYTE:,.0f} MiB",
            ratio=summarize([worst.resident / worst.allowed]),
        )
    if SIZES[size].timed is not None or not SIZES[size].rounds:
        peak = row["memory"]["together"]["resident"]
        yield Verdict(
            goal=TOGETHER,
            size=size,
            measured=f"{peak / 1e9:.2f} GB",
            allowed=f"{MEMORY_LIMIT / 1e9:g} GB",
            ratio=summarize([peak / MEMORY_LIMIT]),
        )


@dataclass(frozen=True, slots=True)
class Process:
    """Peak memory of one of vitport's processes in bytes, and what it may be. floor: of its framework's import."""

    name: str
    resident: int
    anonymous: int
    floor: int
    allowed: float


def processes(ledger: Ledger, size: str) -> list[Process]:
    """Of a whole conversion; without those whose framework's import was not measured."""
    row, checkpoint = ledger.first("convert", size, "vitport"), _checkpoint_bytes(size)
    found = []
    for name, peak in row.get("memory", {}).get("processes", {}).items():
        imported = ledger.first("imports", "", import_key(_packages(name)))
        if imported:
            floor = imported["memory"]["processes"]["main"]["resident"]
            allowed = floor + CHECKPOINT_FACTOR * checkpoint
            found.append(Process(name, peak["resident"], peak["anonymous"], floor, allowed))
    return found


def throughput(ledger: Ledger, size: str) -> Iterator[Verdict]:
    """Each format against the best peer's that is the same function, and ONNX against optimum's as it comes."""
    artifacts = [artifact for maker in CONVERSIONS for artifact in maker.artifacts]
    if not SIZES[size].throughput_rounds:
        return
    for name in dict.fromkeys(artifact.format for artifact in artifacts):
        ours = next(artifact for artifact in artifacts if artifact.ours and artifact.format == name)
        peers = [each for each in artifacts if each.format == name and not each.ours and same(ledger, size, each.key)]
        for batch in BATCHES if any(not each.ours and each.format == name for each in artifacts) else ():
            goal = AS_FAST.format(name, batch)
            yield _race(ledger, size, goal, ours, peers, batch)
    optimum = [each for each in artifacts if each.key == "optimum-erf"]
    ours = next(artifact for artifact in artifacts if artifact.key == "vitport-onnx")
    for batch in BATCHES:
        yield _race(ledger, size, AS_OPTIMUM.format(batch), ours, optimum, batch)


def rates(ledger: Ledger, size: str, key: str, batch: int) -> dict[int, float]:
    """Images a second by round."""
    return {number: row["result"][str(batch)] for number, row in ledger.timed("throughput", size, key).items()}


def same(ledger: Ledger, size: str, key: str) -> bool:
    """Whether an artifact was measured to be the checkpoint's function."""
    return ledger.first("check", size, key).get("result", {}).get("relative", float("inf")) <= SAME_FUNCTION


def _race(ledger: Ledger, size: str, goal: str, ours: Artifact, peers: Sequence[Artifact], batch: int) -> Verdict:
    measured = {each.key: rates(ledger, size, each.key, batch) for each in (ours, *peers)}
    mine, others = measured.pop(ours.key), {key: values for key, values in measured.items() if values}
    if not mine or not others or not same(ledger, size, ours.key):
        lacking = [ours.key, *(peer.key for peer in peers)]
        return Verdict(goal=goal, size=size, floor=True, reason=_why(ledger, "throughput", size, lacking))
    best = max(others, key=lambda key: summarize(others[key].values()).median)
    return Verdict(
        goal=goal,
        size=size,
        measured=f"{summarize(mine.values()).median:.1f} images/s",
        allowed=f"{summarize(others[best].values()).median:.1f} ({best})",
        ratio=ratios(mine, others[best]),
        floor=True,
    )


def _startup(ledger: Ledger) -> Iterator[Verdict]:
    for name in ("--help", "list", "check"):
        walls = seconds(ledger, "startup", "", f"vitport-{name}")
        goal = {"goal": f"`vitport {name}` under {STARTUP_LIMIT * 1000:.0f} ms", "size": ""}
        if not walls:
            yield Verdict(**goal, reason=_why(ledger, "startup", "", [f"vitport-{name}"]))
            continue
        ratio = summarize(value / STARTUP_LIMIT for value in walls.values())
        median = 1000 * STARTUP_LIMIT * ratio.median
        yield Verdict(**goal, measured=f"{median:.0f} ms", allowed=f"{STARTUP_LIMIT * 1000:.0f} ms", ratio=ratio)


def _fastest(ledger: Ledger, size: str, keys: Sequence[str]) -> str | None:
    measured = {key: walls for key in keys if (walls := _walls(ledger, size, key))}
    return min(measured, key=lambda key: median(measured[key]), default=None)


def _walls(ledger: Ledger, size: str, key: str) -> list[float]:
    return list(seconds(ledger, "convert", size, key).values())


def _why(ledger: Ledger, part: str, size: str, keys: Sequence[str]) -> str:
    """The errors of those that failed."""
    errors = {key: ledger.error(part, size, key) or ledger.error("convert", size, key) for key in keys}
    told = [f"{key}: {error}" for key, error in errors.items() if error]
    return "; ".join(told) or "not measured"


def _packages(name: str) -> tuple[str, ...]:
    """What the process of a job can't do without; NumPy where it needs no framework."""
    if name == "oracle":
        return ORACLE_PACKAGES
    return FORMATS[name].packages if name in FORMATS else ()


def _checkpoint_bytes(size: str) -> int:
    return 4 * sum(map(prod, parameter_shapes(SIZES[size].architecture).values()))
