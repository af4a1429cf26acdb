"""Real disks that are full or read-only, real limits of files and sizes: exit code 7, and nothing changed."""

import os
import re
import shutil
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
import server as web
from runs import DIGITS, ROOT, SMALL, assert_none_survives, convert, start, succeed, tree
from test_convert_faults import mounted

DIGITS_NPZ = ROOT / "checkpoints" / "digits.npz"


def assert_refused(done: subprocess.CompletedProcess, *sentences: str) -> None:
    """Exit code 7, and one sentence that says what is wrong."""
    assert (done.returncode, done.stdout) == (7, ""), done.stderr
    assert re.search("|".join(sentences), done.stderr.splitlines()[-1]), done.stderr
    assert_none_survives()


FULL = ("No space left on device", "is full")

SIZES = [24, 180, *(pytest.param(size, marks=pytest.mark.slow) for size in (4, 48, 96, 130, 200, 230, 260, 300))]
"""Kilobytes. The download takes 176, images and outputs 30, the artifact 170, a report 12; each meets one end."""


@pytest.mark.parametrize("size", SIZES)
def test_a_disk_for_everything_that_fills(tmp_path: Path, size: int) -> None:
    """Cache, output and report on one small disk, which held an earlier conversion."""
    with web.serving() as server, mounted(tmp_path / "disk", "size=1m") as disk:
        url = server.serve("/digits.npz", web.ranged(DIGITS_NPZ.read_bytes()))
        options = (DIGITS, "--out", disk / "out", *SMALL)
        succeed(*options)
        before = tree(disk / "out")
        used = sum(path.stat().st_blocks for path in disk.rglob("*")) // 2
        subprocess.run(["mount", "-o", f"remount,size={used + size}k", disk], check=True)
        done = convert(*options, "--asset", url, "--cache", disk / "cache", "--report", disk / "report.md")
        assert_refused(done, *FULL)
        assert {name: text for name, text in tree(disk / "out").items() if name != "artifacts.json"} == {
            name: text for name, text in before.items() if name != "artifacts.json"
        }
        assert [path.name for path in disk.rglob("*") if re.search(r"\.staging|\.tmp$|\.part$|report", path.name)] == []


def test_a_report_that_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    """The artifacts are published by then, and stay."""
    with mounted(tmp_path / "disk", "size=8k") as disk:
        (disk / "report.svg").write_text("earlier")
        done = convert(DIGITS, "--out", tmp_path / "out", "--report", disk / "report.md", *SMALL)
        assert_refused(done, *FULL)
        assert tree(disk) == {"report.svg": b"earlier"}
        assert (tmp_path / "out" / "artifacts.json").exists()


# Read-only


def test_a_read_only_cache(tmp_path: Path) -> None:
    """Cold it is an error that says what to do, warm it serves."""
    with web.serving() as server, mounted(tmp_path / "disk", "size=1m") as disk:
        url = server.serve("/digits.npz", web.ranged(DIGITS_NPZ.read_bytes()))
        options = (DIGITS, "--asset", url, "--out", tmp_path / "out", "--cache", disk, *SMALL)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert_refused(convert(*options), "the cache .* can't be written: Read-only file system; set VITPORT_CACHE")
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        succeed(*options)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        succeed(*options)
        assert len(server.requests) == 1


@contextmanager
def bound_by_permissions():
    """A process to which permission bits apply, as they do not to root; skipped where that can't be had."""
    if os.getuid() == 0:
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        if not shutil.which("setpriv") or subprocess.run([*command, "true"], capture_output=True).returncode:
            pytest.skip("root is bound by no permission, and setpriv can't change that here")
        yield command
    else:
        yield []


@pytest.mark.parametrize("where", ["new", "replacing"])
def test_a_folder_without_the_right_to_write(tmp_path: Path, where: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if where == "replacing":
        succeed(DIGITS, "--out", out, *SMALL)
    before = tree(out)
    out.chmod(0o500)
    try:
        with bound_by_permissions() as command:
            assert_refused(convert(DIGITS, "--out", out, *SMALL, before=command), f"{out}.*: Permission denied")
    finally:
        out.chmod(0o700)
    assert tree(out) == before
    assert sorted(path.name for path in out.iterdir()) == (["artifacts.json", "features"] if before else [])


# Limits

LIMITS = {
    "--nofile=8": ("Too many open files",),
    "--fsize=65536": ("File too large",),
    "--fsize=1000": ("requested and .* written, as when a disk is full",),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_limits_of_a_process(whole: Path, earlier: Path, limit: str) -> None:
    """A limit on file sizes acts as a quota does: a write fails in the middle."""
    done = convert(DIGITS, "--out", earlier, *SMALL, before=["prlimit", limit])
    assert_refused(done, *LIMITS[limit])
    assert tree(earlier) == tree(whole)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_modes_follow_the_umask(tmp_path: Path, umask: int) -> None:
    """Of every file and folder that a run makes: artifacts, list, report, cache."""
    before = os.umask(umask)
    try:
        with web.serving() as server:
            url = server.serve("/digits.npz", web.ranged(DIGITS_NPZ.read_bytes()))
            places = ("--out", tmp_path / "made" / "out", "--cache", tmp_path / "made" / "cache")
            formats = ("--variant", "features") if umask == 0o077 else SMALL
            process = start(DIGITS, "--asset", url, *places, "--report", tmp_path / "made" / "report.md", *formats)
            _, told = process.communicate(timeout=300)
    finally:
        os.umask(before)
    assert process.returncode == 0, told
    for path in [tmp_path / "made", *(tmp_path / "made").rglob("*")]:
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
