"""The leak alarm: who has seen what is to be predicted is found out, and nobody else is accused."""

import numpy as np
import pytest

from windtunnel.compare import LEAK, leak, verdict
from windtunnel.problem import Evaluate, Exact, Problem
from windtunnel.tunnels import Recall

PLACES, OUTCOMES, SEEDS = 16, 4, 300


def drawn(seed, sequences):
    """(log p, an outcome drawn from p at every place, its weight): what exact inference says of fresh sequences."""
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(OUTCOMES, 0.5), size=(sequences, PLACES))
    outcome = (random.random((sequences, PLACES, 1)) > p.cumsum(-1)[..., :-1]).sum(-1)
    weight = (random.random((sequences, PLACES)) < 0.8).astype(float)  # places that do not count, and
    weight[0] = 0  # a sequence without any that does
    return np.log(p), outcome, weight


def who_sees(log_p, outcome, sequences):
    """A model that sees the next symbol in these sequences, and puts 0.9 on it; in others it is exact."""
    q = 0.1 * np.exp(log_p)
    seen = np.take_along_axis(q, outcome[..., None], -1) + 0.9
    np.put_along_axis(q, outcome[..., None], seen, -1)
    return np.where(sequences[:, None, None], np.log(q), log_p)


def who_errs(log_p, seed, much):
    """An honest model: it knows the exact predictive up to noise that is drawn without the outcomes."""
    logits = log_p + much * np.random.default_rng([seed, 1]).normal(size=log_p.shape)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def evidence(log_p, log_q, outcome, weight):
    found = leak(log_p, log_q, outcome, weight)
    assert found["leak"] == (found["leak_log10"] > LEAK)
    return found["leak_log10"]


@pytest.mark.parametrize(("share", "sequences"), [(1, 64), (0.1, 1024)])
def test_who_sees_the_next_symbol_is_found_out(share, sequences):
    """In all sequences, or in one of ten: whatever is drawn."""
    found = []
    for seed in range(50):
        log_p, outcome, weight = drawn(seed, sequences)
        sees = np.arange(sequences) < share * sequences
        found.append(evidence(log_p, who_sees(log_p, outcome, sees), outcome, weight))
    assert min(found) > 1.5 * LEAK


def test_exact_inference_is_never_accused():
    for seed in range(20):
        log_p, outcome, weight = drawn(seed, 64)
        assert evidence(log_p, log_p.copy(), outcome, weight) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("much", [0.02, 0.2, 1.0, 5.0])
def test_an_honest_model_is_never_accused(much):
    """The evidence is a number whose mean is at most one, so it exceeds 10 in at most one of ten, and 10⁶ never."""
    found = []
    for seed in range(SEEDS):
        log_p, outcome, weight = drawn(seed, 64)
        found.append(evidence(log_p, who_errs(log_p, seed, much), outcome, weight))
    assert max(found) < LEAK / 2
    for power in (1, 2):
        most = 10.0**-power
        assert np.mean(np.asarray(found) > power) <= most + 3 * np.sqrt(most * (1 - most) / SEEDS)


def test_places_without_weight_are_not_looked_at():
    log_p, outcome, weight = drawn(0, 64)
    sees = who_sees(log_p, outcome, np.ones(64, bool))
    log_q = np.where(weight[..., None] > 0, log_p, sees)
    assert evidence(log_p, log_q, outcome, weight) == pytest.approx(0, abs=1e-9)


def test_a_verdict_says_it_first():
    """Before it says that the model is exact, or that it fails."""
    problem = Problem(tunnel=Recall(), horizon=PLACES, evaluate=Evaluate(examples=64))
    assert len(problem.bins.at) == PLACES
    log_p, outcome, weight = drawn(0, 64)
    uniform = np.full(log_p.shape, -np.log(OUTCOMES))
    exact = Exact(log_p, None, {"prior": uniform, "last-1": uniform}, outcome, weight)
    honest, _ = verdict(problem, exact, log_p)
    accused, _ = verdict(problem, exact, who_sees(log_p, outcome, np.ones(64, bool)))
    assert (honest["leak"], honest["verdict"]) == (False, "exact in range")
    assert (accused["leak"], accused["verdict"]) == (True, "leak") and accused["leak_log10"] > LEAK
