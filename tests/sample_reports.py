"""Reports as `verify` would write them, made without running anything: one of each kind that a page must show.

Numbers are drawn from distributions like measured ones, always the same; a verdict is what its gates say.
"""

import math
from collections.abc import Callable, Iterable
from itertools import combinations

import numpy as np

from vitport import backend_table
from vitport.parity import comparison
from vitport.parity.report_schema import Report, parse

COUNT = 64
SPREAD = 2.0
YARDSTICK = 4e-7
BACKENDS = ("flax", "saved_model", "torchscript", "torch", "onnx", "timm", "transformers")
GRADIENTS = [name for name, row in backend_table.BACKENDS.items() if row.gradients]
TAPS = ("embedding", *(f"encoderblock_{index}" for index in range(12)), "encoder_norm", "head")
IDS = [f"seeded-{index:04}" for index in range(COUNT)]
REFERENCE = {"float32": YARDSTICK, "tf32": 2e-4, "bfloat16": 4e-3, "float16": 5e-4}
"""RMS error, relative, of the reference at each precision."""

HOSTILE = (
    "<script>alert(1)</script>|`*_a_* [x](javascript:y) ]]> --> %0A::error::x\r\n\n::error::# "
    "\x1b[31m\x00\u202e\"'&amp;\\|$1 ##[error]y"
)
"""What would be markup, a command, a row or a colour in one of the renderings."""


def passing() -> Report:
    """Seven backends, two variants, float32 on the CPU; everything within its limit."""
    return report(
        run(name, variant, scale=0.8 + 0.2 * index)
        for variant in ("classifier", "features")
        for index, name in enumerate(BACKENDS)
    )


def failing() -> Report:
    """A GPU run in which stock timm is the wrong function and flips classes, and one backend went missing."""
    runs = [
        run(name, "classifier", precision, device, scale=0.7 + 0.15 * index)
        for index, name in enumerate(BACKENDS)
        for device, precision in (("cpu", "float32"), ("cuda", "float32"), ("cuda", "tf32"))
    ]
    wrong = [run("timm", "classifier", "float32", device, scale=620.0, wrong=True) for device in ("cpu", "cuda")]
    others = {each["id"]: each for each in [*runs, *wrong]}
    fell_back = not_run("onnx", "classifier", "tf32", "cuda", cause="device", reason="asked for cuda, ran on the CPU")
    return report({**others, fell_back["id"]: fell_back}.values(), gpu="NVIDIA H200")


def missing() -> Report:
    """Nothing failed, but something that is required did not run, and something that is not neither."""
    died = not_run("torch", "classifier", cause="memory", reason="ran out of memory (7.9 GB); pass --batch 8")
    absent = not_run(
        "onnx-reference", "classifier", cause="environment", reason="onnx is missing: pip install onnx", required=False
    )
    return report([run("flax", "classifier"), run("onnx", "classifier"), died, absent])


def nulls() -> Report:
    """Every number that can be null is: a backend whose outputs are all NaN, beside a reference that is none."""
    nothing, flax = run("onnx", "classifier"), run("flax", "classifier")
    nothing.update(_nulled(nothing), nonfinite=640)
    flax.update(relative=_nulled(flax["relative"]))
    spread = {"spread": None, "definition": None, "yardstick": None, "tf32": None, "jax": {"float32/cpu": None}}
    return report([nothing, flax], references={"classifier": spread})


def hostile() -> Report:
    """Every free text is an attack on some rendering."""
    document = failing().model_dump(by_alias=True)
    return parse(_poisoned(document), "hostile")


def strange() -> Report:
    """The same but for the words that a run is known by, on which its other fields depend."""
    document = failing().model_dump(by_alias=True)
    return parse(_poisoned(document, closed=CLOSED | KNOWN), "strange")


def empty() -> Report:
    """Nothing was asked for."""
    return report([])


