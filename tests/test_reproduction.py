"""The verdicts of `make reproduce` on published results, and the sweeps that it runs."""

import json

import pytest
import yaml

from reproduction.measures import column, faster
from reproduction.published import Published
from reproduction.studies import STUDIES
from tests.composed import study
from tests.documented import HERE
from windtunnel.records.statistics import Interval


def at(mean, spread=1.1):
    return Interval(mean, mean / spread, mean * spread, 5)


@pytest.mark.parametrize(
    ("posterior", "sample", "verdict"),
    [
        (at(0.5), at(0.5), "**reproduced**"),
        (at(0.5), at(2.0), "**differs**: only on the posterior; why"),
        (at(2.0), at(0.5), "**differs**: only on samples; why"),
        (at(2.0), at(2.0), "**not**; why"),
        (at(1.0), at(2.0), "**not**; why"),
        (at(1.0), at(1.0), "**open**: the interval lies across the bound; why"),
        (None, None, "not run, or never there"),
        (Interval(0.5, float("nan"), float("nan"), 2), None, "**open**: the interval lies across the bound; why"),
    ],
)
def test_a_claim_holds_where_the_whole_interval_does(posterior, sample, verdict):
    at_most = Published("", "", None, lambda root, rows: None, bound=1.0, because="why")
    assert at_most.verdict(posterior, sample, None) == verdict
    swap = [of and Interval(1 / of.mean, 1 / of.high, 1 / of.low, of.n) for of in (posterior, sample)]
    at_least = Published("", "", None, lambda root, rows: None, bound=1.0, at_most=False, because="why")
    assert at_least.verdict(*swap, None) == verdict


def test_what_a_trivial_reasoner_does_too_is_said():
    published = Published("", "", 0.9, lambda root, rows: None, bound=1.0)
    assert (
        published.verdict(at(0.5), at(0.5), published.trivial_of([])) == "**reproduced**, and so does the trivial one"
    )
    assert published.verdict(at(0.5), at(0.5), 1.1) == "**reproduced**"


@pytest.mark.parametrize("reproduced", STUDIES, ids=lambda reproduced: reproduced.name)
def test_its_sweep_has_both_supervisions_and_five_seeds_and_grows_to_the_published_size(reproduced):
    swept = yaml.safe_load((HERE / f"conf/sweep/{reproduced.sweep}.yaml").read_text())["hydra"]["sweeper"]["params"]
    assert swept["train.supervision"] == "posterior,sample" and swept["seed"] == "0,1,2,3,4"
    first = [word.partition(",")[0] for word in reproduced.paper]
    defaults = [f"{key}={str(values).split(',')[0]}" for key, values in swept.items()]
    assert study(f"+sweep={reproduced.sweep}", *defaults, *first).train.steps >= 300


@pytest.fixture
def sgd(tmp_path):
    """Two seeds, two rates, two schedules: {(schedule, rate): the step at which a study gets to the threshold}."""
    arrives = {
        ("{}", "1"): (60, 80),
        ("{}", "3"): (90, None),
        ("{value:10}", "1"): (30, 40),
        ("{value:10}", "3"): (25, 20),
    }
    rows = []
    for (em, rate), steps in arrives.items():
        for seed, step in enumerate(steps):
            row = {"study_id": f"{em}{rate}{seed}", "seed": seed, "train.em": em, "train.learning_rate": rate}
            curve = [{"step": at, "kl_bits": 0.0 if step and at >= step else 1.0} for at in range(1, 101)]
            (tmp_path / row["study_id"]).mkdir()
            (tmp_path / row["study_id"] / "train.jsonl").write_text("\n".join(map(json.dumps, curve)))
            rows.append({**row, "tv": step})
    return tmp_path, rows


@pytest.mark.parametrize(
    ("schedule", "rate", "plain", "expected"),
    [
        ("{value:10}", "1", "1", ((79 / 49) * (99 / 59)) ** 0.5),  # a mean over 20 steps is below 0.04 after the 20th
        ("{value:10}", None, None, ((79 / 44) * (99 / 39)) ** 0.5),  # each at its best: 3 and 1
        ("{}", "3", "1", None),  # a seed never arrives
    ],
)
def test_how_many_times_as_fast(sgd, schedule, rate, plain, expected):
    result = faster(schedule, rate, plain)(*sgd)
    assert (result and result.mean) == (expected and pytest.approx(expected))


def test_a_column_is_of_the_studies_that_are_named(sgd):
    root, rows = sgd
    assert column("tv", **{"train.em": "{value:10}", "train.learning_rate": "3"})(root, rows).mean == pytest.approx(
        500**0.5
    )
    assert column("tv", model="none")(root, rows) is None
