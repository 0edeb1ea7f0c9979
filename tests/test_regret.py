"""Exact regrets of acting on two arms; the smallest horizons against enumeration."""

import pytest

from windtunnel import regret
from windtunnel.verify.brute import regret as brute

HORIZON = 40


@pytest.fixture(scope="module")
def totals():
    return {name: of_t.sum() for name, of_t in regret.regrets(HORIZON).items()}


def test_uniform_play_loses_a_sixth_of_a_reward_a_pull(totals):
    assert totals["uniform"] == pytest.approx(HORIZON / 6, abs=1e-12)


def test_thompson_sampling_is_not_optimal_and_greedy_play_beats_it(totals):
    """The figures of docs/tunnels.md."""
    for name, figure in {"optimal": 1.22, "greedy": 1.45, "thompson": 1.93}.items():
        assert totals[name] == pytest.approx(figure, abs=0.005)
    assert totals["optimal"] < totals["greedy"] < totals["thompson"] < totals["uniform"]


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_no_deterministic_policy_does_better_than_the_dynamic_programme(horizon):
    assert regret.regrets(horizon)["optimal"].sum() == pytest.approx(brute.optimal(horizon), abs=1e-12)


def test_nor_does_any_that_remembers_the_whole_history():
    assert regret.regrets(6)["optimal"].sum() == pytest.approx(brute.backward(6), abs=1e-12)
    assert brute.backward(3) == pytest.approx(brute.optimal(3), abs=1e-15)


@pytest.mark.parametrize("name", ["greedy", "thompson", "uniform"])
def test_regrets_are_those_of_every_sequence(name):
    assert regret.regrets(4)[name].sum() == pytest.approx(brute.of(getattr(brute, name), 4), abs=1e-12)


def test_the_optimal_policy_explores_only_while_there_is_time():
    """The last pull is greedy; an earlier one prefers, of two equal means, the arm that is less known."""
    policy = regret.optimal(HORIZON)
    assert (policy(HORIZON - 1) == regret.greedy(HORIZON - 1)).all()
    # The first arm: 2 of 4, the second: none of none.
    assert policy(4)[4, 2, 0] == 0.0 and regret.greedy(4)[4, 2, 0] == 0.5
