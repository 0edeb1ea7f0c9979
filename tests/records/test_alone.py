"""Interference: a mixture against the same model on each domain alone, on as many of its sequences."""

import copy

import pytest

from windtunnel.records.alone import interference

DIE, ECHO = {"name": "markov", "order": 0}, {"name": "echo", "noise": 0.1}


def row(tunnel, batch, **numbers):
    study = {"tunnel": tunnel, "model": {"name": "small"}, "position": {"name": "bam"}, "seed": 0,
             "train": {"steps": 10, "batch": batch, "horizon": 16}, "evaluate": {"reach": 2}}  # fmt: skip
    return {"status": "done", "study": study, "evaluate": {"reach": 2}, **numbers}


@pytest.fixture
def rows():
    mixed = row({"name": "mixture", "domains": [dict(DIE), dict(ECHO)]}, 32, domains=[
        {"kl_bits": 0.05, "kl_bits_past": 0.5}, {"kl_bits": 0.02, "kl_bits_past": None}])  # fmt: skip
    return [mixed, row(DIE, 16, kl_bits=0.01, kl_bits_past=0.1), row(ECHO, 16, kl_bits=0.03, kl_bits_past=0.2)]


def test_it_is_the_difference_in_each_domain_and_the_largest_of_these(rows):
    known = interference(rows[0], rows)
    assert known["interference_bits"] == pytest.approx(0.04)
    assert known["interference"][0] == pytest.approx({"kl_bits": 0.04, "kl_bits_past": 0.4})
    assert known["interference"][1] == {"kl_bits": pytest.approx(-0.01), "kl_bits_past": None}
    assert interference(rows[1], rows)["interference_bits"] is None, "of a domain there is none"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("study", "seed"), 1),
        (("study", "train", "batch"), 32),
        (("study", "position", "name"), "alibi"),
        (("study", "tunnel", "order"), 1),
        (("status",), "failed"),
        (("evaluate", "reach"), 4),
    ],
)
def test_only_the_same_model_on_as_many_sequences_counts(rows, path, value):
    other = copy.deepcopy(rows)
    *parents, last = path
    place = other[1]
    for name in parents:
        place = place[name]
    place[last] = value
    assert interference(other[0], other) == {"interference": None, "interference_bits": None}
