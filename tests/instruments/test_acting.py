"""Acting, of models that are planted: the exact reasoner, and one that is not sure enough of what it knows."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.composed import study
from windtunnel import regret
from windtunnel.instruments import acting, agents, base
from windtunnel.instruments.base import finite
from windtunnel.models.tap import as_tap
from windtunnel.report.acting import regret_picture
from windtunnel.spec import arrays

SMALL = "tunnel=bandit model=small train.horizon=6 evaluate.tolerance=0.0001".split()


class Planted(nnx.Module):
    """P(best) to the power of the parameter; its state are the counts, or without a parameter the token alone."""

    def __init__(self, study, params):
        self.tunnel, self.sharp = nnx.data(study.tunnel), params

    def __call__(self, inputs, tokens, *, key=None, tap=None, readings=None):
        at, length = jnp.asarray(tokens), inputs.shape[1]
        pulls = self.tunnel.pulls(inputs, at, length)
        counts = pulls.reshape(*pulls.shape[:2], -1).astype(float)
        state = jnp.where(self.sharp > 0, counts, jax.nn.one_hot(inputs, counts.shape[-1])[:, at])
        as_tap(tap)(0, "residual", state)
        return self.sharp * self.tunnel.log_best(self.tunnel.prepare(length), pulls)


@cache
def record(sharp, *overrides):
    asked = arrays(study(*SMALL, *overrides))
    subject = base.Subject(asked, jnp.asarray(sharp), model=Planted, null=jnp.asarray(0.0))
    assert acting.refusal(subject) is None
    return finite(acting.measure(subject))


def test_the_exact_reasoner_acts_as_thompson_sampling():
    exact = record(1.0)
    assert exact["verdict"] == "acts as Thompson sampling" and exact["headroom_bits"] > 0.001
    for name in ("kl_bits", "kl_bits_passive"):
        assert exact[name]["mean"] == pytest.approx(0, abs=1e-6)
    assert exact["gap"]["mean"] == pytest.approx(0, abs=1e-5) and exact["bounds"]["guaranteed"] < 0.02
    assert exact["curves"]["regret"]["model"] == pytest.approx(exact["curves"]["regret"]["thompson"], abs=1e-3)
    for name, of_t in regret.regrets(6).items():
        assert exact["regret"][name]["mean"] == pytest.approx(of_t.sum(), abs=1e-9)
    own, likeliest = (exact["regret"][name] for name in ("model", "model's likeliest"))
    for of, name in ((own, "thompson"), (likeliest, "likeliest")):
        assert abs(of["mean"] - exact["regret"][name]["mean"]) < 5 * of["se"]
    assert exact["never_again"]["model"] == exact["never_again"]["thompson"]
    assert exact["state"]["counts"]["trained"] > 0.999 > 0.9 > exact["state"]["counts"]["untrained"]
    assert exact["state"]["counts"]["shuffled"] < 0.2


def test_who_is_not_sure_enough_is_told_from_it_and_the_bounds_hold():
    dull = record(0.3)
    assert dull["verdict"] == "does not: KL on policy, regret" and dull["gap"]["mean"] > 5 * dull["gap"]["se"] > 0
    bounds = dull["bounds"]
    order = [dull["gap"]["mean"], bounds["variation"], bounds["visited"], bounds["guaranteed"], bounds["pinsker"]]
    assert order == sorted(order)
    assert dull["regret"]["model's likeliest"]["mean"] == pytest.approx(
        record(1.0)["regret"]["model's likeliest"]["mean"], abs=1e-3
    ), "the likeliest arm is the same"
    assert record(0.3, "evaluate.tolerance=0.1")["verdict"] == "vacuous"
    assert dull["optimal"]["gap"]["mean"] > record(1.0)["optimal"]["gap"]["mean"] > 0


def test_ones_own_choices_are_not_an_experts():
    """Who acts on rewards alone is exact for it; who reads his own choices as evidence loses more."""
    informed = record(1.0, "tunnel.informed=0.8")
    assert informed["kl_bits"]["mean"] == pytest.approx(0, abs=1e-6) and informed["kl_bits_deluded"]["mean"] > 0.01
    assert informed["kl_bits_passive"]["mean"] > 0.01
    deluded = informed["regret"]["deluded"]
    assert deluded["mean"] > informed["regret"]["thompson"]["mean"] + 5 * deluded["se"]


def test_never_again_counts_from_each_pull_on():
    played = agents.Played(
        np.zeros((1, 4), int),
        np.zeros((1, 4, 2)),
        np.asarray([[0, 1, 0, 0]]),
        np.zeros((1, 4)),
        np.asarray([[0.1, 0.9]]),
    )
    again = agents.never_again(played)
    assert again["share"].tolist() == [0, 0, 0.5, 0.5] and again["half"] == 0.5 and again["best"] == 1


def test_what_it_says_can_be_read_and_drawn(tmp_path):
    exact = record(1.0)
    assert any("acts as Thompson sampling" in line for line in acting.lines(exact))
    assert set(acting.headline(exact)) > {"kl_bits_on_policy", "regret", "gap"}
    assert "has no actions" in str(acting.refusal(base.Subject(study("tunnel=die"), None)))


def test_the_picture_reads_what_there_is(tmp_path):
    from tests.report.made import write_result, write_study
    from windtunnel import records
    from windtunnel.records.groups import Group
    from windtunnel.report.style import drawn

    write_study(tmp_path / "one")
    write_result(tmp_path / "one")
    group = Group({"study": "one"}, records.rows(tmp_path / "one"))
    assert regret_picture(tmp_path, [group]) is None
    for damaged in ({"skipped": "no actions"}, {"curves": {"regret": {"model": 3}}}, {"curves": {"regret": 1}}):
        records.write_json(tmp_path / "one" / "probe.json", {"acting": damaged})
        assert regret_picture(tmp_path, [group]) is None
    records.write_json(tmp_path / "one" / "probe.json", {"acting": record(1.0)})
    picture = regret_picture(tmp_path, [group])
    assert picture is not None
    names = {line.get_label() for line in drawn(picture, False).axes[0].get_lines()}
    assert {"optimal", "thompson", "greedy"} < names and len(names) == 4
