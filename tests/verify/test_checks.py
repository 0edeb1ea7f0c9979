"""Every tunnel proves itself, and a broken oracle is found out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.errors import BadInput, StudyFailed
from windtunnel.priors import Gaussian, GeneralizedGaussian, Grid, Uniform
from windtunnel.spec import names
from windtunnel.tunnels import AnyTunnel, Bijection, Fusion, Recall, RecallAdaptive, Switching
from windtunnel.verify import SIZES, verify, worst_of
from windtunnel.verify.brute import BRUTES
from windtunnel.verify.checks import Check, _predict_single, answer, checks


@pytest.fixture
def broken(monkeypatch):
    """Break an oracle on purpose; what was compiled of the sound one is forgotten, and then of the broken one."""

    def forget():
        for program in (answer, _predict_single):
            program.clear_cache()

    def replace(owner, name, wrong):
        forget()
        right = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda self, *rest: wrong(right, self, *rest))

    yield replace
    forget()


# One size that shows each fault: what is broken is compiled anew.
SMALL = (
    Recall(bits=2, symbols=3, noise=0.1, prior=Gaussian(scale=2.0)),
    Bijection(symbols=4),
    Fusion(bits=2, symbols=3, levels=2),
    RecallAdaptive(bits=2, symbols=3, noise=0.1, prior=Grid(scales=(1.0, 5.0))),
    Switching(symbols=2, concentration=0.5, hazards=(0.1, 0.6)),
)


def failed(name):
    (tunnel,) = (tunnel for tunnel in SMALL if tunnel.name == name)
    return {check.name for check in checks(tunnel, observations=4) if not check.passed}


LONG = {"mixture", "regression", "hops", "recurrence"}  # to compile


@pytest.mark.parametrize("name", [name for name in BRUTES if name not in LONG])
def test_every_oracle_is_exact(name):
    """At one random small size."""
    sound(worst_of(name, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", BRUTES)
def test_every_oracle_is_exact_at_every_size(name):
    """At all sizes that `verify` takes."""
    sound(worst_of(name, SIZES))


def sound(worst):
    assert all(check.passed for check in worst), [check for check in worst if not check.passed]
    assert {"predictive equals enumeration", "chain rule", "float32 agrees"} <= {check.name for check in worst}


FAR = GeneralizedGaussian(scale=1.5, beta=0.5)
PRIORS = [(Uniform(), ()), (Gaussian(scale=2.0), pytest.mark.slow), (FAR, ())]  # a size is compiled for each


@pytest.mark.slow
@pytest.mark.parametrize(
    "tunnel",
    [
        *(pytest.param(Recall(bits=2, symbols=3, noise=0.1, prior=prior), marks=marks) for prior, marks in PRIORS),
        Recall(bits=2, symbols=3, noise=0.0, prior=FAR),
        Recall(bits=2, symbols=3, noise=0.5, prior=FAR),
        Recall(bits=1, symbols=2, noise=0.25, prior=FAR),  # two keys for all pairs: collisions everywhere
        Bijection(symbols=2),
        Bijection(symbols=4, replacement=True, random_start=True, pool=3, pool_seed=5),
    ],
)
def test_the_first_oracles_at_their_corners(tunnel):
    found = list(checks(tunnel, observations=min(4, tunnel.capacity or 4)))
    assert all(check.passed for check in found), found


def test_no_tunnel_is_without_a_judge():
    assert set(BRUTES) == set(names(AnyTunnel))


@pytest.mark.slow
def test_a_prior_that_is_forgotten_is_found_out(broken):
    broken(Recall, "_log_prior", lambda right, *rest: jnp.where(right(*rest) > -jnp.inf, 0.0, -jnp.inf))
    assert {"predictive equals enumeration", "posterior equals enumeration"} <= failed("recall")


def test_a_likelihood_that_is_off_by_a_little_is_found_out(broken):
    broken(Recall, "_log_likelihood", lambda right, *rest: 1.000001 * right(*rest))
    assert "predictive equals enumeration" in failed("recall")


@pytest.mark.slow
def test_a_channel_that_is_weighed_wrongly_is_found_out(broken):
    broken(Fusion, "_gains", lambda right, *rest: (right(*rest)[0], 1.01 * right(*rest)[1]))
    assert "predictive equals enumeration" in failed("fusion")


def test_a_prior_that_is_not_normalised_over_the_pairs_that_exist_is_found_out(broken):
    """Where one prior is known, what it sums to makes no difference; where it is to be learned, it does."""

    def unnormalised(right, tunnel, batch, at):
        log_sum_GT = jax.lax.cumlogsumexp(tunnel._log_lag(batch.inputs.shape[1]), axis=1)
        return right(tunnel, batch, at) + log_sum_GT[:, at].T[None, :, :, None]

    broken(RecallAdaptive, "_log_joint", unnormalised)
    assert {"predictive equals enumeration", "baselines equal enumeration"} <= failed("recall_adaptive")


@pytest.mark.slow
def test_a_hazard_that_is_not_learned_is_found_out(broken):
    def forgetful(right, tunnel, *rest):
        return right(tunnel, *rest)[..., :1] + jnp.log(jnp.full(2, 0.5))[None, None, None]

    broken(Switching, "_log_began", forgetful)
    assert "posterior equals enumeration" in failed("switching")


def test_a_sampler_with_a_wrong_prior_is_found_out(broken):
    """The oracle is right here; only the data do not come from where it believes."""

    def skewed(right, tunnel, key, own, count):
        few = jnp.arange(count)[:, None] % 10 == 0
        return jnp.where(few, jnp.arange(tunnel.symbols)[None], right(tunnel, key, own, count))

    broken(Bijection, "draw", skewed)
    found = failed("bijection")
    assert found & {"posteriors average to the prior (SE)", "outcomes follow the predictive (−log₁₀ p)"}


def test_a_window_that_sees_too_much_is_found_out(broken):
    broken(Bijection, "log_last", lambda right, tunnel, own, batch, at, w: right(tunnel, own, batch, at, w + 1))
    assert "baselines equal enumeration" in failed("bijection")


def test_the_command_says_what_failed_and_ends_with_an_error(broken, capsys, monkeypatch):
    monkeypatch.setattr("windtunnel.verify.worst_of", lambda name: worst_of(name, sizes=1))
    monkeypatch.setattr("windtunnel.verify.in_use", lambda name: [Check("as judged", 1e-7, 1e-4)])  # `test_uses.py`
    verify(["bijection"])
    out = capsys.readouterr().out
    assert "bijection: sound" in out and "as judged" in out
    broken(Bijection, "log_exact", lambda right, *rest: 1.1 * right(*rest))
    with pytest.raises(StudyFailed):
        verify(["bijection"])
    out = capsys.readouterr().out
    assert "bijection: NOT SOUND" in out and "FAIL" in out
    monkeypatch.setattr("windtunnel.verify.worst_of", lambda name: [])
    monkeypatch.setattr("windtunnel.verify.in_use", lambda name: [Check("as judged", 0.1, 1e-4)])
    with pytest.raises(StudyFailed):
        verify(["bijection"])
    with pytest.raises(BadInput, match="recal: no such name; did you mean recall"):
        verify(["recal"])


def test_small_tunnels_are_many():
    random = np.random.default_rng(0)
    for name, Brute in BRUTES.items():
        assert len({repr(Brute.small(random)) for _ in range(20)}) > 3, name
