"""Child processes that die, hang, lie and spam: each becomes one sentence of the right kind, and none survives."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from vitport import images, job_arguments, jobs, manifest
from vitport.architectures import published
from vitport.errors import AssetError, BackendError, CheckpointError, EnvironmentFault, OutputError
from vitport.forks import forked, guarded, how_it_died
from vitport.jobs import Job

FAULTS = Path(__file__).parent / "data" / "faults"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def scratch(tmp_path) -> Path:
    folder = tmp_path / "out" / ".staging" / "scratch"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def plant(monkeypatch, tmp_path):
    """Plants a fault of `data/faults` in the job `broken`."""

    def planted(fault: str) -> None:
        monkeypatch.setenv("PYTHONPATH", f"{FAULTS}:{os.environ.get('PYTHONPATH', '')}")
        monkeypatch.setenv("VITPORT_FAULT", f"broken:{fault}")
        monkeypatch.setenv("VITPORT_WITNESS", str(tmp_path / "witness"))

    return planted


def run(scratch: Path, *names: str, timeout: float = 30.0, watch=lambda *told: None) -> dict:
    """Jobs that do as little as a job can: the yardstick of the smallest model."""
    port = manifest.read(ROOT / "manifests" / "digits.yaml")
    np.save(scratch / "images.npy", images.fixed(32))
    shared = {"asset": port.asset.urls[0], "architecture": asdict(port.architecture)}
    shared |= {
        "identity": job_arguments.identity(Path(port.asset.urls[0])),
        "images": str(scratch / "images.npy"),
        "any_value": [],
    }
    return jobs.run(
        [Job(name, "yardstick", {**shared, "outputs": str(scratch / f"{name}.npz")}) for name in names],
        scratch,
        watch,
        timeout,
    )


def gone(process: int, within: float = 5.0) -> bool:
    """Whether a process ends, or is a zombie nobody here can bury."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_results_by_name(scratch):
    results = run(scratch, "one", "two", "three")
    assert {name: Path(result["outputs"]).name for name, result in results.items()} == {
        "one": "one.npz",
        "two": "two.npz",
        "three": "three.npz",
    }


def test_progress_is_told_and_noise_is_not(scratch):
    told = []
    run(scratch, "one", watch=lambda *each: told.append(each))
    steps = [
        "running the definition in float64",
        *(f"running NumPy in float32, {draw} of 3" for draw in (1, 2, 3)),
        "done",
    ]
    assert told == [("one", step) for step in steps]


DEATHS = {
    "segfault": "broken: it was killed by SIGSEGV",
    "killed": "broken: it was killed by SIGKILL, as Linux does when memory runs out",
    "abort": "broken: it was killed by SIGABRT",
    "liar": "broken: it ended without a result",
    "garbage": "broken: it ended with exit code 3",
}


@pytest.mark.parametrize(("fault", "sentence"), DEATHS.items(), ids=DEATHS)
def test_a_child_that_dies(scratch, plant, fault, sentence):
    plant(fault)
    with pytest.raises(BackendError) as caught:
        run(scratch, "broken")
    assert str(caught.value).splitlines()[0] == sentence


def test_last_words_are_shown(scratch, plant):
    plant("garbage")
    with pytest.raises(BackendError, match=r"\n  \| .*last words"):
        run(scratch, "broken")


def test_a_child_that_hangs_is_stopped_and_so_is_its_own(scratch, plant, tmp_path):
    plant("grandchild")
    with pytest.raises(BackendError, match=r"^broken: it did not finish within 1 s and was stopped$"):
        run(scratch, "broken", timeout=1.0)
    assert gone(int((tmp_path / "witness").read_text()))


def test_a_child_that_leaves_its_own_behind(scratch, plant, tmp_path):
    plant("deserter")
    with pytest.raises(BackendError, match="exit code 9"):
        run(scratch, "broken")
    assert gone(int((tmp_path / "witness").read_text()))


def test_the_first_failure_stops_the_rest(scratch, plant, tmp_path):
    plant("grandchild")
    started = time.monotonic()
    waiting = [Job(f"waiting{index}", "oracle", {}) for index in range(9)]
    with pytest.raises(BackendError, match=r"failing: .*nosuch"):
        jobs.run([Job("broken", "oracle", {}), Job("failing", "nosuch", {}), *waiting], scratch, print, 60.0)
    assert time.monotonic() - started < 30
    assert not (scratch / "waiting8.job.json").exists()
    witness = tmp_path / "witness"
    assert not witness.exists() or gone(int(witness.read_text()))


