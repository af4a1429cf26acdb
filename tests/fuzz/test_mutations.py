"""A valid file with a few bytes changed, cut, doubled or moved is read or refused, and nothing else ever happens."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.targets import MEMORY, TARGETS

TEETH = [
    b"",
    b"\0",
    b"\xff",
    b"\n",
    b"'",
    b"{",
    b"[",
    b"-1",
    b"1e999",
    b"0x" + b"f" * 5000,
    b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80",
]
"""What readers choke on."""


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One of the seeds, changed at up to four places."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.sampled_from([0, 1, 1, 2, 4, 8, 40, 10_000])))
        new = draw(st.sampled_from([*TEETH, data[start:stop] * 2]) | st.binary(max_size=4))
        data = data[:start] + new + data[stop:]
    return data


def run(name: str, data: bytes) -> bool:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        return TARGETS[name](data, Path(folder))


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_read(name: str) -> None:
    """Else mutations of them would show nothing."""
    for seed in TARGETS[name].seeds():
        if name not in ("address", "result"):
            assert run(name, seed), seed


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_a_changed_file_is_read_or_refused(name: str, data: st.DataObject) -> None:
    run(name, data.draw(mutated(TARGETS[name].seeds())))


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    run(name, data)


def test_another_exception_is_a_finding() -> None:
    class Planted(Exception):
        pass

    def reader(data: bytes, folder: Path) -> None:
        raise Planted

    target = TARGETS["npz"]
    with pytest.raises(Planted):
        type(target)(reader, target.error, target.seeds)(b"", Path())
