"""Prior recovery against planted truths and plain loops, in float64."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import plain, study, tiny
from tests.models.small import POSITIONS
from windtunnel import records
from windtunnel.models.position import Alibi, Bam, GeneralizedGaussian, PerLayer, Position, Rope, per_layer
from windtunnel.records.groups import groups
from windtunnel.recovery import biases, compared, fit, recovery
from windtunnel.report.answer import answer
from windtunnel.report.tables import summary, verdict

pytestmark = pytest.mark.usefixtures("x64")
TRUTHS = [(3.0, 0.5), (10.0, 0.5), (3.0, 1.0), (10.0, 1.5), (3.0, 2.0), (3.0, 4.0), (10.0, 4.0)]
LAG = np.arange(64.0)


def learned(position, composed):
    """The parameters of a model of which only the positional prior matters."""
    numbers = [
        at.parameters(jax.random.key(0), composed.model.heads, composed.model.width, composed.horizon)
        for at in per_layer(position, composed.model.layers)
    ]
    return {"layers": {str(layer): {"attention": {"learned": of}} for layer, of in enumerate(numbers)}}


def recovered(position, *overrides):
    composed = dataclasses.replace(study(*overrides), position=position)
    return recovery(composed, learned(position, composed))


def loops(log_prior, bias):
    """KL(π ‖ softmax b) in bits, term by term."""
    p = [math.exp(x) for x in log_prior]
    q = [math.exp(x) for x in bias]
    return sum(x / sum(p) * math.log2((x / sum(p)) / (y / sum(q))) for x, y in zip(p, q, strict=True) if x > 0)


@pytest.mark.parametrize(("scale", "beta"), TRUTHS)
@pytest.mark.parametrize("shift", [0.0, -7.0])
def test_a_head_that_is_the_true_prior_is_recognised_whatever_constant_it_adds(scale, beta, shift):
    truth = -((LAG / scale) ** beta)
    row = compared(truth, truth + shift)
    assert row["kl_bits"] < 1e-9 and row["misfit_bits"] < 1e-6
    assert row["scale"] == pytest.approx(scale, rel=1e-3) and row["beta"] == pytest.approx(beta, rel=1e-3)
    assert row["sharpness"] == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(("scale", "beta"), TRUTHS)
def test_a_tempered_prior_keeps_its_beta_and_is_recovered_at_its_sharpness(scale, beta):
    truth = -((LAG / scale) ** beta)
    row = compared(truth, 0.7 * truth)
    assert row["sharpness"] == pytest.approx(0.7, rel=1e-3) and row["kl_bits_tempered"] < 1e-9
    assert row["beta"] == pytest.approx(beta, rel=1e-3)
    assert row["scale"] == pytest.approx(scale * 0.7 ** (-1 / beta), rel=1e-3)
    assert row["kl_bits"] == pytest.approx(loops(truth, 0.7 * truth), rel=1e-9) and row["kl_bits"] > 1e-3


def test_the_fit_weighs_lags_by_the_true_prior():
    """The same wild tail, where the data are and where they are not."""
    bias = -((LAG / 3) ** 1.0)
    bias[40:] += 5.0
    short, long = (fit(-((LAG / scale) ** 2), bias)["beta"] for scale in (3, 40))
    assert short == pytest.approx(1.0, abs=1e-3) and abs(long - 1.0) > 0.1


def test_the_fit_is_the_least_squares_of_a_library():
    from scipy.optimize import curve_fit

    prior, bias = -((LAG / 10) ** 1.5), -np.log1p(LAG / 4)
    row = fit(prior, bias)
    weight = np.exp(prior - np.log(np.exp(prior).sum()))
    (_, scale, beta), _ = curve_fit(
        lambda d, a, scale, beta: a - (d / scale) ** beta, LAG, bias, p0=(0, 5, 1), sigma=weight**-0.5, maxfev=10_000
    )
    assert (row["scale"], row["beta"]) == pytest.approx((scale, beta), rel=1e-3)
    assert row["misfit_bits"] > 1e-3


@pytest.mark.parametrize("bias", [np.zeros(64), LAG])
def test_what_does_not_fall_with_distance_has_no_scale_and_no_beta(bias):
    row = compared(-LAG / 3, bias)
    assert row["scale"] is None and row["beta"] is None
    assert row["kl_bits"] == pytest.approx(loops(-LAG / 3, bias), rel=1e-9)


def test_a_position_that_is_the_prior_is_recovered():
    record = recovered(GeneralizedGaussian(scale=10.0, beta=0.5), "evaluate.reach=4")
    assert [(row["layer"], row["head"]) for row in record["recovery"]] == [(0, 0), (0, 1)]
    for row in record["recovery"]:
        assert row["kl_bits"] < 1e-9 and row["kl_bits_reach"] < 1e-9
        assert (row["scale"], row["beta"]) == pytest.approx((row["true_scale"], row["true_beta"]), rel=1e-3)
    assert record["recovered_beta"] == pytest.approx(0.5, rel=1e-3)


def test_bam_that_starts_uniform_is_as_far_as_the_uniform_prior():
    (row, _) = recovered(Bam(start="uniform"), "evaluate.reach=2")["recovery"]
    lags = [range(64), range(128)]
    near, far = (loops([-((d / 10) ** 0.5) for d in of], [0.0] * len(of)) for of in lags)
    assert (row["kl_bits"], row["kl_bits_reach"]) == pytest.approx((near, far), rel=1e-6)
    assert row["scale"] is None


@pytest.mark.parametrize(("scale", "beta"), TRUTHS)
def test_the_fit_of_bam_is_its_closed_form(scale, beta):
    """α = e^(−θα/θβ) and β = θβ, but for the ε that BAM adds to the distance, which shows at 0 where β is small."""
    spec = study("position=bam", "model.heads=1")
    bias = biases(spec, Bam(), {"log_alpha": jnp.asarray([-beta * math.log(scale)]), "beta": jnp.asarray([beta])})[0]
    row = fit(-LAG / 10, bias[:64])
    assert (row["scale"], row["beta"]) == pytest.approx((scale, beta), rel=2e-3 if beta >= 1 else 0.04)


def test_every_head_and_layer_has_its_row_and_the_best_head_is_named():
    record = recovered(Alibi(), "model.layers=2", "tunnel.prior.beta=1", "tunnel.prior.scale=16")
    assert [(row["layer"], row["head"]) for row in record["recovery"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [row["scale"] for row in record["recovery"][:2]] == pytest.approx([16, 256], rel=1e-3)
    assert record["recovered_scale"] == pytest.approx(16, rel=1e-3)
    record = recovered(PerLayer(layers=(Rope(), Alibi())), "model.layers=2")
    assert {row["layer"] for row in record["recovery"]} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(POSITIONS) - {"per_layer"}))
def test_every_position_that_has_a_bias_is_held_against_the_prior(name):
    has_bias = type(POSITIONS[name]).bias is not Position.bias
    with jax.numpy_rank_promotion("allow"):
        record = recovered(POSITIONS[name], "evaluate.reach=2")
    assert bool(record) == has_bias and all(math.isfinite(row["kl_bits"]) for row in record.get("recovery", []))


def test_nothing_is_said_where_there_is_nothing_to_recover():
    assert recovered(Rope()) == {}
    bijection = study("tunnel=bijection", "position=alibi")
    assert recovery(bijection, learned(Alibi(), bijection)) == {}


def test_a_gaussian_prior_is_a_generalized_gaussian_of_beta_2_and_a_uniform_one_has_none():
    (row, _) = recovered(Alibi(), "prior=gaussian")["recovery"]
    assert (row["true_scale"], row["true_beta"]) == (10.0, 2.0)
    (row, _) = recovered(Alibi(), "prior=uniform")["recovery"]
    assert row["true_beta"] is None and row["kl_bits"] == pytest.approx(loops([0.0] * 64, -LAG / 16), rel=1e-6)


def test_the_sweep_composes_and_varies_what_it_says():
    composed = plain("+sweep=recovery")
    assert composed["position"]["name"] == "bam" and composed["model"] | {"heads": 1, "layers": 1} == composed["model"]
    assert composed["question"] == "Does training recover the data's own positional prior?"


@pytest.mark.slow
def test_the_record_the_verdict_and_the_answer(tmp_path):
    """Made-up cases, as a sweep leaves them: recovered, recovered up to a temperature, and not."""
    from windtunnel.config import Settings
    from windtunnel.sweep.folder import fixed_part
    from windtunnel.sweep.point import Point
    from windtunnel.sweep.run import run

    with jax.enable_x64(False):
        overrides = [{"tunnel.prior.beta": beta} for beta in ("1", "2")]  # a pack that others compile too
        points = [Point(tiny(f"tunnel.prior.beta={o['tunnel.prior.beta']}"), o) for o in overrides]
        root = tmp_path / "trial"
        assert run(points, root, Settings(), fixed_part([point.study for point in points]))
    result = records.read_json(root / points[1].id / "result.json")
    assert [row["true_beta"] for row in result["recovery"]] == [2, 2]
    assert result["recovered_kl_bits"] == min(row["kl_bits"] for row in result["recovery"])
    last_line = verdict(root / points[1].id)[1].splitlines()[-1]
    assert last_line.startswith("prior of head 0.1: β ") and "(true 2.0)" in last_line

    def with_recovered(*kl_and_tempered):
        for point, (kl, tempered) in zip(points, kl_and_tempered, strict=True):
            path = root / point.id / "result.json"
            numbers = {"recovered_kl_bits": kl, "recovered_kl_bits_tempered": tempered, "recovered_beta": 1.5}
            records.write_sealed(path, records.read_json(path) | numbers)
        return summary(root)

    table, numbers = with_recovered((0.001, 0.001), (0.1, 0.001))
    assert [str(column.header) for column in table.columns][:5] == [
        "tunnel.prior.beta", "seeds", "KL in range", "learned β", "scale"]  # fmt: skip
    assert answer(numbers) == (
        "The data's prior is recovered in 1 of 2 cases (KL ≤ 0.01 bits), up to a temperature in 2; not in none."
    )
    assert answer(with_recovered((0.001, 0.001), (0.1, 0.1))[1]) == (
        "The data's prior is recovered in 1 of 2 cases (KL ≤ 0.01 bits), up to a temperature in 1; not in 2."
    )
    assert "recovered in" not in answer(groups(records.rows(root), ["seed"])), "another sweep asks another question"
