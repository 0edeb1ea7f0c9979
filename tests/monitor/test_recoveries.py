"""Recoveries: each does what it says, when it should, at most so often; what is cut off in one ends as it would."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import study, tiny
from tests.instruments.planted import Planted, parameters
from tests.sweep import commands
from windtunnel import records
from windtunnel.config import Settings
from windtunnel.information import kl_bits
from windtunnel.models.inference import EXACT, Hierarchical
from windtunnel.monitor import closed, recoveries
from windtunnel.monitor.recoveries import back, orthogonal_keys, recovered, served, watch
from windtunnel.monitor.watcher import Watcher
from windtunnel.problem import Problem
from windtunnel.records.health import read_health
from windtunnel.spec import arrays
from windtunnel.sweep.folder import fixed_part
from windtunnel.sweep.point import Point
from windtunnel.sweep.run import run
from windtunnel.train import start

WATCHED = tiny("monitor.every=1", "monitor.recover.tries=2")
EXACT_MODEL = study("tunnel.bits=6", "tunnel.symbols=4", "train.horizon=16", "evaluate.reach=4", "evaluate.examples=8")


@pytest.fixture(scope="module")
def state():
    """One that has moments, at step 2."""
    fresh = jax.tree.map(np.asarray, jax.jit(start)(arrays(WATCHED)))
    full = jax.tree.map(lambda leaf: np.ones_like(leaf) if leaf.ndim else leaf, fresh.optimizer)
    return fresh._replace(optimizer=full, step=np.int32(2))


def row(kl=0.001, orthogonality=0.9, not_finite=0.0):
    values = {"kl_bits": kl, "orthogonality": orthogonality, "not_finite": not_finite}
    return {"monitors": {name: {"value": value} for name, value in values.items()}}


def remembered(state):
    return watch(jax.tree.map(lambda leaf: np.asarray(leaf)[None], state), 1, 2)


def test_keys_are_made_orthogonal_at_their_old_norm_and_their_moments_forgotten(state):
    def key(of):
        return of.params["layers"]["0"]["attention"]["key"]["kernel"]

    broken = jax.tree.map(np.array, state)
    key(broken)[:] = np.outer(key(state)[:, 0], np.ones(8))
    mended = orthogonal_keys(broken, state)
    gram = key(mended).T.astype(np.float64) @ key(mended)
    np.testing.assert_allclose(gram, np.eye(8) * np.linalg.norm(key(state)) ** 2 / 8, atol=1e-4)
    for path, leaf in jax.tree_util.tree_flatten_with_path(mended.params)[0]:
        if "'key'" not in jax.tree_util.keystr(path):
            np.testing.assert_array_equal(leaf, dict(jax.tree_util.tree_flatten_with_path(broken.params)[0])[path])
    moments = {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(mended.optimizer)[0]
    }
    (square,) = [leaf for name, leaf in moments.items() if name.endswith("mu['8x8']")]
    assert sorted(square.reshape(len(square), -1).sum(axis=1)) == [0, *[64] * (len(square) - 1)], "one matrix of all"
    (rest,) = [leaf for name, leaf in moments.items() if name.endswith("nu['rest']")]
    assert rest.all()


def test_an_orthogonal_w_k_stays_what_it_is(state):
    """The polar factor of c × orthogonal is itself, at any norm; Newton–Schulz as in Muon would not say so."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0].astype(np.float32)
    turned = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 3 * rotation if "'key'" in jax.tree_util.keystr(path) else leaf, state.params
    )
    mended = orthogonal_keys(state._replace(params=turned), state._replace(params=turned))
    np.testing.assert_allclose(mended.params["layers"]["0"]["attention"]["key"]["kernel"], 3 * rotation, atol=1e-5)


def test_back_is_back_in_numbers_and_not_in_time(state):
    later = jax.tree.map(lambda leaf: leaf + 1, state)
    there = back(later, state)
    assert there.step == later.step
    for now, then, of in zip(*map(jax.tree.leaves, (later, state, there)), strict=True):
        np.testing.assert_array_equal(of, then if then.dtype == np.float32 else now)


def done(of, state, closes=False, step=2, study=WATCHED, **values):
    new, events = recovered(study, row(**values), step, state, of, 0, closes)
    return new, [event.get("recovery", event["what"]).split(",")[0] for event in events]


def test_what_was_never_good_is_not_recovered(state):
    of = remembered(state)
    new, events = done(of, state, kl=3.0, orthogonality=0.1)
    assert new is state and events == [] and of.good_step[0] == 2, "and what is not yet trained is good for now"


def test_each_kind_in_its_place_and_at_most_so_often(state):
    of, later = remembered(state), jax.tree.map(lambda leaf: leaf + 1, state)
    assert done(of, state)[1] == [] and of.good_once.all()
    new, events = done(of, later, kl=0.5, orthogonality=0.5)
    assert events == ["keys made orthogonal", "back to the last good state"]
    np.testing.assert_array_equal(jax.tree.leaves(new.params)[0], jax.tree.leaves(state.params)[0])
    assert done(of, later, kl=0.5, closes=True)[1] == ["closed form in place of attention"] and of.fell[0] == 2
    assert done(of, later, kl=0.5, closes=True)[1] == [], "it has fallen"
    assert done(of, later)[1] == ["restored"] and of.fell[0] == -1
    assert done(of, later, kl=0.5)[1] == [], "after two tries"
    assert of.tries[0].tolist() == [1, 2, 0]


