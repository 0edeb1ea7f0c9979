"""Approximate attention: it never sees the future, says how wrong it is, and trains."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from tests import composed
from tests.models.approximate import (
    ALL,
    CHUNK,
    HASTE,
    HEADS,
    HEAVY,
    LENGTH,
    METHODS,
    WIDTH,
    chunked,
    codebook,
    of,
    scored,
    tensors,
)
from windtunnel import priors
from windtunnel.evaluate import predict
from windtunnel.models import audit, blocks, cells, nodes, score
from windtunnel.models.inference import Hierarchical, Sparse, Variational
from windtunnel.models.position import T5, Fire, Rope, Uniform
from windtunnel.spec import arrays
from windtunnel.train import finished, start
from windtunnel.tunnels import Recall

qkv = pytest.fixture(tensors)
small_chunks = pytest.fixture(autouse=True)(chunked)


@functools.cache
def program(method, rows=None):
    """Compiled once. The audit is what `blocks.attend` adds."""
    inference, own, book = of(method)
    rows = ALL if rows is None else np.asarray(rows)

    def run(q, k, v):
        q = q[:, :, rows]
        answer = inference.attend(q, k, v, rows, own, book)
        return answer, audit.audited(q, k, rows, own, answer.log_evidence_BNQ)

    return jax.jit(run, compiler_options=HASTE)


@functools.partial(jax.jit, compiler_options=HASTE)
def read(q, k, v, own, mass):
    return blocks.in_blocks(q, k, v, jnp.asarray(ALL), own, mass)[1]


@pytest.mark.parametrize("method", METHODS)
class TestEveryMethod:
    def test_no_output_depends_on_a_later_token(self, method, qkv):
        """Gradients of every output by every later token are zero, not small; those by earlier ones are not."""
        inference, own, book = of(method)

        def outputs(scale_T):
            q, k, v = (x[:1] * scale_T[None, None, :, None] for x in qkv)
            context, reading = blocks.attend(q, k, v, ALL, own, inference, book)
            assert reading.kernel == inference.name
            return jnp.sum(jnp.sin(context), axis=(0, 1, 3))

        slope_TT = np.asarray(jax.jit(jax.jacrev(outputs), compiler_options=HASTE)(jnp.ones(LENGTH)))
        assert (slope_TT[np.triu_indices(LENGTH, 1)] == 0).all()
        assert (np.diag(slope_TT)[1:] != 0).all()
        for edge in range(CHUNK, LENGTH, CHUNK):
            assert slope_TT[edge, edge - 1] != 0, "the block before is seen"

    def test_predictions_before_a_point_do_not_notice_another_continuation(self, method, qkv):
        before = program(method)(*qkv)[0]
        for cut in (CHUNK * 3, CHUNK * 3 + 1, CHUNK * 3 - 1):
            after = program(method)(*qkv.at[:, :, :, cut:].multiply(-3.0))[0]
            for of_before, of_after in zip(before[:2], after[:2], strict=True):
                np.testing.assert_array_equal(of_before[:, :, :cut], of_after[:, :, :cut])
            assert (before.context_BNQd[:, :, cut:] != after.context_BNQd[:, :, cut:]).any()

    def test_a_sequence_does_not_notice_what_it_is_batched_with(self, method, qkv):
        before, certified = program(method)(*qkv)
        after, certified_after = program(method)(*qkv.at[:, 0].multiply(-3.0))
        np.testing.assert_array_equal(before.context_BNQd[1], after.context_BNQd[1])
        for name, of_B in {**before.certificates, **certified}.items():
            if name != "mass_bound":  # of all sequences together
                assert of_B[1] == {**after.certificates, **certified_after}[name][1], name

    @pytest.mark.slow
    def test_some_queries_are_as_all(self, method, qkv):
        """As far from the exact ones, which a block that begins elsewhere can change."""
        rows = (0, 1, 7, 8, 9, 22, 31, 40, 44)
        some, every = program(method, rows)(*qkv)[0].context_BNQd, program(method)(*qkv)[0].context_BNQd
        exact = jax.nn.softmax(score.scores(qkv[0], qkv[1], ALL, scored(METHODS[method][1])), axis=-1) @ qkv[2]
        assert np.abs(some - exact[:, :, rows]).max() <= 1e-5 + 1.5 * np.abs(every - exact).max()

    def test_the_audit_holds_what_is_missed(self, method, qkv):
        """Against all queries written out."""
        answer, certified = program(method)(*qkv)
        log_z = jax.nn.logsumexp(score.scores(qkv[0], qkv[1], ALL, scored(METHODS[method][1])), axis=-1)
        missed_BT = 1 - np.exp(np.asarray(answer.log_evidence_BNQ - log_z))
        assert missed_BT.max() > 0.01, "else this says nothing"
        for b, missed in enumerate(missed_BT):
            assert abs(float(certified["audit_missed_mean"][b]) - missed.clip(0).mean()) < 0.02
            assert certified["audit_missed_bound"][b] >= missed.clip(0).mean()
            assert certified["audit_missed_worst"][b] <= missed.max() + 1e-6


def test_a_bound_by_the_binary_kl():
    np.testing.assert_allclose(float(audit.upper_bound(jnp.zeros(()), 1000)), 1 - 0.05 ** (1 / 1000), rtol=1e-3)
    random = np.random.default_rng(0)
    for p in (0.003, 0.2):
        means = random.binomial(256, p, 4000) / 256
        assert (np.asarray(audit.upper_bound(jnp.asarray(means), 256)) < p).mean() < 0.05


def test_each_head_reads_as_far_as_its_own_prior(qkv):
    """What is not read is prior mass below `mass`, and no block more than needed is read."""
    q, k, v = qkv
    mass, scale_N = 0.02, jnp.log(jnp.asarray([0.3, 3.0]))
    own = scored(HEAVY, scale_N)
    seen = read(q, k, v, own, mass)
    p_NT = np.exp(np.asarray(own.table(), np.float64))
    for chunk, (first, rows) in enumerate(
        zip(np.asarray(seen.first_MN), np.array_split(ALL, range(8, 45, 8)), strict=True)
    ):
        for n in range(HEADS):

            def left(block, n=n, rows=rows):
                return max(p_NT[n, max(i - block * CHUNK + 1, 0) :].sum() for i in rows) / p_NT[n].sum()

            assert first[n] == 0 or left(first[n]) <= mass
            assert first[n] == chunk or left(first[n] + 1) > mass
    assert (seen.first_MN[-1, 0] > seen.first_MN[-1, 1]) and seen.first_MN[-1, 1] == 0


@pytest.mark.slow
def test_the_posterior_mass_of_what_is_skipped_is_its_prior_mass_on_average():
    """Of an exact head of `recall`, over 256 sequences; the prior restricted to the pairs that exist."""
    tunnel = arrays(Recall(bits=4, symbols=2, noise=0.2, prior=priors.GeneralizedGaussian(scale=2.0, beta=0.5)))
    own = scored(HEAVY)
    batch = tunnel.sample(jax.random.key(3), (), 256, LENGTH)
    k, cue = batch.inputs[..., :4], batch.inputs[..., -4:]
    q = cue * np.sqrt(4) * np.log(0.8 / 0.2) / 2
    q, k = (jnp.repeat(x[:, None], HEADS, axis=1) for x in (q, k))
    seen = read(q, k, k, own, 0.2)
    log_z = jax.nn.logsumexp(score.scores(q, k, ALL, own), axis=-1)
    missed_BT = 1 - np.exp(np.asarray(seen.log_evidence_BNQ - log_z))[:, 0]
    p_T = np.exp(np.asarray(own.table()[0], np.float64))
    first_T = CHUNK * np.repeat(np.asarray(seen.first_MN[:, 0]), CHUNK)[:LENGTH]
    prior_T = np.asarray([p_T[i - first + 1 : i + 1].sum() / p_T[: i + 1].sum() for i, first in enumerate(first_T)])
    error = missed_BT.mean(axis=1).std() / np.sqrt(len(missed_BT))
    assert prior_T.mean() > 0.005, "else this says nothing"
    assert abs(missed_BT.mean() - prior_T.mean()) < 4 * error < prior_T.mean()


def test_gradients_are_those_of_the_softmax_over_what_is_read(qkv):
    """As `whole`'s where nothing is skipped; and where something is, those of a softmax with a mask there."""
    own_mask = {}

    def sparse(mass):
        return lambda q, k, v, own: blocks.in_blocks(q, k, v, jnp.asarray(ALL), own, jnp.asarray(mass))[0]

    def written(q, k, v, own):
        s = jnp.where(own_mask["read"][None], score.scores(q, k, ALL, own), -jnp.inf)
        return jax.nn.softmax(s, axis=-1) @ v

    def gradients(function):
        def of(q, k, v, log_scale):
            return jnp.sum(jnp.sin(function(q, k, v, scored(HEAVY, log_scale))))

        return jax.jit(jax.grad(of, argnums=(0, 1, 2, 3)), compiler_options=HASTE)(*qkv, jnp.asarray([-1.5, 1.5]))

    for mass, skips in ((1e-12, False), (0.1, True)):
        own = scored(HEAVY, jnp.asarray([-1.5, 1.5]))
        seen = read(*qkv, own, mass)
        first_NT = np.repeat(np.asarray(seen.first_MN), CHUNK, axis=0)[:LENGTH].T
        own_mask["read"] = ALL[None, None] >= first_NT[..., None] * CHUNK
        assert (first_NT > 0).any() == skips
        for ours, expected in zip(gradients(sparse(mass)), gradients(written), strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-5)
            assert np.abs(expected).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_is_left_out_gradients_are_those_of_whole(method, qkv, monkeypatch):
    """Two blocks hold every key: both are near, and the prior of nothing is below `mass`."""
    monkeypatch.setattr(blocks, "CHUNK", 32)
    book, position = codebook(method), METHODS[method][1]
    inference = {"sparse": Sparse(mass=1e-12), "variational": Variational(cells=4), "hierarchical": Hierarchical()}[
        method
    ]

    def gradients(function):
        def of(q, k, v, log_scale):
            own = scored(position, log_scale if position is HEAVY else None)
            return jnp.sum(jnp.sin(function(q, k, v, own)))

        return jax.jit(jax.grad(of, argnums=(0, 1, 2, 3)), compiler_options=HASTE)(*qkv, jnp.asarray([-1.5, 1.5]))

    ours = gradients(lambda q, k, v, own: blocks.approximated(q, k, v, ALL, own, inference, book)[0])
    for mine, expected in zip(ours, gradients(lambda q, k, v, own: blocks.whole(q, k, v, ALL, own)), strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-5)
        assert np.abs(expected).max() > 1e-3 or position is not HEAVY


