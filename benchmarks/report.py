"""The page: verdicts first, then every table, then how it was measured. The raw numbers go beside it as JSON."""

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks import goals, machine, picture, tables
from benchmarks.contestants import SIZES
from benchmarks.ledger import Ledger
from vitport import hardware

INTRODUCTION = """\
Whole processes side by side, on random weights in the published layout. Contestants take turns (A B C A B C …); a cell
is the median of the rounds with the smallest and the largest, a ratio is taken in each round and its median shown."""

CONVERSION = """\
Every row is one process from its start to its end, imports included. vitport's proof (the Flax oracle in float64, the
NumPy yardstick, every artifact read back and run) is part of its time, and it flushes to the disk before it publishes;
peers prove nothing, write the classifier alone and flush nothing. timm and the ViT-jax2tf recipe read the npz;
transformers and optimum start from a folder that already has the weights under their names."""

MEMORY = """\
High-water marks of resident memory, read from /proc in a run that is not timed. *Of it its own* leaves out pages of
mapped files, which the kernel can take back: the checkpoint is memory-mapped. Forks that write a variant count with
the process they are forks of. Together: the sum over all processes at one moment, shared pages counted once."""

THROUGHPUT = """\
Images a second on the CPU, more is better; each runtime with its default options and threads. All artifacts of a format
are loaded, each in its process, and take turns of a second and a half at a batch size; the others sleep. The first two
calls of a batch size are not timed. Errors are those of the logits of the two fixed images to the Flax oracle in
float64: a peer whose error is not rounding is another function, and only a goal that names it is measured by it."""

OPERATORS = """\
Counted in the graph that ONNX Runtime itself writes after all its optimisations, on this processor."""


def write(ledger: Ledger, sizes: Sequence[str], page: Path) -> None:
    """Writes the page, the picture and the raw numbers."""
    page.parent.mkdir(parents=True, exist_ok=True)
    verdicts = goals.judge(ledger, sizes)
    raw = {"machine": machine.facts(), "verdicts": [_plain(each) for each in verdicts], "runs": ledger.everything()}
    page.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    page.with_suffix(".svg").write_text(picture.draw(ledger, sizes), encoding="utf-8")
    page.write_text("\n".join(render(ledger, sizes, verdicts, page.stem)) + "\n", encoding="utf-8")


def render(ledger: Ledger, sizes: Sequence[str], verdicts: Sequence[goals.Verdict], stem: str) -> Iterator[str]:
    """Lines of the page."""
    yield from ("# Speed and memory", "", INTRODUCTION, "", *_counts(verdicts), "")
    yield from (f"![conversion and throughput]({stem}.svg)", "", "## Goals", "", *tables.verdicts(verdicts), "")
    yield from ("## Making the artifacts", "", CONVERSION, "")
    for size in sizes:
        yield from (f"### {tables.title(size)}", "", *tables.conversions(ledger, size), "")
        if ledger.first("convert", size, "vitport"):
            yield from ("Where the time of the four formats goes:", "", *tables.steps(ledger, size), "")
    yield from ("## Memory of vitport's processes", "", MEMORY, "")
    for size in sizes:
        if ledger.first("convert", size, "vitport"):
            yield from (
                f"### {tables.title(size)}, four formats, both variants",
                "",
                *tables.processes(ledger, size),
                "",
            )
    yield from ("## Running the artifacts", "", THROUGHPUT, "")
    for size in (name for name in sizes if SIZES[name].throughput_rounds):
        yield from (f"### {tables.title(size)}", "", *tables.throughputs(ledger, size), "")
    yield from ("## What ONNX Runtime executes", "", OPERATORS, "")
    for size in (name for name in sizes if SIZES[name].throughput_rounds):
        yield from (f"### {tables.title(size)}", "", *tables.operators(ledger, size), "")
    yield from ("## Starting", "", *tables.starts(ledger), "")
    yield from ("## The machine", "", *_machine(ledger), "", "## Again", "", *_again(sizes, stem))


def _counts(verdicts: Sequence[goals.Verdict]) -> Iterator[str]:
    words = [each.verdict for each in verdicts]
    counted = ", ".join(f"{words.count(word)} {word}" for word in ("PASS", "MISSED", "NOT RUN") if word in words)
    yield f"**Goals: {counted or 'none measured'}.**"


def _machine(ledger: Ledger) -> Iterator[str]:
    for name, value in machine.facts().items():
        yield f"- {name}: {value}"
    others = [row["others"] for row in ledger.everything() if row["round"] and "others" in row]
    if others:
        cores = hardware.cores()
        yield (
            f"- others: while a contestant was timed, everything else on the machine used {median(others):.2f} of its "
            f"{cores} cores (median; at most {max(others):.2f})"
        )


def _again(sizes: Sequence[str], stem: str) -> Iterator[str]:
    """In one command, however many made this page."""
    options = [word for size in sizes for word in ("--size", size)]
    yield from ("```sh", shlex.join(["python", "-m", "benchmarks", *options]), "```", "")
    yield f"Every run is in [{stem}.json]({stem}.json). How to read it: [benchmarks](../benchmarks/README.md)."


def _plain(each: goals.Verdict) -> dict:
    ratio = each.ratio and {"median": each.ratio.median, "low": each.ratio.low, "high": each.ratio.high}
    facts = {"goal": each.goal, "size": each.size, "verdict": each.verdict, "ratio": ratio}
    return {**facts, "measured": each.measured, "allowed": each.allowed, "note": each.note}
