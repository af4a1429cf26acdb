"""Eight processes at once: one download, all succeed, the same bytes."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import server as web
from runs import DIGITS, ROOT, SMALL, assert_none_survives, start, tree

from faults.machine import slowly
from faults.reader import assert_no_debris, assert_nothing_left, assert_whole_and_listed

COUNT = 8

FETCH = """
import sys
from pathlib import Path
from vitport import assets
print(assets.fetch([sys.argv[1]], cache=Path(sys.argv[2])).sha256)
"""


def test_eight_downloads_of_one_file(tmp_path: Path) -> None:
    body = (ROOT / "checkpoints" / "digits.npz").read_bytes()
    with web.serving() as server:
        url = server.serve("/digits.npz", slowly(body, 2.0, '"1"'))
        command = [sys.executable, "-c", FETCH, url, tmp_path / "cache"]
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(COUNT)]
        found = {child.communicate(timeout=120)[0] for child in children}
        assert [child.returncode for child in children] == [0] * COUNT
        assert len(found) == 1
        assert len(server.requests) == 1
    assert_no_debris(tmp_path / "cache", url)


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False], ids=["one output", "eight outputs"])
def test_eight_conversions_of_one_manifest(tmp_path: Path, same: bool) -> None:
    body = (ROOT / "checkpoints" / "digits.npz").read_bytes()
    outs = [tmp_path / f"out{0 if same else number}" for number in range(COUNT)]
    with web.serving() as server:
        url = server.serve("/digits.npz", slowly(body, 2.0, '"1"'))
        options = ("--asset", url, "--cache", tmp_path / "cache", *SMALL)
        runs = [start(DIGITS, "--out", out, *options) for out in outs]
        told = [run.communicate(timeout=600)[1] for run in runs]
        assert Counter(run.returncode for run in runs) == {0: COUNT}, told
        assert len(server.requests) == 1
    for out in outs:
        assert_whole_and_listed(out)
        assert_nothing_left(out)
        assert tree(out) == tree(outs[0])
    assert_none_survives()