@pytest.mark.parametrize("method", ["variational", "hierarchical"])
def test_the_gap_is_estimated_though_channels_are_correlated(method, qkv):
    """Keys and queries that vary in two of four directions, each channel a mix of both; little enough for the second
    order. Without the correlations half of the gap would be lost.
    """
    mix = jax.random.normal(jax.random.key(7), (2, WIDTH))
    q, k = ((x[..., :2] * 0.7) @ mix for x in qkv[:2])
    own = scored(Uniform())
    metric_Ndd = jnp.broadcast_to(jnp.eye(WIDTH), (HEADS, WIDTH, WIDTH))
    one_cell = {"centre": jnp.zeros((HEADS, 1, WIDTH)), "metric": metric_Ndd}

    @functools.partial(jax.jit, compiler_options=HASTE)
    def answer(q, k, v):
        if method == "variational":
            return cells.attend(q, k, v, ALL, own, one_cell)
        return nodes.attend(q, k, v, ALL, own, 1, 2)

    gap = np.asarray(jax.nn.logsumexp(score.scores(q, k, ALL, own), axis=-1) - answer(q, k, qkv[2]).log_evidence_BNQ)
    estimate = answer(q, k, qkv[2]).certificates["gap_estimate_mean"]
    assert gap.mean() > 0.05
    np.testing.assert_allclose(estimate, gap.mean(axis=(1, 2)), rtol=0.25)


