"""Orders of the same evidence, and the prior that futures imply, of models that are planted: exact ones, one that sees
little, and one that believes in another prior.
"""

import collections
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.composed import study
from windtunnel.instruments import base, exchangeability, implied
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch

DIE = "tunnel=die tunnel.symbols=3 train.horizon=12 evaluate.reach=2".split()


class Planted(nnx.Module):
    """The exact reasoner of the tunnel with its concentration times `params`, which sees so many observations."""

    window = 1000

    def __init__(self, study, params):
        tunnel = study.tunnel
        self.tunnel = nnx.data(replace(tunnel, concentration=tunnel.concentration * params))

    def __call__(self, inputs, tokens, *, key=None, tap=None, readings=None):
        observations = inputs.shape[1] - self.tunnel.order
        batch = Batch(inputs, jnp.zeros((len(inputs), observations), int), jnp.ones((len(inputs), observations)))
        return self.tunnel.log_last((), batch, jnp.asarray(tokens) - self.tunnel.order, self.window)


class Short(Planted):
    window = 2


def subject(words, model=Planted, factor=1.0):
    return base.Subject(arrays(study(*words)), jnp.asarray(factor), model=model, null=jnp.asarray(50.0))


@cache
def orders(model):
    return base.finite(exchangeability.measure(subject(DIE, model)))


@pytest.mark.slow
def test_exact_inference_does_not_mind_the_order_and_a_short_memory_does():
    for place in ("in_range", "past"):
        exact, short = (orders(model)["places"][place] for model in (Planted, Short))
        for name in ("order_bits", "drift_bits", "kl_bits"):
            assert exact["model"][name] == pytest.approx(0, abs=1e-6)
            assert exact["exact"][name] == pytest.approx(0, abs=1e-6)
        assert min(short["model"]["order_bits"], short["model"]["kl_bits"]) > 0.01
        assert short["model"]["drift_bits"] > 1e-3
    assert exact["untrained"]["kl_bits"] > 0.01 > exact["untrained"]["order_bits"], "who is wrong in every order alike"
    assert len(exchangeability.lines(orders(Short))) == 2
    assert exchangeability.headline(orders(Short))["order_bits_past"] > 0.01


ORDERED = ["tunnel=urn", "tunnel=die", "tunnel=markov", "tunnel=markov tunnel.order=2", "tunnel=bijection"]


@pytest.mark.slow
@pytest.mark.parametrize("words", ORDERED)
def test_another_order_has_the_same_evidence(words):
    """In plain counts of what follows what, and of the last token; and the exact reasoner says the same."""
    tunnel = study(*words.split()).tunnel
    horizon = 14
    tables = tunnel.prepare(horizon)
    batch = tunnel.sample(jax.random.key(0), tables, 64, horizon)
    other = np.asarray(tunnel.reordered(jax.random.key(1), batch.inputs))
    order, pairs = getattr(tunnel, "order", 0), tunnel.name == "bijection"

    def evidence(row):
        if pairs:
            return collections.Counter(zip(row[:-1:2], row[1::2], strict=True)), row[-1]
        first = order + 1 if order else 1
        follows = collections.Counter((tuple(row[t - order : t]), row[t]) for t in range(first, len(row)))
        return follows, tuple(row[len(row) - order :]) if order else ()

    rows = [row.tolist() for row in np.asarray(batch.inputs)]
    assert [evidence(row) for row in rows] == [evidence(row) for row in other.tolist()]
    assert np.mean(np.any(other != np.asarray(batch.inputs), axis=1)) > 0.1, "and it is another order"
    last = jnp.asarray([horizon - 1])
    same = [tunnel.log_predictive(tables, batch._replace(inputs=jnp.asarray(of)), last) for of in (batch.inputs, other)]
    np.testing.assert_allclose(*same, atol=1e-4)


def test_the_prior_of_planted_futures_is_found():
    right, sure = (base.finite(implied.measure(subject(DIE, factor=factor))) for factor in (1.0, 4.0))
    for record, true in ((right, 2.0), (sure, 8.0)):
        estimate, low, high = record["concentration"]["model"]
        assert 0.85 * low < true < 1.15 * high and low < estimate < high
        assert record["concentration"]["data"][0] == pytest.approx(2, rel=0.3)
    assert right["distance"] < right["null"]["q95"] * 1.2 and sure["distance"] > 2 * sure["null"]["q95"]
    assert sum(right["histogram"]["model"]) == pytest.approx(1)
    assert (
        "concentration" in implied.lines(right)[0]
        and implied.headline(sure)["of_data"] == sure["concentration"]["data"][0]
    )


def test_agreement_of_draws_is_that_of_the_dirichlet():
    generator = np.random.default_rng(0)
    counts = np.stack([generator.multinomial(30, generator.dirichlet([0.5] * 4)) for _ in range(4000)])
    assert implied.concentration(counts) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("tunnel", "instrument", "why"),
    [
        ("hmm", exchangeability, "the order of hmm matters, or no other order is known to be as likely"),
        (
            "markov",
            implied,
            "the observations of markov may not come in any order, so no limit of shares is their prior",
        ),
    ],
)
def test_where_order_matters_it_says_so(tunnel, instrument, why):
    assert instrument.refusal(base.Subject(arrays(study(f"tunnel={tunnel}")), None)) == why
