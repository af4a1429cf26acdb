"""What can be run on this project: `nox --list`. Without arguments, what continuous integration runs.

Every session installs what it needs; nothing has to be on the machine but Python 3.11 or newer.
"""

import os
import tomllib
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.reuse_existing_virtualenvs = True

CLIENTS_MUST_RUN = {"VITPORT_REQUIRE_CLIENTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
"""In a session every client is installed, so a test that would skip for want of one fails instead."""

ELSEWHERE = Path("tests/environments")
ENVIRONMENTS = tomllib.loads((ELSEWHERE / "environments.toml").read_text(encoding="utf-8"))
"""Clients that can't be installed together, or not beside vitport: name → what to install and which tests to run."""

READERS = sorted(path.name for path in Path("tests/data/corpus").iterdir())
"""What is fuzzed; each has a folder of kept inputs."""


def install(session: nox.Session) -> None:
    """vitport with every framework, and the clients, in the versions of `constraints.txt`."""
    groups = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "test")
    session.install("--constraint", "constraints.txt", "--editable", ".[all]", *groups)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and imports."""
    session.install("ruff==0.17.5")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def tests(session: nox.Session) -> None:
    """Everything but the big architectures."""
    install(session)
    session.run("pytest", "-m", "not slow", "-n", str(os.cpu_count() or 1), *session.posargs, env=CLIENTS_MUST_RUN)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Every reader for a minute, guided by coverage, then a hundred times the usual random inputs; see docs/fuzzing.md.

    `nox -s fuzz -- npz yaml` takes these readers only. New inputs stay in build/fuzz, findings too.
    """
    install(session)
    session.install("atheris")
    for name in session.posargs or READERS:
        folder = Path("build", "fuzz", name)
        folder.mkdir(parents=True, exist_ok=True)
        limits = ("-max_total_time=60", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={folder}-")
        session.run("python", "-m", "fuzz.guided", name, str(folder), *limits, env={"PYTHONPATH": "tests"})
    session.run("pytest", "tests/fuzz", "-n", str(os.cpu_count() or 1), env={"HYPOTHESIS_PROFILE": "long"})


@nox.session
def slow(session: nox.Session) -> None:
    """The big architectures: every published one that fits, in every format, at full size. An hour on two cores."""
    install(session)
    session.run("pytest", "-m", "slow", *session.posargs, env=CLIENTS_MUST_RUN)


@nox.session
@nox.parametrize("environment", list(ENVIRONMENTS), ids=list(ENVIRONMENTS))
def clients(session: nox.Session, environment: str) -> None:
    """Every client in an environment of its own; writes reports/clients.json and the table in README."""
    row = ENVIRONMENTS[environment]
    session.install("pytest", "pytest-timeout", "numpy", *row["install"])
    if "first" in row:
        session.run(*row["first"], external=True)
    tests = [str(ELSEWHERE / name) for name in row["tests"]]
    session.run("pytest", "--environment", environment, *tests, *session.posargs, env=CLIENTS_MUST_RUN)
    if not session.posargs:
        session.run("python", str(ELSEWHERE / "table.py"), environment)


@nox.session
def parity(session: nox.Session) -> None:
    """The parity gate as a user's CI would run it; see docs/ci.md. Arguments go to `vitport verify`."""
    install(session)
    session.run("vitport", "convert", "digits", "--out", "build/digits")
    where = ("--artifacts", "build/digits", "--report", "build/parity")
    session.run("vitport", "verify", "digits", *where, *session.posargs)


@nox.session
def selftest(session: nox.Session) -> None:
    """Plants every known fault in every backend, and requires each to be caught: two to three minutes on two cores."""
    install(session)
    session.run("vitport", "selftest", *session.posargs)


@nox.session
def reports(session: nox.Session) -> None:
    """Makes the committed reports anew: of conversions, of verifications, and of ports as others published them."""
    install(session)
    for name in ("digits", "digits_hybrid", "s16", "r26_s32_light"):
        checkpoint = f"build/{name}.npz"
        asset = () if name.startswith("digits") else ("--asset", checkpoint)
        if asset:
            session.run("vitport", "synthesize", name, "-o", checkpoint, "--seed", "0", "--force")
        session.run("vitport", "convert", name, *asset, "--report", f"reports/{name}.md")
        session.run("vitport", "verify", name, *asset)
    session.run("python", "scripts/stock_ports.py", "build/digits", "build/stock")
    ports = [f"--port=stock-{name}=build/stock/{name}" for name in ("timm", "transformers")]
    where = ("--backends", "flax,timm,transformers", "--variant", "classifier", "--report", "reports/stock")
    session.run("vitport", "verify", "digits", *where, *ports, success_codes=[1])


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Speed and memory beside peers: writes reports/benchmarks.md. Two hours on two quiet cores; resumes."""
    install(session)
    session.run("python", "-m", "benchmarks", *session.posargs)
