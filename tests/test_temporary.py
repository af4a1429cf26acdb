"""Folders of temporary files: one's own, and none that a killed run left behind."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitport import temporary
from vitport.errors import OutputError

WAITS = "import sys; from vitport import temporary\nwith temporary.folder() as place: print(place, flush=True); input()"


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(temporary.tempfile, "tempdir", None)
    return tmp_path


class Other:
    """Another process, in its folder."""

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", WAITS], **pipes)
        self.folder = Path(self.process.stdout.readline().strip())
        (self.folder / "outputs.npz").write_bytes(b"half")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def end(self) -> None:
        self.process.communicate("\n")


def test_a_folder_is_gone_with_all_that_is_in_it(parent: Path) -> None:
    with temporary.folder() as place:
        assert place.parent == parent
        (place / "deep").mkdir()
        (place / "deep" / "file").write_bytes(b"x")
    assert list(parent.iterdir()) == []


def test_a_folder_is_gone_after_an_error(parent: Path) -> None:
    with pytest.raises(ValueError, match="broken"), temporary.folder():
        raise ValueError("broken")
    assert list(parent.iterdir()) == []


def test_a_killed_runs_folder_goes_and_a_living_ones_stays() -> None:
    killed, living = Other(), Other()
    killed.kill()
    assert killed.folder.exists()
    with temporary.folder() as place:
        assert not killed.folder.exists()
        assert (living.folder / "outputs.npz").read_bytes() == b"half"
        assert place.exists()
    living.end()
    assert not living.folder.exists()


def test_one_process_may_have_two(parent: Path) -> None:
    with temporary.folder() as outer, temporary.folder() as inner:
        assert sorted(parent.iterdir()) == sorted([outer, inner])


@pytest.mark.parametrize("make", ["file", "link", "other", "stranger"])
def test_what_is_not_ours_is_left_alone(make: str, parent: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").write_bytes(b"x")
    name = parent / (f"{temporary.PREFIX}1" if make != "other" else "another-1")
    if make == "file":
        name.write_bytes(b"x")
    elif make == "link":
        name.symlink_to(elsewhere)
    else:
        name.mkdir()
        (name / "work").write_bytes(b"x")
    with temporary.folder():
        pass
    assert name.exists()
    assert name.is_file() or any(name.iterdir())
    assert (elsewhere / "kept").exists()


def test_another_users_folder_is_left_alone(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = parent / f"{temporary.PREFIX}theirs"
    theirs.mkdir()
    (theirs / temporary.MARK).touch()
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    with temporary.folder():
        pass
    assert theirs.exists()


def test_a_sweep_between_the_folder_and_its_mark_leaves_it(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run that starts just then."""
    make, swept = temporary.tempfile.mkdtemp, []

    def sweeping(**options) -> str:
        place = make(**options)
        temporary._sweep(parent)
        swept.append(place)
        return place

    monkeypatch.setattr(temporary.tempfile, "mkdtemp", sweeping)
    with temporary.folder() as place:
        assert [str(place)] == swept
        assert (place / temporary.MARK).is_file()


def test_no_folder_can_be_made(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(temporary.tempfile, "mkdtemp", full)
    with pytest.raises(OutputError, match=r"can be made \(No space left on device\)"), temporary.folder():
        pass


def test_without_locks_a_folder_is_there_all_the_same(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_) -> None:
        raise OSError("no locks available")

    left = parent / f"{temporary.PREFIX}left"
    left.mkdir()
    (left / temporary.MARK).touch()
    monkeypatch.setattr(temporary.fcntl, "flock", refuse)
    with temporary.folder() as place:
        assert place.exists()
        assert left.exists()
    assert not place.exists()


SHORT = {
    "a full disk": OSError(errno.ENOSPC, "No space left on device"),
    "NumPy's count": OSError("49152 requested and 5088 written"),
    "a limit": OSError(errno.EFBIG, "File too large"),
}


@pytest.mark.parametrize("why", SHORT)
def test_no_room_in_it_is_said_with_what_helps(parent: Path, why: str) -> None:
    with pytest.raises(OutputError, match=r"has no room \(.*; let TMPDIR name another place"), temporary.folder():
        raise SHORT[why]
    assert not list(parent.iterdir())


def test_another_error_is_nobody_elses(parent: Path) -> None:
    elsewhere = OSError(errno.ENOSPC, "No space left on device", "/elsewhere/file")
    for error in (elsewhere, OSError(errno.EIO, "I/O error")):
        with pytest.raises(OSError, match=error.strerror) as raised, temporary.folder():
            raise error
        assert raised.value is error
