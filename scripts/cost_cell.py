"""A cell of the table of docs/cost.md: a task, a method and a length, measured (`cost.py`)."""

import os
import resource
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from windtunnel import checkpoint
from windtunnel.canary import check_compiler
from windtunnel.compose import compose
from windtunnel.config import Study
from windtunnel.information import kl_bits
from windtunnel.judge import attention_facts
from windtunnel.models import blocks
from windtunnel.models.audit import rows_of
from windtunnel.models.inference import EXACT, Approximate, Hierarchical, Inference, Sparse, Variational
from windtunnel.models.score import content
from windtunnel.spec import arrays
from windtunnel.sweep.packs import Program
from windtunnel.train import finished, model, start

ROOT = Path("runs/cost")
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
TOP = "top-"
LENGTHS = (2**13, 2**15, 2**17, 2**19, 2**20)
EVERY, SOME = 2**15, 1024  # tokens compared: all of them up to this length, a random sample beyond
LOWEST = 1e-6  # bits, of a floor that is worth showing
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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Identical(Inference):
    """Exact attention where keys and values depend on the token alone, and no position counts. α_ij is that of any
    other j with the same token, so the n_c(i) tokens c up to i are taken together,

        context_i = Σ_c n_c(i) exp(q_i·k_c/√d) v_c / Σ_c n_c(i) exp(q_i·k_c/√d).
    """

    token_T: Any
    vocabulary: int = field(metadata={"static": True})

    name = "identical"

    def attend(self, q: Any, k: Any, v: Any, rows_Q: Any, score: Any, codebook: Any) -> Approximate:
        is_TV = self.token_T[:, None] == jnp.arange(self.vocabulary)
        first_V = jnp.argmax(is_TV, axis=0)
        log_count_QV = jnp.log(jnp.cumsum(is_TV, axis=0)[jnp.asarray(rows_Q)].astype(jnp.float32))
        score_BNQV = content(q, k[:, :, first_V]) + log_count_QV
        log_z_BNQ = jax.nn.logsumexp(score_BNQV, axis=-1)
        weight_BNQV = jnp.exp(score_BNQV - log_z_BNQ[..., None])
        return Approximate(weight_BNQV @ v[:, :, first_V], log_z_BNQ, jnp.zeros(len(q)), {})


def predictor(study: Study, method: str, tokens: int) -> Any:
    """A function of parameters and inputs: log-predictives and readings, at every token, or of `top-METHOD` at some."""
    rows = rows_of(tokens, SOME) if method.startswith(TOP) else np.arange(tokens)

    def predict(params: Any, inputs: Any) -> Any:
        readings: list[Any] = []
        module: Any = model(study, params)
        if method.startswith(TOP):
            position: Any = study.position
            if method == f"{TOP}exact" and position.name == "uniform" and not study.tunnel.features:
                lowest = Identical(inputs[0], study.tunnel.vocabulary)
                module.layers["0"].attention.inference = nnx.data(lowest)
            module.layers[str(len(module.layers) - 1)].attention.inference = nnx.data(EXACT)
        logits = module(inputs, study.tunnel.scored(tokens)[rows], readings=readings)
        return jax.nn.log_softmax(logits[0]), readings

    return predict


def measure(task: str, method: str, tokens: int, steps: int | None) -> dict[str, Any]:
    """One cell: its record, and its predictions in a file beside it."""
    check_compiler()
    trained_on = study_of(task, steps)
    params = trained(trained_on, ROOT / f"{task}-{trained_on.train.steps}")
    if not METHODS[method.removeprefix(TOP)].codebook(1, 1):
        for layer in params["layers"].values():
            del layer["attention"]["codebook"]
    study = arrays(inferring(trained_on, method.removeprefix(TOP)))
    tunnel = study.tunnel
    tables = jax.jit(lambda tunnel: tunnel.prepare(tokens))(tunnel)
    batch = jax.jit(lambda tunnel, tables: tunnel.sample(study.problem.key, tables, 1, tokens))(tunnel, tables)

    program = jax.jit(predictor(study, method, tokens)).lower(params, batch.inputs).compile()
    layout: Any = program.memory_analysis()
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    log_q_PV, readings = jax.block_until_ready(program(params, batch.inputs))
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cell = {
        "task": task, "method": method, "tokens": tokens, "steps": trained_on.train.steps,
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_bytes": layout.temp_size_in_bytes + layout.argument_size_in_bytes + layout.output_size_in_bytes,
        "resident_bytes": after.ru_maxrss * 1024,
        "load": os.getloadavg()[0],
        "attention": [attention_facts(jax.tree.map(lambda leaf: np.asarray(leaf)[None], r), 0) for r in readings],
    }  # fmt: skip
    log_q = np.asarray(log_q_PV)
    if method.startswith(TOP):
        np.savez(ROOT / f"{task}-{method}-{tokens}.npz", log_q=log_q)
        return cell
    np.savez(ROOT / f"{task}-{method}-{tokens}.npz", log_q=log_q[compared(tokens)])
    asked, log_p, floors = truth(tunnel, tables, batch, task, tokens)
    gap = kl_bits(log_p, log_q[asked])
    return {
        **cell,
        "kl_truth_bits": float(gap.mean()), "kl_truth_worst_bits": float(gap.max()),
        "floor_bits": floors,
    }  # fmt: skip


def truth(tunnel: Any, tables: Any, batch: Any, task: str, tokens: int) -> tuple[Any, Any, dict[str, float]]:
    """Some tokens, what the exact reasoner says there, and the KL (bits) to it of reasoners that see the last w alone.
    Kept, since it is the same for all methods.
    """
    asked, path = rows_of(tokens, TRUTH, seed=1), ROOT / f"{task}-truth-{tokens}.npz"
    windows = [factor * blocks.CHUNK for factor in (1, 2, 4, 8) if factor * blocks.CHUNK < tokens]
    if not path.exists():
        at = jnp.asarray(asked)
        log_p = np.asarray(jax.jit(tunnel.log_predictive)(tables, batch, at)[0])
        floors = []
        for window in windows:
            log_last = jax.jit(lambda tables, batch, at, w=window: tunnel.log_last(tables, batch, at, w))
            floors.append(float(kl_bits(log_p, np.asarray(log_last(tables, batch, at)[0])).mean()))
        np.savez(path, log_p=log_p, floors=floors)
    kept = np.load(path)
    return asked, kept["log_p"], dict(zip(map(str, windows), kept["floors"].tolist(), strict=True))


def compared(tokens: int) -> np.ndarray:
    """The tokens at which predictions are held against those of exact attention."""
    return np.arange(tokens) if tokens <= EVERY else rows_of(tokens, SOME)