def test_a_chunk_does_nothing_that_grows_with_the_length():
    """Of exact and of sparse attention: a prior's tail that was taken for each chunk made time quadratic."""
    length = 8192
    own = scored(HEAVY)
    own = score.Score(own.position, own.learned, jnp.arange(length), None, HEADS, False)
    x = jnp.zeros((1, HEADS, length, WIDTH))

    def sizes(jaxpr, looped=False):
        """Of what is computed inside of loops."""
        for equation in jaxpr.eqns:
            if looped:
                yield from (out.aval.size for out in equation.outvars)
            for inner in jaxprs_in_params(equation.params):
                yield from sizes(inner, looped or equation.primitive.name in ("scan", "while"))

    for mass in (None, 0.1):
        traced = jax.make_jaxpr(lambda x, mass=mass: blocks.in_blocks(x, x, x, jnp.arange(length), own, mass)[0])(x)
        assert CHUNK**2 <= max(sizes(traced.jaxpr)) < length


@pytest.mark.parametrize(
    ("inference", "position", "why"),
    [
        (Sparse(above=LENGTH), HEAVY, "45 tokens are not above 45"),
        (Sparse(above=8), Uniform(), "position uniform has no prior over distance whose tail could be cut"),
        (Sparse(above=8), Rope(), "position rope has no prior over distance"),
        (Sparse(above=8), Fire(), "the prior of position fire does not depend on distance alone"),
        (Variational(above=8), HEAVY, "the prior of position generalized_gaussian is not constant over far keys"),
        (Variational(above=8), T5(), "t5 is not constant over far keys"),  # beyond 128, and a block here is 8
        (Variational(above=8), Rope(), "position rope rotates keys"),
        (Hierarchical(above=8), Rope(), "position rope rotates keys"),
        (Hierarchical(above=8), Fire(), "the prior of position fire does not depend on distance alone"),
    ],
)
def test_where_a_method_does_not_apply_attention_is_exact_and_says_why(qkv, inference, position, why):
    own = scored(position)
    reading = jax.eval_shape(lambda q, k, v: blocks.attend(q, k, v, ALL, own, arrays(inference))[1], *qkv)
    assert reading.kernel.startswith(f"blocked (not {inference.name}: ") and why in reading.kernel
    assert not reading.certificates


