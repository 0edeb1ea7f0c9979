"""An oracle that is wrong only where it is compiled is found out, in the use in which it is wrong."""

import dataclasses

import jax
import pytest

from tests.composed import study
from windtunnel.instruments import base
from windtunnel.instruments.causal import with_keys_exchanged
from windtunnel.problem import exact_program
from windtunnel.sweep import packs
from windtunnel.tunnels import Bijection
from windtunnel.verify import uses
from windtunnel.verify.brute import BRUTES

SMALL = "tunnel.symbols=4 train.batch=4 evaluate.reach=1 evaluate.examples=6".split()
EVERY = {"as trained", "as judged", "as looked at"}


def bijection(pool=None):
    small = study("tunnel=bijection", *SMALL)
    return dataclasses.replace(small, tunnel=dataclasses.replace(small.tunnel, pool=pool))


def failed(small):
    checks = list(uses.checks_of(small))
    assert {check.name for check in checks} == EVERY
    return {check.name for check in checks if not check.passed}


@pytest.fixture
def broken(monkeypatch):
    """Turn an oracle's outcomes around where `wrong_there(batch)`. What was compiled is forgotten before and after."""

    def forget():
        for program in (base.look, with_keys_exchanged, exact_program, uses._far):
            program.clear_cache()

    def replace(name, wrong_there):
        right = getattr(Bijection, name)

        def oracle(self, tables, batch, *rest):
            answer = right(self, tables, batch, *rest)
            return jax.tree.map(lambda log_p: log_p[..., ::-1], answer) if wrong_there(batch) else answer

        monkeypatch.setattr(Bijection, name, oracle)

    forget()
    yield replace
    forget()


def traced(batch):
    return isinstance(batch.inputs, jax.core.Tracer)


def alone(batch):
    """Where jaxlib 0.10.2 is wrong: compiled, with a leading axis of 1."""
    return traced(batch) and batch.inputs.shape[0] == 1


def test_every_use_of_a_sound_oracle_agrees():
    assert failed(bijection()) == set()


@pytest.mark.parametrize(("wrong_there", "rows"), [(traced, EVERY), (alone, {"as judged", "as looked at"})])
def test_an_oracle_that_is_wrong_only_where_it_is_compiled_turns_red(broken, wrong_there, rows):
    broken("log_predictive", wrong_there)
    assert failed(bijection()) == rows


@pytest.mark.slow
def test_everything_that_is_asked_is_held_against_float64(broken):
    for name in ("baselines", "log_full_predictive", "log_posterior", "token_weights"):
        broken(name, alone)
    small = bijection(pool=3)
    judged, far = uses.judged(small)
    expected = uses.asked(small, [judged.batch])
    wrong = {
        name
        for use in (judged, far)
        for name, log_p in use.answers.items()
        if log_p is not None and uses.apart(use._replace(answers={name: log_p}), expected) > uses.SINGLE
    }
    assert {"full", "posterior", "weights", "last-1", "last-horizon"} <= wrong and "predictive" not in wrong


def test_what_is_wrong_on_the_second_device_alone_turns_red(monkeypatch):
    right = packs.Program.jitted

    def jitted(self, function, *rest, **options):
        def wrong(*arguments):
            batch, log_p = function(*arguments)
            return batch, jax.numpy.where(jax.lax.axis_index(packs.BATCH) == 1, log_p[..., ::-1], log_p)

        return right(self, wrong if function.__name__ == "oracle" else function, *rest, **options)

    small = bijection()
    for compile_it, most in ((right, uses.SINGLE), (jitted, 1.0)):
        monkeypatch.setattr(packs.Program, "jitted", compile_it)
        use = uses.trained(small)
        deviation = uses.apart(use, uses.asked(small, [use.batch]))
        assert most >= deviation and (deviation > uses.SINGLE) == (compile_it is jitted)


@pytest.mark.slow
@pytest.mark.parametrize("name", BRUTES)
def test_every_oracle_is_right_as_it_is_used(name):
    checks = list(uses.in_use(name))
    assert all(check.passed for check in checks), checks
