"""A model that is the exact posterior, by hand: what an instrument must say of it is known."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from windtunnel.instruments import base
from windtunnel.models.attention import Attention
from windtunnel.models.position import GeneralizedGaussian
from windtunnel.models.tap import as_tap
from windtunnel.spec import arrays


class Planted(nnx.Module):
    """One head on `recall`, with the real attention and weights set by hand: its content is ½ log((1−ε)/ε) Σ_i cue_i
    key_i, the log-likelihood up to a constant, its position the log-prior, its values the values one-hot; the logits
    are the log of what it reads. With a `blur` of its queries, or another `scale` of its prior, it is wrong in that
    alone.
    """

    def __init__(self, study, params):
        tunnel = study.tunnel
        bits, symbols, width = tunnel.bits, tunnel.symbols, tunnel.features
        position = GeneralizedGaussian(beta=tunnel.prior.beta)
        self.attention = Attention(width, 1, position, "plain", study.horizon, nnx.Rngs(0))
        gain = jnp.sqrt(width) * 0.5 * (jnp.log1p(-tunnel.noise) - jnp.log(tunnel.noise))
        eye, at = jnp.eye(width), jnp.arange(width)[:, None]
        right = gain * jnp.roll(eye, -(bits + symbols), axis=1) * (at >= bits + symbols)
        wrong = gain * jax.random.normal(jax.random.key(1), (width, width))
        self.attention.learned["log_scale"][...] = params["layers"]["0"]["attention"]["learned"]["log_scale"]
        self.attention.query.kernel[...] = right + params["blur"] * wrong
        self.attention.key.kernel[...] = eye * (at < bits)
        self.attention.value.kernel[...] = jnp.roll(eye, -bits, axis=1)
        self.attention.output.kernel[...] = eye
        self.symbols = symbols

    def __call__(self, inputs, tokens, *, key=None, tap=None, readings=None):
        tap = as_tap(tap)
        rows, tokens = np.arange(inputs.shape[1]), np.asarray(tokens)
        read = self.attention(inputs, jnp.arange(len(rows)), rows, tokens, tap.at(0))
        read = tap(0, "residual", read)
        return jnp.log(jnp.maximum(read[:, tokens, : self.symbols], 1e-30))


def planted(study, blur=0.0, scale=None):
    """A subject whose model is planted; two of a study share one program."""
    return base.Subject(arrays(study), parameters(study, blur, scale), model=Planted, null=parameters(study, 1.0, None))


def parameters(study, blur, scale):
    log_scale = jnp.log(jnp.asarray([study.tunnel.prior.scale if scale is None else scale], float))
    return {"layers": {"0": {"attention": {"learned": {"log_scale": log_scale}}}}, "blur": jnp.asarray(blur)}


def subject(study):
    """One that is not trained."""
    from windtunnel.train import start

    study_arrays = arrays(study)
    return base.Subject(study_arrays, jax.jit(start)(study_arrays).params)
