"""The benchmark's own logic: what it calls a pass, what it refuses to compare, and that an interrupted one goes on."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import runs as runs_of_vitport

from benchmarks import execute, goals, harness, measure, plan, race, report, tables
from benchmarks.contestants import CONVERSIONS, SAME_FUNCTION, SIZES, Artifact
from benchmarks.ledger import Ledger
from benchmarks.plan import Run, runs
from benchmarks.summary import ratios, summarize, total
from vitport import images, manifest

ROOT = Path(__file__).parents[1]
MIB = 2**20


def test_what_can_not_be_prepared_is_said_and_does_not_end_the_benchmark(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(execute, "sys", type("Broken", (), {"executable": "/bin/false"}))
    place = execute.Workplace(tmp_path, "fingerprint", lambda text: None)
    run = Run("startup", "", "check", 0, "vitport check", "check", ("true", "{digits}"))
    place.run_all([run])
    assert place.ledger.error("startup", "", "check") == "-m vitport convert failed: exit code 1"


# Medians and ratios.


def test_a_ratio_is_taken_within_each_round() -> None:
    """Both are three times as slow in the second round; the ratio does not notice."""
    found = ratios({1: 1.0, 2: 3.0, 3: 1.0}, {1: 2.0, 2: 6.0, 3: 2.0})
    assert (found.median, found.low, found.high, found.count) == (0.5, 0.5, 0.5, 3)


def test_rounds_that_one_lacks_do_not_count() -> None:
    assert ratios({1: 1.0, 2: 9.0}, {1: 2.0, 3: 1.0}).count == 1
    assert ratios({1: 1.0}, {2: 1.0}) is None
    assert total({1: 1.0, 2: 2.0}, {2: 3.0}) == {2: 5.0}


def test_nothing_measured_is_no_summary() -> None:
    assert summarize([]) is None
    assert tables.spread(None) == "not measured"


# Verdicts.


def put(ledger: Ledger, part: str, size: str, key: str, **rounds_: list) -> None:
    """Rows of one contestant: `wall=[...]` by round from 1 on, or `first={...}` for round 0."""
    for name, values in rounds_.items():
        rows = [(0, values)] if name == "first" else [(n + 1, {name: value}) for n, value in enumerate(values)]
        for number, measured in rows:
            ledger.add(Run(part, size, key, number, key, key, ()), measured)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "runs.jsonl")


@pytest.mark.parametrize(("seconds", "verdict"), [([14.0, 15.0, 14.5], "PASS"), ([17.0, 18.0, 17.5], "MISSED")])
def test_the_pair_is_the_fastest_peer_of_each_format(ledger: Ledger, seconds: list, verdict: str) -> None:
    put(ledger, "convert", "S_16", "vitport", wall=seconds)
    put(ledger, "convert", "S_16", "jax2tf", wall=[6.0, 6.5, 6.2])
    put(ledger, "convert", "S_16", "dynamo-timm", wall=[9.0, 10.0, 9.5])
    put(ledger, "convert", "S_16", "dynamo-transformers", wall=[12.0, 12.0, 12.0])
    put(ledger, "convert", "S_16", "legacy-timm", wall=[3.0, 3.0, 3.0])
    found = goals.pair(ledger, "S_16")
    assert (found.verdict, found.allowed) == (verdict, "15.7 s (jax2tf + dynamo-timm)")


def test_a_peer_that_failed_leaves_the_goal_not_run_with_its_reason(ledger: Ledger) -> None:
    put(ledger, "convert", "S_16", "vitport", wall=[1.0])
    put(ledger, "convert", "S_16", "jax2tf", error=["exit code 1: no jax"])
    found = goals.pair(ledger, "S_16")
    assert found.verdict == "NOT RUN"
    assert "jax2tf: exit code 1: no jax" in found.note


def test_nothing_measured_passes_nothing(ledger: Ledger) -> None:
    found = goals.judge(ledger, list(SIZES))
    assert {each.verdict for each in found} == {"NOT RUN"}
    assert all(each.note for each in found)


def test_only_sizes_that_are_raced_have_the_goal_of_the_pair(ledger: Ledger) -> None:
    having = {each.size for each in goals.judge(ledger, ["S_16", "B_16", "L_16", "H_14"]) if each.goal == goals.PAIR}
    assert having == {"S_16", "B_16"}


def test_rounds_that_disagree_are_called_noise(ledger: Ledger) -> None:
    put(ledger, "convert", "L_16", "vitport-onnx-step", wall=[2.0, 4.0, 2.5])
    put(ledger, "convert", "L_16", "copy", wall=[1.0, 1.0, 1.0])
    found = goals.copy(ledger, "L_16")
    assert found.verdict == "PASS"
    assert "within noise: 0.67 to 1.33" in found.note


def memory(**mebibytes: int) -> dict:
    """Round 0 of a process tree."""
    peaks = {name: {"resident": size * MIB, "anonymous": size * MIB} for name, size in mebibytes.items()}
    return {"wall": 1.0, "memory": {"processes": peaks, "together": {"resident": 9 * 10**9, "anonymous": 0}}}


@pytest.mark.parametrize(("peak", "verdict"), [(799, "PASS"), (1100, "MISSED")])
def test_memory_is_held_to_the_import_of_the_process_own_framework(ledger: Ledger, peak: int, verdict: str) -> None:
    """S/16 is 84 MiB: 600 + 2.5 × 84 for TensorFlow, and no more than that because torch is smaller."""
    put(ledger, "imports", "", "import-tensorflow", first=memory(main=600))
    put(ledger, "imports", "", "import-torch", first=memory(main=200))
    put(ledger, "convert", "S_16", "vitport", first=memory(saved_model=peak, torchscript=300))
    (found,) = goals.memory(ledger, "S_16")
    assert (found.verdict, "saved_model" in found.measured) == (verdict, True)


def test_the_largest_models_are_held_to_eight_gigabytes(ledger: Ledger) -> None:
    put(ledger, "convert", "H_14", "vitport", first=memory(main=1))
    *_, found = goals.memory(ledger, "H_14")
    assert (found.verdict, found.measured) == ("MISSED", "9.00 GB")


def raced(ledger: Ledger, peer: str, relative: float, ours: float, theirs: float) -> dict[str, str]:
    """Verdicts of ONNX at batch 8 by goal, for a peer with this error."""
    for key, rate, error in (("vitport-onnx", ours, 1e-7), (peer, theirs, relative)):
        result = {"1": rate, "8": rate, "32": rate}
        put(ledger, "check", "S_16", key, first={"wall": 1.0, "result": {"relative": error, "max_abs": error}})
        put(ledger, "throughput", "S_16", key, result=[result, result, result])
    found = [each for each in goals.throughput(ledger, "S_16") if each.goal.startswith("onnx, batch 8")]
    return {each.goal.partition(": ")[2]: each.verdict for each in found}


def test_a_faster_peer_is_a_goal_missed(ledger: Ledger) -> None:
    assert raced(ledger, "dynamo-timm", 1e-7, 30.0, 31.0)["at least as fast as the best peer"] == "MISSED"


def test_a_faster_wrong_function_is_no_peer(ledger: Ledger) -> None:
    """But optimum as it comes is named by a goal of its own."""
    found = raced(ledger, "optimum-erf", 100 * SAME_FUNCTION, 30.0, 31.0)
    assert found["at least as fast as the best peer"] == "NOT RUN"
    assert found["faster than optimum's as it comes"] == "MISSED"


# The plan.


def test_contestants_take_turns() -> None:
    order = [(run.round, run.key) for run in runs(["convert"], [SIZES["S_16"]]) if run.key in ("vitport", "jax2tf")]
    assert order == [(n, key) for n in range(SIZES["S_16"].rounds + 1) for key in ("vitport", "jax2tf")]


def test_throughput_makes_and_checks_what_it_runs() -> None:
    planned = runs(["throughput"], [SIZES["S_16"]], only=["trace-timm"], rounds=1)
    assert [(run.part, run.round) for run in planned] == [("convert", 0), ("check", 0), ("throughput", 1)]


def test_the_largest_models_run_only_where_a_goal_names_them() -> None:
    assert {run.key for run in runs(["convert"], [SIZES["H_14"]])} == {"vitport", "vitport-onnx-step"}
    assert {run.key for run in runs(["convert"], [SIZES["L_16"]]) if run.round} == {"vitport-onnx-step", "copy"}


def test_keys_are_unique() -> None:
    keys = [each.key for each in CONVERSIONS]
    artifacts = [artifact.key for each in CONVERSIONS for artifact in each.artifacts]
    assert len(set(keys)) == len(keys)
    assert len(set(artifacts)) == len(artifacts)


def test_every_peer_of_the_goal_is_measured() -> None:
    assert {*goals.ONNX_PEERS, *goals.SAVED_MODEL_PEERS} <= {each.key for each in CONVERSIONS if not each.once}


# The ledger.


def test_a_line_that_was_cut_is_measured_again(tmp_path: Path) -> None:
    path, run = tmp_path / "runs.jsonl", Run("convert", "S_16", "copy", 1, "copy", "copy", ())
    Ledger(path).add(run, {"wall": 1.0})
    path.write_text(path.read_text() + path.read_text()[:20])
    again = Ledger(path)
    assert (again.has(run), len(again.everything())) == (True, 1)
    again.add(Run("convert", "S_16", "copy", 2, "copy", "copy", ()), {"wall": 2.0})
    assert len(Ledger(path).timed("convert", "S_16", "copy")) == 2


def test_what_failed_is_not_tried_in_every_round_but_when_asked(ledger: Ledger) -> None:
    put(ledger, "convert", "S_16", "optimum", first={"error": "no network"})
    later = Run("convert", "S_16", "optimum", 3, "", "optimum", ())
    assert ledger.has(later)
    ledger.forget_failures()
    assert not ledger.has(later)


# A process and its memory.

CHILD = "import os, time\nkept = bytearray({size} * 2**20)\nkept[::4096] = b'x' * len(kept[::4096])\ntime.sleep(0.4)"


def test_memory_of_descendants_is_seen_and_named(tmp_path: Path) -> None:
    """A process of 60 MiB starts one of 120 that looks like a worker of vitport."""
    job = tmp_path / "torchscript.job.json"
    child = CHILD.format(size=120)
    words = [sys.executable, "-c", child, "vitport.worker", str(job)]
    program = f"import subprocess\n{CHILD.format(size=60)}\nsubprocess.run({words!r})"
    measured = measure.run([sys.executable, "-c", program], tmp_path / "log", 60, sampled=True)
    peaks = {name: peak["anonymous"] / MIB for name, peak in measured["memory"]["processes"].items()}
    assert 60 < peaks["main"] < 100
    assert 120 < peaks["torchscript"] < 160
    assert measured["memory"]["together"]["anonymous"] / MIB > 180


def test_roles_are_read_from_command_lines() -> None:
    assert measure.role("python\0-P\0-m\0vitport.worker\0/a/b/saved_model.job.json\0") == "saved_model"
    assert measure.role("python\0-m\0vitport\0convert\0") == "main"


def test_a_contestant_that_fails_says_why(tmp_path: Path) -> None:
    measured = measure.run([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path / "log", 60)
    assert measured["error"] == "exit code 1: no such thing"


def test_a_contestant_that_hangs_is_stopped(tmp_path: Path) -> None:
    measured = measure.run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", 0.5)
    assert measured["error"] == "stopped after 0.5 s"
    assert measured["wall"] < 20


def test_a_process_that_is_not_itself_yet_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fork it has the parent's memory, after the exec a name of its own."""
    sampler, names = measure.Sampler(os.getpid()), iter(["vitport.worker\0/a/torchscript.job.json", "lscpu", "b", "b"])
    monkeypatch.setattr(measure.Path, "read_text", lambda self: next(names))
    monkeypatch.setattr(measure, "_kilobytes", lambda path: {"VmHWM": 7, "RssAnon": 5})
    sampler._look(1)
    assert sampler._peaks == {}
    sampler._look(1)
    assert sampler._peaks == {1: ("main", measure.Peak(7, 5))}


