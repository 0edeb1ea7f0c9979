"""Bounds on regret, held against exact regrets of policies that are wrong in every way: no rollouts are needed."""

import itertools

import numpy as np
import pytest

from windtunnel import guarantee, regret

HORIZON = 10


def wrong(kind, seed):
    """Policies of the counts: Thompson sampling at another temperature, noisy, stubborn, or forgetful."""
    random = np.random.default_rng(seed)
    noise = [random.normal(size=(t + 1,) * 3) for t in range(HORIZON)]

    def policy(t):
        p = regret.thompson(t)
        odds = np.log(p) - np.log1p(-p)
        other = {"sharp": 3 * odds, "dull": 0.2 * odds, "noisy": odds + noise[t], "little": odds + 0.02 * noise[t],
                 "stubborn": odds + 4.0, "chance": 0 * odds}[kind]  # fmt: skip
        return 1 / (1 + np.exp(-other))

    return policy


def kl(p, q):
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


@pytest.mark.parametrize("kind", ["sharp", "dull", "noisy", "little", "stubborn", "chance"])
def test_the_identity_is_exact_and_the_bounds_hold(kind):
    policy = wrong(kind, 1)
    gap = regret.regret(policy, HORIZON).sum() - regret.regret(regret.thompson, HORIZON).sum()
    reached = list(regret.occupancy(policy, HORIZON))
    known, q_N = guarantee.stakes(HORIZON), regret.flat([policy(t) for t in range(HORIZON)])
    weight_N = regret.flat(reached)
    assert (weight_N * (known.p - q_N) * known.advantage).sum() == pytest.approx(gap, abs=1e-12)
    kl_T = np.asarray([(of * kl(regret.thompson(t), policy(t))).sum() for t, of in enumerate(reached)])
    bounds = guarantee.from_kl(HORIZON, kl_T)
    assert abs(gap) <= bounds["guaranteed"] <= bounds["pinsker"]
    # Every history as often as it is reached, to within a 1/10,000: what is estimated from visits holds as well.
    often = np.floor(weight_N * 10_000).astype(int)
    start = np.asarray([regret.index(t, 0, 0, 0) for t in range(HORIZON + 1)])
    rows = [np.repeat(np.arange(a, b), often[a:b]) for a, b in itertools.pairwise(start)]
    at_BT = np.stack([row[np.linspace(0, len(row) - 1, 5000).astype(int)] for row in rows], axis=1)
    visits = guarantee.from_visits(HORIZON, at_BT, kl(known.p, q_N)[at_BT], q_N[at_BT])
    assert abs(gap) <= visits["variation"] + 0.01 and visits["variation"] <= visits["visited"]
    assert visits["visited"] <= bounds["guaranteed"] * 1.02 + 0.01
    assert guarantee.gaps(HORIZON, at_BT, q_N[at_BT]).sum(axis=1).mean() == pytest.approx(gap, abs=0.02)


def test_a_small_kl_guarantees_a_small_gap_and_pinsker_is_looser_there():
    target = 0.05 * regret.regrets(HORIZON)["thompson"].sum()
    enough = guarantee.enough(HORIZON, target)
    assert guarantee.from_kl(HORIZON, np.full(HORIZON, enough))["guaranteed"] == pytest.approx(target, rel=1e-6)
    small = guarantee.from_kl(HORIZON, np.full(HORIZON, enough / 4))
    assert small["guaranteed"] < target and small["pinsker"] > 1.5 * small["guaranteed"]


@pytest.mark.parametrize("p", [1e-6, 0.01, 0.3, 0.5, 0.9])
def test_total_variation_is_at_most_what_the_spread_allows(p):
    """(2) of the module, for every q."""
    q = np.concatenate([np.geomspace(1e-12, 0.5, 400), 1 - np.geomspace(1e-12, 0.5, 400)])
    k = kl(p, q)
    assert (np.abs(p - q) <= 2 * k + np.sqrt(2 * k * p * (1 - p)) + 1e-15).all()


def test_coverage_is_one_for_ones_own_behaviour_and_grows_where_data_come_to_few_of_the_same_counts():
    assert guarantee.coverage(HORIZON, regret.thompson) == pytest.approx(1, abs=1e-9)
    uneven, even = (guarantee.coverage(HORIZON, regret.urn(of)).max() for of in (0.3, 1000.0))
    assert 1 < uneven < even


def test_the_behaviour_of_the_data_is_an_urn():
    """After one choice the next is the same with probability (α + 1) / (2α + 1); even, it does not matter."""
    assert regret.urn(0.5)(1)[1, 0, 0] == pytest.approx(0.75) and regret.urn(0.5)(1)[0, 0, 0] == pytest.approx(0.25)
    assert regret.urn(1e9)(5) == pytest.approx(0.5, abs=1e-6)
