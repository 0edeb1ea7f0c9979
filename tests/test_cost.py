"""`make cost`: exponents with their intervals, and cells that are compared where both are there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cost
import cost_cell
from windtunnel.models import blocks, score
from windtunnel.models.position import Uniform


def test_an_exponent_and_its_interval():
    exact = [{"tokens": 2**n, "seconds": 3e-6 * 2.0 ** (1.5 * n)} for n in (13, 15, 17, 19)]
    assert cost.exponent(exact, "seconds") == "1.50 ± 0.00"
    assert cost.exponent(exact[:2], "seconds") == "1.50"
    assert cost.exponent(exact[:1], "seconds") == "–"
    noisy = [
        {**cell, "seconds": cell["seconds"] * factor} for cell, factor in zip(exact, (1.2, 0.8, 1.2, 0.8), strict=True)
    ]
    assert float(cost.exponent(noisy, "seconds").split("±")[1]) > 0.1


def test_predictions_are_compared_with_those_of_exact_attention(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "ROOT", tmp_path)
    cell = {"task": "die", "method": "sparse", "tokens": 8}
    assert cost.compare(cell) == {}
    for method, p in (("exact", [0.5, 0.5]), ("sparse", [0.25, 0.75])):
        np.savez(tmp_path / f"die-{method}-8.npz", log_q=np.log([p, [0.5, 0.5]]))
    expected = 0.5 * np.log2(2) + 0.5 * np.log2(2 / 3)
    gap = cost.compare(cell)
    np.testing.assert_allclose([gap["mean"], gap["worst"]], [expected / 2, expected])


def test_beyond_some_length_a_random_sample_is_compared_and_the_whole_model_first(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "ROOT", tmp_path)
    cell = {"task": "die", "method": "hierarchical", "tokens": 2 * cost.EVERY}

    def kept(method, p):
        np.savez(tmp_path / f"die-{method}-{cell['tokens']}.npz", log_q=np.log([p] * cost.SOME))

    kept("hierarchical", [0.25, 0.75])
    assert cost.compare(cell) == {}
    kept("top-hierarchical", [0.25, 0.75])
    assert cost.compare(cell) == {"mean": 0.0, "worst": 0.0, "in_last_layer": True}
    kept("top-exact", [0.5, 0.5])
    assert cost.compare(cell)["mean"] > 0.1 and not cost.compare(cell)["in_last_layer"]
    assert len(cost_cell.compared(cost.EVERY)) == cost.EVERY and len(cost_cell.compared(cell["tokens"])) == cost.SOME


def test_hours_follow_the_last_exponent():
    cells = [{"tokens": 2**n, "cpu_seconds": 3600 * 4.0 ** (n - 10)} for n in (8, 10)]
    assert cost.hours(cells, 2**12) == pytest.approx(16)


def test_equal_keys_together_are_exact_attention():
    token_T = jax.random.randint(jax.random.key(0), (45,), 0, 5)
    of_token = jax.random.normal(jax.random.key(1), (2, 5, 4))
    k, v = (jnp.broadcast_to(x[token_T], (1, 2, 45, 4)) for x in of_token)
    q, rows_Q = jax.random.normal(jax.random.key(2), (1, 2, 3, 4)), np.asarray([0, 7, 44])
    own = score.Score(Uniform(), {}, jnp.arange(45), None, 2, False)
    ours = cost_cell.Identical(token_T, 5).attend(q, k, v, rows_Q, own, None)
    np.testing.assert_allclose(ours.context_BNQd, blocks.whole(q, k, v, rows_Q, own), atol=1e-6)
    log_z = jax.nn.logsumexp(score.scores(q, k, rows_Q, own), axis=-1)
    np.testing.assert_allclose(ours.log_evidence_BNQ, log_z, atol=1e-5)


def test_flops_are_those_of_the_linear_maps_and_of_the_blocks_that_were_read():
    """Two layers of width 64, two heads, 128 hidden units; 1,024 tokens are two chunks, three pairs of blocks."""
    linear = 2 * 1024 * 2 * (4 * 64 * 64 + 2 * 64 * 128)
    pair = 2 * (512 * 512) * 32 * 2  # scores and values
    exact = {"task": "recall", "tokens": 1024, "attention": 2 * [{"kernel": "blocked", "skipped_blocks": 0.0}]}
    assert cost.flops(exact) == linear + 2 * 2 * 3 * pair
    sparse = {**exact, "attention": 2 * [{"kernel": "sparse", "skipped_blocks": 1 / 3}]}
    np.testing.assert_allclose(cost.flops(sparse), linear + 2 * 2 * 2 * pair)
    cells = {**exact, "attention": 2 * [{"kernel": "variational", "skipped_blocks": 0.0}]}
    assert cost.flops(cells) > cost.flops(exact)


def test_every_cell_is_of_a_study_that_the_door_takes():
    for task in cost.TASKS:
        assert cost.study_of(task, 3).model.layers >= 2