def test_what_is_not_finite_goes_back_at_half_the_rate_until_it_is_lost(state):
    of = remembered(state)
    done(of, state, step=1)
    for rate in (0.5, 0.25):
        new, events = done(of, jax.tree.map(lambda leaf: leaf * np.nan, state), kl=None, not_finite=5.0)
        assert events == ["back to the last good state"] and of.rate[0] == rate and of.good_step[0] == 1
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new.params))
    going = recoveries.going_on(WATCHED, recoveries.served_by(of, 0))
    assert going.train.learning_rate == pytest.approx(WATCHED.train.learning_rate / 4)
    assert jax.tree.structure(going) == jax.tree.structure(WATCHED)
    assert done(of, state, kl=None, not_finite=5.0)[1] == ["given up"] and of.lost[0]


def test_exact_softmax_takes_the_place_of_an_approximation(state):
    faulty = tiny("monitor.every=1", "monitor.recover.tries=2", "monitor.fault.name=cells", "monitor.fault.steps=0")
    of = remembered(state)
    done(of, state, study=faulty)
    assert done(of, state, study=faulty, kl=0.5, closes=True)[1] == ["exact softmax in place of an approximation"]
    answers = served(faulty, recoveries.served_by(of, 0))
    assert not answers.monitor.fault.in_force(2) and faulty.monitor.fault.in_force(2)
    assert done(of, state, study=faulty, kl=0.5, closes=True)[1] == ["closed form in place of attention"], (
        "exact by now"
    )
    wished = replace(WATCHED, model=replace(WATCHED.model, inference=Hierarchical(above=10)))
    of = remembered(state)
    done(of, state, study=wished)
    assert done(of, state, study=wished, kl=0.5)[1] == ["exact softmax in place of an approximation"]
    assert served(wished, recoveries.served_by(of, 0)).model.inference == EXACT


def test_what_is_longer_is_attended_to_hierarchically():
    longer = tiny("monitor.recover.tokens=12")
    assert served(longer).model.inference == Hierarchical(above=12) and served(WATCHED) == WATCHED


def test_the_closed_form_is_the_posterior():
    """A head whose queries are blurred is exact through it."""
    params, knobs = parameters(EXACT_MODEL, 1.0, None), arrays(EXACT_MODEL)
    assert closed.has_closed_form(EXACT_MODEL) and not closed.has_closed_form(study("model=gru"))
    log_q = closed.answers(knobs, params, jnp.ones((1, 1)), jnp.arange(8), Planted)
    exact = jax.jit(Problem.exact)(arrays(EXACT_MODEL.problem))
    assert kl_bits(np.asarray(exact.log_predictive), np.asarray(log_q)).max() < 1e-4
    own = closed.answers(knobs, params, jnp.full((1, 1), jnp.nan), jnp.arange(8), Planted)
    assert kl_bits(np.asarray(exact.log_predictive), np.asarray(own)).mean() > 0.1


FAULTY = ["train.steps=12", "monitor.every=2", "monitor.examples=2", "monitor.recover.tries=3", "evaluate.reach=1",
          "monitor.recover.kl_bits=50", "monitor.fault.name=nan_parameter"]  # fmt: skip


def trained(root, *steps):
    """A pack of two studies whose parameters break before these steps."""
    points = [Point(tiny(*FAULTY, f"monitor.fault.step={step}", f"seed={seed}"), {}) for seed, step in enumerate(steps)]
    assert run(points, root, Settings(checkpoint_seconds=0.0), fixed_part([point.study for point in points]))
    return [root / point.id for point in points]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "straight", 5, 11)


@pytest.mark.slow
def test_a_transient_nan_is_survived_and_its_neighbour_does_not_notice(straight, tmp_path):
    first, beside = straight
    what = [(row["step"], event["what"]) for row in read_health(first) for event in row["events"]]
    assert what == [(6, "fault"), (6, "alarm"), (6, "recovery")] or (6, "recovery") in what
    assert records.read_study(first)["facts"]["served"]["rate"] == 0.5
    assert records.read_result(first)["kl_bits"] > 0 and not (first / "error.txt").exists()
    curve = records.read_learning_curve(first / "train.jsonl")["kl_bits"]
    assert np.isnan(curve[5]) and np.isfinite(curve[6:]).all()
    _, other = trained(tmp_path / "other", 3, 11)
    assert other.name == beside.name
    for name in (*commands.ENDED, "health.jsonl"):
        assert (other / name).read_bytes() == (beside / name).read_bytes(), name
    assert commands.parameters(other) == commands.parameters(beside)


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("step", [6, 8])
def test_cut_off_in_a_recovery_it_ends_where_it_would_have_ended(straight, tmp_path, monkeypatch, step):
    """After the line of a check is written and before the state after it is saved, which is the worst moment."""
    tell = Watcher._tell

    def killed(self, index, row):
        if row["step"] == step:
            raise Killed
        tell(self, index, row)

    monkeypatch.setattr(Watcher, "_tell", killed)
    with pytest.raises(Killed):
        trained(tmp_path / "cut", 5, 11)
    monkeypatch.undo()
    for folder, whole in zip(trained(tmp_path / "cut", 5, 11), straight, strict=True):
        for name in (*commands.ENDED, "health.jsonl"):
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
        assert commands.parameters(folder) == commands.parameters(whole)
