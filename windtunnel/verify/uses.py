"""Every oracle compiled as it is used: in training, by the judge and by instruments.

Brute force proves what an oracle says, in float64 and on small sizes. What a verdict rests on is another program: in
float32, at the sizes of a preset, compiled into loops and over devices, with a leading axis of 1 or of a batch. A
compiler (or a line of code that behaves otherwise when it is traced) can be wrong there alone. So every use is compiled
as it stands, on the device at hand, and held against the same oracle asked in float64 and outside `jit`, operation by
operation. That is asked once, of the sequences of all uses together: shorter ones are continued by what the judge's
sequences have there, since an exact reasoner knows nothing of what is still to come.

The bound is 1e-4 in probability. Float32 leaves some 1e-6; what is off by 1e-4 moves a KL by about δ²/p, which for
any outcome that is likelier than 1e-4 stays nearly a hundred times below the 0.01 bits that count as exact.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from windtunnel.compose import compose
from windtunnel.config import Study, Train
from windtunnel.instruments import base
from windtunnel.instruments.causal import with_keys_exchanged
from windtunnel.judge import Judge
from windtunnel.models import Transformer
from windtunnel.models.position.additive import Uniform
from windtunnel.presets import choices
from windtunnel.spec import arrays
from windtunnel.sweep.packs import BATCH, STUDY, Program, each
from windtunnel.train import DATA, examples, stream
from windtunnel.tunnels import TUNNELS, Batch
from windtunnel.verify.brute import judges
from windtunnel.verify.checks import SINGLE, Check

POOL = 16  # hypotheses, where a tunnel can draw from a pool: then the posterior is over these
REACH = 2.0  # at most: shapes past the horizon differ from those of training, longer ones only in size
EXAMPLES = 16  # evaluation sequences
HELD = 6  # sequences of a batch that are held against float64, spread over it and so over its devices
STEPS = 2  # of the training loop, whose last batch is looked at
COMPOSING = threading.Lock()  # Hydra composes one at a time
HORIZON = 16  # of a plug-in's tunnel, which has no preset here

Answers = dict[str, Any]  # [B, P, …] log-probabilities, by what was asked


class Use(NamedTuple):
    """A way in which an oracle is used, and what it says of a few of its sequences."""

    name: str
    batch: Batch
    at: np.ndarray
    answers: Answers
    deviation: float = 0.0  # of what has no place among the answers


def in_use(name: str) -> Iterator[Check]:
    """The checks of a tunnel's default preset, and of the same with a pool where it takes one."""
    study = preset(name)
    yield from checks_of(study)
    tunnel: Any = study.tunnel
    if any(field.name == "pool" for field in dataclasses.fields(tunnel)):
        pooled = dataclasses.replace(study, tunnel=dataclasses.replace(tunnel, pool=POOL))
        for check in checks_of(pooled):
            yield check._replace(name=f"{check.name}, from a pool")


def preset(name: str) -> Study:
    """The preset of this name, or the default fields of a plug-in's tunnel, judged on little."""
    if name in choices("tunnel"):
        with COMPOSING:
            study, _ = compose([f"tunnel={name}"])
    else:
        (cls,) = [member for member in TUNNELS.members if member.name == name]
        try:
            tunnel = cls()
        except TypeError:  # fields without defaults
            tunnel, _ = judges()[name].small(np.random.default_rng(0))
        horizon = min(HORIZON, tunnel.capacity or HORIZON)
        study = Study(tunnel=tunnel, model=Transformer(), position=Uniform(), train=Train(horizon=horizon))
    evaluate = dataclasses.replace(study.evaluate, reach=min(REACH, study.evaluate.reach), examples=EXAMPLES)
    return dataclasses.replace(study, evaluate=evaluate)


