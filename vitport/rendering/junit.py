"""`junit.xml`, which every CI server shows: a suite a run, a case a gate, and one suite for the verdict of the whole.

It has a failure or an error exactly where the verdict is no PASS.
"""

from collections.abc import Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from vitport.parity.report_schema import Gate, Report
from vitport.parity.run_schema import Run, Verdict
from vitport.rendering import summary

OUTCOMES = ("failure", "error", "skipped")
"""Of a case that did not pass."""


def render(report: Report) -> str:
    """The document. report: cleaned, as XML has no way to write a control character."""
    root = Element("testsuites", name=f"vitport verify {report.name}")
    root.append(_suite("verdict", [_verdict(report)], report))
    others = dict.fromkeys(gate.run for gate in report.judgement.gates if gate.run not in _ids(report))
    for name in others:
        cases = [_case(gate, True) for gate in report.judgement.gates if gate.run == name]
        root.append(_suite(name, cases, report))
    for run in report.runs:
        root.append(_run(run, report))
    _count(root, root.iter("testcase"))
    ElementTree.indent(root)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ElementTree.tostring(root, encoding='unicode')}\n"


def _ids(report: Report) -> set[str]:
    return {run.id for run in report.runs}


def _run(run: Run, report: Report) -> Element:
    """Gates that were not judged are no error where the run has passed without them."""
    verdict = summary.verdict(report, run)
    needed = run.required and verdict != "PASS"
    cases = [_case(gate, needed) for gate in summary.verdicts_of(run, report.judgement.gates)]
    suite = _suite(run.id, cases or [_unjudged(run, verdict, needed)], report)
    if run.log:
        SubElement(suite, "system-err").text = "\n".join(run.log)
    if run.speed:
        suite.set("time", f"{run.speed.wall:.3f}")
    return suite


def _unjudged(run: Run, verdict: Verdict, needed: bool) -> Element:
    """The one case of a run without gates: something must say that nothing was judged."""
    gate = Gate(run=run.id, gate="ran", verdict=verdict, measured=None, limit=None, reason=run.reason or "no gate")
    return _case(gate, needed)


def _verdict(report: Report) -> Element:
    reason = summary.headline(report)
    verdict = report.judgement.verdict
    return _case(Gate(run="verdict", gate="verdict", verdict=verdict, measured=None, limit=None, reason=reason), True)


def _case(gate: Gate, needed: bool) -> Element:
    """needed: whether a gate that was not judged is an error."""
    case = Element("testcase", classname=gate.run, name=gate.gate)
    if gate.verdict == "FAIL":
        SubElement(case, "failure", type=gate.gate, message=summary.brief(gate.reason)).text = _detail(gate)
    elif gate.verdict == "NOT RUN" and needed:
        SubElement(case, "error", type="NOT RUN", message=summary.brief(gate.reason)).text = _detail(gate)
    elif gate.verdict == "NOT RUN":
        SubElement(case, "skipped", message=summary.brief(gate.reason))
    return case


def _detail(gate: Gate) -> str:
    if gate.limit is None:
        return gate.reason
    because = f"; {gate.because}" if gate.because else ""
    return f"{gate.reason}: measured {summary.number(gate.measured)}, limit {summary.number(gate.limit)}{because}"


def _suite(name: str, cases: Iterable[Element], report: Report) -> Element:
    suite = Element("testsuite", name=name, timestamp=report.created)
    suite.extend(cases)
    _count(suite, suite.iter("testcase"))
    return suite


def _count(element: Element, cases: Iterable[Element]) -> None:
    """The totals that readers of JUnit want as attributes."""
    found = [{child.tag for child in case} for case in cases]
    element.set("tests", str(len(found)))
    for attribute, outcome in zip(("failures", "errors", "skipped"), OUTCOMES, strict=True):
        element.set(attribute, str(sum(outcome in each for each in found)))