def report(runs: Iterable[dict], gpu: str | None = None, **changes: object) -> Report:
    """A report of these runs, judged by their own numbers."""
    runs = list(runs)
    references = {variant: reference() for variant in dict.fromkeys(each["variant"] for each in runs)}
    references = {
        variant: {**spread, "jax": of_flax(runs, variant) or spread["jax"]}
        for variant, spread in changes.pop("references", references).items()
    }
    beside = list(pairs(runs))
    runs = [compared(each, references, beside) for each in runs]
    gates = [gate for each in runs for gate in gates_of(each)]
    verdicts = {each["id"]: _worst(gate["verdict"] for gate in gates_of(each)) for each in runs}
    verdict = "PASS" if runs else "NOT RUN"
    if any(each["required"] and verdicts[each["id"]] == "NOT RUN" for each in runs):
        verdict = "NOT RUN"
    if "FAIL" in verdicts.values():
        verdict = "FAIL"
    document = {
        "schema": 1,
        "name": "digits",
        "title": "Tiny ViT/4, handwritten digits at 32",
        "created": "2026-11-21T16:40:00Z",
        "architecture": {"patch": 4, "width": 32, "depth": 12, "heads": 4},
        "identity": identity(runs),
        "machine": {
            "platform": "Linux x86_64",
            "processor": "AMD EPYC 9B14",
            "cores": 2,
            "memory": 24 * 2**30,
            "gpu": gpu,
            "versions": {"vitport": "0.1.0", "python": "3.11.7", "jax": "0.10.2", "torch": "2.13.0", "numpy": "2.4.6"},
        },
        "references": references,
        "runs": runs,
        "pairs": beside,
        "judgement": {
            "verdict": verdict,
            "exit_code": {"PASS": 0, "FAIL": 1, "NOT RUN": 5}[verdict],
            "policy": {"schema": 1, "name": "default", "required": [], "rules": []},
            "policy_sha256": "d" * 64,
            "gates": gates,
            "runs": verdicts,
        },
    }
    return parse({**document, **changes}, "sample")


def identity(runs: list[dict]) -> dict:
    ran = {(each["backend"], each["variant"]) for each in runs}
    subjects = [
        {"name": name, "variant": variant, "path": f"build/digits/{variant}/{name}", "sha256": f"{index:x}" * 64}
        for index, (name, variant) in enumerate(sorted(ran))
    ]
    return {
        "manifest": {"path": "manifests/digits.yaml", "sha256": "a" * 64, "bytes": 1711},
        "asset": {"path": "https://example.org/digits.npz", "sha256": "b" * 64, "bytes": 177406},
        "artifacts": {"path": "build/digits/artifacts.json", "sha256": "c" * 64, "bytes": 15000},
        "subjects": [{**each, "sha256": each["sha256"][:64]} for each in subjects],
        "images": {"source": "seeded", "count": COUNT, "sha256": "e" * 64, "ids": IDS, "labels": None},
        "command": "vitport verify manifests/digits.yaml --artifacts build/digits --batches 1,7,64",
        "seeds": {"images": 0, "draws": 1},
    }


def reference() -> dict:
    jax = {f"{precision}/{device}": rms for precision, rms in REFERENCE.items() for device in ("cpu", "cuda")}
    return {"spread": SPREAD, "definition": 3e-15, "yardstick": YARDSTICK, "tf32": REFERENCE["tf32"], "jax": jax}


def of_flax(runs: list[dict], variant: str) -> dict:
    """The error of the Flax reference itself, where it ran."""
    ran = [each for each in runs if each["backend"] == "flax" and each["variant"] == variant and "relative" in each]
    return {f"{each['precision']}/{each['device']}": each["relative"]["rms"] for each in ran}


def compared(run: dict, references: dict, beside: list[dict]) -> dict:
    """A run beside what it is compared with: its reference, and itself on the CPU."""
    rms, spread = (run.get("relative") or {}).get("rms"), references.get(run["variant"])
    if not spread or "relative" not in run:
        return run
    place = f"{run['precision']}/{run['device']}"
    numpy = {"float32": spread["yardstick"], "tf32": spread.get("tf32")}
    limit = numpy.get(run["precision"]) or spread["jax"].get(place)
    twin = {run["id"], f"{run['id'].rpartition('/')[0]}/cpu"}
    cpu = next((pair["max"] for pair in beside if {pair["a"], pair["b"]} == twin), None)
    noise = run["noise"] and {**run["noise"], "cpu": cpu}
    return {**run, "ratio": rms / limit if rms is not None and limit else None, "noise": noise}


