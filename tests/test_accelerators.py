"""What cannot run on a GPU or a TPU is found on a machine without one: every program is lowered for both, in the form
that it takes there.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from tests import composed
from windtunnel import evaluate, presets, train
from windtunnel.problem import Problem
from windtunnel.spec import stack
from windtunnel.sweep.packs import each

PLATFORMS = ("cuda", "tpu")
SMALL = ("evaluate.examples=4", "evaluate.most_examples=4", "train.batch=4")


def named(group):
    """The presets of a group that name what they set up: others are the same with other numbers."""
    folder = presets.folder() / group
    return [path.stem for path in sorted(folder.glob("*.yaml")) if re.search(r"^ *name:", path.read_text(), re.M)]


TUNNELS = [*named("tunnel"), "mixture_segments", "mixture_conflict_runs", "hmm_far"]
MODELS = [*named("model"), "looped", "adaptive", "feedback_adaptive", "belief_content", "evidence", "gated"]
ASKS = {  # what goes with it, where not everything does
    "position=conflict_heads": "model=small",
    "position=conflict_layers": "model=small",
    "position=conflict_near": "model=small",
    "position=scales": "model.heads=3 model.width=48",
    "model=experts": "tunnel=die",
    "model=evidence": "tunnel=recall_adaptive",
    "model=gated": "tunnel=fusion",
    "+inference=variational": "position=t5",
}
CASES = [*(f"tunnel={name}" for name in TUNNELS), *(f"position={name}" for name in named("position"))]
CASES += [*(f"model={name}" for name in MODELS), "model=memory model.store=delta"]
CASES += [f"+inference={name} model.inference.above=64" for name in named("inference") if name != "exact"]


@pytest.fixture
def accelerator(monkeypatch):
    """Where code asks what it runs on, it is told a GPU: then it takes the forms that it takes there."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def lowered(function, *arguments):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=PLATFORMS).as_text()


@pytest.mark.slow
@pytest.mark.parametrize("words", CASES)
def test_every_program_lowers_for_accelerators(accelerator, words):
    study = composed.study(*words.split(), *ASKS.get(words.split()[0], "").split(), *SMALL)
    pack = stack([study, study])
    state = jax.eval_shape(jax.vmap(train.start), pack)
    lowered(lambda pack: each(train.start, pack), pack)
    tables = jax.eval_shape(lambda pack: each(train.prepare, pack), pack)
    lowered(partial(each, partial(train.advance, steps=jnp.int32(2))), pack, tables, state)
    lowered(
        lambda pack, params: each(partial(evaluate.predict, numbers=jnp.arange(2)), pack, params), pack, state.params
    )
    if words.startswith("tunnel="):
        lowered(Problem.exact, study.problem)


def test_what_no_accelerator_has_does_not_lower(accelerator):
    """That the test above can fail: a general eigendecomposition is there on a CPU alone."""
    with pytest.raises(NotImplementedError):
        lowered(jnp.linalg.eig, jnp.eye(2))
