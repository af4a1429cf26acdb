"""Tables of the report, as lines of Markdown."""

from collections.abc import Iterator, Sequence

from benchmarks import goals
from benchmarks.contestants import BATCHES, CONVERSIONS, IMPORTS, SAME_FUNCTION, SIZES, startup
from benchmarks.goals import MEBIBYTE, Verdict
from benchmarks.ledger import Ledger
from benchmarks.summary import Summary, ratios, summarize

Lines = Iterator[str]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> Lines:
    """The first `words` columns are text, the others numbers."""
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * words}{'--:|' * (len(headings) - words)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def verdicts(found: Sequence[Verdict]) -> Lines:
    """Every goal."""
    headings = ("goal", "size", "verdict", "measured", "goal's limit", "ratio", "note")
    rows = [
        (each.goal, title(each.size), f"**{each.verdict}**", each.measured, each.allowed, number(each.ratio), each.note)
        for each in found
    ]
    yield from table(headings, rows, words=7)


def conversions(ledger: Ledger, size: str) -> Lines:
    """Seconds and memory of each way to make an artifact."""
    rows = []
    for each in (maker for maker in CONVERSIONS if SIZES[size].runs(maker) and not maker.once):
        walls = goals.seconds(ledger, "convert", size, each.key)
        cpu = summarize(row["cpu"] for row in ledger.timed("convert", size, each.key).values())
        floor = ratios(walls, goals.seconds(ledger, "convert", size, "copy"))
        error = ledger.error("convert", size, each.key)
        rows.append(
            (
                bold(each.label, each.ours),
                f"NOT RUN: {error}" if error else spread(summarize(walls.values()), "s"),
                f"{cpu.median:.1f}" if cpu else "",
                f"{floor.median:.1f}" if floor else "",
                *memory_of(ledger, size, each.key),
            )
        )
    headings = ("whole process", "seconds", "processor s", "× copy", "largest process, MiB", "all together, MiB")
    yield from table(headings, rows)


def memory_of(ledger: Ledger, size: str, key: str) -> tuple[str, str]:
    """MiB: of the largest process, and of all together."""
    memory = ledger.first("convert", size, key).get("memory")
    if not memory or not memory["processes"]:
        return "", ""
    largest = max(peak["resident"] for peak in memory["processes"].values())
    return f"{largest / MEBIBYTE:,.0f}", f"{max(memory['together']['resident'], 0) / MEBIBYTE:,.0f}"


def steps(ledger: Ledger, size: str) -> Lines:
    """When each part of a whole conversion began and ended."""
    runs = [row["steps"] for row in ledger.timed("convert", size, "vitport").values()]
    runs = runs or [ledger.first("convert", size, "vitport").get("steps", {})]
    rows = []
    for part in runs[-1]:
        spans = [each[part] for each in runs if part in each]
        begins, ends = (summarize(span[side] for span in spans).median for side in (0, 1))
        rows.append((part, f"{begins:.1f}", f"{ends:.1f}", f"{ends - begins:.1f}"))
    yield from table(("part", "from, s", "to, s", "seconds"), rows)


def processes(ledger: Ledger, size: str) -> Lines:
    """Peak memory of each of vitport's processes."""
    rows = [
        (
            each.name,
            *(f"{value / MEBIBYTE:,.0f}" for value in (each.resident, each.anonymous, each.floor, each.allowed)),
            f"{each.resident / each.allowed:.2f}",
        )
        for each in goals.processes(ledger, size)
    ]
    headings = ("process", "resident, MiB", "of it its own", "framework's import", "allowed", "ratio")
    yield from table(headings, rows)


def throughputs(ledger: Ledger, size: str) -> Lines:
    """Images a second of every artifact, and whether it is the checkpoint's function."""
    rows = []
    for artifact in (artifact for maker in CONVERSIONS for artifact in maker.artifacts):
        measured = [summarize(goals.rates(ledger, size, artifact.key, batch).values()) for batch in BATCHES]
        error = ledger.error("throughput", size, artifact.key) or ledger.error("check", size, artifact.key)
        cells = (
            [spread(each) for each in measured] if any(measured) else [f"NOT RUN: {error or 'not measured'}", "", ""]
        )
        rows.append(
            (artifact.format, bold(artifact.label, artifact.ours), *cells, *function(ledger, size, artifact.key))
        )
    rows.sort(key=lambda row: row[0])
    headings = ("format", "made by", *(f"batch {batch}" for batch in BATCHES), "max abs Δ", "RMS error ÷ spread", "")
    yield from table(headings, rows, words=2)


def function(ledger: Ledger, size: str, key: str) -> tuple[str, str, str]:
    """Largest and relative error to the oracle, and a word where it is another function."""
    checked = ledger.first("check", size, key).get("result")
    if not checked:
        return "", "", "not checked"
    another = "" if checked["relative"] <= SAME_FUNCTION else "**another function**"
    return f"{checked['max_abs']:.1e}", f"{checked['relative']:.1e}", another


def operators(ledger: Ledger, size: str) -> Lines:
    """What ONNX Runtime executes of each model, a column each."""
    checked = {
        artifact: ledger.first("check", size, artifact.key).get("result", {}).get("operators", {})
        for maker in CONVERSIONS
        for artifact in maker.artifacts
        if artifact.format == "onnx"
    }
    shown = {artifact: counts for artifact, counts in checked.items() if counts}
    names = sorted(
        {name for counts in shown.values() for name in counts}, key=lambda name: (not name[0].islower(), name)
    )
    rows = [(f"`{name}`", *(str(counts.get(name, "")) for counts in shown.values())) for name in names]
    yield from table(("operator", *(artifact.label for artifact in shown)), rows)


def starts(ledger: Ledger) -> Lines:
    """Milliseconds of commands that do little, and of imports."""
    rows = []
    for part, contestants in (("startup", startup()), ("imports", IMPORTS)):
        for each in contestants:
            walls = summarize(1000 * value for value in goals.seconds(ledger, part, "", each.key).values())
            peak = ledger.first(part, "", each.key).get("memory", {}).get("processes", {}).get("main", {})
            memory = f"{peak['resident'] / MEBIBYTE:,.0f}" if peak else ""
            error = ledger.error(part, "", each.key)
            rows.append((bold(each.label, each.ours), f"NOT RUN: {error}" if error else spread(walls), memory))
    yield from table(("whole process", "milliseconds", "peak MiB"), rows)


def spread(summary: Summary | None, unit: str = "") -> str:
    """Median (smallest to largest), three digits."""
    if summary is None:
        return "not measured"
    middle, low, high = (
        f"{value:.0f}" if value >= 99.5 else f"{value:.3g}" for value in (summary.median, summary.low, summary.high)
    )
    return f"{middle}{' ' + unit if unit else ''} ({low} to {high})"


def number(summary: Summary | None) -> str:
    """The median of a ratio."""
    return f"{summary.median:.2f}" if summary else ""


def bold(label: str, ours: bool) -> str:
    return f"**{label}**" if ours else label


def title(size: str) -> str:
    """`S_16` as people write it."""
    return size.replace("_", "/")
