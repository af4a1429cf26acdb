"""Conversions to be killed: two checkpoints behind a slow server, one cache, one output folder, and what must hold."""

import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import server as web
from runs import DIGITS, MARK, ROOT, SMALL, assert_none_survives, start, tree

from faults.reader import assert_no_debris, assert_nothing_left, assert_whole_and_listed
from vitport import npz


def slowly(body: bytes, seconds: float, etag: str) -> web.Answer:
    """A good server of ranges that takes its time."""

    class Trickle:
        def __init__(self, file) -> None:
            self.file = file

        def write(self, data: bytes) -> None:
            piece = max(len(body) // 20, 1)
            for at in range(0, len(data), piece):
                self.file.write(data[at : at + piece])
                time.sleep(seconds / 20)

        def __getattr__(self, name: str):
            return getattr(self.file, name)

    def answer(handler: web.Handler) -> None:
        handler.wfile = Trickle(handler.wfile)
        web.ranged(body, etag)(handler)

    return answer


def checkpoints(folder: Path, server: web.Server, seconds: float) -> list[str]:
    """Addresses of two checkpoints of one architecture, which differ in two leaves."""
    arrays, path, urls = npz.read(ROOT / "checkpoints" / "digits.npz"), folder / "made.npz", []
    for name in ("one", "two"):
        npz.write(path, arrays.items())
        urls.append(server.serve(f"/{name}.npz", slowly(path.read_bytes(), seconds, f'"{name}"')))
        for leaf in ("head/bias", "Transformer/encoder_norm/bias"):
            arrays[leaf] = arrays[leaf] + np.float32(1)
    path.unlink()
    return urls


def marked() -> list[int]:
    """The processes of every run that lives."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@dataclass
class Machine:
    """Runs conversions, kills them, and looks at what they leave."""

    folder: Path
    checkpoints: list[str]
    options: tuple = SMALL
    seed: int = 0
    seconds: float = 4.0
    whole: dict[str, dict[str, bytes]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def start(self, checkpoint: str) -> subprocess.Popen:
        report = self.folder / "report.md"
        return start(
            DIGITS, "--asset", checkpoint, "--out", self.out, "--cache", self.cache, "--report", report, *self.options
        )

    def complete(self, checkpoint: str) -> None:
        """A run that nothing disturbs succeeds, makes the same bytes every time, and leaves nothing beside them."""
        began = time.monotonic()
        process = self.start(checkpoint)
        _, told = process.communicate(timeout=300)
        self.seconds = time.monotonic() - began
        assert process.returncode == 0, told
        assert_whole_and_listed(self.out)
        assert_nothing_left(self.out)
        assert_no_debris(self.cache, checkpoint)
        assert {path.name for path in self.folder.iterdir()} == {"out", "cache", "report.md", "report.svg"}
        found = {name: content for name, content in tree(self.out).items() if name != "artifacts.json"}
        assert found == self.whole.setdefault(checkpoint, found)

    def strike(self) -> None:
        """Kills one run at a random moment, in one of five ways."""
        checkpoint = self.rng.choice(self.checkpoints)
        if self.rng.random() < 0.5:
            shutil.rmtree(self.cache, ignore_errors=True)
        staged = (self.out / ".staging").exists()
        process = self.start(checkpoint)
        how = self.rng.choice(["parent", "everything", "SIGINT", "SIGTERM", "publishing"])
        if how == "publishing":
            any("publishing to" in line for line in process.stderr)
            time.sleep(self.rng.uniform(0, 0.02))
        else:
            time.sleep(self.rng.uniform(0, self.seconds))
        hit = process.poll() is None
        for pid in marked() if how == "everything" else [process.pid] if hit else []:
            self.kill(pid, getattr(signal, how, signal.SIGKILL))
        _, told = process.communicate(timeout=60)
        self.check(how, process.returncode, told)
        assert staged or how not in ("SIGINT", "SIGTERM") or not (self.out / ".staging").exists(), told
        self.counts[how if hit else "too late"] = self.counts.get(how if hit else "too late", 0) + 1

    def kill(self, pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return

    def check(self, how: str, code: int, told: str) -> None:
        """Right after the kill."""
        assert_none_survives()
        if self.out.exists():
            assert_whole_and_listed(self.out)
        if how in ("SIGINT", "SIGTERM"):
            assert code in (0, 130, -signal.SIGINT, -signal.SIGTERM), told
        else:
            assert code in (0, -signal.SIGKILL), told
        for path in self.cache.glob("*.npz"):
            npz.verify(path)
