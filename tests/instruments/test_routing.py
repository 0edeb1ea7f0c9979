"""Routing, of gates that are planted: the exact posterior, the same under other names, and none."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.composed import study
from windtunnel.instruments import base, routing
from windtunnel.models.tap import as_tap
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch

SMALL = "tunnel=mixture_conflict model=experts train.horizon=8 evaluate.reach=2 evaluate.examples=4".split()


class Planted(nnx.Module):
    """The exact reasoners of both domains, under swapped names, weighed by the exact posterior to the power `sharp`."""

    def __init__(self, study, params):
        self.tunnel, self.sharp = nnx.data(study.tunnel), params

    def __call__(self, inputs, tokens, *, key=None, tap=None, readings=None):
        shown = jnp.pad(inputs[:, 1:], ((0, 0), (0, 1)))
        batch, at, domains = Batch(inputs, shown, jnp.ones(inputs.shape)), jnp.asarray(tokens), self.tunnel.domains
        log_gate = self.tunnel.log_domains(self.tunnel.prepare(inputs.shape[1]), batch, at)[..., ::-1]
        log_gate = as_tap(tap)(0, "gate", jax.nn.log_softmax(self.sharp * log_gate))
        log_p = jnp.stack([domain.log_predictive((), batch, at) for domain in domains[::-1]], axis=2)
        return jax.nn.logsumexp(log_gate[..., None] + log_p, axis=2)


@cache
def record(sharp):
    subject = base.Subject(arrays(study(*SMALL)), jnp.asarray(sharp), model=Planted, null=jnp.asarray(0.0))
    assert routing.refusal(subject) is None
    return routing.measure(subject)


@pytest.mark.slow
def test_the_exact_posterior_under_other_names_is_recognised():
    exact = record(1.0)
    assert exact["domain_of_part"] == [1, 0]
    for place in ("in_range", "past"):
        assert exact["gate"][place] == pytest.approx(0, abs=1e-4) and exact["kl_bits"][place] == pytest.approx(
            0, abs=1e-4
        )
        assert exact["untrained"][place] == pytest.approx(exact["uniform"][place], abs=1e-4)
        effects = {name: effect[place]["bits"] for name, effect in exact["replaced"].items()}
        assert effects["exact"] == pytest.approx(0, abs=1e-4)
        assert min(effects["uniform"], effects["shuffled"], effects["flipped"]) > 0.01
        assert effects["flipped"] > effects["uniform"]
    assert exact["uniform"]["past"] > exact["uniform"]["in_range"] > 0.1, "the longer, the surer"
    assert 0 < exact["time_only"]["in_range"] <= exact["uniform"]["in_range"] + 1e-6


def test_a_gate_that_is_not_sure_enough_is_repaired_by_the_exact_one():
    dull = record(0.3)
    assert dull["gate"]["in_range"] > 0.01
    assert dull["replaced"]["exact"]["in_range"]["bits"] == pytest.approx(-dull["kl_bits"]["in_range"], abs=1e-4)
    numbers = routing.headline(dull)
    assert numbers["gate"] == dull["gate"]["in_range"] and numbers["kl_exact"] < 0
    assert len(routing.lines(base.finite(dull))) == 4


def test_parts_of_one_domain_count_together_and_share_what_it_gets():
    log_gate = np.log(np.asarray([[[0.2, 0.5, 0.3]]]))
    np.testing.assert_allclose(np.exp(routing.by_domain(log_gate, (0, 1, 0)))[0, 0], [0.5, 0.5])
    shared = routing.within(np.log([[[0.9, 0.1]]]), log_gate, (0, 1, 0))
    np.testing.assert_allclose(np.exp(shared)[0, 0], [0.36, 0.1, 0.54])


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["tunnel=mixture_conflict"], "model transformer has no gate"),
        (["tunnel=die", "model=experts"], "markov has no domains"),
    ],
)
def test_it_makes_no_sense_without_a_gate_or_domains(overrides, why):
    asked = arrays(study(*overrides, "train.horizon=8", "evaluate.reach=1"))
    assert routing.refusal(base.Subject(asked, None, model=Planted)) == why
