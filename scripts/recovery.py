"""The tables of docs/recovery.md, from the records of `windtunnel run +sweep=recovery`: python scripts/recovery.py ROOT

Besides the numbers of the records, the tables have `content`: the slope of a head's content score (its score without
the positional prior) on the exact log-likelihood, over the pairs that a query can see, and the share of variance that
this line explains. A head whose scores are c × the log-posterior has slope c; `sharpness` is computed from the prior
alone.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import windtunnel
from page import table
from windtunnel import records
from windtunnel.instruments.consistency import line
from windtunnel.models.tap import Collect
from windtunnel.records.groups import Group, groups, swept_keys
from windtunnel.recovery import biases
from windtunnel.report.numbers import number

EXAMPLES = 16
HEAD = ["KL in range", "learned β", "learned scale", "KL of prior", "tempered", "sharpness", "content", "R²"]


def content(folder: Path) -> tuple[float, float]:
    """(slope, R²) for the head of a one-layer, one-head model of `recall`; each query is centred."""
    study, model, params = windtunnel.load(folder)
    untyped: Any = study
    at = np.arange(untyped.horizon)
    batch = untyped.tunnel.sample(jax.random.key(1), untyped.tunnel.prepare(untyped.horizon), EXAMPLES, untyped.horizon)
    seen = Collect("scores")
    model(params, batch.inputs, at, tap=seen)
    lag_QK = np.maximum(at[:, None] - at[None], 0)
    log_prior_T = np.asarray(untyped.tunnel.lag_prior.log_density(jnp.asarray(at, float)))
    log_likelihood_BQK = np.asarray(untyped.tunnel.log_posterior((), batch, at), float) - log_prior_T[lag_QK]
    bias_T = biases(untyped, untyped.position, params["layers"]["0"]["attention"]["learned"])[0]
    content_BQK = np.asarray(seen["scores"][0], float)[:, 0] - bias_T[lag_QK]
    fit = line(log_likelihood_BQK, content_BQK)
    return fit["slope"], fit["r2"]


def cells(root: Path, group: Group) -> list[str]:
    lines = np.asarray([content(root / row["study_id"]) for row in group.done])
    beta, scale, sharpness = (group.interval(f"recovered_{name}") for name in ("beta", "scale", "sharpness"))
    return [
        *group.key.values(),
        number(group.interval("kl_bits").mean),
        f"{beta.mean:.2f}" + (f" [{beta.low:.2f}, {beta.high:.2f}]" if beta.n > 2 else ""),
        f"{scale.mean:.1f}",
        number(group.interval("recovered_kl_bits").mean),
        number(group.interval("recovered_kl_bits_tempered").mean),
        f"{sharpness.mean:.2f}",
        f"{lines[:, 0].mean():.2f}",
        f"{lines[:, 1].min():.3f}",
    ]


def main(root: Path) -> None:
    grouped = groups(records.rows(root), swept_keys(root))
    named = [key.removeprefix("tunnel.prior.").removeprefix("position.") for key in grouped[0].key]
    print(table([*named, *HEAD], [cells(root, group) for group in grouped]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
