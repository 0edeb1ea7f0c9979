"""What `make reproduce` says of a claim, and that what it runs can be run."""

import pytest
import yaml

from reproduction.claim import Claim
from reproduction.claims import STUDIES
from tests.composed import study
from tests.documented import HERE
from windtunnel.statistics import Interval


def at(mean, spread=1.1):
    return Interval(mean, mean / spread, mean * spread, 5)


@pytest.mark.parametrize(
    ("posterior", "sample", "said"),
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
def test_a_claim_holds_where_the_whole_interval_does(posterior, sample, said):
    at_most = Claim("", "", None, lambda root, rows: None, bound=1.0, because="why")
    assert at_most.verdict(posterior, sample, None) == said
    swap = [of and Interval(1 / of.mean, 1 / of.high, 1 / of.low, of.n) for of in (posterior, sample)]
    at_least = Claim("", "", None, lambda root, rows: None, bound=1.0, at_most=False, because="why")
    assert at_least.verdict(*swap, None) == said


def test_what_a_trivial_reasoner_does_too_is_said():
    claim = Claim("", "", 0.9, lambda root, rows: None, bound=1.0)
    assert claim.verdict(at(0.5), at(0.5), claim.trivial_of({})) == "**reproduced**, and so does the trivial one"
    assert claim.verdict(at(0.5), at(0.5), 1.1) == "**reproduced**"


@pytest.mark.parametrize("made", STUDIES, ids=lambda made: made.name)
def test_its_sweep_has_both_supervisions_and_five_seeds_and_grows_to_the_published_size(made):
    swept = yaml.safe_load((HERE / f"conf/sweep/{made.sweep}.yaml").read_text())["hydra"]["sweeper"]["params"]
    assert swept["train.supervision"] == "posterior,sample" and swept["seed"] == "0,1,2,3,4"
    first = [word.partition(",")[0] for word in made.paper]
    defaults = [f"{key}={str(values).split(',')[0]}" for key, values in swept.items()]
    assert study(f"+sweep={made.sweep}", *defaults, *first).train.steps >= 300
