"""Every bit of a small npz flipped, every byte doubled, every shorter length: `python -m fuzz.bits SCRATCH ORIGINAL`.

Prints, as JSON, the places whose change `npz.verify` accepted. A program of its own, for under pytest every call is
type-checked, and there are 30,000 of them.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from vitport import npz
from vitport.errors import AssetError


def flipped(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Place and file, for each bit."""
    for index in range(8 * len(data)):
        changed = bytearray(data)
        changed[index // 8] ^= 1 << index % 8
        yield index // 8, bytes(changed)


def doubled(data: bytes) -> Iterator[tuple[int, bytes]]:
    return ((at, data[: at + 1] + data[at:]) for at in range(len(data)))


def shortened(data: bytes) -> Iterator[tuple[int, bytes]]:
    return ((at, data[:at]) for at in range(len(data)))


def accepted(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        npz.verify(path)
    except AssetError:
        return False
    return True


if __name__ == "__main__":
    scratch, original = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
    assert accepted(scratch, original)
    changes = {"flipped": flipped, "doubled": doubled, "shortened": shortened}
    found = {
        name: [place for place, data in change(original) if accepted(scratch, data)] for name, change in changes.items()
    }
    print(json.dumps(found))
