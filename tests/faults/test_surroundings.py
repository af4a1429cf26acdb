"""Clock, time zone, locale, hash seed, working folder, umask and user are no part of the result."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from runs import DIGITS, FAULTS, ROOT, succeed, tree

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static const time_t BEHIND = 400L * 86400;
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec -= BEHIND;
    return result;
}
time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
"""
"""A clock that is 400 days behind, for everything that asks the C library."""

ANOTHER_USER = ("unshare", "--user", "--map-user=1234", "--map-group=1234")


def slow_clock(folder: Path) -> dict[str, str]:
    """The environment that puts the clock back; empty where there is no compiler."""
    if not shutil.which("cc"):
        return {}
    (folder / "clock.c").write_text(CLOCK)
    library = folder / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, folder / "clock.c", "-ldl"], check=True)
    year = subprocess.run(["date", "+%s"], env={"LD_PRELOAD": str(library)}, capture_output=True, text=True, check=True)
    assert int(year.stdout) < (folder / "clock.c").stat().st_mtime - 399 * 86400
    return {"LD_PRELOAD": str(library)}


def another_user() -> list[str]:
    """A command that runs another as somebody else; empty where that is not allowed."""
    possible = shutil.which("unshare") and not subprocess.run([*ANOTHER_USER, "true"], capture_output=True).returncode
    return list(ANOTHER_USER) if possible else []


@pytest.mark.timeout(600)
def test_another_run_makes_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    """All ten artifacts and the list; made on another day, elsewhere, by somebody else."""
    other = {"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "HOME": str(tmp_path), "USER": "somebody"}
    other |= {"PYTHONPATH": os.pathsep.join([str(FAULTS), str(ROOT)]), **slow_clock(tmp_path)}
    elsewhere = ["env", f"--chdir={tmp_path}", *another_user()]
    umask = os.umask(0o077)
    try:
        succeed(DIGITS, "--out", tmp_path / "again", "--cache", tmp_path / "cache", before=elsewhere, **other)
    finally:
        os.umask(umask)
    first, second = tree(whole), tree(tmp_path / "again")
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []
