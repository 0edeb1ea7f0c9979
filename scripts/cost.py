"""`make cost`: what attention over long sequences costs, and how wrong each approximation is, into docs/cost.md.

A cell is a task, a method and a length. Each runs in a process of its own (for its peak memory) and leaves a record in
runs/cost, so that what was cut off goes on with the first cell that is missing. Every task is trained once, on exact
attention; methods differ only in how the trained model is evaluated, with outputs at every token.

    python scripts/cost.py                                     every cell (hours: exact attention at a million tokens)
    python scripts/cost.py --lengths 8192,32768 --tasks recall     some cells, and the page of all that there are
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from page import fill, table
from windtunnel import checkpoint, records
from windtunnel.canary import check_compiler
from windtunnel.compose import compose
from windtunnel.config import Study
from windtunnel.information import kl_bits
from windtunnel.judge import attention_facts
from windtunnel.models import blocks
from windtunnel.models.audit import rows_of
from windtunnel.models.inference import EXACT, Hierarchical, Inference, Sparse, Variational
from windtunnel.spec import arrays
from windtunnel.sweep.packs import Program
from windtunnel.train import finished, model, start

ROOT, DOC = Path("runs/cost"), Path("docs/cost.md")
TASKS = {
    "recall": ["model.layers=2", "tunnel.prior.beta=0.5"],
    "recall_035": ["model.layers=2", "tunnel.prior.beta=0.35", "position.beta=0.35"],
    "recall_flat": ["model.layers=2", "prior=flat", "position=uniform"],
    "die": ["tunnel=die", "model.layers=2"],
    "tree": ["tunnel=tree", "model.layers=2"],
}
METHODS: dict[str, Inference] = {
    "exact": EXACT,
    "sparse": Sparse(above=0),
    "variational": Variational(above=0),
    "hierarchical": Hierarchical(above=0),
}
LENGTHS = (2**13, 2**15, 2**17, 2**19, 2**20)
EVERY, SOME = 2**15, 1024  # tokens compared: all of them up to this length, a random sample beyond
TRUTH = 512  # random tokens at which exact reasoners are asked


def study_of(task: str, steps: int | None) -> Study:
    return compose([*TASKS[task], *([f"train.steps={steps}"] if steps else [])])[0]


def inferring(study: Study, method: str) -> Study:
    """The study with another way to infer."""
    transformer: Any = study.model
    return replace(study, model=replace(transformer, inference=METHODS[method]))


def trained(study: Study, folder: Path) -> Any:
    """The parameters, with a codebook if any method wants one; trained if they are not there."""
    booked = inferring(study, "variational")
    knobs = arrays(booked)
    if not checkpoint.exists(folder):
        program = Program([study])
        state, done = program.start(), 0
        while done < study.train.steps:
            count = min(100, study.train.steps - done)
            state, _ = program.advance(state, count)
            done += count
        params = jax.tree.map(lambda leaf: leaf[0], program.fetch(state).params)
        checkpoint.save(folder, jax.tree.map(np.asarray, jax.jit(finished)(knobs, params)))
    like = jax.eval_shape(lambda study: finished(study, start(study).params), knobs)
    return checkpoint.load(folder, like)


def measure(task: str, method: str, tokens: int, steps: int | None) -> dict[str, Any]:
    """One cell: its record, and its predictions in a file beside it."""
    check_compiler()
    trained_on = study_of(task, steps)
    params = trained(trained_on, ROOT / f"{task}-{trained_on.train.steps}")
    if not METHODS[method].codebook(1, 1):
        for layer in params["layers"].values():
            del layer["attention"]["codebook"]
    study = arrays(inferring(trained_on, method))
    tunnel = study.tunnel
    tables = jax.jit(lambda tunnel: tunnel.prepare(tokens))(tunnel)
    batch = jax.jit(lambda tunnel, tables: tunnel.sample(study.problem.key, tables, 1, tokens))(tunnel, tables)

    def predict(params: Any, inputs: Any) -> Any:
        readings: list[Any] = []
        logits = model(study, params)(inputs, tunnel.scored(tokens), readings=readings)
        return jax.nn.log_softmax(logits[0]), readings

    program = jax.jit(predict).lower(params, batch.inputs).compile()
    layout: Any = program.memory_analysis()
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    log_q_PV, readings = jax.block_until_ready(program(params, batch.inputs))
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    compared = np.arange(tokens) if tokens <= EVERY else rows_of(tokens, SOME)
    asked = rows_of(tokens, TRUTH, seed=1)
    log_p_PV = np.asarray(jax.jit(tunnel.log_predictive)(tables, batch, jnp.asarray(asked))[0])
    windows = sorted({blocks.CHUNK, 2 * blocks.CHUNK, 4 * blocks.CHUNK, 8 * blocks.CHUNK})
    floors = {}
    for window in (w for w in windows if w < tokens):
        log_last = jax.jit(lambda tables, batch, at, w=window: tunnel.log_last(tables, batch, at, w))
        floors[str(window)] = float(kl_bits(log_p_PV, log_last(tables, batch, jnp.asarray(asked))[0]).mean())
    gap = kl_bits(log_p_PV, np.asarray(log_q_PV)[asked])
    log_q = np.asarray(log_q_PV)[compared]
    np.savez(ROOT / f"{task}-{method}-{tokens}.npz", log_q=log_q)
    return {
        "task": task, "method": method, "tokens": tokens, "steps": trained_on.train.steps,
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_bytes": layout.temp_size_in_bytes + layout.argument_size_in_bytes + layout.output_size_in_bytes,
        "resident_bytes": after.ru_maxrss * 1024,
        "flops_of_analysis": float((program.cost_analysis() or {}).get("flops", math.nan)),
        "load": os.getloadavg()[0],
        "attention": [attention_facts(jax.tree.map(lambda leaf: np.asarray(leaf)[None], r), 0) for r in readings],
        "kl_truth_bits": float(gap.mean()), "kl_truth_worst_bits": float(gap.max()),
        "floor_bits": floors,
    }  # fmt: skip


def compare(cell: dict[str, Any]) -> dict[str, Any]:
    """The KL (bits) of a cell's predictions against those of exact attention, where both are there."""
    paths = [ROOT / f"{cell['task']}-{method}-{cell['tokens']}.npz" for method in ("exact", cell["method"])]
    if not all(path.exists() for path in paths):
        return {}
    gap = kl_bits(*(np.load(path)["log_q"] for path in paths))
    return {"mean": float(gap.mean()), "worst": float(gap.max())}