def checks_of(study: Study) -> Iterator[Check]:
    """How far each use of a study's oracle is from the same oracle in float64, outside `jit`: the worst of each name.

    With a pool, instruments ask nothing but what they ask far out: what differs is the posterior.
    """
    judge, far = judged(study)
    uses = [judge, far, trained(study)]
    if study.tunnel.pool is None:
        uses += looked_at(study)
    expected = asked(study, [continued(use.batch, judge.batch) for use in uses])
    worst: dict[str, float] = {}
    for number, use in enumerate(uses):
        exact = {name: log_p[HELD * number : HELD * (number + 1)] for name, log_p in expected.items()}
        deviations = [worst.get(use.name, 0.0), use.deviation, apart(use, exact)]
        worst[use.name] = max(deviations, key=_nan_is_most)
    for name in ("as trained", "as judged", "as looked at"):
        yield Check(name, worst[name], SINGLE)


def trained(study: Study) -> Use:
    """`train.advance` in `Program`, without the model: a loop over steps, `vmap`ped sampling, the batch of the preset,
    over the devices of the mesh.
    """
    program, every = Program([study]), np.arange(study.horizon)

    def draw(study: Study, tables: Any, steps: Array) -> tuple[Batch, Array]:
        share = study.train.batch // (1 if program.axis is None else lax.axis_size(program.axis))
        first = 0 if program.axis is None else share * lax.axis_index(program.axis)

        def step(index: Array) -> tuple[Batch, Array]:
            key = jax.random.fold_in(stream(study, DATA), index)
            batch = examples(study, tables, key, first + jnp.arange(share))
            return batch, study.tunnel.log_predictive(tables, batch, jnp.arange(study.horizon))

        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(step, steps))
        return lax.fori_loop(0, steps, lambda index, _: step(index), blank)

    def oracle(pack: Study, tables: Any, steps: Array) -> tuple[Batch, Array]:
        return each(partial(draw, steps=steps), pack, tables)

    drawn = program.jitted(oracle, (P(STUDY), P(STUDY), P()), P(STUDY, BATCH))
    drawn = drawn(program.pack, program.tables, np.int32(STEPS))
    batch, log_p = _held(jax.tree.map(lambda leaf: leaf[0], drawn))
    return Use("as trained", batch, every, {"predictive": log_p})


def judged(study: Study) -> tuple[Use, Use]:
    """The judge's own program; and what `repair.far` asks: batches of one, over the whole evaluated length."""
    problem, at = study.problem, study.problem.bins.at
    exact = Judge().exact(problem)
    batch, far = _held(_far(arrays(study), tuple(at.tolist())))
    answers = {"predictive": exact.log_predictive, "full": exact.full, **exact.baselines}
    other_data = np.inf if (_held(exact.outcome) != batch.outcome_BP[:, at]).any() else 0.0
    return Use("as judged", batch, at, _held(answers), other_data), Use("as looked at", batch, at, far)


@partial(jax.jit, static_argnames="at")
def _far(study: Study, at: tuple[int, ...]) -> tuple[Batch, Answers]:
    problem, tunnel, where = study.problem, study.tunnel, jnp.asarray(at)

    def ask(batch: Batch) -> tuple[Batch, Answers]:
        tables = tunnel.prepare(problem.length)
        answers = {
            "predictive": tunnel.log_predictive(tables, batch, where),
            "weights": tunnel.token_weights(tables, batch, where) if tunnel.weighs_far else None,
            "posterior": tunnel.log_posterior(tables, batch, where) if lists(tunnel) else None,
        }
        return batch, answers

    return problem.each(ask, jnp.arange(problem.evaluate.examples))


