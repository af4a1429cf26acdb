"""Speed and memory of vitport beside its peers and its floors: `python -m benchmarks`, or `nox -s benchmarks`.

contestants.py   the table: who is measured, by which command, in which environment
models.py        random checkpoints, manifests and the peers' copies of the weights
environments.py  virtual environments of peers whose dependencies conflict, on top of the running one
plan.py          the order of runs: A B C A B C …
execute.py       the order, run: models, environments and artifacts are made when first needed
race.py          processes that have loaded what is compared, one at a time for some seconds
measure.py       one process from start to end: seconds, processor seconds, memory of every descendant
ledger.py        what was measured so far; a second start goes on where the first was interrupted
summary.py       medians, ratios, spread
goals.py         PASS, MISSED or NOT RUN for each goal
report.py        the page, its tables (tables.py), its picture (picture.py), and the machine (machine.py)
harness.py       another question, what `vitport verify` costs: a race of inside.py and bare.py, and whole runs

onnx_step.py  throughput.py  check.py (runners.py)     what runs in the measured processes
peers/                                                 one peer a file
"""
