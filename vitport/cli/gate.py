"""`vitport gate`."""

import sys
from pathlib import Path

import click

from vitport.cli.group import command
from vitport.cli.options import FILE, FOLDER, POLICY, json_flag


@command()
@click.argument("report", type=FILE)
@POLICY
@click.option("--report", "folder", type=FOLDER, help="Write new pages there.")
@json_flag("judgement")
def gate(report: Path, policy: Path | None, folder: Path | None, as_json: bool) -> None:
    """Judge an old report by another policy.

    The numbers in report.json are held to the limits of the policy, without --policy to the default ones. Nothing is
    run, no framework is imported, and rules of the manifest that the report was made with do not count unless the
    policy has them.

    Exit codes are those of `vitport verify`: 0 PASS, 1 a gate failed, 5 or 6 something required did not run.

    \b
    Examples:
      vitport gate reports/s16/report.json
      vitport gate reports/s16/report.json --policy strict.yaml
      vitport gate old.json --policy strict.yaml --report reports/strict --json
    """
    from vitport import console
    from vitport import gate as story
    from vitport.rendering import github

    found = story.gate(report, policy, folder)
    console.json_document(found.to_json()) if as_json else console.judged(found, folder)
    github.announce(found.report)
    sys.exit(found.report.judgement.exit_code)
