"""`vitport gate`: judges an old report by another policy. A pure function of two files; nothing is run."""

from dataclasses import dataclass
from pathlib import Path

from vitport import rendering
from vitport.errors import OutputError
from vitport.parity import policy, report_file
from vitport.parity.judging import judged
from vitport.parity.report_schema import Judgement, Report
from vitport.parity.run_schema import Verdict


@dataclass(frozen=True, slots=True)
class Judged:
    """A report with its new judgement, and the one that it came with."""

    report: Report
    before: Judgement

    @property
    def changed(self) -> dict[str, tuple[Verdict | None, Verdict]]:
        """Runs whose verdict is another now: (then, now)."""
        then, now = self.before.runs, self.report.judgement.runs
        return {run: (then.get(run), now[run]) for run in now if then.get(run) != now[run]}

    def to_json(self) -> dict:
        """For scripts: the judgement, and what it was."""
        judgement = self.report.judgement.model_dump(mode="json")
        return {**judgement, "before": {"verdict": self.before.verdict, "policy_sha256": self.before.policy_sha256}}


def gate(path: Path, policy_path: Path | None = None, folder: Path | None = None) -> Judged:
    """Judges the report in `path` by the policy in `policy_path`, or the default one; writes the pages to `folder`.

    Raises AssetError for what is no report, ManifestError for what is no policy, OutputError for an impossible folder.
    """
    report = report_file.read(path)
    found = judged(report, policy.read(policy_path))
    if folder:
        with rendering.prepared(folder, lambda: _busy(folder)):
            rendering.write(found, folder)
    return Judged(found, report.judgement)


def _busy(folder: Path) -> None:
    raise OutputError(f"another vitport is making a report in {folder}; wait for it, or choose another folder")
