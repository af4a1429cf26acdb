"""Where a verification ran: processor, memory, GPU and the versions of everything that took part."""

import platform
from collections.abc import Iterable

from vitport import __version__, hardware
from vitport.parity.bench import Result
from vitport.parity.report_schema import Machine


def machine(results: Iterable[object]) -> Machine:
    """Of this process, and what its children said."""
    facts = [result.facts for result in results if isinstance(result, Result)]
    versions = {"vitport": __version__, "python": platform.python_version()}
    for each in facts:
        versions |= each.get("versions", {})
    reported = [each["facts"].get("reported", "") for each in facts if "facts" in each]
    gpus = [words for words in reported if words.lower().startswith(("cuda", "gpu"))]
    return Machine(
        platform=platform.platform(),
        processor=hardware.processor(),
        cores=hardware.cores(),
        memory=hardware.memory(),
        gpu=gpus[0].partition(": ")[2] if gpus else None,
        versions=dict(sorted(versions.items())),
    )