def test_the_result_is_the_last_line() -> None:
    assert measure._result('noise\n{"1": 2.5}\n') == {"1": 2.5}
    assert measure._result("noise") == {}


def test_steps_are_read_from_progress() -> None:
    log = "    0.1 s  checkpoint                checking every leaf\n    2.5 s  onnx                      done\n"
    log += "noise\n    1.0 s  onnx                      importing onnx and onnxruntime\n"
    assert measure.steps(log) == {"checkpoint": [0.1, 0.1], "onnx": [2.5, 1.0]}


# Races.

WAITER = """import json, sys
print("a framework's word")
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    if line == sys.argv[2]: sys.exit("it gave up")
    print(json.dumps({"rate": float(sys.argv[1]) * int(line)}), flush=True)
"""


def waiter(program: Path, rate: float, dies_at: int = 0) -> tuple[str, ...]:
    program.write_text(WAITER)
    return (sys.executable, str(program), str(rate), f"{dies_at}\n")


def racing(key: str, format_: str, command: tuple[str, ...], number: int) -> Run:
    artifact = Artifact(key=key, label=key, format=format_, path="")
    return Run("throughput", "", key, number, key, key, command, artifact=artifact, limit=30)


def test_a_race_takes_turns_and_who_dies_is_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute.Workplace, "_artifact", lambda *_: "")
    asked: list[tuple[str, int]] = []
    rate = race.Racer.rate

    def watched(self: race.Racer, batch: int) -> float:
        asked.append((self._log.stem.removeprefix("log-"), batch))
        return rate(self, batch)

    monkeypatch.setattr(race.Racer, "rate", watched)
    monkeypatch.setattr(race.measure, "busy_seconds", lambda: 0.0)
    program = tmp_path / "waiter.py"
    commands = {"a": waiter(program, 1), "b": waiter(program, 2, dies_at=8), "c": ("/bin/false",)}
    planned = [racing(key, "onnx", commands[key], number) for number in (1, 2) for key in commands]
    told: list[str] = []
    place = execute.Workplace(tmp_path, "fingerprint", told.append)
    place.run_all(planned)
    assert {n: row["result"] for n, row in place.ledger.timed("throughput", "", "a").items()} == {
        n: {"1": 1.0, "8": 8.0, "32": 32.0} for n in (1, 2)
    }
    assert place.ledger.error("throughput", "", "b") == "exit code 1: it gave up"
    assert place.ledger.error("throughput", "", "c") == "exit code 1: no message"
    assert asked == [("a", 1), ("b", 1), ("a", 8), ("b", 8), ("a", 32), ("a", 1), ("a", 8), ("a", 32)]
    assert len(told) == 4
    place.run_all(planned)
    assert len(told) == 4, "a second start measures nothing again"
    others = [row["others"] for row in place.ledger.everything() if "others" in row]
    assert others == [0.0] * 3, "what the dead one used was not used by others"