def test_interruption_kills_the_children(scratch, plant, tmp_path):
    plant("grandchild")
    witness = tmp_path / "witness"

    def interrupt() -> None:
        for _ in range(400):
            if witness.exists():
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(scratch, "broken", timeout=60.0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert gone(int(witness.read_text()))


@pytest.mark.parametrize("error", [CheckpointError, EnvironmentFault, OutputError], ids=lambda error: error.__name__)
def test_an_error_keeps_its_kind(scratch, error):
    result, log = scratch / "r.json", scratch / "r.log"
    result.write_text(f'{{"error": "a sentence", "exit_code": {error.exit_code}}}')
    log.write_text("noise")
    with pytest.raises(error, match=r"^name: a sentence$"):
        jobs._result("name", result, error.exit_code, log)


@pytest.mark.parametrize("error", jobs.KINDS.values(), ids=jobs.KINDS)
def test_an_error_that_shares_its_exit_code_keeps_its_kind(scratch, error):
    def task():
        raise error("a sentence")

    result, log = scratch / "r.json", scratch / "r.log"
    log.write_text("noise")
    assert guarded(lambda: forked(task, scratch / "fork.json"), result) == error.exit_code
    with pytest.raises(error, match=r"^name: a sentence"):
        jobs._result("name", result, error.exit_code, log)


@pytest.mark.parametrize(
    "left",
    [
        "",
        "null",
        "[]",
        "{",
        "[" * 100_000,
        '{"error": "x", "exit_code": []}',
        '{"error": "x", "exit_code": null, "kind": []}',
    ],
    ids=lambda left: left[:40],
)
def test_a_result_that_is_none_is_a_backend_error(scratch, left):
    (scratch / "r.json").write_text(left)
    (scratch / "r.log").write_text("")
    with pytest.raises(BackendError):
        jobs._result("name", scratch / "r.json", 0, scratch / "r.log")


def test_a_result_before_a_crash_is_no_result(scratch):
    (scratch / "r.json").write_text('{"outputs": "x"}')
    (scratch / "r.log").write_text("")
    with pytest.raises(BackendError, match=r"^name: it was killed by SIGSEGV$"):
        jobs._result("name", scratch / "r.json", -signal.SIGSEGV, scratch / "r.log")


def test_a_full_disk_is_named_whatever_the_framework_said(scratch, monkeypatch):
    (scratch / "r.log").write_text("tensorflow: 1.data; No space left on device")
    with pytest.raises(OutputError, match=r"^name: it ended with exit code 5: the disk is full$"):
        jobs._result("name", scratch / "r.json", 5, scratch / "r.log")
    (scratch / "r.log").write_text("")
    monkeypatch.setattr(jobs.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(OutputError, match=r"^name: it was killed by SIGABRT: the disk is full$"):
        jobs._result("name", scratch / "r.json", -signal.SIGABRT, scratch / "r.log")


def test_a_worker_without_its_parent_ends_at_once(scratch):
    (scratch / "x.job.json").write_text('{"task": "nosuch", "result": "nowhere", "parent": 1}')
    done = subprocess.run([sys.executable, "-m", "vitport.worker", scratch / "x.job.json"], timeout=30, check=False)
    assert done.returncode == 1
    assert not (scratch / "nowhere").exists()


def test_how_it_died():
    assert how_it_died(3) == "it ended with exit code 3"
    assert how_it_died(-9) == "it was killed by SIGKILL, as Linux does when memory runs out"
    assert how_it_died(-11) == "it was killed by SIGSEGV"


def test_a_module_in_the_working_folder_is_not_imported(scratch, tmp_path, monkeypatch):
    (tmp_path / "jaxtyping.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendError, match="nosuch: KeyError"):
        jobs.run([Job("nosuch", "nosuch", {})], scratch, lambda part, doing: None, 60.0)


def test_a_checkpoint_that_changed_is_refused(scratch, tmp_path):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(b"one")
    job = {"asset": str(path), "identity": job_arguments.identity(path), "architecture": asdict(published("Ti_16"))}
    path.write_bytes(b"another")
    with pytest.raises(AssetError, match=f"{path} changed while it was being read"):
        jobs.run([Job("yardstick", "yardstick", job)], scratch, lambda part, doing: None, 60.0)
    path.unlink()
    with pytest.raises(AssetError, match=f"{path} can't be read any more: No such file"):
        job_arguments.identity(path)


def test_children_share_the_cores_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(16))
    assert set(jobs._threads().values()) == {"8"}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(1))
    assert set(jobs._threads().values()) == {"1"}


def test_the_proof_sees_no_gpu_that_was_not_asked_for(scratch, monkeypatch):
    """Whatever the user's environment asks for; `--device` does."""
    seen: dict[str, str] = {}
    real = subprocess.Popen

    def started(command, **options):
        seen.update(options["env"])
        return real(command, **options)

    monkeypatch.setattr(subprocess, "Popen", started)
    for name, value in {"CUDA_VISIBLE_DEVICES": "0", "JAX_PLATFORMS": "cuda", "NVIDIA_TF32_OVERRIDE": "1"}.items():
        monkeypatch.setenv(name, value)
    run(scratch, "yardstick")
    asked = {name: seen[name] for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "NVIDIA_TF32_OVERRIDE")}
    assert asked == {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "NVIDIA_TF32_OVERRIDE": "0"}


def test_whoever_is_to_be_alone_waits_for_the_other(scratch, monkeypatch):
    """Or two copies of a large checkpoint would be in memory at once."""
    started, alive = [], []
    real = jobs.subprocess.Popen

    def watched(command, **options):
        alive.append(sum(child.poll() is None for child in started))
        started.append(real(command, **options))
        return started[-1]

    monkeypatch.setattr(jobs.subprocess, "Popen", watched)
    alone = [Job(name, "health", {"package": "numpy"}, alone=True) for name in ("one", "other")]
    jobs.run(alone, scratch, lambda name, text: None, 60.0)
    assert alive == [0, 0]
    assert isinstance(jobs._Group().turn(Job("x", "health", {})), contextlib.nullcontext), "others go side by side"
