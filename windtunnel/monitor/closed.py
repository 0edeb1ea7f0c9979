"""The closed form in place of attention: a head's scores become c × log-posterior, c × (log-likelihood + log-prior).

The posterior is the tunnel's own (`Tunnel.token_weights`), so what answers through it is partly the oracle, and never
counts as exact. c is the slope of the head's scores on the log-posterior when it was last good.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.config import Study
from windtunnel.instruments.base import EXAMPLES, Build, look
from windtunnel.instruments.consistency import heads
from windtunnel.models.tap import Tap
from windtunnel.train import model
from windtunnel.tunnels import Batch

LINEAR = 0.5  # the R² of a head's scores on the log-posterior from which on its scores are replaced


def has_closed_form(study: Study) -> bool:
    """Whether the posterior is a weighing of tokens, and attention shows its scores. Only shapes are computed."""
    from windtunnel.instruments.base import Subject, no_attention
    from windtunnel.spec import arrays

    if no_attention(study) is not None or not study.model.heads or not study.tunnel.weighs_far:
        return False
    return Subject(arrays(study), None).weighs_tokens


def slopes(study: Study, params: Any, build: Build = model) -> np.ndarray:
    """[L × N]: c of every head, NaN where its scores are not linear in the log-posterior; at least the most linear head
    has one.
    """
    rows = heads(study, None, look(study, params, EXAMPLES, build))
    r2 = np.nan_to_num(np.asarray([row["r2"] for row in rows], float), nan=-1.0)
    c = np.asarray([row["slope"] for row in rows], float)
    c = np.where(np.isfinite(c) & (c > 0), c, 1.0)
    return np.where((r2 >= LINEAR) | (np.arange(len(r2)) == r2.argmax()), c, np.nan).astype(np.float32)


@partial(jax.jit, static_argnames="build")
def answers(study: Study, params: Any, slopes_LN: Array, numbers: Array, build: Build = model) -> Array:
    """[B, P, V]: the log-predictive (nats) of the evaluation sequences of these numbers, through the closed form."""
    problem, tunnel, module = study.problem, study.tunnel, build(study, params)
    tables, at = tunnel.prepare(problem.length), jnp.asarray(problem.bins.at)

    def one(batch: Batch) -> Array:
        log_exact_BPT = tunnel.token_weights(tables, batch, at)
        assert log_exact_BPT is not None  # `has_closed_form`

        def replaced(depth: int, kind: str, score_BNPT: Any) -> Any:
            c_N11 = slopes_LN[depth][:, None, None]
            some_BP1 = jnp.isfinite(log_exact_BPT).any(axis=-1, keepdims=True)
            exact_BNPT = jnp.where(some_BP1[:, None], c_N11 * log_exact_BPT[:, None], score_BNPT)
            return jnp.where(jnp.isnan(c_N11), score_BNPT, exact_BNPT)

        return jax.nn.log_softmax(module(batch.inputs, problem.tokens, tap=Tap(replaced, "scores")))

    return problem.each(one, numbers)
