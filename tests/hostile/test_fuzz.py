"""The two fuzzers of `fuzz.py`: a minute each in CI, a few seconds beside the other tests."""

import pytest

from tests.hostile.fuzz import input_fuzz, records_fuzz

FUZZERS = pytest.mark.parametrize("fuzz", [input_fuzz, records_fuzz])


@FUZZERS
def test_a_few_seconds_find_nothing(fuzz):
    said = []
    tries, wrong = fuzz(1.5, 7, said.append)
    assert tries and not wrong, "\n".join(said)


@pytest.mark.slow
@FUZZERS
def test_a_minute_finds_nothing(fuzz):
    said = []
    tries, wrong = fuzz(60, 8, said.append)
    assert tries > 50 and not wrong, "\n".join(said)
