"""Packs: one program for studies of one structure, and the same numbers as alone."""

import jax
import numpy as np
import pytest

from tests import composed
from tests.composed import tiny
from windtunnel import train
from windtunnel.spec import arrays
from windtunnel.sweep import packs
from windtunnel.sweep.packs import Program, group, layout

# Everything that is a number: noise, the prior's and the position's scale and shape, the rate, the seed.
KNOBS = (
    "tunnel.noise=0.2 tunnel.prior.scale=3 tunnel.prior.beta=1.5 position.scale=2 position.beta=1 "
    "train.learning_rate=0.01 train.adam_rate=1 train.clip=0.5 seed=7"
).split()


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5), a, b)


@pytest.fixture(scope="module")
def pack():
    """Three studies that differ in every knob, trained together: the program and the state after 3 steps."""
    program = Program([tiny(), tiny(*KNOBS), tiny("seed=1")])
    state, curves = program.advance(program.start(), 3)
    return program, jax.tree.map(np.asarray, state), curves


def test_points_are_grouped_by_structure():
    studies = [tiny(), tiny("position=alibi"), tiny("seed=1"), tiny("position=alibi", "seed=1"), tiny("tunnel.bits=4")]
    assert group(studies) == [[0, 2], [1, 3], [4]]
    assert group([tiny(), *(tiny(knob) for knob in KNOBS)]) == [list(range(len(KNOBS) + 1))]


def test_one_compilation_whatever_the_knobs():
    start = jax.jit(train.start)
    advance = jax.jit(lambda study, state, steps: train.advance(study, train.prepare(study), state, steps))
    for study in (tiny(), *(tiny(knob) for knob in KNOBS)):
        study_arrays = arrays(study)
        advance(study_arrays, start(study_arrays), np.int32(1))
    assert start._cache_size() == 1 and advance._cache_size() == 1
    start(arrays(tiny("model.hidden=9")))
    assert start._cache_size() == 2, "and a size compiles anew"


@pytest.mark.parametrize(
    ("studies", "devices", "expected"),
    [
        (1, 2, (1, 2)),  # one study: its batch is split
        (2, 2, (2, 1)),
        (3, 2, (1, 2)),  # three: in turn, each split, rather than two rounds of which one half empty
        (4, 2, (2, 1)),
        (16, 2, (2, 1)),
        (1, 8, (1, 8)),
        (3, 8, (3, 2)),
        (8, 8, (8, 1)),
        (1, 1, (1, 1)),
    ],
)
def test_layout(studies, devices, expected):
    assert layout(studies, devices, lambda r: 32 % r == 0) == expected


def test_a_batch_that_cannot_be_split_is_not():
    assert layout(1, 2, lambda r: r == 1) == (1, 1)


def test_a_study_trains_in_a_pack_as_alone(pack):
    """Also across layouts: this pack splits batches over devices, two studies side by side do not."""
    _, state, curves = pack
    program = Program([tiny(), tiny(*KNOBS)])
    assert program.axis is None
    pair, pair_curves = program.advance(program.start(), 3)
    for index in (0, 1):
        close(jax.tree.map(lambda x, i=index: x[i], state.params), jax.tree.map(lambda x, i=index: x[i], pair.params))
        for name in ("kl_bits", "cross_entropy_bits"):
            np.testing.assert_allclose(curves[name][index, :3], pair_curves[name][index, :3], rtol=1e-3)


def test_steps_can_be_cut_anywhere(pack):
    program, state, curves = pack
    again, first = program.advance(program.start(), 1)
    again, rest = program.advance(again, 2)
    jax.tree.map(np.testing.assert_array_equal, state, jax.tree.map(np.asarray, again))
    for name, curve in curves.items():
        np.testing.assert_array_equal(curve[:, :3], np.concatenate([first[name][:, :1], rest[name][:, :2]], axis=1))
        assert np.isnan(curve[:, 3:]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["belief", "belief_content", "segments", "feedback", "feedback_adaptive", "memory", "adaptive"]
)
def test_every_model_trains_in_a_pack_as_alone_and_can_be_cut_anywhere(model):
    """And evaluates so. With `memory`, of both kinds: slots, and matrices beside attention to the last tokens."""
    sizes = [override for override in composed.TINY if not (model.startswith("belief") and "hidden" in override)]
    for own in ([], ["model.store=delta", "model.window=2"]) if model == "memory" else ([],):
        studies = [composed.study(*sizes, f"model={model}", *own, f"seed={seed}") for seed in (0, 1)]
        program, alone = Program(studies), Program(studies[:1])
        state, _ = program.advance(program.start(), 3)
        again, _ = program.advance(program.start(), 1)
        again, _ = program.advance(again, 2)
        jax.tree.map(np.testing.assert_array_equal, state, again)
        one, _ = alone.advance(alone.start(), 3)
        close(jax.tree.map(lambda x: x[0], state.params), jax.tree.map(lambda x: x[0], one.params))
        same = program.on_devices(jax.tree.map(lambda x: np.stack([x[0], x[0]]), state.params))
        log_q, log_q_alone = program.predict(same).log_predictive, alone.predict(one.params).log_predictive
        np.testing.assert_allclose(log_q[0], log_q_alone[0], atol=1e-3)
        np.testing.assert_array_equal(log_q[0], log_q[1])


def test_seeds_and_knobs_make_different_studies(pack):
    _, state, _ = pack
    kernel = state.params["head"]["kernel"]
    assert not np.allclose(kernel[0], kernel[1]) and not np.allclose(kernel[0], kernel[2])


def test_evaluation_is_the_same_for_every_study_and_pack(pack):
    """Paired: the same sequences, in whatever pack."""
    program, state, _ = pack
    same = jax.tree.map(lambda leaf: np.stack([leaf[0]] * len(leaf)), state.params)
    log_q = np.asarray(program.predict(program.on_devices(same)).log_predictive)
    np.testing.assert_array_equal(log_q[0], log_q[2])
    np.testing.assert_allclose(np.exp(log_q).sum(-1), 1, rtol=1e-5)


def test_sequences_are_judged_alike_however_many_a_call(pack, monkeypatch):
    program, state, _ = pack
    monkeypatch.setattr(packs, "ROUND", 1)
    apart = Program([tiny(), tiny(*KNOBS), tiny("seed=1")])
    assert (program.round, apart.round) == (8, 2), "on two devices"
    params = program.on_devices(state.params)
    for together, other in zip(*map(jax.tree.leaves, (program.predict(params), apart.predict(params))), strict=True):
        assert together.shape[:2] == (3, 8)
        np.testing.assert_allclose(together, other, atol=1e-6)


@pytest.mark.slow
def test_training_lowers_kl():
    program = Program([tiny("train.steps=300"), tiny("train.steps=300", "seed=1")])
    for kl_bits_X in program.advance(program.start(), 100)[1]["kl_bits"]:
        assert kl_bits_X[90:100].mean() < 0.5 * kl_bits_X[:10].mean()


@pytest.mark.slow
def test_parameters_that_a_layer_does_not_use_stay_where_they_are():
    """`learned` positions are embedded once: the tables of deeper layers are arguments that the program never reads."""
    long = "position=learned model.layers=2 evaluate.reach=100 evaluate.examples=2".split()  # in blocks
    program = Program([tiny(*long, f"seed={seed}") for seed in range(2)])
    assert program.mesh.shape[packs.STUDY] == 2
    assert np.isfinite(program.predict(program.start().params).log_predictive).all()
