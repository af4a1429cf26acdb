"""Real conversions and downloads, killed at random moments: whole and listed, and the next run succeeds."""

import json
import os
from pathlib import Path

import pytest
import server as web

from faults.machine import Machine, checkpoints

EVERY = ("--variant", "features")
"""All five formats."""

ROUNDS = [
    pytest.param(2, 6, (), id="a few"),
    pytest.param(50, 5, (), id="many", marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
    pytest.param(4, 5, EVERY, id="all formats", marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
]


@pytest.mark.parametrize(("rounds", "kills", "options"), ROUNDS)
def test_conversions(tmp_path: Path, rounds: int, kills: int, options: tuple) -> None:
    """After so many kills in a row, one run that is left alone; and that again."""
    with web.serving() as server:
        seed = int(os.environ.get("VITPORT_SEED", "0"))
        chosen = {"options": options} if options else {}
        machine = Machine(tmp_path, checkpoints(tmp_path, server, seconds=0.5), seed=seed, **chosen)
        for _ in range(rounds):
            for _ in range(kills):
                machine.strike()
            machine.complete(machine.rng.choice(machine.checkpoints))
        print(json.dumps({"kills": machine.counts, "complete runs between": rounds}))
    assert sum(machine.counts.values()) == rounds * kills
