"""The documents say what is so: links lead somewhere, commands, options, exit codes and floors are the real ones."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_layers
import yaml
from click import Command

from vitport import cli
from vitport.architectures.ops import Ops
from vitport.errors import EXIT_CODES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def documents() -> list[str]:
    """Every tracked Markdown file."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.split()


def dead_links(text: str, folder: Path) -> list[str]:
    """Relative links and pictures that lead to no file."""
    targets = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text))
    paths = [target.partition("#")[0] for target in targets if not re.match(r"https?://|#", target)]
    return [path for path in paths if not (folder / path).exists()]


@pytest.mark.parametrize("name", documents())
def test_links_lead_somewhere(name: str) -> None:
    assert dead_links((ROOT / name).read_text(encoding="utf-8"), (ROOT / name).parent) == []


def test_a_dead_link_is_seen() -> None:
    text = "[a](LICENSE) [b](no.md#x) ![c](https://no/x.svg) [d](#e) `x`\n```\n[f](g.md)\n```\n"
    assert dead_links(text, ROOT) == ["no.md"]


@pytest.mark.parametrize("name", documents())
def test_nothing_is_left_to_fill_in(name: str) -> None:
    assert "@@" not in (ROOT / name).read_text(encoding="utf-8")


def test_continuous_integration_runs_the_test_command_of_readme() -> None:
    command = README.partition("Run the tests:\n\n```bash\n")[2].partition("\n")[0]
    assert "nox" in command
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_exit_codes_of_readme() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", README, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


def options(command: Command) -> Iterator[str]:
    for parameter in command.params:
        yield from parameter.opts
    for child in getattr(command, "commands", {}).values():
        yield from options(child)


@pytest.mark.parametrize("name", ["README.md", "docs/artifacts.md", "docs/ci.md", "docs/manifest.md", "docs/report.md"])
def test_options_that_are_named_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    asked = set(re.findall(r"(?<![\w\]-])--[a-z][a-z0-9-]*", text))
    assert not (name == "README.md" and len(asked) < 5), "the pattern finds them"
    assert asked <= set(options(cli.main))


def commands(text: str) -> Iterator[list[str]]:
    """The words of each line that runs vitport."""
    yield from (line.split() for line in re.findall(r"^\s*(?:run: |script: )?(vitport .*)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", [".github/workflows/parity.yml", "docs/ci.md", "docs/report.md"])
def test_commands_that_are_shown_exist(name: str) -> None:
    shown = list(commands((ROOT / name).read_text(encoding="utf-8")))
    assert len(shown) >= 2
    for _, command, *words in shown:
        asked = {word for word in words if word.startswith("--")}
        assert asked <= set(options(cli.main.commands[command])), command


def test_the_workflow_is_the_session_of_nox() -> None:
    """Both are said to be the gate as a user's CI runs it."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "parity.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "").split() for step in workflow["jobs"]["parity"]["steps"]]
    session = (ROOT / "noxfile.py").read_text(encoding="utf-8").partition("def parity(")[2].partition("\n@nox")[0]
    for step in steps:
        if step[:2] in (["vitport", "convert"], ["vitport", "verify"]):
            assert [word for word in step if f'"{word}"' not in session] == []


def drawn() -> list[tuple[int, str]]:
    """Lines of the drawing of the house with their floor; a line without a number belongs to the one above it."""
    drawing = ARCHITECTURE.partition("## Floors and rooms")[2].partition("```\n")[2].partition("```")[0]
    found, floor = [], -1
    for line in drawing.splitlines():
        floor = int(line[0]) if line[0].isdigit() else floor
        found.append((floor, line))
    return found


@pytest.mark.parametrize("module", [name for name in test_layers.MODULES if "__" not in name and name != "vitport"])
def test_every_module_is_drawn_on_its_floor(module: str) -> None:
    word = re.compile(rf"\b{module.rpartition('.')[2]}\b")
    assert test_layers.floor(module) in {floor for floor, line in drawn() if word.search(line)}


def test_the_number_of_operations() -> None:
    names = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen")
    count = sum(not name.startswith("_") for name in vars(Ops))
    assert f"over {names[count - 10]} operations" in ARCHITECTURE


def missing_tests(text: str) -> list[str]:
    """Of the tests that a document names, those that are in no file."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert named
    paths = {file: ROOT / "tests" / file for file, _ in named}
    sources = {file: path.read_text(encoding="utf-8") if path.exists() else "" for file, path in paths.items()}
    return [f"{file}::{name}" for file, name in named if f"def {name}(" not in sources[file]]


def test_the_table_of_faults_names_tests_that_exist() -> None:
    assert missing_tests((ROOT / "docs" / "faults.md").read_text(encoding="utf-8")) == []
    assert missing_tests("`test_docs.py::no` `test_docs.py::missing_tests` `no.py::test_x`") == [
        "test_docs.py::no",
        "no.py::test_x",
    ]


def test_every_fault_has_an_outcome_and_a_test() -> None:
    rows = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").split("|---|---|---|\n")[1].split("\n\n")[0]
    for row in rows.splitlines():
        fault, outcome, tests = row[2:-2].split(" | ")
        assert fault
        assert outcome
        assert "::test_" in tests
