"""Weights of channels in conflict, of reasoners that are planted: one that is exact, and one that trusts A too much."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.composed import study
from windtunnel.instruments import base, channels
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch

SMALL = "tunnel=fusion tunnel.bits=4 tunnel.symbols=4 tunnel.levels=2 train.horizon=12 evaluate.reach=1".split()


class Planted(nnx.Module):
    """The reasoner whose gains are the exact ones, times `trust` for each channel and level [2, L]."""

    def __init__(self, study, params):
        self.tunnel, self.trust = nnx.data(study.tunnel), params

    def __call__(self, inputs, tokens, *, key=None, tap=None, readings=None):
        batch, at = Batch(inputs, jnp.zeros(inputs.shape[:2], int), jnp.ones(inputs.shape[:2])), jnp.asarray(tokens)
        pairs = zip(self.tunnel.channels.items(), self.trust, strict=True)
        log_p = self.tunnel.log_weighed(
            (), batch, at, {name: gain_L * trust_L for (name, (_, gain_L)), trust_L in pairs}
        )
        return jnp.maximum(log_p, -50.0)


def record(*trust):
    subject = base.Subject(arrays(study(*SMALL)), jnp.asarray(trust), model=Planted, null=jnp.zeros((2, 2)))
    assert channels.refusal(subject) is None
    return channels.measure(subject)


@pytest.mark.parametrize("trust", [((1.0, 1.0), (1.0, 1.0)), ((2.0, 2.0), (1.0, 0.5))])
def test_the_gains_of_a_reasoner_are_found_again(trust):
    of = record(*trust)
    for (name, gains), factors in zip(of["gains"].items(), trust, strict=True):
        np.testing.assert_allclose(gains["model"] / gains["exact"], factors, rtol=0.03, err_msg=name)
    exact = trust == ((1.0, 1.0), (1.0, 1.0))
    assert (of["deviation"]["model"] < 0.01) == exact and (of["kl_bits"] < 1e-4) == exact
    assert of["deviation"]["equal"] > 0.1 and 0.3 < of["in_conflict"] < 1
    for kind, weights in of["weights"].items():
        assert weights.shape == (2, 2) and (weights >= 0).all() and (weights <= 1).all(), kind
    assert len(channels.lines(base.finite(of))) == 3 and channels.headline(of)["kl_conflict"] == of["kl_bits"]


def test_one_channel_has_no_conflict():
    assert channels.refusal(base.Subject(arrays(study()), None)) == "the cues of recall come through one channel"