def run(
    backend: str,
    variant: str,
    precision: str = "float32",
    device: str = "cpu",
    *,
    scale: float = 1.0,
    wrong: bool = False,
) -> dict:
    """One that ran, with `scale` times the reference's error. wrong: another function, not only another rounding."""
    seed = np.random.default_rng([ord(letter) for letter in f"{backend}{variant}{precision}{device}"])
    rms = REFERENCE[precision] * scale
    differences = np.abs(seed.normal(0, rms * SPREAD, (COUNT, 10))) * (seed.uniform(0.3, 1.8, (COUNT, 1)))
    differences *= rms * SPREAD / np.sqrt(np.mean(differences**2))
    margins = seed.lognormal(0.4, 1.3, COUNT)
    margins[:2] = 2e-4, 5e-4
    deltas = differences.max(axis=1)
    flips = [index for index in range(COUNT) if margins[index] < 0.9 * deltas[index]]
    features = variant == "features"
    return {
        "id": f"{backend}/{variant}/{precision}/{device}",
        "backend": backend,
        "variant": variant,
        "precision": precision,
        "device": device,
        "required": True,
        "status": "RAN",
        "facts": {"device": device, "precision": precision, "threads": "2", "provider": f"{device.upper()} provider"},
        "fed": "e" * 64,
        "outputs": "f" * 64,
        "speed": {"wall": 4.1, "load": 1.2, "infer": 0.31, "rate": COUNT / 0.31, "memory": 512 * 10**6},
        "nonfinite": 0,
        "error": distribution(differences),
        "relative": distribution(differences / SPREAD),
        "kl": None if features else 1e-12 * scale,
        "top1": None if features else agreement(COUNT - len(flips)),
        "top5": None if features else agreement(COUNT),
        "flips": [] if features else [flip(index, margins, deltas) for index in flips],
        "points": [] if features else [point(index, margins, deltas) for index in range(COUNT)],
        "worst": [] if features else [worst(index, differences, margins, seed) for index in np.argsort(-deltas)[:3]],
        "histogram": histogram(differences / SPREAD),
        "weights": {"leaves": 72, "different": [], "count": 0},
        "semantic": {"relative": 2.3e-4 if wrong else 4e-14, "how": "the artifact itself in float64"},
        "noise": {
            "repeat": {"batch": 16, "images": COUNT, "max": 0.0, "bit_equal": True},
            "batches": [{"batch": batch, "images": COUNT, "max": 2e-7 * batch, "bit_equal": False} for batch in (1, 7)],
        },
        "gradients": gradients(scale) if precision == "float32" and backend in GRADIENTS else None,
        "growth": growth(rms, wrong),
    }


def not_run(
    backend: str,
    variant: str,
    precision: str = "float32",
    device: str = "cpu",
    *,
    cause: str,
    reason: str,
    required: bool = True,
) -> dict:
    """One of which there are no numbers."""
    return {
        "id": f"{backend}/{variant}/{precision}/{device}",
        "backend": backend,
        "variant": variant,
        "precision": precision,
        "device": device,
        "required": required,
        "status": "NOT RUN",
        "cause": cause,
        "reason": reason,
    }


def gates_of(run: dict) -> list[dict]:
    """What a default policy asks of one run."""
    if run["status"] == "NOT RUN":
        return [gate(run, "ran", None, None, run["reason"])]
    rms = run["relative"] and run["relative"]["rms"]
    semantic = run["semantic"] and run["semantic"]["relative"]
    different = run["weights"] and run["weights"]["count"]
    unexplained = sum(not flip["explained"] for flip in run["flips"])
    return [
        gate(run, "nonfinite", run["nonfinite"], 0.0, "outputs that are NaN or infinite"),
        gate(
            run,
            "weights",
            different,
            0.0,
            "weights that differ from the checkpoint's in any bit",
        ),
        gate(run, "semantic", semantic, 1e-9, "RMS difference in float64"),
        gate(run, "numeric", rms, max(3 * REFERENCE[run["precision"]], 2e-6), "RMS error to the oracle"),
        gate(run, "flips", unexplained, 0.0, "flips that no error explains"),
    ]


def gate(run: dict, name: str, measured: float | None, limit: float | None, reason: str) -> dict:
    passed = measured is not None and measured <= limit
    verdict = "NOT RUN" if limit is None else "PASS" if passed else "FAIL"
    return {"run": run["id"], "gate": name, "verdict": verdict, "measured": measured, "limit": limit, "reason": reason}


def pairs(runs: list[dict]) -> Iterable[dict]:
    """Every two runs of a variant at one precision and device, and of one backend across them."""
    ran = [each for each in runs if each["status"] == "RAN"]
    for a, b in combinations(ran, 2):
        place = all(a[key] == b[key] for key in ("precision", "device"))
        if a["variant"] == b["variant"] and (place or a["backend"] == b["backend"]):
            relative = _unless_null(math.hypot, a["relative"]["rms"], b["relative"]["rms"])
            agree = [each["top1"]["agree"] if each["top1"] else COUNT for each in (a, b)]
            furthest = _unless_null(max, a["error"]["max"], b["error"]["max"])
            top1 = COUNT - abs(agree[0] - agree[1])
            yield {"a": a["id"], "b": b["id"], "max": furthest, "relative": relative, "top1": top1}