def test_a_racer_that_hangs_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(race.Lost, match=r"stopped after 0\.5 s"):
        race.Racer([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", 0.5)


def test_a_backend_inside_the_harness_takes_turns(tmp_path: Path) -> None:
    port, checkpoint = manifest.read(ROOT / "manifests" / "digits.yaml"), ROOT / "checkpoints" / "digits.npz"
    pixels = tmp_path / "images.npy"
    np.save(pixels, images.seeded(port.architecture.resolution, 5))
    job = harness.job(port, "torch", tmp_path, checkpoint, pixels)
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", "benchmarks.inside", str(tmp_path / "job.json")]
    racer = race.Racer(command, tmp_path / "log", 60)
    try:
        assert [racer.rate(batch) > 0 for batch in (2, 5)] == [True, True]
    finally:
        racer.end()


@pytest.mark.slow
def test_a_backend_inside_and_bare_take_turns(tmp_path: Path) -> None:
    port, checkpoint = manifest.read(ROOT / "manifests" / "digits.yaml"), ROOT / "checkpoints" / "digits.npz"
    runs_of_vitport.succeed(runs_of_vitport.DIGITS, "--out", tmp_path / "out", "--variant", "classifier")
    pixels = tmp_path / "images.npy"
    np.save(pixels, images.seeded(port.architecture.resolution, 5))
    for backend in harness.RACED:
        found = harness.race(harness.job(port, backend, tmp_path, checkpoint, pixels), tmp_path, 2)
        assert (len(found.inside), len(found.bare)) == (2, 2)
        assert min(*found.inside, *found.bare) > 0


def test_one_that_dies_inside_the_harness_is_named(tmp_path: Path) -> None:
    port = manifest.read(ROOT / "manifests" / "digits.yaml")
    work = harness.job(port, "onnx", tmp_path, ROOT / "checkpoints" / "digits.npz", tmp_path / "absent.npy")
    with pytest.raises(race.Lost, match=r"exit code 1: FileNotFoundError.*absent\.npy"):
        harness.race(work, tmp_path, 1)


PEERS = sorted(path.stem for path in (ROOT / "benchmarks" / "peers").glob("[!_]*.py"))


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_finds_what_it_imports(peer: str) -> None:
    import_module(f"benchmarks.peers.{peer}")


def test_what_the_harness_costs_is_the_median_of_neighbouring_turns() -> None:
    rates = {"onnx": harness.Rates([9.0, 4.4, 9.5], [10.0, 5.0, 10.0], 0.1), "timm": harness.Rates([8.9], [10.0], 0.0)}
    whole = {"wall": 23.1, "speeds": {"onnx": {"wall": 12.0, "rate": 7.0}, "timm": {"wall": 8.0, "rate": 6.0}}}
    page = harness.page("b16", 32, rates, [whole], {"wall": 2.5})
    assert "| onnx | 9.00 | 10.00 | 0.90 (0.88 to 0.95) | PASS | 7.00 |" in page
    assert "| timm | 8.90 | 10.00 | 0.89 (0.89 to 0.89) | MISSED | 6.00 |" in page
    assert "takes 23 s, 1.16 times the sum" in page
    assert "goal 1.15: MISSED; one run" in page
    assert "at most 0.10 of a core" in page


def test_two_formats_do_not_race() -> None:
    planned = [racing(key, format_, (), n) for format_ in ("onnx", "torchscript") for n in (1, 2) for key in "ab"]
    planned = [Run("check", "", "a", 0, "a", "a", ()), *planned]
    assert [len(group) for group in plan.groups(planned)] == [1, 4, 4]


# The whole thing, on a tiny model.

CHEAP = ("--only", "vitport-onnx-step", "--only", "copy", "--only", "pass", "--only", "import-numpy")


def benchmark(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    where = ("--folder", str(folder / "work"), "--report", str(folder / "benchmarks.md"))
    command = [sys.executable, "-m", "benchmarks", "--size", "tiny", "--rounds", "1", *where, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=True)


def test_a_tiny_benchmark_from_measuring_to_the_page(tmp_path: Path) -> None:
    parts = ("--part", "convert", "--part", "startup", "--part", "imports")
    told = benchmark(tmp_path, *parts, *CHEAP).stderr
    assert told.count("tiny convert round") == 4
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| **vitport: ONNX, the export step alone** |" in page
    assert "NOT RUN" in page
    assert "PASS" not in page.partition("## Making the artifacts")[0]
    ElementTree.parse(tmp_path / "benchmarks.svg")
    rows = json.loads((tmp_path / "benchmarks.json").read_text())["runs"]
    assert {row["round"] for row in rows} == {0, 1}
    assert all(row["wall"] > 0 for row in rows)
    assert "round" not in benchmark(tmp_path, *parts, *CHEAP).stderr, "a second start measures nothing again"


@pytest.mark.slow
def test_every_contestant_runs_on_a_tiny_model(tmp_path: Path) -> None:
    """Each peer's artifact is the checkpoint's function, but for optimum as it comes."""
    benchmark(tmp_path, "--part", "throughput", "--rounds", "1")
    rows = json.loads((tmp_path / "benchmarks.json").read_text())["runs"]
    assert [row for row in rows if "error" in row] == []
    wrong = {row["key"] for row in rows if row["part"] == "check" and row["result"]["relative"] > SAME_FUNCTION}
    assert wrong == {"optimum-erf"}


def test_the_page_is_drawn_with_everything_measured(ledger: Ledger, tmp_path: Path) -> None:
    for each in CONVERSIONS:
        put(ledger, "convert", "S_16", each.key, first=memory(main=1) | {"steps": {}}, wall=[])
        for number in (1, 2):
            row = {"wall": number, "cpu": 1.0, "others": 0.1, "steps": {"onnx": [0.0, 1.0]}}
            ledger.add(Run("convert", "S_16", each.key, number, "", each.key, ()), row)
    raced(ledger, "dynamo-timm", 1e-7, 30.0, 29.0)
    put(ledger, "convert", "L_16", "vitport", first=memory(main=1) | {"steps": {"onnx": [0.0, 1.0]}})
    report.write(ledger, list(SIZES), tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    widths = {line.count("|") for line in page.splitlines() if line.startswith("| **vitport: ")}
    assert widths == {7}
    assert page.count("**PASS**") >= 3
    labels = [element.text for element in ElementTree.parse(tmp_path / "page.svg").iter() if element.text]
    assert any("÷ dynamo-timm" in label for label in labels)


def test_parts_are_known() -> None:
    assert {run.part for run in runs(plan.PARTS, list(SIZES.values()))} == set(plan.PARTS)
