"""Attention by cuDNN's fused kernel, where there is a GPU and the kernel supports the case."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from windtunnel.models.score import Score


def refusal(backend: str, dtype: Any, queries: tuple[int, ...], keys: int, prior: bool, most: int) -> str | None:
    """Why attention of queries [B, N, Q, d] cannot be fused, or None. The kernel takes a prior as an array [T, T], so a
    prior over more than `most` tokens would need too much memory.
    """
    reasons = {
        f"there is none on {backend}": backend != "gpu",
        f"it takes half precision, not {jnp.dtype(dtype).name}": dtype not in (jnp.bfloat16, jnp.float16),
        "it takes heads of 8, 16, … 128 units": queries[3] % 8 != 0 or queries[3] > 128,
        "it takes all queries": queries[2] != keys,
        f"it takes a prior over at most {most} tokens": prior and keys > most,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def fused(q: Array, k: Array, v: Array, score: Score, implementation: Any = "cudnn") -> Array:
    """[B, N, T, d]: softmax(scores) v of sharpened queries, one query for every key. The softmax is in float32."""
    rows_T = jnp.arange(q.shape[2])
    prior_NTT = score.log_prior(rows_T, rows_T)
    bias = None if prior_NTT is None else prior_NTT[None].astype(q.dtype)
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # the kernel wants tokens before heads
    context_BTNd = jax.nn.dot_product_attention(q, k, v, bias, is_causal=True, implementation=implementation)
    return jnp.swapaxes(context_BTNd, 1, 2)