def _unless_null(of: Callable[..., float], *values: float | None) -> float | None:
    return None if None in values else of(*values)


def distribution(differences: np.ndarray) -> dict:
    p50, p99, p999 = map(float, np.quantile(differences, (0.5, 0.99, 0.999)))
    largest, mean = float(differences.max()), float(differences.mean())
    rms = float(np.sqrt(np.mean(differences**2)))
    return {"max": largest, "mean": mean, "rms": rms, "p50": p50, "p99": p99, "p999": p999}


def agreement(agree: int) -> dict:
    return comparison.agreement(agree, COUNT).model_dump()


def point(index: int, margins: np.ndarray, deltas: np.ndarray) -> dict:
    return {"image": IDS[index], "margin": float(margins[index]), "delta": float(deltas[index])}


def flip(index: int, margins: np.ndarray, deltas: np.ndarray) -> dict:
    margin, delta = float(margins[index]), float(deltas[index])
    known = {"image": IDS[index], "expected": 3, "found": 8}
    return {**known, "margin": margin, "delta": delta, "explained": margin < 2 * delta}


def worst(index: int, differences: np.ndarray, margins: np.ndarray, seed: np.random.Generator) -> dict:
    most = int(differences[index].argmax())
    others = [int(each) for each in seed.permutation(10) if each != most]
    classes = [*others[:5], most]
    oracle = sorted((float(each) for each in seed.normal(0, SPREAD, 6)), reverse=True)
    oracle[0] = oracle[1] + float(margins[index])
    found = [logit + float(differences[index, each]) for logit, each in zip(oracle, classes, strict=True)]
    delta = float(differences[index].max())
    return {"image": IDS[index], "delta": delta, "classes": classes, "oracle": oracle, "found": found}


def histogram(relative: np.ndarray) -> dict:
    edges = np.arange(-12, 2.25, 0.25)
    counts, _ = np.histogram(np.log10(relative[relative > 0]), edges)
    zeros = int(np.sum(relative == 0))
    return {"edges": edges.tolist(), "counts": [int(count) for count in counts], "zeros": zeros}


def gradients(scale: float) -> dict:
    names = ("images", "embedding", *TAPS[1:-1], "head")
    parts = [{"name": name, "relative": 1e-6 * scale, "reference": 9e-7, "semantic": 4e-14 * scale} for name in names]
    return {"loss": "mean softmax cross-entropy against i % 10", "images": 2, "parts": parts, "double": True}


def growth(rms: float, wrong: bool) -> list[dict]:
    start = 1e-7 if not wrong else rms / 20
    values = np.geomspace(start, rms, len(TAPS))
    values[0] = 5e-8
    return [{"tap": tap, "relative": float(value)} for tap, value in zip(TAPS, values, strict=True)]


def _worst(verdicts: Iterable[str]) -> str:
    found = set(verdicts)
    return next((each for each in ("FAIL", "NOT RUN") if each in found), "PASS")


def _nulled(value: object) -> object:
    """The same with null in place of every measured number; whole numbers and texts stay."""
    if isinstance(value, dict):
        return {
            key: part if key in ("speed", "histogram", "top1", "top5") else _nulled(part) for key, part in value.items()
        }
    if isinstance(value, list):
        return [_nulled(each) for each in value]
    return None if isinstance(value, float) else value


CLOSED = {"PASS", "FAIL", "NOT RUN", "RAN", "environment", "device", "memory"}
"""Texts that are not free."""

KNOWN = {"classifier", "features", "flax", *REFERENCE, "cpu", "cuda"}
"""Texts by which a run is told from others."""

MAPPINGS = {"versions", "facts", "seeds", "references", "runs", "jax"}
"""Fields whose keys are free."""


def _poisoned(value: object, key: str = "", closed: set[str] = CLOSED) -> object:
    """Every free text with HOSTILE after it; ids the same everywhere."""
    if isinstance(value, dict):
        free = key in MAPPINGS
        return {
            _poisoned(name, closed=closed) if free else name: _poisoned(part, name, closed)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [_poisoned(each, closed=closed) for each in value]
    if not isinstance(value, str) or value in closed:
        return value
    parts = value.split("/")
    is_id = parts[1:2] in (["classifier"], ["features"]) or closed.issuperset(parts)
    return "/".join(_poisoned(part, closed=closed) for part in parts) if is_id else value + HOSTILE
