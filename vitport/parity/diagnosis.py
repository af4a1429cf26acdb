"""Why a run failed: `bisect` for the first failures of a report, so that the report itself says where and why."""

from collections.abc import Sequence
from dataclasses import replace

from vitport import bisect
from vitport.errors import VitportError
from vitport.jobs import Watch
from vitport.parity.gate_rules import PORT_PREFIX
from vitport.parity.judged_ports import Port
from vitport.parity.report_schema import Report
from vitport.parity.run_schema import Growth, Run

MOST = 3
"""Failed runs whose cause is looked for: a minute each, and failures have few causes."""

OF_SETTINGS = {"labels", "preprocessing"}
"""Gates on what a folder says; of what it computes they know nothing, and their own reason is the cause."""


def diagnosed(report: Report, asked: bisect.Request, ports: Sequence[Port], watch: Watch) -> Report:
    """The report with the growth of the error and the likely cause of the first runs that failed.

    asked: where everything is, without a suspect.
    """
    failed = [run for run in report.runs if _computes_otherwise(run, report) and _has_taps(run)]
    found = {run.id: _diagnosis(run, asked, ports, watch) for run in failed[:MOST]}
    return report.model_copy(update={"runs": [run.model_copy(update=found.get(run.id, {})) for run in report.runs]})


def _computes_otherwise(run: Run, report: Report) -> bool:
    gates = {gate.gate for gate in report.judgement.gates if (gate.run, gate.verdict) == (run.id, "FAIL")}
    return not gates <= OF_SETTINGS


def _has_taps(run: Run) -> bool:
    """Taps are float32 on the CPU, and the reference itself has none to compare with."""
    return (run.precision, run.device) == ("float32", "cpu") and run.backend != bisect.ORACLE


def _diagnosis(run: Run, asked: bisect.Request, ports: Sequence[Port], watch: Watch) -> dict:
    """Fields of `Run`; a sentence where the search itself fails."""
    port = next(
        (port for port in ports if (f"{PORT_PREFIX}{port.name}", port.variant) == (run.backend, run.variant)), None
    )
    suspect = {"backend": "" if port else run.backend, "port": port, "variant": run.variant}
    try:
        found = bisect.bisect(replace(asked, **suspect), watch)
    except VitportError as problem:
        return {"diagnosis": f"looking for the cause failed: {str(problem).splitlines()[0]}"}
    growth = [Growth(tap=step.tap, relative=step.error, rounding=step.rounding) for step in found.steps]
    where = f"leaves the oracle at {found.first}; " if found.first else ""
    return {"growth": growth, "diagnosis": f"{where}{found.cause}"}