def test_the_configuration_of_a_model_says_how_it_infers():
    study = composed.study("+inference=sparse", "model.inference.mass=1e-4")
    assert study.model.inference == Sparse(mass=1e-4)
    assert composed.study().model.inference.name == "exact"


@pytest.mark.slow
def test_a_codebook_is_fitted_to_other_sequences_after_training_and_judged_with():
    """The first layer's keys take six values (a start among them), and the codebook has
    all. It depends on the parameters and the seed alone, and what is judged is not NaN.
    """
    overrides = (
        "tunnel=die tunnel.symbols=5 train.horizon=12 train.batch=2 evaluate.reach=4 evaluate.examples=2 "
        "model.width=8 model.hidden=8 +inference=variational model.inference.cells=8 model.inference.above=12"
    )
    study = arrays(composed.study(*overrides.split()))
    params = start(study).params
    judged = jax.jit(finished, compiler_options=HASTE)(study, params)
    centre = judged["layers"]["0"]["attention"]["codebook"]["centre"]
    assert centre.shape[1] == 8 and np.isfinite(centre).all()
    assert len(np.unique(np.asarray(centre[0]).round(4), axis=0)) == 6
    assert jax.tree.structure(params) != jax.tree.structure(judged)
    predicted = jax.jit(predict, compiler_options=HASTE)(study, judged, jnp.arange(1))
    assert np.isfinite(predicted.log_predictive).all()
    assert {reading.kernel for reading in predicted.readings} == {"variational"}
