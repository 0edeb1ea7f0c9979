"""A model that is the exact posterior, by hand: what an instrument must say of it is known."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from windtunnel.instruments import base
from windtunnel.models.attention import Attention, no_tap
from windtunnel.models.position import GeneralizedGaussian


class Planted(nnx.Module):
    """One head on `recall`, with the real attention and weights set by hand: its content is ½ log((1−ε)/ε) Σ_i cue_i
    key_i, the log-likelihood up to a constant, its position the log-prior, its values the values one-hot; the logits
    are the log of what it reads.
    """

    def __init__(self, study):
        tunnel = study.tunnel
        bits, symbols, width = tunnel.bits, tunnel.symbols, tunnel.features
        position = GeneralizedGaussian(scale=tunnel.prior.scale, beta=tunnel.prior.beta, learn=False)
        self.attention = Attention(width, 1, position, "plain", study.horizon, nnx.Rngs(0))
        gain = jnp.sqrt(width) * 0.5 * (jnp.log1p(-tunnel.noise) - jnp.log(tunnel.noise))
        eye = jnp.eye(width)
        self.attention.key.kernel[...] = eye * (jnp.arange(width) < bits)[:, None]
        self.attention.query.kernel[...] = gain * jnp.roll(eye, -(bits + symbols), axis=1) * (
            jnp.arange(width) >= bits + symbols)[:, None]  # fmt: skip
        self.attention.value.kernel[...] = jnp.roll(eye, -bits, axis=1)
        self.attention.output.kernel[...] = eye
        self.symbols = symbols

    def __call__(self, inputs, at, *, key=None, tap=None):
        tap = tap or no_tap
        rows = np.arange(inputs.shape[1])
        read = self.attention(inputs, jnp.arange(len(rows)), rows, rows, lambda name, value: tap(f"0.{name}", value))
        read = tap("0.residual", read)
        return jnp.log(jnp.maximum(read[:, at, : self.symbols], 1e-30))


def plant(monkeypatch, make):
    """Let `make(study, params)` be the model that instruments look into."""
    monkeypatch.setattr(base, "model", make)
    for function in (base.look, base.intervened):
        function.clear_cache()


def subject(study):
    from windtunnel.spec import arrays
    from windtunnel.train import start

    made = arrays(study)
    return base.Subject(made, jax.jit(start)(made).params)