def looked_at(study: Study) -> Iterator[Use]:
    """`instruments.base.look`, with a model that has nothing to see, and `causal.with_keys_exchanged`."""
    knobs, every, name = arrays(study), np.arange(study.horizon), "as looked at"
    seen = jax.tree.map(np.asarray, base.look(knobs, None, base.EXAMPLES, _no_model))
    batch = _held(seen.batch)
    answers = {"predictive": seen.log_exact_BPV, "weights": seen.log_target_BPT, "domains": seen.log_domains_BPK}
    if seen.frame is None:
        yield Use(name, batch, every, _held(answers))
        return
    order = np.random.default_rng(0).permutation(seen.frame.count)
    log_exchanged = with_keys_exchanged(knobs, base.EXAMPLES, order)
    with reference():
        tunnel, wide = arrays(study.tunnel), _wide(batch)
        frame = tunnel.frame(tunnel.prepare(study.problem.length), wide)
        exchanged = jax.tree.map(np.asarray, tunnel.exchanged(wide, jnp.asarray(order)))
    pairs = [(seen.frame.label_BT, frame.label_BT), (seen.frame.codes_BTd, frame.codes_BTd)]
    deviations = [_apart(_held(of), expected) for of, expected in pairs if of is not None]
    yield Use(name, batch, every, _held(answers), max(deviations, key=_nan_is_most))
    if exchanged is not None:
        yield Use(name, exchanged, every, {"predictive": _held(log_exchanged)})


def _no_model(study: Study, params: Any) -> Any:
    def logits(inputs: Array, tokens: np.ndarray, tap: Any) -> Array:
        return jnp.zeros((inputs.shape[0], len(tokens), study.tunnel.outcomes))

    return logits


def lists(tunnel: Any) -> bool:
    """Whether the posterior is over few enough: a pool, or what is stored in the sequence itself."""
    return tunnel.pool is not None or tunnel.lag_prior is not None


def continued(batch: Batch, longer: Batch) -> Batch:
    """Sequences of the longer ones' length, which begin with these."""
    return jax.tree.map(lambda own, other: np.concatenate([own, other[:, own.shape[1] :]], axis=1), batch, longer)


def asked(study: Study, batches: list[Batch]) -> Answers:
    """Everything that some use asks, in float64 and outside `jit`, at every observation."""
    length = study.problem.length
    with reference():
        tunnel, at = arrays(study.tunnel), jnp.arange(length)
        batch = _wide(jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches))
        tables = tunnel.prepare(length)
        answers = {
            "predictive": tunnel.log_predictive(tables, batch, at),
            "full": tunnel.log_full_predictive(tables, batch, at) if tunnel.pool else None,
            "weights": tunnel.token_weights(tables, batch, at),
            "domains": tunnel.log_domains(tables, batch, at),
            "posterior": tunnel.log_posterior(tables, batch, at) if lists(tunnel) else None,
            **tunnel.baselines(tables, batch, at, study.horizon),
        }
        return {name: np.asarray(log_p) for name, log_p in answers.items() if log_p is not None}


@contextlib.contextmanager
def reference() -> Iterator[None]:
    """Float64, on a processor: an accelerator may have none, and is what is in question."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        with contextlib.suppress(RuntimeError):  # JAX_PLATFORMS may leave out `cpu`
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        yield


def apart(use: Use, expected: Answers) -> float:
    """The largest deviation in probability, where something is scored."""
    scored = use.batch.weight_BP[:, use.at] > 0
    deviations = []
    for name, log_p in use.answers.items():
        if log_p is not None:
            p, exact = np.exp(log_p), np.exp(expected[name][:, use.at])
            deviations.append(
                _apart(p[scored], exact[scored][:, : p.shape[-1]])
            )  # weights: of the tokens that there are
    return max(deviations, key=_nan_is_most)


def _apart(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


def _nan_is_most(deviation: float) -> float:
    return np.inf if np.isnan(deviation) else deviation


def _held(tree: Any) -> Any:
    """HELD sequences of [B, …], from the first to the last."""

    def few(leaf: Any) -> np.ndarray:
        return np.asarray(leaf)[np.linspace(0, len(leaf) - 1, HELD).round().astype(int)]

    return jax.tree.map(few, tree)


def _wide(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf.astype(leaf.dtype.name.replace("32", "64"))), tree)