def exponent(cells: list[dict[str, Any]], what: str) -> str:
    """The slope of log time against log length, with its 95 % interval from three lengths on."""
    if len(cells) < 2:
        return "–"
    x, y = np.log([[cell["tokens"], cell[what]] for cell in cells]).T
    slope, offset = np.polyfit(x, y, 1)
    if len(cells) < 3:
        return f"{slope:.2f}"
    from scipy.stats import t

    error = np.sqrt(np.sum((y - slope * x - offset) ** 2) / (len(x) - 2) / np.sum((x - x.mean()) ** 2))
    return f"{slope:.2f} ± {t.ppf(0.975, len(x) - 2) * error:.2f}"


def page() -> str:
    """The table of every cell that there is, and of the exponents."""
    cells = [records.read_json(path) for path in ROOT.glob("*-*-*.json")]
    cells.sort(key=lambda cell: (list(TASKS).index(cell["task"]), list(METHODS).index(cell["method"]), cell["tokens"]))
    lines = []
    for cell in cells:
        apart, layers = compare(cell), cell["attention"]
        fallen = all(layer["kernel"] != cell["method"] for layer in layers) and cell["method"] != "exact"
        if fallen:
            continue
        said = [layer.get("certificates", {}) for layer in layers]
        expected = [of.get("prior_tail_mean", of.get("gap_estimate_mean")) for of in said if of]
        bounds = [layer["skipped_mass_bound"] for layer in layers]
        rigorous = max(bounds) if all(bound is not None for bound in bounds) else None
        lines.append([
            cell["task"], cell["method"], f"{cell['tokens']:,}", f"{cell['cpu_seconds']:.1f}", f"{cell['seconds']:.1f}",
            f"{cell['peak_bytes'] / 1e9:.2f}", f"{1e6 * cell['seconds'] / cell['tokens']:.1f}",
            f"{apart['mean']:.1e}" if apart else "–", f"{apart['worst']:.1e}" if apart else "–",
            "–" if rigorous is None else "vacuous" if rigorous > 0.5 else f"{rigorous:.1e}",
            f"{max(expected):.1e}" if expected else "–",
            f"{max(of['audit_missed_bound'] for of in said if of):.3f}" if any(said) else "–",
            f"{cell['kl_truth_bits']:.1e}",
            ", ".join(f"{w}: {bits:.0e}" for w, bits in cell["floor_bits"].items()),
        ])  # fmt: skip
    head = ["task", "method", "tokens", "CPU s", "s", "memory, GB", "µs a token", "KL to exact attention, bits",
            "worst query", "missed mass: rigorous bound", "expected (prior tail), or gap estimated (nats)",
            "audited, 95 %", "KL to the truth, bits", "floor of who sees the last w"]  # fmt: skip
    slopes = []
    for task in TASKS:
        for method in METHODS:
            own = [cell for cell in cells if (cell["task"], cell["method"]) == (task, method)]
            why = {layer["kernel"] for cell in own for layer in cell["attention"] if layer["kernel"] != method}
            if own:
                note = "; ".join(sorted(why)) if method != "exact" else ""
                slopes.append([task, method, exponent(own, "cpu_seconds"), exponent(own, "seconds"), note])
    first = table(["task", "method", "exponent of CPU time", "of time", "fell back"], slopes, (2, 3))
    load = max((cell["load"] for cell in cells), default=0.0)
    where = f"{len(os.sched_getaffinity(0))} cores, jax {jax.__version__}; load average up to {load:.1f}"
    return f"{where}.\n\n{first}\n\n{table(head, lines, range(2, 13))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)))
    parser.add_argument("--steps", type=int, help="of training, instead of the preset's: for a trial")
    parser.add_argument("--cell", nargs=3, metavar=("TASK", "METHOD", "TOKENS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    ROOT.mkdir(parents=True, exist_ok=True)
    if asked.cell:
        task, method, tokens = asked.cell
        cell = measure(task, method, int(tokens), asked.steps)
        records.write_json(ROOT / f"{task}-{method}-{tokens}.json", cell)
        print(json.dumps(cell))
        return
    for tokens in map(int, asked.lengths.split(",")):
        for task in asked.tasks.split(","):
            for method in asked.methods.split(","):
                if (ROOT / f"{task}-{method}-{tokens}.json").exists():
                    continue
                steps = [] if asked.steps is None else ["--steps", str(asked.steps)]
                command = [sys.executable, __file__, *steps, "--cell", task, method, str(tokens)]
                if subprocess.run(command, check=False).returncode:
                    print(f"{task} {method} {tokens}: failed; goes on with the next", file=sys.stderr, flush=True)
                fill(DOC, "cost", page())
    fill(DOC, "cost", page())


if __name__ == "__main__":
    main()
