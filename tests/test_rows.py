"""Rows of the tables that take hours, from planted records."""

import itertools
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import binding
import reproduce_long as long
from stages import asked
from tests.composed import study
from windtunnel.train import examples


def planted(seed, kl_bits, **more):
    model = {"name": "ssd", "width": 8, "states": 4}
    bits = {"kl_bits": kl_bits, "kl_bits_past": 2 * kl_bits, "verdict": "fails in range"}
    memory = {"equivalent_memory": 8, "equivalent_memory_censored": False, "parameters": 1000}
    asked = {"tunnel": "recall", "seed": seed, "steps": 3000, "train.learning_rate": 0.02, "study": {"model": model}}
    return {"status": "done", "overrides": {}, **bits, **memory, **asked, **more}


def test_a_row_of_binding_is_about_its_studies_and_not_about_their_twins(monkeypatch):
    rows = [planted(seed, 0.5) for seed in range(5)]
    rows += [planted(seed, 4.0, overrides={"twin": "half"}, equivalent_memory=2) for seed in range(5)]
    monkeypatch.setattr(binding, "done", lambda root: rows)
    monkeypatch.setattr(binding.records, "rows", lambda root: rows)
    cells = binding.line("ssd, 8 states")
    assert cells[:2] == ["ssd, 8 states", "64"] and cells[5:7] == ["8", "fails in range"]
    assert cells[3].startswith("0.50") and cells[4].startswith("1.0")


def test_the_best_prior_is_held_against_the_best_of_all_rivals(monkeypatch):
    of = {"passkey-own": 0.8, "passkey-bam": 0.6, "passkey-alibi": 0.1, "passkey-rope": 0.4}
    monkeypatch.setattr(long, "accuracy", lambda name: np.full(len(long.LENGTHS), of[name]) if name in of else None)
    assert long.by_length().splitlines()[-1] == "| best prior over best rival (the seed says 25) | " + " | ".join(
        ["2.0"] * len(long.LENGTHS)
    ) + " |"  # fmt: skip
    del of["passkey-rope"]
    assert "| not run |" in long.by_length().splitlines()[-1], "a rival that was not trained may be the best"


def test_a_row_that_does_not_exist_is_named():
    assert asked(["b"], ["a", "b"]) == ["b"] and asked([], ["a", "b"]) == ["a", "b"]
    with pytest.raises(SystemExit, match="ROW=c: no such row; valid: a; b"):
        asked(["c"], ["a", "b"])


@pytest.mark.parametrize("row", long.ROWS, ids=lambda row: row.name)
def test_every_point_of_a_row_is_a_study(row):
    keys = [size.partition("=") for size in row.sizes]
    swept = [[f"{key}={value}" for value in values.split(",")] for key, _, values in keys]
    for point in itertools.product(*swept):
        assert study(*row.fixed, *point, f"train.steps={row.steps}").train.steps == row.steps


def test_the_passkey_of_hours_is_that_of_minutes():
    minutes = study("+sweep=reproduce_reach", "position=bam", "train.supervision=posterior", "seed=0")
    assert study(*long.PASSKEY, "position=bam").tunnel == minutes.tunnel


def test_exact_inference_finds_the_passkey_at_500_horizons():
    """Else nothing could: with 16 bits that flip in one case of ten, one pair among 32,000 is anybody's guess."""
    problem = study("+sweep=reproduce_reach", "position=bam", "train.supervision=posterior", "seed=0").problem
    tunnel, length = problem.tunnel, problem.length
    tables = tunnel.prepare(length)
    batch = examples(replace(problem, horizon=length), tables, problem.key, jnp.arange(4))
    log_p_BV = tunnel.log_predictive(tables, batch, jnp.asarray([length - 1]))[:, 0]
    assert length == 32_000
    assert float(-jnp.sum(jnp.exp(log_p_BV) * log_p_BV, axis=-1).mean()) < 0.1
