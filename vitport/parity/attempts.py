"""What becomes of a trial: a child's result, or the error for which there is none."""

from collections.abc import Iterable, Sequence

from vitport.backend_table import BACKENDS
from vitport.errors import AssetError, BackendError, CheckpointError, EnvironmentFault, VitportError
from vitport.parity.bench import Bench, Errand, Result
from vitport.parity.measuring import MEASURES
from vitport.parity.trials import Trial


def attempt(
    bench: Bench, trial: Trial, sizes: Sequence[int], measures: Iterable[str] = MEASURES, labels: Sequence[str] = ()
) -> Result | VitportError:
    """Runs a trial, or takes its outputs from an earlier run; the error where it can't be run.

    sizes: images at a time, then the other sizes that are tried. measures: of a thorough trial.
    labels: names of the classes, where the manifest has them.
    """
    if trial.impossible:
        return trial.impossible
    facts = {
        "backend": trial.backend,
        "variant": trial.variant,
        "precision": trial.precision,
        "port": trial.port,
        "measures": list(measures) if trial.thorough else [],
        "labels": list(labels),
        "batch": sizes[0],
        "batches": list(sizes[1:]),
        "subject": trial.sha256,
    }
    row = BACKENDS[trial.backend]
    errand = Errand(trial.id, "measure", facts, {"folder": str(trial.folder or "")}, trial.device)
    try:
        return bench.run(errand, gradients=row.gradients and "gradients" in facts["measures"] and not trial.port)
    except (BackendError, EnvironmentFault, AssetError, CheckpointError) as problem:
        return problem
